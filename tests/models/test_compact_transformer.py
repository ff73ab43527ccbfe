from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from edgeattn.data.scenes import Scenes
from edgeattn.models.attention.transformer import TransformerBlock
from edgeattn.models.compact_transformer import Block, Network, Settings, StochasticDepth

CCT_6 = {"layers": 6, "heads": 4, "channels": 256, "mlp_ratio": 2.0, "convolutions": 1, "map_side": 16}
SMALL = {"channels": 16, "heads": 2, "stochastic_depth": 0.0}


def build(classes=10, **settings):
    torch.manual_seed(0)
    return Network(Settings(**settings), classes)


@pytest.mark.parametrize(
    ("settings", "published"),
    [
        ({"positions": "learned"}, 0.284e6),
        ({"layers": 4, "positions": "learned"}, 0.482e6),
        (CCT_6, 3.168e6),
        ({**CCT_6, "layers": 7, "positions": "learned"}, 3.760e6),
    ],
    ids=["CCT-2/3x2", "CCT-4/3x2", "CCT-6/3x1", "CCT-7/3x1"],
)
def test_parameters_are_the_published_ones(settings, published):
    """But for biases of Q, K and V, and positions that are learned by rows and columns instead of one by one."""
    network = build(**settings)
    channels, side = network.settings.channels, network.settings.map_side
    count = sum(p.numel() for p in network.parameters()) - 3 * channels * network.settings.layers
    if network.positions is not None:
        count += (side * side - 2 * side) * channels
    assert round(count / 1000) == round(published / 1000)


@pytest.mark.parametrize(("convolutions", "side"), [(1, 16), (2, 8), (3, 4)])
def test_each_convolution_halves_the_sides(convolutions, side):
    network = build(**SMALL, convolutions=convolutions, kernel=5)
    assert network.tokenizer(torch.zeros(1, 3, 32, 32)).shape == (1, 16, side, side)
    assert [m.out_channels for m in network.tokenizer if isinstance(m, nn.Conv2d)] == [64] * (convolutions - 1) + [16]


def test_sequence_pooling_by_hand():
    network = build(4, layers=1, channels=4, heads=1, stochastic_depth=0.0)
    network.tokenizer, network.blocks, network.norm = nn.Identity(), nn.Sequential(), nn.Identity()
    network._positions = lambda height, width, channels: torch.zeros(height * width, channels)
    with torch.no_grad():
        network.pool.weight.copy_(torch.tensor([[1.0, 0, 0, 0]]))
        network.head.weight.copy_(torch.eye(4))
    first, second = torch.tensor([math.log(3), 8.0, 0, 1]), torch.tensor([0.0, 4.0, 4, 1])
    x = torch.stack((first, second), dim=1).reshape(1, 4, 1, 2)
    # Weights 3/4 and 1/4.
    np.testing.assert_allclose(network(x)[0].detach(), [0.75 * math.log(3), 7, 1, 1], rtol=1e-6)


@pytest.mark.parametrize("positions", ["sine", "learned"])
def test_positions_reach_the_tokens(positions):
    network = build(**SMALL, positions=positions).eval()
    if positions == "learned":
        nn.init.normal_(network.positions.column)
    features = torch.randn(1, 16, 8, 8)
    network.tokenizer = nn.Identity()
    assert not torch.allclose(network(features), network(features.flip(3)), atol=1e-4)


@pytest.mark.parametrize("positions", ["sine", "learned"])
def test_other_sizes_than_the_one_it_was_made_for(positions):
    assert build(**SMALL, positions=positions)(torch.zeros(2, 3, 48, 64)).shape == (2, 10)


def test_stochastic_depth_by_hand():
    layer = StochasticDepth(0.25)
    branch = torch.full((4000, 2, 3), 6.0)
    torch.manual_seed(0)
    out = layer.train()(branch)
    assert set(out.unique().tolist()) == {0.0, 8.0}  # 6 / (1 - 0.25)
    assert (out == out[:, :1, :1]).all()  # a sample's branch is dropped whole
    # 3000 of 4000 stay, standard deviation sqrt(4000 x 0.25 x 0.75) = 27; four of them.
    assert abs(int((out[:, 0, 0] > 0).sum()) - 3000) < 110
    assert layer.eval()(branch) is branch
    assert StochasticDepth(0.0).train()(branch) is branch
    half = layer.train()(branch.bfloat16())
    assert half.dtype == torch.bfloat16


