from __future__ import annotations

import contextlib
import io
import time

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from edgeattn.metrics.detection import (
    RIGHT,
    THRESHOLDS,
    UNDECIDED,
    WRONG,
    average_precision,
    count_truth,
    iou,
    match_image,
    pair_boxes,
)


def test_iou_by_hand():
    boxes = np.array([[0, 0, 4, 4], [10, 10, 10, 12], [0, 0, 2, 2]])
    others = np.array([[0, 2, 4, 6], [0, 0, 4, 4], [10, 10, 10, 12]])
    assert iou(boxes, others) == pytest.approx(np.array([[1 / 3, 1, 0], [0, 0, 0], [0, 1 / 4, 0]]))
    assert iou(np.zeros((0, 4)), others).shape == (0, 3)


def one_class(boxes, scores, truth):
    return match_image(np.array(boxes, float), np.array(scores), np.zeros(len(scores)), np.array(truth, float))


def test_the_more_confident_detection_takes_the_box():
    """IoU 8/16 and 1: the worse but more confident one is right at 0.5 alone and leaves the rest to the exact one."""
    flags = one_class([[0, 0, 4, 2], [0, 0, 4, 4]], [0.9, 0.8], [[0, 0, 4, 4, 0]])
    assert flags[0].tolist() == [RIGHT] + 9 * [WRONG]
    assert flags[1].tolist() == [WRONG] + 9 * [RIGHT]


def test_thresholds_are_ten_and_a_miss_is_wrong_at_all():
    assert pytest.approx([0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]) == THRESHOLDS
    assert (one_class([[8, 8, 9, 9]], [0.9], [[0, 0, 4, 4, 0]]) == WRONG).all()


def test_other_classes_are_not_matched():
    truth = np.array([[0, 0, 4, 4, 1.0]])
    flags = match_image(np.array([[0, 0, 4, 4.0]]), np.array([0.9]), np.array([0.0]), truth)
    assert (flags == WRONG).all()


def test_ignored_regions_forgive_any_number_but_come_last():
    truth = [[0, 0, 8, 8, -1], [0, 0, 4, 4, 0]]
    flags = one_class([[0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 2, 2], [6, 0, 10, 4]], [0.9, 0.8, 0.7, 0.6], truth)
    assert (flags[0] == RIGHT).all()
    assert (flags[1:3] == UNDECIDED).all()
    # Half of the last lies in the region.
    assert flags[3].tolist() == [UNDECIDED] + 9 * [WRONG]
    assert count_truth(np.array(truth), 2).tolist() == [1, 0]


def test_no_more_than_a_hundred_detections_per_class():
    flags = one_class([[0, 0, 4, 4]] * 101, np.linspace(1, 0.5, 101), [[0, 0, 4, 4, 0]])
    assert (flags[1:100] == WRONG).all() and (flags[100] == UNDECIDED).all()


def test_average_precision_by_hand():
    flags = np.array([[1], [0], [1]])
    got = average_precision(np.array([0.9, 0.8, 0.7]), np.zeros(3), flags, np.array([2, 0, 3]))
    assert got[:, 0] == pytest.approx([(51 + 50 * 2 / 3) / 101, np.nan, 0.0], nan_ok=True)
    # The same detections, given in another order.
    again = average_precision(np.array([0.7, 0.9, 0.8]), np.zeros(3), flags[[2, 0, 1]], np.array([2]))
    assert again[0, 0] == got[0, 0]


def test_undecided_detections_do_not_count():
    flags = np.array([[UNDECIDED], [1]])
    assert average_precision(np.array([0.9, 0.8]), np.zeros(2), flags, np.array([1]))[0, 0] == pytest.approx(1.0)


def test_pairs():
    boxes = np.array([[0, 0, 10, 9], [0, 0, 10, 6], [50, 50, 60, 60.0]])
    others = np.array([[0, 0, 10, 10], [0, 0, 10, 5.0], [50, 50, 60, 60]])
    assert pair_boxes(boxes, np.array([0, 0, 0]), others, np.array([0, 0, 1])) == [(0, 0), (1, 1)]
    assert pair_boxes(boxes[:0], np.zeros(0), others, np.zeros(3)) == []


