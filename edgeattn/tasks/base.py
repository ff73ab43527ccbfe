"""What every task owns: decoding, per-sample scores, the metric made of them, and a result that can draw itself.

NumPy and OpenCV only: this room ships to the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeattn.imaging import Frame

Outputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class MetricSpec:
    """`unit` is what `metric_delta` and `metric_drop_max` are counted in; `binary` scores allow McNemar's test."""

    name: str
    unit: str
    higher_is_better: bool
    binary: bool


@dataclass(frozen=True)
class Geometry:
    """Where a network frame came from: the original height and width, and the 3x3 matrix from it to the network."""

    height: int
    width: int
    matrix: NDArray[np.float64]


class Result(Protocol):
    """What `model(frame)` returns; each task's own dataclass adds its fields."""

    latency_ms: float

    def draw(self, frame: Frame) -> Frame:
        """A copy of `frame` with the result drawn on it."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values."""
        ...


class Task(Protocol):
    """One file of this room: `TASK` in `tasks/<name>.py`."""

    name: str
    metric: MetricSpec

    @property
    def decoding(self) -> dict[str, Any]:
        """What a bundle's manifest says of the outputs' meaning, for those who read it without this package."""
        ...

    def score(self, outputs: Outputs, target: Any) -> NDArray[np.float64]:
        """One sample's contribution to the metric, shape `(K,)`; `outputs` has batch size 1."""
        ...

    def summarize(self, scores: NDArray[np.float64]) -> float:
        """The metric of `(N, K)` scores, in `metric.unit`."""
        ...

    def agreement(self, outputs: Outputs, reference: Outputs) -> float:
        """0..1: how far two outputs of one sample lead to the same decision."""
        ...

    def per_label(self, scores: NDArray[np.float64], targets: NDArray[Any], labels: int) -> list[float | None] | None:
        """The metric of each of `labels` classes, None for one without samples; None when there is no such thing."""
        ...

    def describe(self, outputs: Outputs, target: Any, labels: tuple[str, ...]) -> dict[str, str]:
        """`{"predicted": …, "truth": …}` in words, for the report's examples."""
        ...

    def decode(self, outputs: Outputs, geometry: Geometry, labels: tuple[str, ...], latency_ms: float) -> Result:
        """Outputs of batch size 1 -> a result in the frame's own coordinates."""
        ...
