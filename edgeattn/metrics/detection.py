"""Detection metrics: COCO's matching of boxes and its average precision (Lin et al., 2014, arXiv:1405.0312).

The rules are those of COCO's own evaluation for boxes of all areas: at most 100 detections per image and class, greedy
by confidence, ten IoU thresholds from 0.50 to 0.95, precision read at 101 recalls. Boxes are x1, y1, x2, y2 with
exclusive edges. Matching is done once per image; `average_precision` works on the matches of any subset of images.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

THRESHOLDS: Floats = np.linspace(0.5, 0.95, 10)
_RECALLS: Floats = np.linspace(0.0, 1.0, 101)
_PER_CLASS_MAX = 100

RIGHT, WRONG, UNDECIDED = 1, 0, -1


def iou(first: NDArray[Any], second: NDArray[Any]) -> Floats:
    """Intersection over union of boxes `(A, 4)` and `(B, 4)`, `(A, B)`; 0 for boxes without area.

    (0, 0, 4, 4) and (0, 2, 4, 6): 8 of 24, 1/3.
    """
    shared, first_area, second_area = _overlap(first, second)
    union = first_area[:, None] + second_area - shared
    return np.asarray(shared / np.where(union > 0, union, 1.0))


def _overlap(first: NDArray[Any], second: NDArray[Any]) -> tuple[Floats, Floats, Floats]:
    a, b = np.asarray(first, np.float64).reshape(-1, 4), np.asarray(second, np.float64).reshape(-1, 4)
    sides = np.minimum(a[:, None, 2:], b[:, 2:]) - np.maximum(a[:, None, :2], b[:, :2])
    shared = np.prod(np.maximum(sides, 0.0), axis=2)
    return shared, np.prod(a[:, 2:] - a[:, :2], axis=1), np.prod(b[:, 2:] - b[:, :2], axis=1)


def match_image(
    boxes: NDArray[Any], scores: NDArray[Any], classes: NDArray[Any], truth: NDArray[Any]
) -> NDArray[np.int8]:
    """What each of D detections of one image is at the ten thresholds, `(D, 10)`: RIGHT, WRONG or UNDECIDED.

    `boxes` `(D, 4)`, `scores` and `classes` `(D,)`; `truth` `(M, 5)`: box and class. A true class of `-(c + 1)` marks a
    region of class c that is ignored: a crowd, or an object too difficult to ask for. Detections that lie in one by the
    threshold's share of their own area are UNDECIDED, any number of them, and so is what comes after the hundredth of
    its class. A true box is matched once, by the most confident detection; of several true boxes by the closest.
    """
    flags = np.full((len(scores), len(THRESHOLDS)), UNDECIDED, np.int8)
    truth = np.asarray(truth, np.float64).reshape(-1, 5)
    true_class = np.where(truth[:, 4] < 0, -truth[:, 4] - 1, truth[:, 4])
    for label in np.unique(classes):
        chosen = np.flatnonzero(classes == label)
        chosen = chosen[np.argsort(-np.asarray(scores)[chosen], kind="stable")][:_PER_CLASS_MAX]
        flags[chosen] = _match_class(boxes[chosen], truth[true_class == label])
    return flags


def _match_class(boxes: NDArray[Any], truth: Floats) -> NDArray[np.int8]:
    """Detections of one class, best first, against the true boxes of that class."""
    flags = np.full((len(boxes), len(THRESHOLDS)), WRONG, np.int8)
    if not len(truth):
        return flags
    ignored = truth[:, 4] < 0
    shared, areas, _ = _overlap(boxes, truth[:, :4])
    share = shared / np.where(areas > 0, areas, 1.0)[:, None]
    overlaps = np.where(ignored, share, iou(boxes, truth[:, :4]))
    free = np.ones((len(THRESHOLDS), len(truth)), bool)
    rows = np.arange(len(THRESHOLDS))
    for index, row in enumerate(overlaps):
        reached = row >= THRESHOLDS[:, None]
        able = reached & free & ~ignored
        # Of equal overlaps the last true box is taken, as COCO does.
        last = len(truth) - 1 - np.where(able, row, -1.0)[:, ::-1].argmax(axis=1)
        found = able.any(axis=1)
        free[rows[found], last[found]] = False
        flags[index, found] = RIGHT
        flags[index, ~found & (reached & ignored).any(axis=1)] = UNDECIDED
    return flags


def count_truth(truth: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """How many boxes of each class a detector is asked for, `(classes,)`; ignored ones are none."""
    named = np.asarray(truth, np.float64).reshape(-1, 5)[:, 4]
    return np.bincount(named[named >= 0].astype(np.int64), minlength=classes)


def average_precision(scores: NDArray[Any], classes: NDArray[Any], flags: NDArray[Any], counts: NDArray[Any]) -> Floats:
    """Average precision of every class, `(C, T)`, NaN for one without true boxes.

    The detections of all images together, in the images' order: `scores` and `classes` `(R,)`, `flags` `(R, T)` of
    `match_image` or some of its columns; `counts` `(C,)`: the true boxes of each class.

    One class of two true boxes, found by the first and third of three detections: precision is 1 up to a recall of 1/2,
    which 51 of the 101 recalls are, and 2/3 up to 1: (51 + 50 * 2/3) / 101 = 0.8350.
    """
    precision = np.full((len(counts), flags.shape[1]), np.nan)
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    ordered = np.asarray(classes)[order]
    for label in np.flatnonzero(counts):
        own = flags[order[ordered == label]]
        precision[label] = _average_precision(own, int(counts[label]))
    return precision


def _average_precision(flags: NDArray[Any], count: int) -> Floats:
    """`(T,)` of one class: flags `(R, T)`, best detections first."""
    if not len(flags):
        return np.zeros(flags.shape[1])
    right = np.cumsum(flags == RIGHT, axis=0, dtype=np.float64)
    wrong = np.cumsum(flags == WRONG, axis=0, dtype=np.float64)
    precision = right / np.maximum(right + wrong, 1.0)
    # From each detection on, the best precision at that or a higher recall.
    precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    recall = right / count
    average = np.empty(flags.shape[1])
    for column in range(flags.shape[1]):
        places = np.searchsorted(recall[:, column], _RECALLS, side="left")
        reached = places[places < len(flags)]
        average[column] = precision[reached, column].sum() / len(_RECALLS)
    return average


def pair_boxes(
    boxes: NDArray[Any], classes: NDArray[Any], reference_boxes: NDArray[Any], reference_classes: NDArray[Any]
) -> list[tuple[int, int]]:
    """Pairs (detection, reference detection) of the same class and an IoU of at least 0.5, the closest pairs first.

    Each is in at most one pair. Reference boxes A and B, and boxes with IoU 0.9 and 0.6 to A, the second also 0.7 to B:
    (0, A), (1, B).
    """
    overlaps = iou(boxes, reference_boxes)
    overlaps = np.where(np.asarray(classes)[:, None] == np.asarray(reference_classes), overlaps, 0.0)
    own, other = np.nonzero(overlaps >= 0.5)
    order = np.argsort(-overlaps[own, other], kind="stable")
    pairs: list[tuple[int, int]] = []
    taken: tuple[set[int], set[int]] = (set(), set())
    for i, j in zip(own[order].tolist(), other[order].tolist(), strict=True):
        if i not in taken[0] and j not in taken[1]:
            pairs.append((i, j))
            taken[0].add(i)
            taken[1].add(j)
    return pairs