def random_case(rng, images=12, classes=3):
    """Boxes near true ones, duplicates, false ones, ties of score, crowds, images without any."""
    case = []
    for _ in range(images):
        truth = np.zeros((rng.integers(0, 8), 5))
        truth[:, :2] = rng.uniform(0, 80, (len(truth), 2))
        truth[:, 2:4] = truth[:, :2] + rng.uniform(2, 40, (len(truth), 2))
        truth[:, 4] = rng.integers(0, classes, len(truth))
        near = np.repeat(truth, rng.integers(0, 4, len(truth)), axis=0)
        near[:, :4] += rng.normal(0, 2, (len(near), 4))
        false = np.zeros((rng.integers(0, 5), 5))
        false[:, :2] = rng.uniform(0, 80, (len(false), 2))
        false[:, 2:4] = false[:, :2] + rng.uniform(2, 40, (len(false), 2))
        false[:, 4] = rng.integers(0, classes, len(false))
        found = np.concatenate((near, false))
        found[:, 2:4] = np.maximum(found[:, 2:4], found[:, :2] + 1)
        flip = rng.random(len(found)) < 0.1
        found[flip, 4] = rng.integers(0, classes, int(flip.sum()))
        crowd = rng.random(len(truth)) < 0.15
        truth[crowd, 4] = -truth[crowd, 4] - 1
        case.append((truth, found, np.round(rng.uniform(0.05, 1, len(found)), 2)))
    return case


def ours(case, classes=3):
    flags = [match_image(found[:, :4], scores, found[:, 4], truth) for truth, found, scores in case]
    counts = sum(count_truth(truth, classes) for truth, _, _ in case)
    labels = np.concatenate([found[:, 4] for _, found, _ in case])
    scores = np.concatenate([scores for *_, scores in case])
    return average_precision(scores, labels, np.concatenate(flags), counts)


def theirs(case, classes=3):
    annotations, found_ones = [], []
    for index, (truth, found, scores) in enumerate(case):
        for x1, y1, x2, y2, named in truth.tolist():
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index,
                    "category_id": int(named if named >= 0 else -named - 1),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": int(named < 0),
                }
            )
        for (x1, y1, x2, y2, named), score in zip(found.tolist(), scores.tolist(), strict=True):
            box = [x1, y1, x2 - x1, y2 - y1]
            found_ones.append({"image_id": index, "category_id": int(named), "bbox": box, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        truth_set = COCO()
        truth_set.dataset = {
            "images": [{"id": i} for i in range(len(case))],
            "categories": [{"id": i} for i in range(classes)],
            "annotations": annotations,
        }
        truth_set.createIndex()
        judge = COCOeval(truth_set, truth_set.loadRes(found_ones), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge


@pytest.mark.parametrize("seed", range(12))
def test_equal_to_pycocotools(seed):
    case = random_case(np.random.default_rng(seed))
    judge = theirs(case)
    precision = ours(case)
    assert np.nanmean(precision) == pytest.approx(judge.stats[0], abs=1e-9)
    assert np.nanmean(precision[:, 0]) == pytest.approx(judge.stats[1], abs=1e-9)
    assert np.nanmean(precision[:, 5]) == pytest.approx(judge.stats[2], abs=1e-9)
    assert 0.05 < judge.stats[0] < judge.stats[1] < 1


def test_equal_to_pycocotools_where_boxes_touch_the_thresholds():
    """Whole numbers: IoU of exactly 1/2, two true boxes equally close, more than a hundred detections."""
    truth = np.array([[0, 0, 10, 10, 0], [10, 0, 20, 10, 0], [40, 40, 60, 60, 1]], float)
    found = np.array([[0, 0, 10, 5, 0], [5, 0, 15, 10, 0], [40, 40, 60, 60, 1]] + [[70, 70, 80, 80, 1]] * 110, float)
    scores = np.concatenate(([0.9, 0.8, 0.1], np.linspace(0.95, 0.2, 110)))
    case = [(truth, found, scores), (truth, found[:3], scores[:3])]
    judge = theirs(case)
    assert np.nanmean(ours(case)) == pytest.approx(judge.stats[0], abs=1e-9)
    assert np.nanmean(ours(case)[:, 0]) == pytest.approx(judge.stats[1], abs=1e-9)


def test_fast_enough_to_be_resampled():
    rng = np.random.default_rng(0)
    rows = 300 * 30
    flags = rng.integers(0, 2, (rows, 10))
    values = rng.random(rows), rng.integers(0, 3, rows), flags, np.array([2000, 2000, 2000])
    started = time.process_time()
    average_precision(*values)
    assert time.process_time() - started < 0.1  # 3 ms on a quiet machine
