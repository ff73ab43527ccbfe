"""Semantic segmentation: logits `(1, classes, h, w)` -> a class for every pixel of the frame; mean IoU in percent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeattn.errors import DataError, ModelError
from edgeattn.imaging import Frame, View
from edgeattn.metrics import segmentation as figures
from edgeattn.metrics.segmentation import BINS, IGNORED
from edgeattn.opencv import cv2
from edgeattn.tasks.base import MetricSpec, Outputs, Views, attention_map

OUTPUT = "logits"
_SHOWN = 3
_FILL = 0.45  # of the class's colour in the frame's


@dataclass(frozen=True, eq=False)
class Segmentation:
    """`mask` `(H, W)` uint8 class ids in the frame's pixels, 255 where a cropping network saw nothing of the frame;
    `confidence` `(H, W)` float32, the softmax probability of that class, 0 where the mask is 255.
    """

    mask: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    labels: tuple[str, ...]
    latency_ms: float
    attention: NDArray[np.float32] | None = None

    def __str__(self) -> str:
        return _in_words(self.mask, self.labels)

    def to_dict(self) -> dict[str, Any]:
        """`mask` is written as run lengths (`encode_runs`); `share` is of the pixels that are not 255."""
        shares = _shares(self.mask, len(self.labels))
        return {
            "height": self.mask.shape[0],
            "width": self.mask.shape[1],
            "classes": [
                {"class_id": index, "label": label, "share": round(share, 6)}
                for index, (label, share) in enumerate(zip(self.labels, shares, strict=True))
            ],
            "mask": encode_runs(self.mask),
            "latency_ms": round(self.latency_ms, 4),
        }

    def draw(self, frame: Frame) -> Frame:
        """A copy of `frame` with every class in its colour, outlined, and a band with the legend below it.

        The first of two classes, and one called `background`, keep the frame's own pixels. An outline is the pure
        colour inside and dark outside, to be seen on light and on dark. The legend has a fixed place for each label and
        names those that are present, so that all pictures of one video have one size. Frames under 320 pixels wide are
        enlarged first; a frame of another size than the one segmented gets the mask stretched over it.
        """
        high, wide = frame.shape[:2]
        factor = max(1, min(-(-320 // wide), 1280 // high))  # never more than a screen high
        canvas = cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
        mask = cv2.resize(self.mask, (canvas.shape[1], canvas.shape[0]), interpolation=cv2.INTER_NEAREST)
        drawn = [i for i, label in enumerate(self.labels) if label != "background" and (i or len(self.labels) > 2)]
        painted = _paint(np.asarray(canvas, np.uint8), np.asarray(mask, np.uint8), drawn)
        legend = _legend(painted.shape[1], painted.shape[0], self.labels, _shares(self.mask, len(self.labels)), drawn)
        return np.concatenate((painted, legend))


class Segment:
    name = "segment"
    target = "mask"
    inputs = ("frame",)
    tiles = True
    metrics = (
        MetricSpec(name="mIoU", unit="%", higher_is_better=True, binary=False),
        MetricSpec(name="pixel_accuracy", unit="%", higher_is_better=True, binary=False),
        MetricSpec(name="dice", unit="%", higher_is_better=True, binary=False),
        MetricSpec(name="f1", unit="", higher_is_better=True, binary=False, labels=2),
        MetricSpec(name="auc", unit="", higher_is_better=True, binary=False, labels=2),
    )

    @property
    def decoding(self) -> dict[str, Any]:
        return {"output": OUTPUT, "activation": "softmax", "axis": 1, "resampled": "logits, bilinear"}

    def score(self, outputs: Outputs, target: Any, views: Views) -> NDArray[np.float64]:
        """The confusion matrix row by row, `C * C`; for two classes then the histograms of class 1's log-odds.

        Counted are the frame's pixels whose truth is known and that the network saw: not what a crop leaves out.
        Raises ModelError when the outputs do not fit the frame.
        """
        logits, seen = _in_frame(_logits(outputs), views[0])
        truth = np.asarray(target, np.uint8)
        if seen is not None:
            truth = np.where(seen, truth, np.uint8(IGNORED))
        counts = figures.confusion(truth, _best(logits), len(logits)).ravel()
        if len(logits) == 2:
            counts = np.concatenate((counts, figures.log_odds_histograms(logits[1] - logits[0], truth).ravel()))
        return counts.astype(np.float64)

    def summarize(self, scores: NDArray[np.float64], metric: str) -> float:
        """NaN where there is none: `f1` and `auc` are of class 1 of two; nothing was counted; a class is missing."""
        counts, histograms = _counts(scores)
        two = len(counts) == 2
        if metric == "mIoU":
            return 100.0 * figures.mean_over_classes(figures.iou(counts))
        if metric == "pixel_accuracy":
            return 100.0 * figures.pixel_accuracy(counts)
        if metric == "dice":
            return 100.0 * figures.mean_over_classes(figures.dice(counts))
        if metric == "f1":
            return float(figures.dice(counts)[1]) if two else math.nan
        if metric == "auc":
            return figures.auc(histograms) if two else math.nan
        raise ValueError(f"segmentation has no metric {metric!r}")

    def agreement(self, outputs: Outputs, reference: Outputs) -> float:
        """The share of equal pixels."""
        return float(np.mean(_best(_logits(outputs)[0]) == _best(_logits(reference)[0])))

    def comparable(self, outputs: Outputs, reference: Outputs) -> tuple[Outputs, Outputs]:
        return outputs, reference

    def per_label(self, scores: NDArray[np.float64], labels: int) -> list[float | None] | None:
        """IoU in percent; None for a class that is neither in the truth nor predicted."""
        values = 100.0 * figures.iou(_counts(scores)[0])
        return [None if np.isnan(value) else float(value) for value in values]

    def describe(self, outputs: Outputs, target: Any, labels: tuple[str, ...], views: Views) -> dict[str, str]:
        predicted = _best(_logits(outputs)[0])
        return {"predicted": _in_words(predicted, labels), "truth": _in_words(np.asarray(target, np.uint8), labels)}

    def decode(self, outputs: Outputs, views: Views, labels: tuple[str, ...], latency_ms: float) -> Segmentation:
        """Raises ModelError when the network does not give one map of logits per label."""
        logits, seen = _in_frame(_logits(outputs, len(labels)), views[0])
        mask = _best(logits)
        confidence = _confidence(logits)
        if seen is not None:
            mask[~seen], confidence[~seen] = IGNORED, 0.0
        return Segmentation(
            mask=mask,
            confidence=confidence,
            labels=labels,
            latency_ms=latency_ms,
            attention=attention_map(outputs),
        )


def encode_runs(mask: NDArray[np.uint8]) -> list[list[int]]:
    """`[class id, length]` of each run of equal pixels, row after row; a run goes on into the next row.

    [[0, 0, 1], [1, 1, 0]]: [[0, 2], [1, 3], [0, 1]].
    """
    flat = mask.ravel()
    starts = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1]))) if flat.size else np.zeros(0, np.int64)
    lengths = np.diff(np.append(starts, flat.size))
    runs: list[list[int]] = np.stack((flat[starts].astype(np.int64), lengths), axis=1).tolist()
    return runs


def decode_runs(runs: Sequence[Sequence[int]], height: int, width: int) -> NDArray[np.uint8]:
    """The mask `(height, width)` that `encode_runs` wrote. Raises DataError when the runs do not fill it exactly."""
    pairs = np.asarray(runs, np.int64).reshape(-1, 2)
    ids, lengths = pairs[:, 0], pairs[:, 1]
    if (lengths < 1).any() or (ids < 0).any() or (ids > IGNORED).any() or lengths.sum() != height * width:
        raise DataError(
            f"These run lengths hold {lengths.sum()} pixels; expected positive lengths of ids 0..{IGNORED} that fill a "
            f"mask of {height} x {width}."
        )
    return np.repeat(ids.astype(np.uint8), lengths).reshape(height, width)


def _logits(outputs: Outputs, classes: int | None = None) -> NDArray[np.float32]:
    """The logits `(1, C, h, w)`. Raises ModelError."""
    logits = outputs.get(OUTPUT)
    if logits is None or logits.ndim != 4 or len(logits) != 1 or logits.shape[1] < 2 or logits.shape[1] > IGNORED:
        expected = f"(1, {classes or 'classes'}, h, w)"
    elif classes is not None and logits.shape[1] != classes:
        expected = f"(1, {classes}, h, w), one map per label"
    else:
        return np.asarray(logits, np.float32)
    shapes = {name: value.shape for name, value in outputs.items()}
    raise ModelError(f"A segmentation network must give '{OUTPUT}' of shape {expected}; got {shapes}.")


def _in_frame(logits: NDArray[np.float32], view: View) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Logits `(C, H, W)` in the frame's pixels, and which of these the network saw (None: all).

    Bilinear between logits, not probabilities: tiles are blended as logits too, the softmax of the result is a
    distribution again, and the class of a pixel needs no softmax at all. The views' matrices only scale and shift.
    """
    high, wide = view.frame.shape[:2]
    h, w = logits.shape[2:]
    if np.array_equal(view.matrix, np.eye(3)):
        if (h, w) != (high, wide):
            raise ModelError(f"The logits are a map of {h} x {w} pixels, the frame has {high} x {wide}.")
        return logits[0], None
    inverse = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    planes = [
        cv2.warpAffine(plane, view.matrix[:2], (wide, high), flags=inverse, borderMode=cv2.BORDER_REPLICATE)
        for plane in logits[0]
    ]
    across = view.matrix[0, 0] * np.arange(wide) + view.matrix[0, 2]
    down = view.matrix[1, 1] * np.arange(high) + view.matrix[1, 2]
    seen = _inside(down, h)[:, None] & _inside(across, w)[None, :]
    return np.stack(planes).astype(np.float32, copy=False), None if seen.all() else seen


