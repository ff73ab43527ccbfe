from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from edgeattn.errors import ModelError
from edgeattn.metrics.alignment import corner_error_px, fit_homography, project
from edgeattn.models import _homography as geometry
from edgeattn.models import attention_align
from edgeattn.models.attention_align import Network, Settings, cell_centres

TRUTH = torch.tensor([[[1.05, 0.08, 3.0], [-0.05, 0.97, -2.0], [4e-4, -3e-4, 1.0]]])
SMALL = Settings(channels=(8, 16, 32), fine=16, rounds=1, heads=2)


def build(settings=SMALL, seed=0):
    torch.manual_seed(seed)
    return Network(settings, 0)


def pairs(count, side=64, seed=0):
    """Smooth random pictures and themselves moved by whole pixels."""
    generator = torch.Generator().manual_seed(seed)
    wide = torch.nn.functional.interpolate(
        torch.randn(count, 3, 24, 24, generator=generator), size=(96, 96), mode="bicubic"
    )
    moves = torch.randint(-8, 9, (count, 2), generator=generator)
    a = wide[:, :, 16 : 16 + side, 16 : 16 + side]
    b = torch.stack(
        [w[:, 16 - y : 16 - y + side, 16 - x : 16 - x + side] for w, (x, y) in zip(wide, moves.tolist(), strict=True)]
    )
    homography = torch.eye(3).repeat(count, 1, 1)
    homography[:, :2, 2] = moves.float()
    return a, b, homography


def test_points_through_a_homography():
    points = torch.tensor([[[10.0, 20.0], [100.0, 5.0]]])
    places, ahead = geometry.project(TRUTH, points)
    assert places[0].numpy() == pytest.approx(project(TRUTH[0].numpy(), points[0].numpy()), rel=1e-5)
    assert ahead.all()
    behind = torch.tensor([[[1.0, 0, 0], [0, 1, 0], [-0.1, 0, 1]]])
    assert geometry.project(behind, points)[1].tolist() == [[False, False]]


def test_the_differentiable_solve_is_the_decodings():
    points = (cell_centres(128, 128)[None] - 63.5) / 64
    truth = torch.tensor([[[1.1, 0.1, 0.05], [-0.1, 0.9, 0.1], [0.1, -0.05, 1.0]]])
    places = geometry.project(truth, points)[0].requires_grad_()
    found = geometry.solve(points, places, torch.ones(1, 256))
    assert found[0].detach().numpy() == pytest.approx(truth[0].numpy(), abs=3e-3)  # the ridge pulls a little
    found.sum().backward()
    assert torch.isfinite(places.grad).all() and places.grad.abs().max() > 0
    exact = fit_homography(points[0].numpy(), places[0].detach().numpy(), np.ones(256))
    assert exact == pytest.approx(truth[0].numpy(), abs=1e-5)


@pytest.mark.parametrize("size", [(20, 32), (32, 36), (8, 32), (64, 8)])
def test_sides_that_do_not_fit(size):
    a, says = (
        torch.zeros(1, 3, *size),
        rf"multiples of 8 and at least 16, got {size[0]} x {size[1]}; change input\.height",
    )
    network = build()
    with pytest.raises(ModelError, match=says):
        network(a, a)
    with pytest.raises(ModelError, match=says):
        network.training_loss(a, a, torch.eye(3)[None], 0.0)


def test_the_smallest_sides():
    a, b, truth = pairs(2, side=16)
    network = build()
    assert network.eval()(a, b)[0].shape == (2, 4, 4)
    assert torch.isfinite(network.train().training_loss(a, b, truth, 0.05))


def test_the_sharpest_weight_of_each_cell_is_an_output_on_request():
    a, b, _ = pairs(2)
    plain, asked = build().eval(), build(dataclasses.replace(SMALL, attention_output=True)).eval()
    matches, weights, attention = asked(a, b)
    assert torch.equal(matches, plain(a, b)[0]) and torch.equal(weights, plain(a, b)[1])
    assert attention.shape == (2, 1, 8, 8)
    # Of 16 x 16 places the largest weight is at least an equal share.
    assert attention.min() >= 1 / 256 and attention.max() <= 1
    assert attention_align.outputs(SMALL) == ("matches", "weights")
    assert attention_align.outputs(asked.settings) == ("matches", "weights", "attention")


def test_nothing_to_solve_from_is_the_identity():
    points = torch.zeros(1, 256, 2)
    assert geometry.solve(points, points, torch.zeros(1, 256))[0].numpy() == pytest.approx(np.eye(3), abs=1e-4)


