"""Detection: a fixed number of boxes, scores and classes -> labelled boxes in the frame; mAP50 and mAP, 0..1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeattn.errors import DataError, ModelError
from edgeattn.imaging import Frame, View
from edgeattn.metrics.detection import THRESHOLDS, average_precision, count_truth, match_image, pair_boxes
from edgeattn.opencv import cv2
from edgeattn.tasks.base import MetricSpec, Outputs, Views, attention_map

OUTPUTS = ("boxes", "scores", "classes")
# A result holds what is at least this sure. The metric ranks every used entry, as COCO's does: a threshold would only
# cut the end off the curve it is the area under.
CONFIDENCE_MIN = 0.3
CLASSES_MAX = 256
_BRIGHTEST = 140  # a class's colour is bright enough for black text from here on

# BGR, told apart also by people who see red and green alike: Okabe and Ito, "Color Universal Design", 2008.
_COLOURS = ((0, 159, 230), (233, 180, 86), (115, 158, 0), (66, 228, 240), (178, 114, 0), (0, 94, 213), (167, 121, 204))


@dataclass(frozen=True, eq=False)
class Detections:
    """Best first: `xyxy` `(N, 4)` float32 in frame pixels, exclusive edges; `confidence` `(N,)` float32, 0.3 and more;
    `class_id` `(N,)` int64.
    """

    xyxy: NDArray[np.float32]
    confidence: NDArray[np.float32]
    class_id: NDArray[np.int64]
    labels: tuple[str, ...]
    latency_ms: float
    attention: NDArray[np.float32] | None = None

    def __str__(self) -> str:
        return _in_words(self.class_id, self.labels)

    def to_dict(self) -> dict[str, Any]:
        found = zip(self.xyxy.tolist(), self.confidence.tolist(), self.class_id.tolist(), strict=True)
        return {
            "detections": [
                {
                    "xyxy": [round(edge, 2) for edge in edges],
                    "confidence": round(confidence, 6),
                    "class_id": class_id,
                    "label": self.labels[class_id],
                }
                for edges, confidence, class_id in found
            ],
            "latency_ms": round(self.latency_ms, 4),
        }

    def draw(self, frame: Frame) -> Frame:
        """A copy of `frame` with every box in its class's colour between dark lines, and its label on that colour.

        The best is drawn last, on top. Of the same size as the frame; text has at least 10 pixels.
        """
        canvas = frame.copy()
        line = max(1, round(min(frame.shape[:2]) / 240))
        for index in reversed(range(len(self.xyxy))):
            x1, y1, x2, y2 = (round(float(edge)) for edge in self.xyxy[index])
            corners = ((x1, y1), (max(x1, x2 - 1), max(y1, y2 - 1)))
            colour = _COLOURS[int(self.class_id[index]) % len(_COLOURS)]
            # Dark on both sides of the colour, so that it is seen on any background.
            cv2.rectangle(canvas, *corners, (24, 24, 24), line + 2, cv2.LINE_8)
            cv2.rectangle(canvas, *corners, colour, line, cv2.LINE_8)
            text = f"{self.labels[int(self.class_id[index])]} {float(self.confidence[index]):.0%}"
            _label(canvas, text, corners[0], colour, line)
        return canvas


def _label(canvas: Frame, text: str, corner: tuple[int, int], colour: tuple[int, int, int], line: int) -> None:
    """`text` above `corner`, or below it where there is no room, moved left as far as it must be."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, max(0.4, 0.35 * line)
    (wide, high), below = cv2.getTextSize(text, font, scale, 1)
    left = max(0, min(corner[0], canvas.shape[1] - wide - 4))
    row = high + below + 2
    top = corner[1] - row if corner[1] >= row else corner[1]
    cv2.rectangle(canvas, (left, top), (left + wide + 4, top + row), colour, -1)
    # Rec. 601 luma.
    bright = 0.114 * colour[0] + 0.587 * colour[1] + 0.299 * colour[2] > _BRIGHTEST
    ink = (0, 0, 0) if bright else (255, 255, 255)
    cv2.putText(canvas, text, (left + 2, top + high + 1), font, scale, ink, 1, cv2.LINE_AA)


@dataclass(frozen=True, eq=False)
class _Found:
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    classes: NDArray[np.int64]