def test_the_rate_grows_with_depth():
    assert [block.drop.rate for block in build(**{**SMALL, "layers": 5, "stochastic_depth": 0.2}).blocks] == (
        pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
    )
    network = build(**{**SMALL, "stochastic_depth": 0.9})
    x = torch.randn(8, 3, 16, 16)
    assert not torch.equal(network.train()(x), network(x))
    assert torch.equal(network.eval()(x), network(x))
    # Where nothing is dropped, training and use are the same.
    network.blocks[1].drop.rate = 0.0
    assert torch.equal(network.train()(x), network.eval()(x))


def test_a_block_drops_the_same_whichever_way_it_is_asked():
    block, x = Block(Settings(**SMALL), rate=0.5), torch.randn(64, 5, 16)
    plain = TransformerBlock(16, 2, 1.0)
    plain.load_state_dict(block.state_dict())
    torch.manual_seed(1)
    out = block.train()(x)
    torch.manual_seed(1)
    attended, weights = block.attend(x)
    assert torch.equal(attended, out) and not torch.equal(block.attend(x)[0], out)
    # Half of the attention's branches and half of the MLP's are left out: a quarter of the samples pass as they came.
    assert 5 < int((out == x).all(dim=(1, 2)).sum()) < 28
    for used, expected in zip(block.eval().attend(x), plain.attend(x), strict=True):
        assert torch.equal(used, expected)
    assert torch.equal(block(x), plain(x)) and torch.equal(weights, plain.attend(x)[1])


@pytest.mark.parametrize("positions", ["sine", "learned"])
def test_gradients_reach_every_parameter(positions):
    network = build(**SMALL, positions=positions)
    network.loss(network(torch.randn(8, 3, 32, 32)), torch.arange(8), 0.1).backward()
    without = {n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-12}
    # Softmax ignores what all scores share: a bias of the keys, and that of the pooling.
    assert without <= {"blocks.0.attention.key.bias", "blocks.1.attention.key.bias", "pool.bias"}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"layers": 0},
            "layers, heads, channels, mlp_ratio, convolutions and map_side must be positive, got 0, 2, 128, 1",
        ),
        ({"mlp_ratio": 0}, "convolutions and map_side must be positive, got 2, 2, 128, 0, 2 and 8"),
        ({"heads": 3}, "channels must divide by 4 and by heads, got 128 and 3 heads"),
        ({"channels": 6, "heads": 2}, "channels must divide by 4 and by heads, got 6 and 2 heads"),
        ({"stochastic_depth": 1.0}, "stochastic_depth must be at least 0 and below 1, got 1"),
    ],
)
def test_settings_that_cannot_be_built(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        Settings(**settings)


@pytest.mark.parametrize(("positions", "height"), [("sine", 32), ("learned", 32), ("learned", 48)])
def test_onnx_runtime_answers_alike(positions, height):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    network = build(3, **{**SMALL, "stochastic_depth": 0.5}, positions=positions).eval()
    x = torch.randn(1, 3, height, 32)
    program = torch.onnx.export(network, (x,), opset_version=20, dynamo=True, input_names=["x"], verbose=False)
    kinds = [node.op_type for node in program.model_proto.graph.node]
    assert (kinds.count("LayerNormalization"), kinds.count("Gelu"), kinds.count("Softmax")) == (5, 2, 3)
    assert not set(kinds) & {"RandomUniform", "RandomUniformLike", "Resize", "Sin", "Erf"}
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": x.numpy()})
    want = network(x).detach().numpy()
    assert np.square(found - want).mean() / np.square(want).mean() < 1e-8  # 80 dB


def test_it_learns_scenes_by_heart():
    scenes = Scenes("train", 24, seed=0)
    x = torch.from_numpy(np.stack([scenes[i].frame for i in range(24)])).permute(0, 3, 1, 2).float() / 64 - 2
    targets = torch.tensor([scenes[i].target for i in range(24)])
    network = build(channels=32, heads=2, convolutions=3)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.003)
    for _ in range(120):  # 50 do on some processors, whose sums round otherwise
        optimizer.zero_grad()
        network.loss(network(x), targets, 0.0).backward()
        optimizer.step()
    assert (network.eval()(x).argmax(1) == targets).all()
