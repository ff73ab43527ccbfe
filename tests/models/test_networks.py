from __future__ import annotations

import pytest
import torch

from edgeattn import models
from edgeattn.errors import RecipeError
from edgeattn.models.se_resnet import Bottleneck
from edgeattn.recipe import parse_settings

SMALL = {
    "attention_cnn": {"stages": (8, 8), "heads": 2, "blocks": 1},
    "compact_transformer": {"layers": 1, "channels": 8, "stochastic_depth": 0.0},
    "region_attention": {"stages": (8,), "hidden": 8},
}
CLASSIFIERS = [name for name in models.names() if models.find(name).TASK == "classify"]


def build(name, classes=3, **settings):
    module = models.find(name)
    return module.Network(parse_settings(module.Settings, settings or SMALL.get(name, {}), name), classes)


def test_shared_parts_are_not_models():
    assert {"se_resnet", "attention_cnn"} <= set(models.names())
    assert not {"attention", "camera"} & set(models.names())
    with pytest.raises(RecipeError, match=r"There is no model 'attention'; known models: .*se_resnet"):
        models.find("attention")


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("batch", [1, 16])
def test_every_classifier_trains(name, batch):
    torch.manual_seed(0)
    network = build(name)
    outputs = network(torch.randn(batch, 3, 16, 24))
    assert outputs.shape == (batch, 3)
    network.loss(outputs, torch.arange(batch) % 3, 0.05).backward()
    without = {n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0}
    if batch > 1:  # with a single frame a small gate may be off altogether
        assert all(n.endswith("attention.key.bias") for n in without)  # softmax ignores what all keys share


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_loss_by_hand(name):
    network = build(name)
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]]))
    wrong_and_right = network.loss(logits, torch.tensor([1, 1]), 0.0)
    assert float(wrong_and_right) == pytest.approx((1.3862944 + 0.6931472) / 2)  # -ln 0.25 and -ln 0.5
    # Smoothing 0.3 moves 0.1 to each class: 0.8 * 0.6931472 + 0.2 * 1.3862944
    assert float(network.loss(logits[1:], torch.tensor([1]), 0.3)) == pytest.approx(0.8317766)


def conv(cin, cout, side, bias=False):
    return cin * cout * side * side + (cout if bias else 0)


def block(cin, cout, hidden, shortcut):
    norms = 2 * 2 * cout
    gate = conv(cout, hidden, 1, bias=True) + conv(hidden, cout, 1, bias=True)
    return conv(cin, cout, 3) + conv(cout, cout, 3) + norms + gate + (conv(cin, cout, 1) + 2 * cout if shortcut else 0)


def test_parameters_of_se_resnet_20():
    want = conv(3, 16, 3) + 2 * 16  # stem
    want += 3 * block(16, 16, 4, False)
    want += block(16, 32, 4, True) + 2 * block(32, 32, 4, False)
    want += block(32, 64, 8, True) + 2 * block(64, 64, 8, False)
    want += 64 * 10 + 10
    assert want == 277_082
    assert sum(p.numel() for p in build("se_resnet", 10, depth=20, reduction=8).parameters()) == want


def test_parameters_of_a_wide_se_resnet_14():
    want = conv(3, 48, 3) + 2 * 48  # stem
    want += 2 * block(48, 48, 6, False)
    want += block(48, 96, 12, True) + block(96, 96, 12, False)
    want += block(96, 192, 24, True) + block(192, 192, 24, False)
    want += 192 * 10 + 10
    assert sum(p.numel() for p in build("se_resnet", 10, depth=14, width=48).parameters()) == want


def test_parameters_of_a_narrow_se_resnet_18():
    want = 3 * 24 * 49 + 2 * 24  # stem
    want += 2 * block(24, 24, 4, False)  # no fewer than 4 channels in a gate
    for narrow, hidden in ((24, 6), (48, 12), (96, 24)):
        wide = 2 * narrow
        want += block(narrow, wide, hidden, True) + block(wide, wide, hidden, False)
    want += 192 * 10 + 10
    assert want == 1_603_470
    assert sum(p.numel() for p in build("se_resnet", 10, depth=18, width=24).parameters()) == want


@pytest.mark.parametrize(
    ("depth", "convolutions"), [(14, 13), (20, 19), (32, 31), (44, 43), (56, 55), (18, 17), (50, 49)]
)
def test_depth_counts_convolutions_and_the_classifier(depth, convolutions):
    network = build("se_resnet", depth=depth)
    layers = [n for n, m in network.named_modules() if isinstance(m, torch.nn.Conv2d)]
    assert len([n for n in layers if "attention" not in n and "shortcut" not in n]) == convolutions