class Detect:
    """A sample's scores, for K the number of boxes the network gives, are K confidences (0: not counted), K classes,
    K x 10 flags (see `metrics.detection.match_image`), and the number of true boxes of each of 256 classes.
    """

    name = "detect"
    target = "boxes"
    inputs = ("frame",)
    tiles = False
    metrics = (
        MetricSpec(name="mAP50", unit="", higher_is_better=True, binary=False),
        MetricSpec(name="mAP", unit="", higher_is_better=True, binary=False),
    )

    @property
    def decoding(self) -> dict[str, Any]:
        return {
            "boxes": "boxes",
            "scores": "scores",
            "classes": "classes",
            "box_format": "x1, y1, x2, y2 in pixels of the network's frame, exclusive edges; a score of 0 is no box",
            "threshold": CONFIDENCE_MIN,
        }

    def score(self, outputs: Outputs, target: Any, views: Views) -> NDArray[np.float64]:
        """`12 K + 256` numbers. Every box of a score above 0 counts. Raises DataError for a class beyond 255."""
        slots = outputs["scores"].shape[1]
        truth = np.asarray(target, np.float64).reshape(-1, 5)
        if len(truth) and truth[:, 4].max() >= CLASSES_MAX:
            raise DataError(f"Detection is scored for at most {CLASSES_MAX} classes, got {int(truth[:, 4].max())}.")
        found = _in_frame(_found(outputs, 0.0), views[0])
        flags = match_image(found.boxes, found.scores, found.classes, truth)
        packed = np.zeros((slots, 2 + len(THRESHOLDS)))
        packed[: len(flags)] = np.column_stack((found.scores, found.classes, flags))
        head = (packed[:, 0], packed[:, 1], packed[:, 2:].ravel())
        return np.concatenate((*head, count_truth(truth, CLASSES_MAX)))

    def summarize(self, scores: NDArray[np.float64], metric: str) -> float:
        """Mean over the classes that have true boxes (and for mAP over the thresholds); NaN without any."""
        if metric not in ("mAP50", "mAP"):
            raise ValueError(f"detection has no metric {metric!r}")
        precision = _precision(scores, 1 if metric == "mAP50" else len(THRESHOLDS))
        known = precision[~np.isnan(precision)]
        return float(known.mean()) if len(known) else float("nan")

    def agreement(self, outputs: Outputs, reference: Outputs) -> float:
        """F1 of the boxes that a result would hold, paired by class and an IoU of at least 0.5; 1 without any."""
        ours, theirs = _found(outputs, CONFIDENCE_MIN), _found(reference, CONFIDENCE_MIN)
        total = len(ours.scores) + len(theirs.scores)
        if not total:
            return 1.0
        return 2 * len(pair_boxes(ours.boxes, ours.classes, theirs.boxes, theirs.classes)) / total

    def comparable(self, outputs: Outputs, reference: Outputs) -> tuple[Outputs, Outputs]:
        """Pairs of the same class and an IoU of at least 0.5, then what has no partner, against zeros.

        Boxes and classes (counted from 1) are multiplied by their scores: a box that is barely above nothing in one and
        nothing in the other differs by as little as its score. Other outputs are left as they are.
        """
        ours, theirs = _found(outputs, 0.0), _found(reference, 0.0)
        pairs = pair_boxes(ours.boxes, ours.classes, theirs.boxes, theirs.classes)
        mine, yours = [i for i, _ in pairs], [j for _, j in pairs]
        alone = [i for i in range(len(ours.scores)) if i not in set(mine)]
        missed = [j for j in range(len(theirs.scores)) if j not in set(yours)]
        first = _laid_out(ours, [*mine, *alone, *[-1] * len(missed)])
        second = _laid_out(theirs, [*yours, *[-1] * len(alone), *missed])
        return {**outputs, **first}, {**reference, **second}

    def per_label(self, scores: NDArray[np.float64], labels: int) -> list[float | None] | None:
        values = _precision(scores, 1)[:labels, 0]
        return [None if np.isnan(value) else float(value) for value in values]

    def describe(self, outputs: Outputs, target: Any, labels: tuple[str, ...], views: Views) -> dict[str, str]:
        truth = np.asarray(target).reshape(-1, 5)[:, 4]
        found = _found(outputs, CONFIDENCE_MIN)
        return {
            "predicted": _in_words(found.classes, labels),
            "truth": _in_words(truth[truth >= 0].astype(np.int64), labels),
        }

    def decode(self, outputs: Outputs, views: Views, labels: tuple[str, ...], latency_ms: float) -> Detections:
        """Raises ModelError when the network does not give boxes, scores and classes of known labels."""
        _check(outputs, labels)
        found = _in_frame(_found(outputs, CONFIDENCE_MIN), views[0])
        return Detections(
            xyxy=found.boxes.astype(np.float32),
            confidence=found.scores.astype(np.float32),
            class_id=found.classes,
            labels=labels,
            latency_ms=latency_ms,
            attention=attention_map(outputs),
        )


