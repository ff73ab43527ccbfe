"""The task metric of a model with its interval, and how far it has drifted from a reference on the same samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeattn.backends.base import Runner
from edgeattn.errors import DataError, ModelError, StageFailed
from edgeattn.imaging import Frame
from edgeattn.metrics.tensors import Sums
from edgeattn.stats import (
    Interval,
    bootstrap_interval,
    mcnemar_exact,
    paired_bootstrap,
    paired_proportion_interval,
    wilson_interval,
)
from edgeattn.tasks.base import Outputs, Task

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """The task metric over `n` samples. `value` and `ci95` in `unit`."""

    name: str
    unit: str
    value: float
    ci95: Interval
    n: int
    higher_is_better: bool

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "value": _json(self.value),
            "ci95": [_json(v) for v in self.ci95],
            "n": self.n,
            "higher_is_better": self.higher_is_better,
        }


@dataclass(frozen=True)
class Drift:
    """One model minus the reference. `metric_delta` and its `ci95` are in the metric's own unit.

    `sqnr_db`, `cosine` and `max_abs` are those of `output`, the output with the lowest SQNR, over all samples as one
    long tensor. `agreement`, 0..1, is the mean over samples. In JSON an infinite SQNR (equal outputs: `max_abs` is 0)
    and an undefined cosine are null.
    """

    reference: str
    metric_delta: float
    ci95: Interval
    p_value: float
    test: str
    sqnr_db: float
    cosine: float
    max_abs: float
    output: str
    agreement: float
    n: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "reference": self.reference,
            "metric_delta": _json(self.metric_delta),
            "ci95": [_json(v) for v in self.ci95],
            "p_value": _json(self.p_value),
            "test": self.test,
            "sqnr_db": _json(self.sqnr_db),
            "cosine": _json(self.cosine),
            "max_abs": _json(self.max_abs),
            "output": self.output,
            "agreement": _json(self.agreement),
            "n": self.n,
        }


def run_outputs(runner: Runner, frames: Iterable[Frame], input_name: str) -> list[dict[str, NDArray[Any]]]:
    """The outputs of each preprocessed frame, one call per frame (batch 1).

    Raises StageFailed when an output holds NaN or infinity, and whatever the runner raises.
    """
    collected = []
    for index, frame in enumerate(frames):
        outputs = runner.infer({input_name: frame[np.newaxis]})
        for name, value in outputs.items():
            if not np.isfinite(value).all():
                raise StageFailed(
                    f"Output '{name}' holds NaN or infinite values for sample {index}; if the FP32 model is sound "
                    "there, this variant overflows: keep the layers that do so in higher precision."
                )
        collected.append(outputs)
    return collected


def measure_metric(
    task: Task, outputs: Sequence[Outputs], targets: Sequence[Any], *, seed: int = 0
) -> tuple[Metric, Scores]:
    """The metric with its 95 % interval, and the per-sample scores `(N, K)` that it is made of.

    Wilson's interval where scores are right or wrong (`metric.binary`), else a percentile bootstrap over samples.
    Raises DataError when there is no sample.
    """
    if not outputs:
        raise DataError("There is no sample to evaluate; the evaluation split is empty.")
    scores = np.stack([task.score(output, target) for output, target in zip(outputs, targets, strict=True)])
    if task.metric.binary:
        interval = _in_unit(task, wilson_interval(float(scores.sum()), len(scores)), _unit_of(task, 0.0))
    else:
        interval = bootstrap_interval(scores, task.summarize, seed=seed)
    metric = Metric(
        name=task.metric.name,
        unit=task.metric.unit,
        value=task.summarize(scores),
        ci95=interval,
        n=len(scores),
        higher_is_better=task.metric.higher_is_better,
    )
    return metric, scores


def measure_drift(
    task: Task,
    reference_outputs: Sequence[Outputs],
    outputs: Sequence[Outputs],
    reference_scores: Scores,
    scores: Scores,
    reference_name: str,
    *,
    seed: int = 0,
) -> Drift:
    """Compare a model with the reference, sample by sample; both were run on the same samples in the same order.

    Binary scores: exact McNemar test and Newcombe's interval for paired proportions; others: paired bootstrap.
    Raises ModelError when the two models' outputs differ in names or shapes.
    """
    if not len(reference_outputs) == len(outputs) == len(reference_scores) == len(scores):
        raise ValueError("drift compares the same samples of both models")
    if task.metric.binary:
        test = "mcnemar exact"
        interval, p_value = _binary_difference(task, scores[:, 0], reference_scores[:, 0])
    else:
        test = "paired bootstrap"
        interval, p_value = paired_bootstrap(scores, reference_scores, task.summarize, seed=seed)
    sums = _sums(reference_outputs, outputs, reference_name)
    worst = min(sums, key=lambda name: sums[name].sqnr_db)
    agreement = [task.agreement(o, r) for o, r in zip(outputs, reference_outputs, strict=True)]
    return Drift(
        reference=reference_name,
        metric_delta=task.summarize(scores) - task.summarize(reference_scores),
        ci95=interval,
        p_value=p_value,
        test=test,
        sqnr_db=sums[worst].sqnr_db,
        cosine=sums[worst].cosine,
        max_abs=sums[worst].max_abs,
        output=worst,
        agreement=float(np.mean(agreement)),
        n=len(outputs),
    )


def _binary_difference(task: Task, right: Scores, reference_right: Scores) -> tuple[Interval, float]:
    a, b = right > 0.5, reference_right > 0.5
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    interval = paired_proportion_interval(int((a & b).sum()), only_a, only_b, int((~a & ~b).sum()))
    return _in_unit(task, interval, 0.0), mcnemar_exact(only_a, only_b)


def _unit_of(task: Task, proportion: float) -> float:
    """What a proportion right is in the metric's unit: a binary metric is linear in it."""
    return task.summarize(np.array([[proportion]]))


def _in_unit(task: Task, interval: Interval, offset: float) -> Interval:
    """Limits of a proportion (or of a difference, `offset` 0) in the unit, in ascending order for error rates too."""
    scale = _unit_of(task, 1.0) - _unit_of(task, 0.0)
    low, high = sorted(offset + scale * limit for limit in interval)
    return low, high


def _sums(references: Sequence[Outputs], outputs: Sequence[Outputs], reference_name: str) -> dict[str, Sums]:
    sums: dict[str, Sums] = {}
    for reference, output in zip(references, outputs, strict=True):
        if reference.keys() != output.keys():
            raise ModelError(
                f"The model gives the outputs {sorted(output)}, {reference_name} gives {sorted(reference)}; "
                "only models of the same outputs can be compared."
            )
        for name, value in output.items():
            if value.shape != reference[name].shape:
                raise ModelError(
                    f"Output '{name}' has shape {value.shape}, that of {reference_name} {reference[name].shape}; "
                    "only models of the same outputs can be compared."
                )
            sums[name] = sums.get(name, Sums()) + Sums.of(reference[name], value)
    return sums


def _json(value: float) -> float | None:
    return value if math.isfinite(value) else None
