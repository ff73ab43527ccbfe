from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from edgeattn.errors import ModelError, RecipeError
from edgeattn.imaging import Preprocess
from edgeattn.metrics.tensors import sqnr_db
from edgeattn.models import attention_unet, camera
from edgeattn.models.attention_unet import Network, Settings, dice_loss, outputs, pixel_loss
from edgeattn.recipe import parse_settings

TINY = (4, 6, 8)


def build(classes=2, **settings):
    torch.manual_seed(0)
    return Network(Settings(**{"widths": TINY, **settings}), classes)


@pytest.mark.parametrize(
    "settings", [{}, {"gates": False}, {"bottleneck_heads": 2}, {"attention_output": True}, {"widths": (4, 4)}]
)
@pytest.mark.parametrize("loss", ["dice_ce", "focal"])
def test_it_trains(settings, loss):
    network = build(3, loss=loss, **settings)
    found = network(torch.randn(2, 3, 16, 24))
    values = found if isinstance(found, tuple) else (found,)
    assert len(values) == len(outputs(network.settings))
    assert values[0].shape == (2, 3, 16, 24)
    targets = torch.randint(0, 3, (2, 16, 24), dtype=torch.uint8)
    network.loss(found, targets, 0.05).backward()
    without = {n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0}
    # The self-attention begins as the identity: only how much of it is taken has a gradient at first.
    assert without == {n for n, _ in network.named_parameters() if n.startswith("bottleneck") and n[11:] != "scale"}


def test_names_of_the_outputs():
    assert outputs(Settings()) == attention_unet.OUTPUTS == ("logits",)
    assert outputs(Settings(attention_output=True)) == ("logits", "attention")


def test_the_attention_output_is_the_finest_gates_map():
    network = build(attention_output=True).eval()
    seen = []
    network.gates[-1].register_forward_hook(lambda module, args, out: seen.append((args[0], out)))
    with torch.no_grad():
        _, attention = network(torch.randn(1, 3, 16, 24))
    (skip, (gated, weights)) = seen[0]
    assert attention.shape == (1, 1, 16, 24) and torch.equal(attention, weights)
    assert torch.allclose(gated, skip * attention)
    assert 0 <= float(attention.min()) <= float(attention.max()) <= 1


def test_gates_begin_nearly_open():
    network = build(attention_output=True).eval()
    assert float(network(torch.zeros(1, 3, 8, 8))[1].detach().mean()) > 0.7


def test_closed_gates_cut_the_skips():
    network = build().eval()
    for gate in network.gates:
        nn.init.constant_(gate.judge.bias, -100.0)
        nn.init.zeros_(gate.judge.weight)
    skips = []
    for gate in network.gates:
        gate.register_forward_hook(lambda module, args, out: skips.append(float(out[0].abs().max())))
    network(torch.randn(1, 3, 16, 16))
    assert skips == [0.0, 0.0]


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_parameters_by_hand():
    def pair(cin, cout):
        return 9 * cin * cout + 9 * cout * cout + 4 * cout  # two kernels, two norms

    def gate(skip, signal):
        hidden = skip // 2
        return skip * hidden + signal * hidden + hidden + hidden + 1

    widths = (16, 32, 64, 128)
    want = sum(pair(a, b) for a, b in pairwise((3, *widths)))
    want += sum(pair(a + b, a) + gate(a, b) for a, b in pairwise(widths)) + 16 * 2 + 2
    assert want == 496_197
    assert count(Network(Settings(), 2)) == want


@pytest.mark.parametrize("size", [(20, 16), (16, 22)])
def test_sides_that_do_not_divide(size):
    with pytest.raises(ModelError, match=rf"multiples of 8, got {size[0]} x {size[1]}; change input.height"):
        build(widths=(4, 4, 4, 4))(torch.zeros(1, 3, *size))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"widths": [16]},
            "widths must be two or more numbers of at least 2, bottleneck_heads not negative, got [16] and 0.",
        ),
        (
            {"widths": [16, 1]},
            "widths must be two or more numbers of at least 2, bottleneck_heads not negative, got [16, 1] and 0.",
        ),
        ({"bottleneck_heads": -1}, "bottleneck_heads not negative, got [16, 32, 64, 128] and -1."),
        (
            {"bottleneck_heads": 3},
            "the last width must be a multiple of 2 * bottleneck_heads, got 128 channels and 3 heads.",
        ),
        ({"gates": False, "attention_output": True}, "attention_output is the map of a gate; it needs gates: true."),
        ({"loss": "dice"}, "input should be 'dice_ce' or 'focal', got 'dice'."),
    ],
)
def test_settings_that_cannot_be_built(settings, sentence):
    with pytest.raises(RecipeError) as caught:
        parse_settings(Settings, settings, "model attention_unet")
    assert str(caught.value).endswith(sentence)


# Two pixels of two classes, probabilities of class 1: 3/4 (and it is) and 1/4 (and it is not), then one ignored.
LOGITS = torch.log(torch.tensor([[[[0.25, 0.75, 0.01]], [[0.75, 0.25, 0.99]]]]))
TARGETS = torch.tensor([[[1, 0, 255]]], dtype=torch.uint8)
TRUTH = torch.tensor([[[[0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]]]])


