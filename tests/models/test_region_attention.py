from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from edgeattn.data.scenes import Scenes
from edgeattn.models.region_attention import Network, Settings, outputs


def build(classes=2, **settings):
    torch.manual_seed(0)
    return Network(Settings(**settings), classes)


def by_hand(*grids, attention_output=True):
    """One channel, no CNN; a region scores ln 5 when it is 10, 0 when it is 0; grids count alike; the class is 2 z."""
    network = build(1, stages=(1,), hidden=1, grids=grids, attention_output=attention_output)
    network.stages = nn.Identity()
    with torch.no_grad():
        for scale in getattr(network.regions, "scales", [network.regions]):
            scale.pool.item.weight.fill_(1.0)
            scale.pool.score.weight.fill_(math.log(5))  # tanh(10) is 1 to 8 digits
        if len(grids) > 1:
            network.regions.pool.score.weight.zero_()
        network.head.weight.fill_(2.0)
        network.head.bias.fill_(0.5)
    return network


def test_one_grid_by_hand():
    x = torch.zeros(1, 1, 4, 4)
    x[..., :2, 2:] = 10.0  # the upper right of four regions
    logits, attention = by_hand(2)(x)
    np.testing.assert_allclose(attention[0, 0].detach(), [[1 / 8, 5 / 8], [1 / 8, 1 / 8]], rtol=1e-6)
    assert logits.item() == pytest.approx(2 * 10 * 5 / 8 + 0.5)


def test_two_grids_by_hand():
    x = torch.zeros(1, 1, 4, 4)
    x[..., :2, 2:] = 10.0
    logits, attention = by_hand(1, 2)(x)
    # The whole image is 2.5 and weighs 1; its answer and that of the four regions, 6.25, count half each.
    assert logits.item() == pytest.approx(2 * (2.5 + 6.25) / 2 + 0.5)
    np.testing.assert_allclose(
        attention[0, 0].detach(), [[0.5 + 1 / 16, 0.5 + 5 / 16], [0.5 + 1 / 16, 0.5 + 1 / 16]], rtol=1e-6
    )


def test_the_attention_is_an_output_on_request():
    assert outputs(Settings()) == ("logits",)
    assert outputs(Settings(attention_output=True)) == ("logits", "attention")
    x = torch.zeros(1, 1, 4, 4)
    assert torch.equal(by_hand(2, attention_output=False)(x), by_hand(2)(x)[0])


def test_the_loss_looks_at_the_logits_alone():
    logits = torch.log(torch.tensor([[0.25, 0.75]]))
    network = build()
    for values in (logits, (logits, torch.rand(1, 1, 4, 4))):
        assert float(network.loss(values, torch.tensor([0]), 0.0)) == pytest.approx(-math.log(0.25))


@pytest.mark.parametrize("grids", [(4,), (2, 4), (1, 2, 4)])
def test_shapes_ranges_and_gradients(grids):
    network = build(3, stages=(8, 16), grids=grids, hidden=8, attention_output=True).train()
    logits, attention = network(torch.randn(4, 3, 32, 48))
    assert (logits.shape, attention.shape) == ((4, 3), (4, 1, 4, 4))
    assert attention.min() > 0 and attention.max() < 1
    if len(grids) == 1:
        np.testing.assert_allclose(attention.detach().sum((1, 2, 3)), 1, rtol=1e-5)
    network.loss((logits, attention), torch.tensor([0, 1, 2, 0]), 0.0).backward()
    without = {n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0}
    # The only region of a grid weighs 1 whatever its score.
    alone = {f"regions.scales.0.pool.{name}" for name in ("item.weight", "score.weight", "learned")}
    assert without == (alone if 1 in grids else set())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"grids": ()},
            r"stages, convolutions, grids and hidden must be positive, got \[32, 64, 128\], 2, \[\] and 64$",
        ),
        ({"grids": (0,)}, r"hidden must be positive, got \[32, 64, 128\], 2, \[0\] and 64$"),
        ({"stages": ()}, r"hidden must be positive, got \[\], 2, \[4\] and 64$"),
        ({"convolutions": 0}, r"hidden must be positive, got \[32, 64, 128\], 0, \[4\] and 64$"),
        ({"grids": (2, 3)}, "each of the grids must divide the largest, got 2, 3"),
    ],
)
def test_settings_that_cannot_be_built(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        Settings(**settings)


def test_a_grid_that_does_not_divide_the_map():
    with pytest.raises(ValueError, match="4 x 4 regions does not divide 7 x 8"):
        build(stages=(8,))(torch.zeros(1, 3, 14, 16))


@pytest.mark.parametrize("settings", [{}, {"attention_output": True}, {"grids": (2, 4), "attention_output": True}])
def test_onnx_runtime_answers_alike(settings):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    network = build(3, stages=(8, 16), hidden=8, **settings).eval()
    program = torch.onnx.export(
        network, (torch.zeros(1, 3, 32, 32),), opset_version=20, dynamo=True, input_names=["x"], verbose=False
    )
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    kinds = {node.op_type for node in program.model_proto.graph.node}
    assert not kinds & {"Resize", "Shape", "GatherND", "ScatterND", "Loop", "If"}
    x = torch.randn(1, 3, 32, 32)
    want = network(x)
    want = want if isinstance(want, tuple) else (want,)
    found = session.run(None, {"x": x.numpy()})
    assert len(found) == len(want)
    for ours, theirs in zip(found, want, strict=True):
        noise = np.square(ours - theirs.detach().numpy()).mean() / np.square(theirs.detach().numpy()).mean()
        assert noise < 1e-8  # 80 dB


def train(network, x, targets, steps):
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        network.loss(network(x), targets, 0.0).backward()
        optimizer.step()
    return network.eval()


def test_it_learns_scenes_by_heart():
    scenes = Scenes("train", 24, seed=0)
    x = torch.from_numpy(np.stack([scenes[i].frame for i in range(24)])).permute(0, 3, 1, 2).float() / 64 - 2
    targets = torch.tensor([scenes[i].target for i in range(24)])
    network = train(build(10, stages=(12, 24, 32), grids=(2, 4), hidden=16), x, targets, 100)
    assert (network(x).argmax(1) == targets).all()


def test_it_attends_to_where_the_answer_is():
    """The class is the colour of a square somewhere in the noise; nothing says where but that it pays to look."""
    generator = torch.Generator().manual_seed(0)
    x = 0.5 * torch.randn(64, 3, 32, 32, generator=generator)
    targets = torch.arange(64) % 2
    places = torch.randint(0, 16, (64,), generator=generator)
    for image, target, place in zip(x, targets, places, strict=True):
        top, left = 8 * (place // 4), 8 * (place % 4)
        image[2 * target, top : top + 8, left : left + 8] += 2.0
    network = train(build(2, stages=(8, 16), convolutions=1, hidden=8, attention_output=True), x, targets, 60)
    logits, attention = network(x)
    assert (logits.argmax(1) == targets).all()
    assert (attention.flatten(1).argmax(1) == places).float().mean() > 0.9
