from __future__ import annotations

import contextlib
import io
import math
import warnings

import numpy as np
import pytest
import torch

from edgeattn import models
from edgeattn.errors import RecipeError
from edgeattn.metrics.tensors import sqnr_db
from edgeattn.models import attention_rcnn as rcnn
from edgeattn.models._rcnn_losses import Truth, choose_regions, match, proposal_loss, region_loss, sampled
from edgeattn.recipe import parse_settings
from edgeattn.tasks.detect import TASK

SMALL = rcnn.Settings(
    anchor_sizes=(16.0, 24.0),
    anchor_ratios=(1.0,),
    widths=(16, 16, 24, 24),
    blocks=(1, 1, 1, 1),
    channels=32,
    hidden=48,
    embedding=16,
    candidates=64,
    proposals=24,
    detections=8,
    attention_output=True,
)
BOXES = (((6, 8, 26, 28, 0), (36, 30, 56, 54, 1)), ((30, 6, 54, 26, 1), (8, 36, 28, 60, 0)))


def scenes():
    """Two frames of 64 pixels with two rectangles each: blue ones are class 0, green ones class 1."""
    frames = 0.1 * torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    targets = torch.full((2, 100, 5), -1.0)
    for index, boxes in enumerate(BOXES):
        for row, (x1, y1, x2, y2, label) in enumerate(boxes):
            frames[index, label, y1:y2, x1:x2] += 2.0
            targets[index, row] = torch.tensor([x1, y1, x2, y2, label], dtype=torch.float32)
    return frames, targets


@pytest.fixture(scope="module")
def fitted():
    """A hundred and forty steps on the two scenes (2 seconds on a quiet machine), and their losses."""
    torch.manual_seed(0)
    network = rcnn.Network(SMALL, 2)
    frames, targets = scenes()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(140):
        loss = network.training_loss(frames, targets, 0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return network.eval(), losses


def names():
    return rcnn.outputs(SMALL)


def test_found_and_shared_parts_are_not_models():
    assert models.find("attention_rcnn") is rcnn
    assert not any(name.startswith("_") for name in models.names())
    assert rcnn.outputs(rcnn.Settings()) == ("boxes", "scores", "classes")


def test_it_learns_two_scenes(fitted):
    network, losses = fitted
    assert losses[-1] < losses[0] / 5
    with torch.no_grad():
        boxes, scores, classes, attention = network(scenes()[0])
    for index, truth in enumerate(BOXES):
        assert (scores[index, :2] > 0.8).all() and (scores[index, 2:] < 0.5).all()
        for x1, y1, x2, y2, label in truth:
            at = (classes[index, :2] == label).nonzero()
            assert len(at) == 1
            assert boxes[index, at[0, 0]].tolist() == pytest.approx([x1, y1, x2, y2], abs=4)
    # The first rectangle's middle is looked at, the frame's corner is not.
    assert attention.shape == (2, 1, 8, 8)
    assert attention[0, 0, 2, 2] > 0.8 and attention[0, 0, 7, 0] < 0.2


def test_outputs_are_fixed_sorted_and_unused_rows_are_zero(fitted):
    with torch.no_grad():
        boxes, scores, classes, _ = fitted[0](scenes()[0])
    assert (boxes.shape, scores.shape, classes.shape) == ((2, 8, 4), (2, 8), (2, 8))
    assert (scores.diff(dim=1) <= 0).all()
    unused = scores == 0
    assert unused.any() and not boxes[unused].any() and not classes[unused].any()
    assert (scores[~unused] >= SMALL.score_min).all()


def test_one_frame_or_two_give_the_same(fitted):
    frames = scenes()[0]
    with torch.no_grad():
        both, alone = fitted[0](frames), fitted[0](frames[1:])
    for together, one in zip(both, alone, strict=True):
        torch.testing.assert_close(together[1:], one, rtol=1e-3, atol=1e-3)


def exported(network, frame):
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network, (frame,), input_names=["frame"], output_names=list(names()), opset_version=20, dynamo=True
        )
    return program.model_proto


@pytest.fixture(scope="module")
def graph(fitted):
    return exported(fitted[0], scenes()[0][:1])


def test_the_graph_is_static(graph):
    onnx = pytest.importorskip("onnx")
    onnx.checker.check_model(graph, full_check=True)
    dimensions = [d for value in graph.graph.value_info for d in value.type.tensor_type.shape.dim]
    assert dimensions and all(d.HasField("dim_value") for d in dimensions)
    assert not {"NonMaxSuppression", "RoiAlign", "NonZero", "Loop", "If"} & {n.op_type for n in graph.graph.node}