def test_cross_entropy_by_hand():
    assert float(pixel_loss(LOGITS, TRUTH, 0.0)) == pytest.approx(math.log(4 / 3))
    # Smoothing 0.2 gives each class 0.1 of it: 0.9 ln(4/3) + 0.1 ln 4.
    assert float(pixel_loss(LOGITS, TRUTH, 0.2)) == pytest.approx(0.9 * math.log(4 / 3) + 0.1 * math.log(4))


def test_focal_by_hand():
    assert float(pixel_loss(LOGITS, TRUTH, 0.0, 2.0)) == pytest.approx(math.log(4 / 3) / 16)


def test_dice_by_hand():
    """Each class: overlap 3/4, sum of p 1, of t 1: (2 * 3/4 + 1) / (1 + 1 + 1) = 5/6."""
    assert float(dice_loss(LOGITS, TRUTH)) == pytest.approx(1 / 6)
    one_class = torch.tensor([[[[1.0, 1.0, 0.0]], [[0.0, 0.0, 0.0]]]])
    # Class 0 alone: overlap 1/4 + 3/4, sum of p 1, of t 2: 3/4. Class 1 is absent and does not count.
    assert float(dice_loss(LOGITS, one_class)) == pytest.approx(1 / 4)


def test_the_loss_joins_them_and_leaves_ignored_pixels_out():
    both = math.log(4 / 3) + 1 / 6
    assert float(build().loss(LOGITS, TARGETS, 0.0)) == pytest.approx(both)
    assert float(build().loss((LOGITS, torch.zeros(1, 1, 1, 3)), TARGETS, 0.0)) == pytest.approx(both)
    assert float(build(loss="focal").loss(LOGITS, TARGETS, 0.0)) == pytest.approx(math.log(4 / 3) / 16)
    logits = LOGITS.clone().requires_grad_()
    build().loss(logits, TARGETS, 0.1).backward()
    assert (logits.grad[..., 2] == 0).all() and (logits.grad[..., :2] != 0).all()


@pytest.mark.parametrize("loss", ["dice_ce", "focal"])
def test_nothing_but_ignored_pixels(loss):
    network = build(loss=loss)
    value = network.loss(network(torch.randn(2, 3, 8, 8)), torch.full((2, 8, 8), 255, dtype=torch.uint8), 0.05)
    value.backward()
    assert float(value) == 0.0 and all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_the_loss_is_computed_in_float32():
    assert build().loss(LOGITS.bfloat16(), TARGETS, 0.0).dtype == torch.float32


def stripes():
    """Two 64-pixel frames: a disc and slanted lines, brighter than their noisy surroundings."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    masks = np.stack([(y - 30) ** 2 + (x - 34) ** 2 < 300, (x + 2 * y) % 17 < 4])
    frames = rng.normal(0, 0.5, (2, 3, 64, 64)) + masks[:, None]
    return torch.tensor(frames, dtype=torch.float32), torch.tensor(masks.astype(np.uint8))


@pytest.mark.parametrize("loss", ["dice_ce", "focal"])
def test_it_learns_two_images(loss):
    frames, masks = stripes()
    network = build(widths=(8, 12, 16), bottleneck_heads=2, loss=loss)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        value = network.loss(network(frames), masks, 0.0)
        value.backward()
        optimizer.step()
        losses.append(float(value))
    assert losses[-1] < 0.1 * losses[0]
    assert float((network(frames).argmax(dim=1) == masks).float().mean()) > 0.97


@pytest.mark.parametrize("settings", [{}, {"bottleneck_heads": 2, "attention_output": True}])
def test_onnx_gives_the_same(settings, tmp_path):
    torch.manual_seed(0)
    description = camera.Description(
        "attention_unet",
        {"widths": [4, 6, 8], **settings},
        ("background", "vessel"),
        Preprocess(16, 24),
        (100.0, 110.0, 120.0),
        (50.0, 60.0, 70.0),
    )
    model = camera.CameraModel(description).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bottleneck.scale"):
                parameter.fill_(0.7)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
    frame = torch.randint(0, 256, (1, 16, 24, 3), dtype=torch.uint8)
    path = tmp_path / "model.onnx"
    program = torch.onnx.export(model, (frame,), dynamo=True, opset_version=20, verbose=False)
    assert program is not None
    program.save(str(path))
    graph = onnx.load(path).graph
    operators = {node.op_type for node in graph.node}
    allowed = {"Conv", "Relu", "MaxPool", "Resize", "Concat", "Sigmoid", "Mul", "Add", "Sub", "Transpose", "Cast"}
    if "bottleneck_heads" in settings:
        allowed |= {"Reshape", "MatMul", "Softmax"}
    assert operators <= allowed, operators - allowed
    assert all(d.dim_value > 0 for value in graph.output for d in value.type.tensor_type.shape.dim)
    with torch.no_grad():
        found = model(frame)
    values = found if isinstance(found, tuple) else (found,)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    got = session.run(None, {session.get_inputs()[0].name: frame.numpy()})
    assert len(got) == len(values) == len(description.outputs)
    for ours, theirs in zip(got, values, strict=True):
        assert ours.shape == tuple(theirs.shape)
        assert sqnr_db(theirs.numpy(), ours) >= 80