def test_a_place_is_shared_by_its_four_cells():
    """(0.25, 0) in a map of 2 x 2: three quarters of the first, a quarter of the second; outside: the nearest."""
    logs = torch.tensor([[[[-1.0, -2.0], [-4.0, -8.0]]]])
    for place, want in (((0.25, 0.0), -1.25), ((0.5, 0.5), -3.75), ((1.0, 1.0), -8.0), ((-3.0, 9.0), -4.0)):
        found = geometry.bilinear_log_likelihood(logs, torch.tensor([[place]]), 0.0)
        assert float(found) == pytest.approx(want)
    smoothed = geometry.bilinear_log_likelihood(logs, torch.tensor([[(0.25, 0.0)]]), 0.2)
    assert float(smoothed) == pytest.approx(0.8 * -1.25 + 0.2 * -3.75)


def test_an_image_read_through_a_shift():
    image = torch.arange(12.0).reshape(1, 1, 3, 4)
    moved = torch.tensor([[[1.0, 0, 1], [0, 1, 0], [0, 0, 1]]])
    found, reached = geometry.sampled(image, moved)
    assert found[0, 0, :, :3].numpy() == pytest.approx(image[0, 0, :, 1:].numpy(), rel=1e-5)
    assert reached[0].tolist() == [[True, True, True, False]] * 3


def test_cells():
    points = cell_centres(16, 24)
    assert points.tolist() == [[3.5, 3.5], [11.5, 3.5], [19.5, 3.5], [3.5, 11.5], [11.5, 11.5], [19.5, 11.5]]


@pytest.mark.parametrize("size", [(64, 64), (32, 48)])
def test_outputs(size):
    network = build().eval()
    matches, weights = network(torch.randn(2, 3, *size), torch.randn(2, 3, *size))
    count = size[0] * size[1] // 64
    assert matches.shape == (2, count, 4) and weights.shape == (2, count)
    assert (matches[:, :, :2] == cell_centres(*size)).all()
    assert (matches[..., 2:] >= 0).all() and (matches[..., 2] <= size[1]).all() and (matches[..., 3] <= size[0]).all()
    assert ((weights > 0) & (weights < 1)).all()


def test_expected_places_by_loops():
    """sum over b's cells of the softmax weight times the centre of the cell."""
    network = build().eval()
    a, b = network._describe(*pairs(1, 32)[:2])
    points, _, _, scores = network._match(a, b, 32, 32)
    logits = scores[0, 5].double().detach().numpy()
    weights = np.exp(logits - logits.max())
    weights /= weights.sum()
    x = sum(weights[r, c] * (4 * c + 1.5) for r in range(8) for c in range(8))
    y = sum(weights[r, c] * (4 * r + 1.5) for r in range(8) for c in range(8))
    assert points[0, 5].tolist() == pytest.approx([x, y], abs=1e-4)


def test_light_and_contrast_do_not_matter():
    network = build().eval()
    a, b, _ = pairs(1)
    want, dimmed, mirrored = (network._describe(a, x)[1].tokens for x in (b, b * 0.6 + 0.3, b.flip(3)))
    assert (want - dimmed).abs().mean() < 0.05 * (want - mirrored).abs().mean()


def test_the_right_answer_costs_least():
    """Scores that name the true cells, places and trust: far below those of a network that knows nothing."""
    network = build()
    truth = torch.eye(3)[None]
    grid = cell_centres(64, 64)[None]

    def scores(cells, size, sharp):
        rows = torch.arange(cells) * size + (size - 1) / 2
        off = (grid[0, :, None, None, 0] - rows[None, None, :]) ** 2 + (
            grid[0, :, None, None, 1] - rows[None, :, None]
        ) ** 2
        return -sharp * off[None] / size**2

    right = network._matching_loss(grid, torch.full((1, 64), 9.0), (scores(8, 8, 9), scores(16, 4, 9)), truth, 0.0)
    blind = network._matching_loss(
        torch.full_like(grid, 31.5),
        torch.zeros(1, 64),
        (torch.zeros(1, 64, 8, 8), torch.zeros(1, 64, 16, 16)),
        truth,
        0.0,
    )
    # Four fine cells share each place: ln 4 is the least entropy; 0.5 * 0.1 and 0.5 * ln 1.1 are Charbonnier's floor.
    assert float(right) == pytest.approx(np.log(4) + 0.05 + 0.5 * np.log(1.1), abs=0.05)
    assert float(blind) > np.log(64) + np.log(256) + np.log(2)


