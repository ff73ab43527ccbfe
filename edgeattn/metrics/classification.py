"""Classification metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities over the last axis, float64, safe for large logits. (0, ln 3): (0.25, 0.75)."""
    wide = logits.astype(np.float64)
    exponential = np.exp(wide - wide.max(axis=-1, keepdims=True))
    return np.asarray(exponential / exponential.sum(axis=-1, keepdims=True))


def top1_percent(scores: NDArray[np.float64]) -> float:
    """`(N, 1)` of 1 (right) and 0 (wrong) -> percent right. Three right of four: 75.0."""
    return float(100.0 * scores.mean())


def per_class_percent(scores: NDArray[np.float64], targets: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Percent right among the samples of each class, `(classes,)`; NaN for a class without samples.

    Scores 1, 0, 1 for targets 0, 0, 2 and three classes: 50, NaN, 100.
    """
    right = np.bincount(targets, weights=scores[:, 0], minlength=classes)
    count = np.bincount(targets, minlength=classes)
    with np.errstate(invalid="ignore"):
        return np.asarray(100.0 * right / count)
