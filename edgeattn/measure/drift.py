"""The task metric of a model with its interval, and how far it has drifted from a reference on the same samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeattn.backends.base import Runner
from edgeattn.errors import DataError, ModelError, StageFailed
from edgeattn.framing import Framing
from edgeattn.metrics.tensors import Sums, sums_by_name
from edgeattn.stats import (
    Interval,
    interval_of,
    mcnemar_exact,
    paired_permutation,
    paired_proportion_interval,
    resampled,
    wilson_interval,
)
from edgeattn.tasks.base import MetricSpec, Outputs, Task, Views

Scores = NDArray[np.float64]
Summary = Callable[[Scores], float]


@dataclass(frozen=True)
class Metric:
    """The task metric over `n` samples from `sources` independent ones, such as photographs that pairs are cut from.

    `value` and `ci95` in `unit`; `others`: the task's further metrics by name.
    """

    name: str
    unit: str
    value: float
    ci95: Interval
    n: int
    higher_is_better: bool
    sources: int
    others: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "value": _json(self.value),
            "ci95": [_json(v) for v in self.ci95],
            "n": self.n,
            "sources": self.sources,
            "higher_is_better": self.higher_is_better,
            "others": {name: _json(value) for name, value in self.others.items()},
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


@dataclass(frozen=True, eq=False)
class Scored:
    """The scores of one model's samples, `(N, K)`, of which all metrics are made, and the bootstrap of `metric`.

    `draws`: the metric of each draw, `(resamples,)`; empty for a binary metric, which needs none. Which samples a draw
    holds is decided by N, `seed` and `sources` (see `measure_metric`): only draws that agree in these and in the metric
    can be paired.
    """

    scores: Scores
    draws: NDArray[np.float64]
    metric: str
    seed: int
    sources: tuple[str, ...] | None

    def check_pairs_with(self, other: Scored) -> None:
        """Raises ValueError unless row and draw i of both hold the same samples, and the same metric of them."""
        mine, theirs = self._drawn(), other._drawn()
        if mine != theirs:
            differ = ", ".join(name for name in mine if mine[name] != theirs[name])
            raise ValueError(f"drift compares the same samples of both models, drawn alike; these differ in: {differ}")

    def _drawn(self) -> dict[str, Any]:
        shapes = {"samples": self.scores.shape, "number of draws": self.draws.shape}
        return {**shapes, "metric": self.metric, "seed": self.seed, "sources": self.sources}

    def save(self, path: Path) -> None:
        """Write an `.npz`; `load` gives the same again."""
        arrays: dict[str, Any] = {name: getattr(self, name) for name in ("scores", "draws", "metric", "seed")}
        if self.sources is not None:
            arrays["sources"] = np.array(self.sources)
        np.savez(path, **arrays)

    @classmethod
    def load(cls, path: Path) -> Scored:
        with np.load(path, allow_pickle=False) as found:
            sources = tuple(found["sources"].tolist()) if "sources" in found else None
            return cls(found["scores"], found["draws"], str(found["metric"]), int(found["seed"]), sources)


def run_outputs(runner: Runner, framings: Iterable[Framing]) -> tuple[list[dict[str, NDArray[Any]]], list[Views]]:
    """The outputs of each sample, batch 1, and how its frames were seen.

    Raises StageFailed when an output holds NaN or infinity, and whatever the runner raises.
    """
    collected, views = [], []
    for index, framing in enumerate(framings):
        collected.append(frame_outputs(runner, framing, index))
        views.append(framing.views)
    return collected, views


def frame_outputs(runner: Runner, framing: Framing, index: int) -> dict[str, NDArray[Any]]:
    """The outputs of sample `index`; raises as `run_outputs`."""
    outputs = framing.merge([runner.infer(call) for call in framing.calls])
    for name, value in outputs.items():
        if not np.isfinite(value).all():
            raise StageFailed(
                f"Output '{name}' holds NaN or infinite values for sample {index}; if the FP32 model is sound "
                "there, this variant overflows: keep the layers that do so in higher precision."
            )
    return outputs


def measure_metric(
    task: Task,
    spec: MetricSpec,
    outputs: Sequence[Outputs],
    targets: Sequence[Any],
    views: Sequence[Views],
    *,
    sources: Sequence[str] | None = None,
    seed: int = 0,
) -> tuple[Metric, Scored]:
    """The metric `spec` with its 95 % interval, and what `measure_drift` compares with another model's.

    Wilson's interval where scores are right or wrong (`spec.binary`), else a bootstrap over samples. `sources`: what
    each sample was cut from (see `data.base.sources`); None when they are all independent. Raises DataError when there
    is no sample.
    """
    if not outputs:
        raise DataError("There is no sample to evaluate; the evaluation split is empty.")
    scores = np.stack([task.score(*sample) for sample in zip(outputs, targets, views, strict=True)])
    summarize = partial(task.summarize, metric=spec.name)
    draws = np.zeros(0)
    if spec.binary:
        interval = _in_unit(summarize, wilson_interval(float(scores[:, 0].sum()), len(scores)), scores, offset=True)
    else:
        draws = resampled(scores, summarize, seed=seed, groups=sources)
        interval = interval_of(draws, len(scores), sources)
    metric = Metric(
        name=spec.name,
        unit=spec.unit,
        value=summarize(scores),
        ci95=interval,
        n=len(scores),
        higher_is_better=spec.higher_is_better,
        sources=len(scores if sources is None else set(sources)),
        others={other.name: task.summarize(scores, other.name) for other in task.metrics if other.name != spec.name},
    )
    return metric, Scored(scores, draws, spec.name, seed, None if sources is None else tuple(sources))


def measure_drift(
    task: Task,
    spec: MetricSpec,
    reference_outputs: Sequence[Outputs],
    outputs: Sequence[Outputs],
    reference_scored: Scored,
    scored: Scored,
    reference_name: str,
) -> Drift:
    """Compare a model with the reference, sample by sample; both were run on the same samples in the same order, and
    `measure_metric` scored both with the same metric, seed and sources.

    Binary scores: exact McNemar test and Newcombe's interval for paired proportions; others: paired permutation test
    and paired bootstrap interval, over the sources (see `measure_metric`). Raises ModelError when the two models'
    outputs differ in names or shapes, ValueError when they were not scored alike.
    """
    scored.check_pairs_with(reference_scored)
    theirs, ours = reference_scored.scores, scored.scores
    if not (len(reference_outputs) == len(outputs) == len(ours) and scored.metric == spec.name):
        raise ValueError("drift compares the same samples of both models, scored in the metric that is asked for")
    summarize = partial(task.summarize, metric=spec.name)
    if spec.binary:
        test = "mcnemar exact"
        interval, p_value = _binary_difference(summarize, ours, theirs)
    else:
        test = "paired permutation"
        interval = interval_of(scored.draws - reference_scored.draws, len(ours), scored.sources)
        p_value = paired_permutation(ours, theirs, summarize, seed=scored.seed, groups=scored.sources)
    sums = _sums(task, reference_outputs, outputs, reference_name)
    worst = min(sums, key=lambda name: sums[name].sqnr_db)
    agreement = [task.agreement(o, r) for o, r in zip(outputs, reference_outputs, strict=True)]
    return Drift(
        reference=reference_name,
        metric_delta=summarize(ours) - summarize(theirs),
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


def _binary_difference(summarize: Summary, scores: Scores, reference: Scores) -> tuple[Interval, float]:
    a, b = scores[:, 0] > 0.5, reference[:, 0] > 0.5
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    interval = paired_proportion_interval(int((a & b).sum()), only_a, only_b, int((~a & ~b).sum()))
    return _in_unit(summarize, interval, scores, offset=False), mcnemar_exact(only_a, only_b)


def _in_unit(summarize: Summary, interval: Interval, scores: Scores, *, offset: bool) -> Interval:
    """Limits of a proportion, or without `offset` of a difference, in the metric's unit.

    A binary metric is linear in the share of samples that are right. In ascending order for error rates too.
    """
    wrong, right = np.zeros((2, 1, scores.shape[1]))
    right[:, 0] = 1.0
    none, all_of_them = summarize(wrong), summarize(right)
    low, high = sorted((none if offset else 0.0) + (all_of_them - none) * limit for limit in interval)
    return low, high


def _sums(
    task: Task, references: Sequence[Outputs], outputs: Sequence[Outputs], reference_name: str
) -> dict[str, Sums]:
    for theirs, ours in zip(references, outputs, strict=True):
        if theirs.keys() != ours.keys():
            raise ModelError(
                f"The model gives the outputs {sorted(ours)}, {reference_name} gives {sorted(theirs)}; "
                "only models of the same outputs can be compared."
            )
        for name, value in ours.items():
            if value.shape != theirs[name].shape:
                raise ModelError(
                    f"Output '{name}' has shape {value.shape}, that of {reference_name} {theirs[name].shape}; "
                    "only models of the same outputs can be compared."
                )
    return sums_by_name(task.comparable(*pair) for pair in zip(outputs, references, strict=True))


def _json(value: float) -> float | None:
    return value if math.isfinite(value) else None