def _inside(places: NDArray[np.float64], length: int) -> NDArray[np.bool_]:
    """Whether places lie on one of `length` pixels, which reach half a pixel beyond their centres."""
    return np.asarray((places > -0.5 - 1e-6) & (places < length - 0.5 + 1e-6))


def _best(logits: NDArray[np.float32]) -> NDArray[np.uint8]:
    """`(C, h, w)` -> `(h, w)`; of equals the first. Plane by plane, several times faster than argmax over axis 0."""
    largest = logits[0].copy()
    best = np.zeros(largest.shape, np.uint8)
    for class_id in range(1, len(logits)):
        best[logits[class_id] > largest] = class_id
        np.maximum(largest, logits[class_id], out=largest)
    return best


def _confidence(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The softmax probability of the best class: `1 / sum exp(logit - largest)`."""
    largest = logits.max(axis=0)
    total = np.zeros_like(largest)
    for plane in logits:
        total += np.exp(plane - largest)
    return np.asarray(1.0 / total, np.float32)


def _counts(scores: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores `(N, K)` -> the confusion matrix of all samples, and the histograms `(2, bins)`, empty unless C is 2.

    K tells C: `4 + 2 * bins` is two classes, and no square; every other K is C * C.
    """
    classes = 2 if scores.shape[1] == 4 + 2 * BINS else math.isqrt(scores.shape[1])
    total = scores.sum(axis=0)
    return total[: classes**2].reshape(classes, classes), total[classes**2 :].reshape(2, -1)


def _shares(mask: NDArray[np.uint8], classes: int) -> list[float]:
    """The share of each class among the pixels that are not 255."""
    counts = np.bincount(mask.ravel(), minlength=IGNORED + 1)[:classes]
    return [float(share) for share in counts / max(1, counts.sum())]


def _in_words(mask: NDArray[np.uint8], labels: Sequence[str]) -> str:
    shares = _shares(mask, len(labels))
    order = sorted((i for i, share in enumerate(shares) if share), key=lambda i: -shares[i])[:_SHOWN]
    return ", ".join(f"{labels[i]} {shares[i]:.1%}" for i in order) or "nothing"


def _colour(class_id: int) -> tuple[int, int, int]:
    """BGR; hues a golden section apart, so that neighbours differ however many there are. Class 1 is cyan."""
    hue = round(180 * ((0.882 + 0.618034 * class_id) % 1.0)) % 180  # OpenCV counts hues to 180
    b, g, r = cv2.cvtColor(np.array([[[hue, 255, 255]]], np.uint8), cv2.COLOR_HSV2BGR)[0, 0]
    return int(b), int(g), int(r)


def _paint(frame: Frame, mask: NDArray[np.uint8], drawn: Iterable[int]) -> Frame:
    colours, filled = np.zeros((IGNORED + 1, 3), np.float32), np.zeros(IGNORED + 1, bool)
    for class_id in drawn:
        colours[class_id], filled[class_id] = _colour(class_id), True
    inside = filled[mask]
    border = np.zeros(mask.shape, bool)
    for step in (mask[1:] != mask[:-1], mask[:, 1:] != mask[:, :-1]):
        down = step.shape[0] < mask.shape[0]
        border[1 if down else 0 :, 0 if down else 1 :] |= step
        border[: -1 if down else None, : None if down else -1] |= step
    share = np.where(inside, np.float32(_FILL), np.float32(0.0))
    share[border] = np.where(inside[border], 1.0, 0.75)
    share[mask == IGNORED] = 0.5  # what was not seen is dimmed
    painted = frame + share[..., None] * (colours[mask] - frame)
    return np.asarray(painted.round(), np.uint8)


def _legend(wide: int, high: int, labels: Sequence[str], shares: Sequence[float], drawn: Sequence[int]) -> Frame:
    """A band `wide` pixels wide with a place for each label in `drawn`, filled in where its share is not 0."""
    row = max(24, high // 20)
    scale, swatch = row / 40, row // 2
    texts = [f"{label} 100.0%" for label in (labels[i] for i in drawn)]
    widest = max((cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0] for text in texts), default=0)
    slot = swatch + widest + 20
    columns = max(1, (wide - 8) // slot)
    band = np.full((row * -(-len(texts) // columns) + 8, wide, 3), 32, np.uint8)
    for place, class_id in enumerate(drawn):
        if not shares[class_id]:
            continue
        left, top = 4 + place % columns * slot, 4 + place // columns * row
        cv2.rectangle(band, (left, top + row // 4), (left + swatch, top + row // 4 + swatch), _colour(class_id), -1)
        text = f"{labels[class_id]} {shares[class_id]:.1%}"
        origin = (left + swatch + 8, top + int(row * 0.72))
        cv2.putText(band, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return band


TASK = Segment()