@pytest.mark.parametrize(("width", "gates", "rest"), [(None, 2_530_992, 25_557_032), (24, 359_682, 4_089_472)])
def test_parameters_of_se_resnet_50(width, gates, rest):
    """ResNet-50 with 1000 classes has 25,557,032; the gates of 3, 4, 6 and 3 blocks come on top."""
    first, want = width or 64, 0
    for blocks, wide in ((3, 4 * first), (4, 8 * first), (6, 16 * first), (3, 32 * first)):
        want += blocks * (conv(wide, wide // 16, 1, bias=True) + conv(wide // 16, wide, 1, bias=True))
    assert gates == want
    if width:
        want = 3 * first * 49 + 2 * first  # stem
        cin = first
        for stage, blocks in enumerate((3, 4, 6, 3)):
            narrow = first * 2**stage
            wide = 4 * narrow
            for number in range(blocks):
                want += conv(cin, narrow, 1) + conv(narrow, narrow, 3) + conv(narrow, wide, 1) + 2 * (2 * narrow + wide)
                want += 0 if number else conv(cin, wide, 1) + 2 * wide  # shortcut
                cin = wide
        assert rest == want + cin * 1000 + 1000
    network = build("se_resnet", 1000, depth=50, reduction=16, **({"width": width} if width else {}))
    assert sum(p.numel() for p in network.parameters()) == rest + gates
    assert network.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)


def test_a_bottleneck_by_hand():
    """All weights 1 and no gate: 2 channels of 3 become 1 of 6, in a 3 x 3 window 54 or less at the rim, 4 channels."""
    layer = Bottleneck(2, 1, 2, 8).eval()
    for name, module in layer.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.ones_(module.weight)
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 0.0
        if name == "attention.expand":
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(module.bias)  # sigmoid(0) is 1/2
    out = layer(torch.full((1, 2, 4, 4), 3.0))
    assert out.shape == (1, 4, 2, 2)
    # The windows of stride 2 hold 4, 6, 6 and 9 pixels of 6; half of that, and the shortcut's 3 + 3.
    assert out[0, 3].tolist() == [[24 / 2 + 6, 36 / 2 + 6], [36 / 2 + 6, 54 / 2 + 6]]


def test_the_weights_of_depth_18_keep_their_names():
    names = build("se_resnet", depth=18).state_dict()
    block = [name[len("blocks.2.") :] for name in names if name.startswith("blocks.2.") and "num_batches" not in name]
    assert [n for n in block if n.endswith("weight")] == [
        "conv1.weight",
        "norm1.weight",
        "conv2.weight",
        "norm2.weight",
        "attention.reduce.weight",
        "attention.expand.weight",
        "shortcut.0.weight",
        "shortcut.1.weight",
    ]
    assert {"stem.0.weight", "stem.1.running_var", "blocks.7.attention.expand.bias", "head.bias"} <= names.keys()


@pytest.mark.parametrize(
    ("settings", "side"),
    [({"depth": 20}, 8), ({"depth": 20, "stem_stride": 2}, 4), ({"depth": 18}, 1), ({"depth": 50}, 1)],
)
def test_how_far_se_resnet_shrinks(settings, side):
    network = build("se_resnet", **settings).eval()
    assert network.blocks(network.stem(torch.zeros(1, 3, 32, 32))).shape[2:] == (side, side)


def test_positions_reach_attention_cnn():
    """Without them the read-out of a permuted map would be the same."""
    torch.manual_seed(0)
    network = build("attention_cnn").eval()
    features = torch.randn(1, 8, 4, 4)
    network.stages = torch.nn.Identity()
    assert not torch.allclose(network(features), network(features.flip(3)), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("attention_cnn", {"heads": 5}, "must divide by 4 and by heads, got 96 channels and 5 heads."),
        ("attention_cnn", {"stages": [8, 6], "heads": 1}, "must divide by 4 and by heads, got 6 channels and 1 heads."),
        (
            "attention_cnn",
            {"stages": []},
            "stages, heads and mlp_ratio must be positive, blocks not negative, got [], 4, 2 and 2.",
        ),
        (
            "attention_cnn",
            {"heads": 0},
            "mlp_ratio must be positive, blocks not negative, got [24, 48, 96], 0, 2 and 2.",
        ),
        (
            "attention_cnn",
            {"blocks": -1},
            "mlp_ratio must be positive, blocks not negative, got [24, 48, 96], 4, 2 and -1.",
        ),
        ("se_resnet", {"depth": 19}, "input should be 14, 18, 20, 32, 44, 50 or 56, got 19."),
        ("se_resnet", {"width": 0}, "width must be at least 1, got 0."),
        ("se_resnet", {"reduction": 0}, "reduction must be at least 1, got 0."),
        (
            "se_resnet",
            {"dept": 20},
            "unknown field 'dept'; did you mean 'depth'; known: depth, width, reduction, stem_stride.",
        ),
    ],
)
def test_settings_that_cannot_be_built_are_refused_before_anything_runs(name, settings, sentence):
    with pytest.raises(RecipeError) as caught:
        build(name, **settings)
    assert str(caught.value).startswith(f"{name}: ")
    assert str(caught.value).endswith(sentence)