def _check(outputs: Outputs, labels: Sequence[str]) -> None:
    shapes = {name: value.shape for name, value in outputs.items()}
    boxes = shapes.get("boxes", ())
    slots = boxes[1:2]
    if boxes != (1, *slots, 4) or any(shapes.get(name) != (1, *slots) for name in ("scores", "classes")):
        raise ModelError(
            f"A detector must give 'boxes' of shape (1, K, 4) and 'scores' and 'classes' of shape (1, K); got {shapes}."
        )
    used = np.rint(outputs["classes"][outputs["scores"] > 0])
    if len(used) and (used.min() < 0 or used.max() >= len(labels)):
        raise ModelError(f"The detector gives class {used.max():g}, but there are {len(labels)} labels.")


def _found(outputs: Outputs, least: float) -> _Found:
    """What has a score above 0 and of at least `least`, best first, in network pixels."""
    scores = np.asarray(outputs["scores"][0], np.float64)
    order = np.argsort(-scores, kind="stable")
    order = order[(scores[order] > 0) & (scores[order] >= least)]
    boxes = np.asarray(outputs["boxes"][0], np.float64)[order]
    return _Found(boxes, scores[order], np.rint(outputs["classes"][0][order]).astype(np.int64))


def _in_frame(found: _Found, view: View) -> _Found:
    """In the pixels of the frame and cut at it; what lies outside, such as on a border that was added, is left out."""
    back = np.linalg.inv(view.matrix)
    high, wide = view.frame.shape[:2]
    # Edges lie half a pixel before the centres that the matrix is about.
    x = np.clip((found.boxes[:, [0, 2]] - 0.5) * back[0, 0] + back[0, 2] + 0.5, 0, wide)
    y = np.clip((found.boxes[:, [1, 3]] - 0.5) * back[1, 1] + back[1, 2] + 0.5, 0, high)
    seen = (x[:, 1] > x[:, 0]) & (y[:, 1] > y[:, 0])
    boxes = np.stack((x[:, 0], y[:, 0], x[:, 1], y[:, 1]), axis=1)
    return _Found(boxes[seen], found.scores[seen], found.classes[seen])


def _precision(scores: NDArray[np.float64], thresholds: int) -> NDArray[np.float64]:
    """Average precision `(256, thresholds)` of the first `thresholds`, from the scores of many samples."""
    width = 2 + len(THRESHOLDS)
    slots = (scores.shape[1] - CLASSES_MAX) // width
    confidence = scores[:, :slots].ravel()
    used = np.flatnonzero(confidence > 0)
    classes = scores[:, slots : 2 * slots].ravel()[used]
    flags = scores[:, 2 * slots : width * slots].reshape(-1, len(THRESHOLDS))[used, :thresholds]
    return average_precision(confidence[used], classes, flags, scores[:, width * slots :].sum(axis=0))


def _laid_out(found: _Found, rows: Sequence[int]) -> dict[str, NDArray[Any]]:
    """The entries in the order of `rows`, zeros for -1, as `comparable` gives them."""
    chosen = np.array(rows, np.int64)
    scores = np.append(found.scores, 0.0)[chosen]
    boxes = np.concatenate((found.boxes, np.zeros((1, 4))))[chosen] * scores[:, None]
    classes = (np.append(found.classes, 0)[chosen] + 1) * scores
    return {"boxes": boxes[None], "scores": scores[None], "classes": classes[None]}


def _in_words(classes: NDArray[np.int64], labels: Sequence[str]) -> str:
    """12 RBC, 1 WBC: the most frequent first."""
    counts = Counter(classes.tolist())
    return ", ".join(f"{count} {labels[index]}" for index, count in counts.most_common()) or "nothing"


TASK = Detect()
