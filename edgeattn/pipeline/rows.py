"""One row of the report: an artifact of one stage and everything measured on it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from edgeattn.artifact import Artifact, Stage
from edgeattn.measure.select import Candidate

_UNLIKE_DB = 6.0
# By name, for what they import is heavy: every FP16 result rounded, node by node or fused by ONNX Runtime.
ROUNDED, FUSED = "edgeattn.pipeline.emulated:load", "edgeattn.pipeline.emulated:load_fused"


@dataclass(frozen=True)
class Row:
    """Fields as in docs/contract.md, report.json; what was not measured stays None."""

    stage: Stage
    variant: str
    backend: str
    status: str
    reason: str | None = None
    artifact: Artifact | None = None
    seconds: float | None = None
    metric: dict[str, Any] | None = None
    drift: dict[str, Any] | None = None
    latency: dict[str, Any] | None = None
    memory: dict[str, Any] | None = None
    energy: dict[str, Any] | None = None
    execution: dict[str, Any] | None = None
    # ONNX Runtime stands in for a device that is not here; `emulation` says how far two of its ways are apart.
    emulated: bool = False
    emulation: dict[str, Any] | None = None
    # The least time that physics allows on the device (`measure.roofline`): no measurement.
    estimate: dict[str, Any] | None = None
    # How far a second engine of the same graph differs (`runtime.spread`), where that was asked for.
    spread: dict[str, Any] | None = None
    # The function that accuracy is checked with where it is another than `entry`; module and name.
    judge: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.stage.value}/{self.variant}"

    @property
    def entry(self) -> str:
        """The function that loads the artifact as a runner (see `measure.candidate`)."""
        if self.stage is Stage.BUNDLE:
            return "edgeattn.pipeline.emulated:load_bundle" if self.emulated else "edgeattn.runtime:load_runner"
        if self.emulated:
            return ROUNDED
        return f"edgeattn.backends.{self.backend}:load"

    @property
    def judged_by(self) -> str:
        """The function that loads the artifact to check its accuracy."""
        return self.judge or self.entry

    def measured(self, check: Artifact, **fields: Any) -> Row:
        """With fields measured in `check`; the row counts as cached only when its measurements were cached too."""
        status = "cached" if self.status == "cached" and check.cached else "ok"
        return replace(self, status=status, **fields)

    def candidate(self) -> Candidate:
        """The row as the selection sees it."""
        drift, metric = self.drift or {}, self.metric or {}
        # On another machine, where the reference does not run, all engines are timed against the most precise one.
        timed = self.latency or {}
        ratios = timed.get("device_ratio") or {"ratio": timed.get("ratio_to_reference"), **timed}
        return Candidate(
            variant=self.variant,
            metric_delta=drift.get("metric_delta"),
            higher_is_better=bool(metric.get("higher_is_better", True)),
            # JSON knows no infinity: an SQNR of null with no difference at all is that of equal outputs.
            sqnr_db=math.inf if drift.get("max_abs") == 0 else drift.get("sqnr_db"),
            p99_ms=(self.latency or {}).get("p99_ms"),
            size_mb=self.artifact.size_bytes / 1e6 if self.artifact else None,
            ratio_ci95=tuple(ratios.get("ratio_ci95") or ()) or None,
            ratio=ratios["ratio"],
            parent=(self.latency or {}).get("parent"),
            metric=str(metric.get("name", "the metric")),
            unit=str(metric.get("unit", "")),
        )

    def to_dict(self) -> dict[str, Any]:
        artifact = self.artifact
        return {
            "stage": self.stage.value,
            "variant": self.variant,
            "backend": self.backend,
            "status": self.status,
            "reason": self.reason,
            "artifact": artifact
            and {"path": str(artifact.path), "sha256": artifact.sha256, "size_bytes": artifact.size_bytes},
            "seconds": self.seconds,
            "metric": self.metric,
            "drift": self.drift,
            "latency": self.latency,
            "memory": self.memory,
            "energy": self.energy,
            "emulated": self.emulated,
            "emulation": self.emulation,
            "estimate": self.estimate,
            "spread": self.spread,
            "execution": self.execution,
            "notes": list(self.notes),
        }


def built(stage: Stage, variant: str, backend: str, artifact: Artifact, **fields: Any) -> Row:
    """The row of a finished artifact, before anything is measured on it."""
    status = "cached" if artifact.cached else "ok"
    return Row(stage, variant, backend, status, artifact=artifact, seconds=artifact.seconds, **fields)


def unlike_its_file(engine: Row, file: Row | None) -> str | None:
    """A note for an engine that keeps far less of the signal than the ONNX file it was compiled from; None if not.

    Half the signal's amplitude, 6 dB, is more than the float remainder in BF16 costs: the engine's library then
    computes something else (two such faults: docs/decisions.md, "An engine may compute something else than its file").
    """
    ours = (engine.drift or {}).get("sqnr_db")
    theirs = ((file.drift if file else None) or {}).get("sqnr_db")
    if ours is None or theirs is None or theirs - ours <= _UNLIKE_DB:
        return None
    return (
        f"the engine keeps {ours:.1f} dB SQNR where its own ONNX file keeps {theirs:.1f}: {engine.backend} computes "
        "something else than the file says"
    )