def by_onnxruntime(path, frame):
    runtime = pytest.importorskip("onnxruntime")
    return runtime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"frame": frame})


def by_openvino(path, frame):
    openvino = pytest.importorskip("openvino")
    engine = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return list(engine([frame]).values())


@pytest.mark.parametrize("engine", [by_onnxruntime, by_openvino])
def test_it_is_equal_in_each_engine(fitted, graph, engine, tmp_path):
    frame = scenes()[0][:1]
    with torch.no_grad():
        want = dict(zip(names(), (value.numpy() for value in fitted[0](frame)), strict=True))
    (tmp_path / "m.onnx").write_bytes(graph.SerializeToString())
    got = dict(zip(names(), engine(tmp_path / "m.onnx", frame.numpy()), strict=True))
    ours, theirs = TASK.comparable(got, want)
    for name in names():
        assert sqnr_db(theirs[name], ours[name]) > 80, name


def test_the_loss_is_the_seeds(fitted, monkeypatch):
    monkeypatch.setattr(rcnn, "_ANCHOR_SAMPLES", 16)  # of 128 anchors: there is a choice
    network, (frames, targets) = fitted[0], scenes()
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append(network.training_loss(frames, targets, 0.0).item())
    assert values[0] == values[1] != values[2]


def test_frames_without_boxes_train():
    torch.manual_seed(0)
    network = rcnn.Network(SMALL, 2)
    loss = network.training_loss(scenes()[0], torch.full((2, 100, 5), -1.0), 0.05)
    loss.backward()
    assert torch.isfinite(loss) and loss > 0


def test_every_parameter_is_trained():
    torch.manual_seed(0)
    network = rcnn.Network(SMALL, 2)
    network.training_loss(*scenes(), 0.05).backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert not [name for name, gradient in gradients.items() if gradient is None or not torch.isfinite(gradient).all()]
    assert not [name for name, gradient in gradients.items() if not gradient.abs().max() > 0]


def test_half_precision_autocast_gives_finite_results(fitted):
    frames, targets = scenes()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        outputs = fitted[0](frames)
        loss = fitted[0].training_loss(frames, targets, 0.0)
    assert loss.dtype == torch.float32 and torch.isfinite(loss)
    assert (outputs[1][:, :2] > 0.7).all()


def test_a_frame_with_fewer_anchors_than_detections():
    network = rcnn.Network(SMALL, 1).eval()
    with torch.no_grad():
        boxes, scores, *_ = network(torch.randn(1, 3, 8, 8))  # one cell, two anchors
    assert boxes.shape == (1, 8, 4) and not scores[0, 2:].any()


def test_class_attention_against_loops():
    torch.manual_seed(0)
    layer = rcnn.ClassAttention(6, 4, 2).eval()
    features = torch.randn(1, 3, 6)
    with torch.no_grad():
        got, scores = layer(features)
        values = layer.values(layer.embeddings)
        for i in range(3):
            query = layer.query(features[0, i])
            own = [float(query @ layer.embeddings[c]) / math.sqrt(4) for c in range(3)]
            weights = np.exp(own) / np.exp(own).sum()
            mixed = features[0, i] + sum(float(weights[c]) * values[c] for c in (1, 2))
            assert scores[0, i].tolist() == pytest.approx(own, abs=1e-5)
            torch.testing.assert_close(got[0, i], layer.norm(mixed))


def truth_of(*boxes):
    return Truth.of(torch.tensor([boxes], dtype=torch.float32), 8)


def test_truth_keeps_used_rows_only():
    truth = truth_of((8, 16, 24, 32, 1), (-1, -1, -1, -1, -1), (0, 0, 0, 8, 0))
    assert truth.boxes.tolist() == [[[1, 2, 3, 4]]] and truth.classes.tolist() == [[1]]
    none = truth_of((-1, -1, -1, -1, -1))
    assert none.used.tolist() == [[False]]


