from __future__ import annotations

import json

import numpy as np
import pytest

from edgeattn import tasks
from edgeattn.errors import DataError, ModelError
from edgeattn.imaging import Preprocess, View
from edgeattn.stats import interval_of, resampled
from edgeattn.tasks.detect import TASK

LABELS = ("RBC", "WBC")


def outputs(*rows, slots=4):
    """Rows of x1, y1, x2, y2, score, class."""
    table = np.zeros((slots, 6), np.float32)
    for index, row in enumerate(rows):
        table[index] = row
    return {"boxes": table[None, :, :4], "scores": table[None, :, 4], "classes": table[None, :, 5]}


def view(height=40, width=60, matrix=None):
    return (View(np.zeros((height, width, 3), np.uint8), np.eye(3) if matrix is None else matrix),)


A, B = (0, 0, 10, 10), (20, 20, 40, 40)


def test_found_by_name():
    assert tasks.find("detect") is TASK
    assert [metric.name for metric in TASK.metrics] == ["mAP50", "mAP"]
    assert json.dumps(TASK.decoding)


def test_metric_over_images_by_hand():
    """RBC: found in the first image, missed in the second, with a false one between: 51 of 101 recalls at precision 1.
    WBC: found with an IoU of 0.75, so right at the six thresholds up to 0.75.
    """
    first = TASK.score(outputs((*A, 0.9, 0), (20, 20, 40, 35, 0.6, 1)), np.array([[*A, 0], [*B, 1.0]]), view())
    second = TASK.score(outputs((50, 0, 60, 10, 0.8, 0)), np.array([[*A, 0.0]]), view())
    scores = np.stack((first, second))
    assert first.shape == (12 * 4 + 256,)
    assert TASK.summarize(scores, "mAP50") == pytest.approx((51 / 101 + 1) / 2)
    assert TASK.summarize(scores, "mAP") == pytest.approx((51 / 101 + 0.6) / 2)
    assert TASK.per_label(scores, 3) == [pytest.approx(51 / 101), 1.0, None]
    draws = resampled(scores, lambda rows: TASK.summarize(rows, "mAP50"), seed=0)
    assert interval_of(draws, len(scores)) == (0.0, 1.0)
    with pytest.raises(ValueError, match="detection has no metric 'mAP75'"):
        TASK.summarize(scores, "mAP75")


def test_nothing_found_and_nothing_to_find():
    missed = TASK.score(outputs(), np.array([[*A, 0.0]]), view())
    empty = TASK.score(outputs(), np.zeros((0, 5), np.float32), view())
    assert TASK.summarize(np.stack((missed, empty)), "mAP50") == 0.0
    assert np.isnan(TASK.summarize(empty[None], "mAP"))


def test_ignored_truth_neither_helps_nor_harms():
    truth = np.array([[*A, 0], [*B, -1.0]])
    with_it = TASK.score(outputs((*B, 0.9, 0), (*A, 0.8, 0)), truth, view())
    assert TASK.summarize(with_it[None], "mAP") == pytest.approx(1.0)


def test_every_score_above_zero_counts():
    found = TASK.score(outputs((*A, 0.01, 0)), np.array([[*A, 0.0]]), view())
    assert TASK.summarize(found[None], "mAP50") == pytest.approx(1.0)


def test_too_many_classes():
    with pytest.raises(DataError, match="at most 256 classes, got 256"):
        TASK.score(outputs(), np.array([[*A, 256.0]]), view())


def test_boxes_come_back_to_the_frame():
    """640 x 480 halved: edges double exactly. A letterbox adds borders: what lies there is left out."""
    matrix = Preprocess(240, 320, "stretch").apply_with_matrix(np.zeros((480, 640, 3), np.uint8))[1]
    result = TASK.decode(outputs((10, 20, 30, 400, 0.5, 1)), view(480, 640, matrix), LABELS, 1.0)
    assert result.xyxy.tolist() == [[20, 40, 60, 480]]
    assert result.xyxy.dtype == np.float32 and result.class_id.dtype == np.int64
    boxed = Preprocess(100, 100, "letterbox").apply_with_matrix(np.zeros((50, 100, 3), np.uint8))[1]
    rows = outputs((0, 0, 50, 20, 0.9, 0), (0, 20, 50, 50, 0.8, 0))
    assert TASK.decode(rows, view(50, 100, boxed), LABELS, 1.0).xyxy.tolist() == [[0, 0, 50, 25]]
    scored = TASK.score(rows, np.array([[0, 0, 50, 25, 0.0]]), view(50, 100, boxed))
    assert TASK.summarize(scored[None], "mAP") == pytest.approx(1.0)


