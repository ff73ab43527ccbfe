"""Image classification: logits `(1, classes)` -> ranked labels; top-1 accuracy in percent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeattn.errors import ModelError
from edgeattn.imaging import Frame
from edgeattn.metrics.classification import per_class_percent, softmax, top1_percent
from edgeattn.opencv import cv2
from edgeattn.tasks.base import MetricSpec, Outputs, Views, attention_map

OUTPUT = "logits"
_SHOWN = 3


@dataclass(frozen=True, eq=False)
class Classification:
    """`class_id` `(K,)` int64, best first; `confidence` `(K,)` float32, the softmax probabilities, summing to 1."""

    class_id: NDArray[np.int64]
    confidence: NDArray[np.float32]
    labels: tuple[str, ...]
    latency_ms: float
    attention: NDArray[np.float32] | None = None

    def __str__(self) -> str:
        best = zip(self.class_id[:_SHOWN], self.confidence[:_SHOWN], strict=True)
        return ", ".join(f"{self.labels[i]} {c:.1%}" for i, c in best)

    def to_dict(self) -> dict[str, Any]:
        return {
            "class_id": self.class_id.tolist(),
            "confidence": [round(float(c), 6) for c in self.confidence],
            "labels": [self.labels[i] for i in self.class_id],
            "latency_ms": round(self.latency_ms, 4),
        }

    def draw(self, frame: Frame) -> Frame:
        """A copy of `frame` with the best labels in a band below it, so that no pixel is hidden.

        Frames under 320 pixels wide are enlarged first, so that the text can be read.
        """
        high, wide = frame.shape[:2]
        factor = max(1, min(-(-320 // wide), 1280 // high))  # never more than a screen high
        canvas = cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
        shown = list(zip(self.class_id[:_SHOWN], self.confidence[:_SHOWN], strict=True))
        row = max(24, canvas.shape[0] // 20)
        band = np.full((row * len(shown) + 8, canvas.shape[1], 3), 32, np.uint8)
        scale = row / 40
        for index, (class_id, confidence) in enumerate(shown):
            top = 4 + index * row
            bar = int((canvas.shape[1] - 8) * float(confidence))
            cv2.rectangle(band, (4, top + 2), (4 + bar, top + row - 2), (96, 128, 32), -1)
            text = f"{self.labels[class_id]}  {confidence:.1%}"
            origin = (10, top + int(row * 0.72))
            cv2.putText(band, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
        return np.concatenate((canvas, band))


class Classify:
    name = "classify"
    target = "label"
    inputs = ("frame",)
    tiles = False
    metrics = (MetricSpec(name="top1", unit="%", higher_is_better=True, binary=True),)

    @property
    def decoding(self) -> dict[str, Any]:
        return {"output": OUTPUT, "activation": "softmax"}

    def score(self, outputs: Outputs, target: Any, views: Views) -> NDArray[np.float64]:
        """Right (1) or wrong (0), and the true class."""
        return np.array([float(_best(outputs) == int(target)), float(target)])

    def summarize(self, scores: NDArray[np.float64], metric: str) -> float:
        if metric != "top1":
            raise ValueError(f"classification has no metric {metric!r}")
        return top1_percent(scores[:, :1])

    def agreement(self, outputs: Outputs, reference: Outputs) -> float:
        return float(_best(outputs) == _best(reference))

    def comparable(self, outputs: Outputs, reference: Outputs) -> tuple[Outputs, Outputs]:
        return outputs, reference

    def per_label(self, scores: NDArray[np.float64], labels: int) -> list[float | None] | None:
        values = per_class_percent(scores[:, :1], scores[:, 1].astype(np.int64), labels)
        return [None if np.isnan(value) else float(value) for value in values]

    def describe(self, outputs: Outputs, target: Any, labels: tuple[str, ...], views: Views) -> dict[str, str]:
        best = _best(outputs)
        confidence = softmax(outputs[OUTPUT][0])[best]
        return {"predicted": f"{labels[best]} ({confidence:.0%})", "truth": labels[int(target)]}

    def decode(self, outputs: Outputs, views: Views, labels: tuple[str, ...], latency_ms: float) -> Classification:
        """Raises ModelError when the network does not give one logit per label."""
        logits = outputs.get(OUTPUT)
        if logits is None or logits.shape != (1, len(labels)):
            raise ModelError(
                f"A classifier must give '{OUTPUT}' of shape {(1, len(labels))}, one per label; got "
                f"{ {name: value.shape for name, value in outputs.items()} }."
            )
        probabilities = softmax(logits[0])
        order = np.argsort(-probabilities, kind="stable")
        return Classification(
            class_id=order.astype(np.int64),
            confidence=probabilities[order].astype(np.float32),
            labels=labels,
            latency_ms=latency_ms,
            attention=attention_map(outputs),
        )


def _best(outputs: Outputs) -> int:
    return int(np.argmax(outputs[OUTPUT][0]))


TASK = Classify()
