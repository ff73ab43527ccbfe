"""The order of the stages: skip what is unchanged, check after every stage, stop where a stage's own proof says no."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgeattn import backends, host
from edgeattn.artifact import Artifact, Precision, Stage
from edgeattn.errors import StageFailed
from edgeattn.measure.select import Limits, Selection, misses, select
from edgeattn.pipeline import bundling, checks, stages
from edgeattn.pipeline.rows import Row, built
from edgeattn.pipeline.stages import Context
from edgeattn.provenance import git_revision

SCHEMA = "edgeattn.report/1"
_ORDER = (Stage.TRAIN, Stage.EXPORT, Stage.QUANTIZE, Stage.COMPILE, Stage.BUNDLE)


@dataclass
class Run:
    """What has happened so far; `on_row` hears of every row as soon as it is complete."""

    context: Context
    on_row: Callable[[Row], None]
    rows: list[Row] = field(default_factory=list)
    accuracy: dict[str, Artifact] = field(default_factory=dict)
    selection: Selection | None = None
    bundle: Artifact | None = None
    failure: str | None = None

    def add(self, rows: list[Row]) -> None:
        for row in rows:
            self.rows.append(row)
            self.on_row(row)

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)


def run(context: Context, on_row: Callable[[Row], None], until: Stage = Stage.BUNDLE) -> dict[str, Any]:
    """All stages up to `until` with their checks; returns the report (CONTRACT v1) without writing it.

    A stage that fails its own proof ends the run with a failed row and a verdict of no. Raises EdgeattnError where a
    stage could not run at all.
    """
    started = time.monotonic()
    state = Run(context, on_row)
    last = _ORDER.index(until)
    try:
        _stages(state, last)
    except _RowFailed as failed:
        state.failure = failed.row.reason
        state.add([failed.row])
    return _report(state, time.monotonic() - started, until)


class _RowFailed(Exception):
    def __init__(self, row: Row) -> None:
        self.row = row
        super().__init__(row.reason)


def _made(stage: Stage, variant: str, backend: str, make: Callable[[], Artifact], **fields: Any) -> Row:
    try:
        return built(stage, variant, backend, make(), **fields)
    except StageFailed as error:
        raise _RowFailed(Row(stage, variant, backend, "failed", reason=str(error))) from error


def _stages(state: Run, last: int) -> None:
    context = state.context
    stages.data_record(context)  # before anything is built: the splits must not share images
    trained = _checked(state, [_made(Stage.TRAIN, "fp32", "pytorch", lambda: stages.train(context))])[0]
    if last == 0:
        return
    source = _artifact(trained)
    exported = _checked(state, [_made(Stage.EXPORT, "fp32", "onnxruntime", lambda: stages.export(context, source))])[0]
    if last == 1:
        return
    graph = _artifact(exported)
    wanted = [p for p in context.target.precisions if p in context.recipe.variants]
    quantized = _quantize(state, graph, wanted)
    if last == 2:
        return
    _compile(state, graph, quantized, wanted)
    if last == 3:
        return
    _select_and_bundle(state, graph, quantized)


def _quantize(state: Run, graph: Artifact, wanted: list[Precision]) -> dict[Precision, Artifact]:
    context = state.context
    made: dict[Precision, Artifact] = {}
    rows = []
    for precision in wanted:
        if precision in (Precision.FP16, Precision.INT8):
            row = _made(
                Stage.QUANTIZE,
                precision.value,
                "onnxruntime",
                lambda p=precision: stages.quantize(context, graph, p),  # type: ignore[misc]
            )
            made[precision] = _artifact(row)
            kept = len(made[precision].json("quantization.json")["float_nodes"])
            rows.append(replace(row, notes=(f"{kept} nodes kept in FP32 by the attention-safe policy",)))
    _checked(state, rows)
    return made


def _compile(state: Run, graph: Artifact, quantized: dict[Precision, Artifact], wanted: list[Precision]) -> None:
    context = state.context
    backend = context.target.backend
    native = backends.find_compiler(backend).precisions()
    rows, refused = [], []
    for precision in wanted:
        if precision.value not in native:
            reason = f"{host.cpu_model()} does not execute {precision.value} natively; it has {', '.join(native)}."
            refused.append(Row(Stage.COMPILE, precision.value, backend, "unsupported", reason=reason))
            continue
        origin = stages.graph_of(precision, graph, quantized)
        row = _made(
            Stage.COMPILE,
            precision.value,
            backend,
            lambda o=origin, p=precision: stages.compile_engine(context, o, p),  # type: ignore[misc]
        )
        engine = _artifact(row).json("engine.json")
        execution = {"layers": engine["layers"], "macs": engine["macs"]}
        rows.append(replace(row, execution=execution, notes=tuple(engine["notes"])))
    state.add(refused)
    _checked(state, rows)


def _select_and_bundle(state: Run, graph: Artifact, quantized: dict[Precision, Artifact]) -> None:
    context = state.context
    engines = [row for row in state.rows if row.stage is Stage.COMPILE and row.artifact is not None]
    state.selection = select([row.candidate() for row in engines], _limits(context))
    if state.selection.variant is None:
        return
    chosen = state.row(f"compile/{state.selection.variant}")
    origin = stages.graph_of(Precision(chosen.variant), graph, quantized)
    row = _made(
        Stage.BUNDLE,
        chosen.variant,
        context.target.backend,
        lambda: bundling.bundle(context, origin, _artifact(chosen)),
        notes=("the whole call as an app makes it: frame preparation, engine, decoding",),
    )
    state.bundle = row.artifact
    _checked(state, [row], beside=[chosen])


def _checked(state: Run, rows: list[Row], beside: list[Row] | None = None) -> list[Row]:
    """Measure accuracy of each row, then the latency of all of them in one interleaved run; add them to the report.

    `beside` are rows of earlier stages that run along, as parents to compare with.
    """
    context = state.context
    measured = []
    for row in rows:
        try:
            reference = state.accuracy.get(checks.REFERENCE)
            done, check = checks.accuracy(context, row, _entry(row), reference)
        except StageFailed as error:
            raise _RowFailed(replace(row, status="failed", reason=str(error))) from error
        state.accuracy[row.name] = check
        measured.append(done)
    if not measured:
        return []
    along = [state.row(checks.REFERENCE)] if measured[0].name != checks.REFERENCE else []
    along += beside or []
    timed = checks.latency(context, [*along, *measured], _entry, _parents([*along, *measured]))
    state.add(timed[len(along) :])
    return timed[len(along) :]


def _parents(rows: list[Row]) -> dict[str, str]:
    """Each engine against the most precise float one it must beat: INT8 against BF16 where there is one, else FP32."""
    names = {row.name for row in rows}
    parents = {}
    for variant, candidates in {"int8": ("fp16", "bf16", "fp32"), "bf16": ("fp32",), "fp16": ("fp32",)}.items():
        for stage in ("compile", "quantize"):
            if f"{stage}/{variant}" in names:
                found = next((c for c in candidates if f"{stage}/{c}" in names), None)
                if found:
                    parents[f"{stage}/{variant}"] = f"{stage}/{found}"
    for row in rows:
        if row.stage is Stage.BUNDLE:
            parents[row.name] = f"compile/{row.variant}"
    return parents


def _entry(row: Row) -> str:
    if row.stage is Stage.BUNDLE:
        return "edgeattn.runtime:load_runner"
    return f"edgeattn.backends.{row.backend}:load"


def _artifact(row: Row) -> Artifact:
    assert row.artifact is not None
    return row.artifact


def _limits(context: Context) -> Limits:
    return Limits(**context.recipe.budget.model_dump())


def _report(state: Run, seconds: float, until: Stage) -> dict[str, Any]:
    context = state.context
    recipe = context.recipe
    return {
        "schema": SCHEMA,
        "recipe": recipe.name,
        "target": context.target.name,
        "task": recipe.task,
        "model": recipe.model.name,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seed": recipe.seed,
        "git": git_revision(),
        "wall_seconds": round(seconds, 2),
        "host": host.describe(),
        "data": {k: v for k, v in stages.data_record(context).json("data.json").items() if k != "labels"},
        "budget": recipe.budget.model_dump(),
        "rows": [row.to_dict() for row in state.rows],
        "selected": _selected(state),
        "verdict": _verdict(state, until),
        "examples": checks.examples(context, state.accuracy) if checks.REFERENCE in state.accuracy else [],
        "per_class": checks.per_label(context, state.accuracy),
        "training": _training(state),
        "search": _search(state),
        "bundle": _bundle(state),
        "settings": {"recipe": recipe.model_dump(mode="json"), "target": context.target.model_dump(mode="json")},
    }


def _selected(state: Run) -> dict[str, Any] | None:
    if state.selection is None or state.selection.variant is None:
        return None
    engine = state.row(f"compile/{state.selection.variant}")
    return {
        "variant": engine.variant,
        "backend": engine.backend,
        "artifact_sha256": _artifact(engine).sha256,
        "why": " ".join(state.selection.why),
    }


def _verdict(state: Run, until: Stage) -> dict[str, Any]:
    """Passed when an engine inside the budget was selected and its bundle, as an app calls it, is inside it too."""
    if state.failure is not None:
        return {"passed": False, "reasons": [state.failure]}
    if until is not Stage.BUNDLE:
        reason = f"Every stage up to {until.value} ran; nothing was selected, since the run was to end there."
        return {"passed": True, "reasons": [reason]}
    if state.bundle is None:
        return {"passed": False, "reasons": list(state.selection.why) if state.selection else []}
    shipped = next(row for row in state.rows if row.stage is Stage.BUNDLE)
    missed = misses(replace(shipped.candidate(), size_mb=_artifact(shipped).size_bytes / 1e6), _limits(state.context))
    if missed:
        return {"passed": False, "reasons": [f"The bundle is outside the budget: {sentence}." for sentence in missed]}
    return {"passed": True, "reasons": list(state.selection.why) if state.selection else []}


def _training(state: Run) -> dict[str, Any] | None:
    trained = next((row.artifact for row in state.rows if row.stage is Stage.TRAIN and row.artifact), None)
    if trained is None:
        return None
    engine = next((row.execution for row in state.rows if row.execution), None)
    macs = sum(engine["macs"].values()) if engine else None
    return {**trained.json("training.json"), "seconds": trained.seconds, "macs": macs}


def _search(state: Run) -> list[dict[str, Any]] | None:
    row = next((row for row in state.rows if row.name == "quantize/int8" and row.artifact), None)
    return _artifact(row).json("quantization.json")["search"] if row else None


def _bundle(state: Run) -> dict[str, Any] | None:
    if state.bundle is None:
        return None
    path = bundle_file(state.bundle)
    return {"path": str(path), "sha256": state.bundle.sha256, "size_bytes": path.stat().st_size}


def bundle_file(artifact: Artifact) -> Path:
    """The one file of a bundle artifact that ships."""
    return next(artifact.path.glob("*.edgeattn"))