def test_decode_keeps_what_is_sure_best_first():
    result = TASK.decode(outputs((*A, 0.29, 0), (*B, 0.5, 1), (*A, 0.9, 0)), view(), LABELS, 1.25)
    assert result.confidence.tolist() == pytest.approx([0.9, 0.5])
    assert str(result) == "1 RBC, 1 WBC"
    told = json.loads(json.dumps(result.to_dict()))
    assert told["latency_ms"] == 1.25
    assert told["detections"][1] == {"xyxy": [20, 20, 40, 40], "confidence": 0.5, "class_id": 1, "label": "WBC"}
    assert str(TASK.decode(outputs(), view(), LABELS, 0.0)) == "nothing"


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"logits": np.zeros((1, 2))},
        {"boxes": np.zeros((1, 4, 4)), "scores": np.zeros((1, 3)), "classes": np.zeros((1, 4))},
        {"boxes": np.zeros((2, 4, 4)), "scores": np.zeros((2, 4)), "classes": np.zeros((2, 4))},
        outputs((*A, 0.9, 2)),
    ],
)
def test_another_networks_outputs(wrong):
    with pytest.raises(ModelError, match=r"must give 'boxes' of shape|gives class 2, but there are 2 labels"):
        TASK.decode(wrong, view(), LABELS, 0.0)


def test_agreement():
    one, other = outputs((*A, 0.9, 0), (*B, 0.8, 1)), outputs((*A, 0.7, 0), (*B, 0.8, 0), (50, 0, 60, 9, 0.2, 0))
    assert TASK.agreement(one, one) == TASK.agreement(outputs(), outputs()) == 1.0
    assert TASK.agreement(one, other) == 0.5  # one pair of two and two
    assert TASK.agreement(one, outputs()) == 0.0


def test_comparable_pairs_what_changed_places():
    one = outputs((*A, 0.8, 0), (*B, 0.7, 1), (50, 0, 60, 10, 0.1, 0))
    other = outputs((*B, 0.7, 1), (*A, 0.5, 0))
    ours, theirs = TASK.comparable({**one, "attention": np.ones((1, 1, 2, 2))}, {**other, "attention": 0})
    assert ours["scores"][0].tolist() == pytest.approx([0.8, 0.7, 0.1])
    assert theirs["scores"][0].tolist() == pytest.approx([0.5, 0.7, 0.0])
    assert ours["classes"][0].tolist() == pytest.approx([0.8, 1.4, 0.1])
    assert theirs["boxes"][0].tolist() == pytest.approx(np.array([[0, 0, 5, 5], [14, 14, 28, 28], [0, 0, 0, 0]]))
    assert ours["boxes"].shape == theirs["boxes"].shape == (1, 3, 4)
    assert ours["attention"].shape == (1, 1, 2, 2)
    swapped = TASK.comparable(other, one)
    assert sorted(swapped[1]["scores"][0].tolist()) == pytest.approx([0.1, 0.7, 0.8])


def test_describe():
    truth = np.array([[*A, 0], [*A, 0], [*B, 1], [*B, -1.0]])
    words = TASK.describe(outputs((*A, 0.9, 1), (*B, 0.1, 0)), truth, LABELS, ())
    assert words == {"predicted": "1 WBC", "truth": "2 RBC, 1 WBC"}


@pytest.mark.parametrize("grey", [0, 127, 255])
def test_draw_is_seen_on_any_background(grey):
    frame = np.full((120, 160, 3), grey, np.uint8)
    before = frame.copy()
    rows = outputs((20, 40, 90, 100, 0.9, 0), (0, 0, 160, 120, 0.5, 1))
    drawn = TASK.decode(rows, view(120, 160), LABELS, 0.0).draw(frame)
    assert (frame == before).all() and drawn.shape == frame.shape and drawn.dtype == np.uint8
    edge = drawn[70, 17:24].astype(int)
    assert np.abs(edge - grey).sum(axis=1).max() > 150 and np.ptp(edge.sum(axis=1)) > 100
    assert (drawn[105, 50] == grey).all() and (drawn[60:90, 40:80] == grey).all()
    label = drawn[28:40, 20:80].reshape(-1, 3).astype(int).sum(axis=1)
    assert np.ptp(label) > 250  # text against its own background


def test_draw_at_the_edges_and_on_a_tiny_frame():
    result = TASK.decode(outputs((0, 0, 4, 4, 0.9, 0), (3, 3, 4, 4, 0.9, 1)), view(4, 4), LABELS, 0.0)
    assert result.draw(np.zeros((4, 4, 3), np.uint8)).shape == (4, 4, 3)
