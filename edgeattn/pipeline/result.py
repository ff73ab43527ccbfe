"""The report of a run as plain values: docs/contract.md, report.json."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgeattn import host
from edgeattn.artifact import Stage, sha256_file
from edgeattn.board import describe_device
from edgeattn.measure.select import misses
from edgeattn.pipeline import checks, pictures, stages
from edgeattn.pipeline.state import Run
from edgeattn.provenance import revision_since
from edgeattn.recipe import DataSection

SCHEMA = "edgeattn.report/1"
_DATA = ("train_n", "calibration_n", "eval_n", "calibration_sha256", "eval_sha256", "eval_origins_sha256")


def report(state: Run, wall_seconds: float, until: Stage) -> dict[str, Any]:
    """Everything the run found out; what was not measured is null."""
    context = state.context
    recipe = context.recipe
    record = stages.data_record(context).json("data.json")
    return {
        "schema": SCHEMA,
        "recipe": recipe.name,
        "target": context.target.name,
        "task": recipe.task,
        "model": recipe.model.name,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seed": recipe.seed,
        "git": revision_since(state.git),
        "wall_seconds": round(wall_seconds, 2),
        "host": {**host.describe(), "device": context.device.describe() if context.device else describe_device() or {}},
        "data": {"name": _data_name(recipe.data), **{name: record[name] for name in _DATA}},
        "budget": recipe.budget.model_dump(),
        "rows": [row.to_dict() for row in state.rows],
        "selected": _selected(state),
        "verdict": _verdict(state, until),
        "examples": pictures.examples(context, state.accuracy) if checks.REFERENCE in state.accuracy else [],
        "gallery": pictures.gallery(context, state.accuracy) if checks.REFERENCE in state.accuracy else None,
        "per_class": checks.per_label(context, state.accuracy),
        "training": _training(state),
        "search": _search(state),
        "bundle": _bundle(state),
        "settings": {"recipe": recipe.model_dump(mode="json"), "target": context.target.model_dump(mode="json")},
    }


def bundle_file(folder: Path) -> Path:
    """The one file of a bundle artifact that ships."""
    return next(folder.glob("*.edgeattn"))


def _data_name(section: DataSection) -> str:
    """Where the recipe says that the data is; the same images elsewhere have another name and the same hashes."""
    return str(section.settings.get("path") or section.format)


def _selected(state: Run) -> dict[str, Any] | None:
    if state.selection is None:
        return None
    engine = state.row(f"compile/{state.selection.variant}")
    if engine is None or engine.artifact is None:
        return None
    return {
        "variant": engine.variant,
        "backend": engine.backend,
        "artifact_sha256": engine.artifact.sha256,
        "why": " ".join(state.selection.why),
    }


def _verdict(state: Run, until: Stage) -> dict[str, Any]:
    """Passed when an engine inside the budget was selected and its bundle, as an app calls it, is inside it too."""
    failures = [f"{row.name}: {row.reason}" for row in state.failed]
    why = [*failures, *(state.selection.why if state.selection else ())]
    if until is not Stage.BUNDLE:
        done = [] if failures else [f"Every stage up to {until.value} ran; the run was to end there."]
        return {"passed": not failures, "reasons": failures + done}
    if state.bundle is None:
        return {"passed": False, "reasons": why}
    shipped = next(row for row in state.rows if row.stage is Stage.BUNDLE)
    limits = state.limits
    if shipped.emulated:  # judged on the device; the selection says so
        limits = replace(limits, latency_p99_ms_max=None)
    missed = misses(shipped.candidate(), limits)
    if missed:
        return {"passed": False, "reasons": [f"The bundle is outside the budget: {sentence}." for sentence in missed]}
    return {"passed": True, "reasons": why}


def _training(state: Run) -> dict[str, Any] | None:
    trained = state.row(checks.REFERENCE)
    if trained is None or trained.artifact is None:
        return None
    engine = next((row.execution for row in state.rows if row.execution), None)
    macs = sum(engine["macs"].values()) if engine else None
    weights = state.context.recipe.weights
    # Weights that were given took no time here: copying them is no training.
    seconds = trained.artifact.seconds if weights is None else None
    return {**trained.artifact.json("training.json"), "seconds": seconds, "macs": macs, "weights": weights}


def _search(state: Run) -> list[dict[str, Any]] | None:
    row = state.row("quantize/int8")
    if row is None or row.artifact is None:
        return None
    found: list[dict[str, Any]] = row.artifact.json("quantization.json")["search"]
    return found


def _bundle(state: Run) -> dict[str, Any] | None:
    if state.bundle is None:
        return None
    path = bundle_file(state.bundle.path)
    return {"path": str(path), "sha256": sha256_file(path), "size_bytes": path.stat().st_size}
