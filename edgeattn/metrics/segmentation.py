"""Segmentation metrics: from pixels to counts per image, from counts added over images to figures.

Counts add up, figures do not: the figure of a data set is that of its summed counts, in which every pixel weighs the
same, whichever image it is in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

IGNORED = 255
BINS = 1000
LOG_ODDS_MAX = 32.0  # sigmoid(32) = 1 - 1.3e-14; trained networks stay well below


def confusion(truth: NDArray[Any], predicted: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """How many pixels of each true class (rows) went to each predicted one (columns), `(classes, classes)`.

    Pixels that are 255 in either are left out. Truth 0, 0, 1, 255 and prediction 0, 1, 1, 1: [[1, 1], [0, 1]].
    Raises ValueError when the shapes differ or another id is not below `classes`.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"truth and prediction must have one shape, got {truth.shape} and {predicted.shape}")
    counted = (truth != IGNORED) & (predicted != IGNORED)
    true, guess = truth[counted].astype(np.int64), predicted[counted].astype(np.int64)
    if true.size and not 0 <= min(true.min(), guess.min()) <= max(true.max(), guess.max()) < classes:
        raise ValueError(f"class ids must lie in 0..{classes - 1} or be {IGNORED}")
    return np.bincount(true * classes + guess, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def iou(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Intersection over union of each class, `TP / (TP + FP + FN)`, from a confusion matrix; NaN where neither is.

    [[3, 1], [2, 4]]: 3/6 and 4/7.
    """
    hits, truth, guess = _by_class(counts)
    with np.errstate(invalid="ignore"):
        return np.asarray(hits / (truth + guess - hits))


def dice(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Dice of each class, `2 TP / (2 TP + FP + FN)`, which is also its F1; NaN where it is in neither.

    [[3, 1], [2, 4]]: 6/9 and 8/11.
    """
    hits, truth, guess = _by_class(counts)
    with np.errstate(invalid="ignore"):
        return np.asarray(2 * hits / (truth + guess))


def mean_over_classes(values: NDArray[np.float64]) -> float:
    """The mean of those that are not NaN; NaN when all are. (0.5, NaN, 1): 0.75."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def pixel_accuracy(counts: NDArray[Any]) -> float:
    """The share of counted pixels whose class is right, 0..1; NaN without any. [[3, 1], [2, 4]]: 0.7."""
    total = float(np.sum(counts))
    return float(np.trace(counts)) / total if total else float("nan")


def log_odds_histograms(log_odds: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.int64]:
    """How many pixels of class 0 (row 0) and of class 1 (row 1) have which probability of class 1: `(2, 1000)`.

    The bins are equally wide in `ln(p / (1 - p))`, the difference of two logits, from -32 to 32, and the outer ones
    take what lies beyond: confident networks crowd at 0 and 1, where bins equally wide in p would see ties. Pixels
    whose truth is 255 are left out. Log-odds -32, 0, 32 of truth 0, 1, 1: one pixel each in [0, 0], [1, 500], [1, 999].
    """
    place = np.floor((log_odds.astype(np.float64) + LOG_ODDS_MAX) * (BINS / (2 * LOG_ODDS_MAX)))
    index = np.clip(place, 0, BINS - 1).astype(np.int64)
    return np.stack([np.bincount(index[truth == value], minlength=BINS) for value in (0, 1)]).astype(np.int64)


def auc(histograms: NDArray[Any]) -> float:
    """Area under the ROC curve from `(2, bins)` counts of negatives and positives in ascending order of probability.

    The chance that a positive stands above a negative, ties (the same bin) counting half: Mann and Whitney, 1947.
    Negatives 2, 1, 1 and positives 0, 1, 3: (1 (2 + 0.5) + 3 (3 + 0.5)) / 16 = 0.8125. NaN when either has none.
    """
    negatives, positives = np.asarray(histograms, np.float64)
    pairs = negatives.sum() * positives.sum()
    if not pairs:
        return float("nan")
    below = np.cumsum(negatives) - negatives / 2
    return float(positives @ below / pairs)


def _by_class(counts: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Right pixels, true pixels and predicted pixels of each class."""
    exact = np.asarray(counts, np.float64)
    return np.diagonal(exact), exact.sum(axis=1), exact.sum(axis=0)
