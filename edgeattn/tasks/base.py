"""What every task owns: decoding, per-sample scores, the metric made of them, and a result that can draw itself.

NumPy and OpenCV only: this room ships to the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeattn.errors import RecipeError
from edgeattn.imaging import Frame, View

Outputs = Mapping[str, NDArray[Any]]
Views = tuple[View, ...]


@dataclass(frozen=True)
class MetricSpec:
    """`unit` is what `metric_delta` and `metric_drop_max` are counted in, "" for a share of 1.

    `binary`: the first score of a sample is 1 (right) or 0 (wrong) and the metric their mean, which allows McNemar's
    test. `labels`: how many labels the data must have for it to mean anything; None for any number.
    """

    name: str
    unit: str
    higher_is_better: bool
    binary: bool
    labels: int | None = None


class Result(Protocol):
    """What `model(frame)` returns; each task's own dataclass adds its fields."""

    latency_ms: float
    attention: NDArray[np.float32] | None

    def draw(self, frame: Frame) -> Frame:
        """A copy of `frame` with the result drawn on it."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values."""
        ...


class Task(Protocol):
    """One file of this room: `TASK` in `tasks/<name>.py`.

    `target`: the kind of target it is scored against (see `data.base.Sample`). `inputs`: the names of the network's
    frames. `tiles`: whether its outputs are maps that may be computed tile by tile and joined. `metrics`: the first is
    what budgets count in, unless the recipe names another.

    `views`, one per input, are the camera's frames and how the network saw them; targets and results are in the pixels
    of the first one's frame.
    """

    name: str
    target: str
    inputs: tuple[str, ...]
    tiles: bool
    metrics: tuple[MetricSpec, ...]

    @property
    def decoding(self) -> dict[str, Any]:
        """What a bundle's manifest says of the outputs' meaning, for those who read it without this package."""
        ...

    def score(self, outputs: Outputs, target: Any, views: Views) -> NDArray[np.float64]:
        """One sample's contribution to every metric, shape `(K,)`; `outputs` has batch size 1."""
        ...

    def summarize(self, scores: NDArray[np.float64], metric: str) -> float:
        """The metric called `metric` of `(N, K)` scores, in its unit. Raises for one that `metrics` does not name."""
        ...

    def agreement(self, outputs: Outputs, reference: Outputs) -> float:
        """0..1: how far two outputs of one sample lead to the same decision."""
        ...

    def comparable(self, outputs: Outputs, reference: Outputs) -> tuple[Outputs, Outputs]:
        """Both in an order in which tensors may be compared: as they are, unless their entries have no fixed order."""
        ...

    def per_label(self, scores: NDArray[np.float64], labels: int) -> list[float | None] | None:
        """The first metric for each of `labels` classes, None without samples; None when there is no such thing."""
        ...

    def describe(self, outputs: Outputs, target: Any, labels: tuple[str, ...], views: Views) -> dict[str, str]:
        """`{"predicted": …, "truth": …}` in words, for the report's examples."""
        ...

    def decode(self, outputs: Outputs, views: Views, labels: tuple[str, ...], latency_ms: float) -> Result:
        """Outputs of batch size 1 -> a result in the frame's own coordinates. Raises ModelError for other outputs."""
        ...


def metric_of(task: Task, name: str | None) -> MetricSpec:
    """The metric called `name`, or the task's first. Raises RecipeError with the known names."""
    if name is None:
        return task.metrics[0]
    found = next((metric for metric in task.metrics if metric.name == name), None)
    if found is None:
        known = ", ".join(metric.name for metric in task.metrics)
        raise RecipeError(f"The task {task.name} has no metric '{name}'; known: {known}.")
    return found


def attention_map(outputs: Outputs) -> NDArray[np.float32] | None:
    """The output `attention` `(1, 1, h, w)` as `(h, w)`, where the network gives one."""
    found = outputs.get("attention")
    return None if found is None else np.asarray(found[0, 0], np.float32)