def test_inside_an_ignored_box_nothing_is_background():
    """An ignored box of 4 x 4 cells: a candidate wholly inside, one half, one a quarter, one outside."""
    truth = truth_of((64, 64, 96, 96, 1), (0, 0, 32, 32, -2))
    assert truth.used.tolist() == [[True, False]] and truth.ignored.tolist() == [[False, True]]
    candidates = torch.tensor([[[1.0, 1, 3, 3], [2, 0, 6, 4], [3, 0, 7, 4], [20, 20, 24, 24]]])
    assert truth.background(candidates).tolist() == [[False, False, True, True]]
    anchors = candidates[0, [0, 3]]
    logits = torch.tensor([[5.0, 0.0]])
    loss = proposal_loss(logits, torch.zeros(1, 2, 4), anchors, truth, (0.25, 0.25), 4)
    assert loss.item() == pytest.approx(math.log(2))  # of the anchor outside alone
    regions = choose_regions(candidates, truth, 8)
    taught = [box for box, used in zip(regions.boxes[0].tolist(), regions.used[0].tolist(), strict=True) if used]
    assert sorted(taught) == [[3, 0, 7, 4], [8, 8, 12, 12], [20, 20, 24, 24]]


def test_matching_by_hand():
    """IoU 1/2 and 1/8 with the first true box; nothing overlaps the second but the last, by 1/4."""
    truth = truth_of((0, 0, 32, 32, 0), (64, 64, 96, 96, 1))
    candidates = torch.tensor([[[0.0, 0, 4, 2], [0, 0, 1, 2], [8, 8, 10, 10]]])
    matches = match(candidates, truth)
    assert matches.best[0].tolist() == pytest.approx([1 / 2, 1 / 8, 1 / 4])
    assert matches.index[0].tolist() == [0, 0, 1]
    assert matches.closest[0].tolist() == [True, False, True]


def test_sampling_counts():
    torch.manual_seed(0)
    positive = torch.zeros(2, 50, dtype=torch.bool)
    positive[0, :20] = True
    positive[1, :2] = True
    yes, no = sampled(positive, ~positive, 16, 0.5)
    assert yes.sum(1).tolist() == [8, 2] and no.sum(1).tolist() == [8, 14]
    assert not (yes & ~positive).any() and not (no & positive).any()
    yes, no = sampled(positive[:, :10], ~positive[:, :10], 16, 0.5)  # not enough of either
    assert yes.sum(1).tolist() == [8, 2] and no.sum(1).tolist() == [0, 8]


def test_regions_hold_the_true_boxes():
    torch.manual_seed(0)
    truth = truth_of((0, 0, 32, 32, 1), (-1, -1, -1, -1, -1))
    proposals = torch.tensor([[[0.0, 0, 4, 3], [10, 10, 12, 12], [0, 0, 0, 0]]])
    regions = choose_regions(proposals, truth, 8)
    rows = sorted(zip(regions.boxes[0].tolist(), regions.classes[0].tolist(), regions.used[0].tolist(), strict=True))
    assert rows == [([0, 0, 0, 0], 0, 1), ([0, 0, 4, 3], 2, 1), ([0, 0, 4, 4], 2, 1), ([10, 10, 12, 12], 0, 1)]


def test_losses_by_hand():
    """One positive anchor on its box and one negative far away: logits 0 cost ln 2 each, a delta off by 2 costs 1.5."""
    truth = truth_of((0, 0, 32, 32, 0))
    anchors = torch.tensor([[0.0, 0, 4, 4], [20, 20, 24, 24]])
    deltas = torch.tensor([[[2.0, 0, 0, 0], [9, 9, 9, 9]]])
    loss = proposal_loss(torch.zeros(1, 2), deltas, anchors, truth, (0.25, 0.25), 4)
    assert loss.item() == pytest.approx(math.log(2) + 1.5 / 2)
    regions = choose_regions(anchors[None, 1:], truth, 4)
    logits = torch.zeros(1, 2, 2)
    moved = torch.zeros(1, 2, 4)
    # Cross-entropy ln 2 for both regions, half as much again for the scores; the true box is already in place.
    assert region_loss(logits, logits, moved, regions, (0.1, 0.2), 0.0).item() == pytest.approx(1.5 * math.log(2))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"anchor_sizes": []}, "anchor_sizes must be positive numbers, got []"),
        ({"anchor_ratios": [1.0, 0.0]}, "anchor_ratios must be positive numbers, got [1.0, 0.0]"),
        ({"blocks": [1, 0, 1, 1]}, "blocks must be positive numbers, got [1, 0, 1, 1]"),
        ({"hidden": 0}, "hidden must be at least 1, got 0"),
        ({"detections": 200}, "must be positive and in that order, got 200, 96 and 256"),
        ({"detections": 0}, "must be positive and in that order, got 0, 96 and 256"),
        ({"score_min": 1.0}, "score_min must be at least 0 and below 1, got 1.0"),
    ],
)
def test_wrong_settings(settings, sentence):
    with pytest.raises(RecipeError) as caught:
        parse_settings(rcnn.Settings, settings, "attention_rcnn")
    assert sentence in str(caught.value)