def test_points_out_of_sight_count_for_the_trust_alone():
    network = build()
    away = torch.tensor([[[1.0, 0, 500], [0, 1, 0], [0, 0, 1]]])
    level = (torch.randn(1, 64, 8, 8), torch.randn(1, 64, 16, 16))
    grid = cell_centres(64, 64)[None]
    sure = network._matching_loss(grid, torch.full((1, 64), 5.0), level, away, 0.0)
    unsure = network._matching_loss(grid, torch.full((1, 64), -5.0), level, away, 0.0)
    assert float(sure - unsure) == pytest.approx(5.0, abs=0.1)


@pytest.mark.parametrize("photometric", [0.0, 0.5])
def test_every_weight_learns(photometric):
    network = build(Settings(channels=(8, 16, 32), fine=16, rounds=1, heads=2, photometric=photometric))
    a, b, homography = pairs(2)
    network.training_loss(a, b, homography, 0.05).backward()
    without = {n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0}
    # A bias that all keys share leaves the softmax as it is.
    assert all(name.endswith(("attention.key.bias", "fine_key.bias")) for name in without), without
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_the_true_homography_costs_least_light():
    """Charbonnier's floor alone, sqrt(1e-4), for whole pixels; without a move, or the wrong way, pictures differ."""
    a, b, homography = pairs(2)
    right, still, back = (
        float(attention_align._photometric(a, b, h))
        for h in (homography, torch.eye(3).expand(2, 3, 3), homography.inverse())
    )
    assert right == pytest.approx(0.01, abs=0.005)
    assert min(still, back) > 20 * right


def test_photometric_loss_counts():
    a, b, homography = pairs(2)
    plain = float(build().training_loss(a, b, homography, 0.0).detach())
    network = build(Settings(channels=(8, 16, 32), fine=16, rounds=1, heads=2, photometric=1.0))
    assert float(network.training_loss(a, b, homography, 0.0).detach()) > plain + 0.01


def test_a_few_pairs_are_learnt():
    torch.set_num_threads(1)
    network = build()
    a, b, homography = pairs(8)
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
    losses = []
    for _ in range(80):
        loss = network.training_loss(a, b, homography, 0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    with torch.no_grad():
        matches, weights = network(a, b)
    errors = [
        corner_error_px(fit_homography(m[:, :2], m[:, 2:], w**2), h, 64, 64)
        for m, w, h in zip(matches.numpy(), weights.numpy(), homography.numpy(), strict=True)
    ]
    moved = [corner_error_px(np.eye(3), h, 64, 64) for h in homography.numpy()]
    assert np.mean(errors) < 0.4 * np.mean(moved)


def test_both_engines_answer_as_pytorch_does(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    openvino = pytest.importorskip("openvino")
    network = build().eval()
    # Two tensors: the exporter takes one that is given twice for a single input.
    program = torch.onnx.export(
        network,
        (torch.zeros(1, 3, 32, 48), torch.ones(1, 3, 32, 48)),
        input_names=["frame_a", "frame_b"],
        output_names=["matches", "weights"],
        opset_version=20,
        dynamo=True,
        verbose=False,
    )
    graph = program.model_proto
    kinds = {node.op_type for node in graph.graph.node}
    assert not kinds & {"Pow", "Sqrt", "Erf", "Exp", "BatchNormalization", "GridSample", "Einsum", "ScatterND"}
    path = tmp_path / "model.onnx"
    path.write_bytes(graph.SerializeToString())
    a, b = torch.randn(1, 3, 32, 48), torch.randn(1, 3, 32, 48)
    with torch.no_grad():
        want = [value.numpy() for value in network(a, b)]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    engine = openvino.Core().compile_model(path, "CPU", exact)
    given = {"frame_a": a.numpy(), "frame_b": b.numpy()}
    results = engine(given)
    for got in (session.run(None, given), [results[name] for name in ("matches", "weights")]):
        for value, expected in zip(got, want, strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rounds": 0}, r"must be positive, photometric not negative, got \[24, 48, 96\], 48, 0, 4, 1\.5 and 0$"),
        ({"photometric": -1.0}, r"photometric not negative, got \[24, 48, 96\], 48, 2, 4, 1\.5 and -1$"),
        ({"channels": (8, 8, 10)}, "divide by 4 and by heads, got 10 channels and 4 heads"),
        ({"heads": 5}, "got 96 channels and 5 heads"),
    ],
)
def test_settings_that_cannot_be_built(values, message):
    with pytest.raises(ValueError, match=message):
        Settings(**values)
