"""The order of the stages: skip what is unchanged, check after every stage, stop where a stage's own proof says no."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from edgeattn.artifact import Artifact, Precision, Stage
from edgeattn.errors import ModelError, StageFailed
from edgeattn.measure.select import Selection, select
from edgeattn.pipeline import bundling, checks, deferred, gate, given, stages
from edgeattn.pipeline.context import Context
from edgeattn.pipeline.place import HERE, place_of
from edgeattn.pipeline.result import report
from edgeattn.pipeline.rows import ROUNDED, Row, built, unlike_its_file
from edgeattn.pipeline.stages import ORDER
from edgeattn.pipeline.state import Run
from edgeattn.provenance import git_revision


def run(context: Context, on_row: Callable[[Row], None], until: Stage = Stage.BUNDLE) -> dict[str, Any]:
    """All stages up to `until` with their checks; returns the report (docs/contract.md) without writing it.

    A variant that fails its own proof, or cannot be made or run, becomes a failed row and the others go on; where
    nothing can go on without it (a failed proof of training or export, the bundle) the run ends with a verdict of no.
    Raises EdgeattnError where a stage could not run at all, and what the reference raises.
    """
    started = time.monotonic()
    state = Run(context, on_row, git=git_revision())
    _stages(state, until)
    return report(state, time.monotonic() - started, until)


def _stages(state: Run, until: Stage) -> None:
    context = state.context
    stages.data_record(context)  # before anything is built: the splits must not share images
    last = ORDER.index(until)
    row = _made(Stage.TRAIN, "fp32", "pytorch", lambda: stages.train(context), notes=given.notes(context))
    trained = _only(_checked(state, [row]))
    if trained is None or last == 0:
        return
    emulated = context.elsewhere is not None
    row = _made(Stage.EXPORT, "fp32", "onnxruntime", lambda: stages.export(context, trained), emulated=emulated)
    exported = _only(_checked(state, [row]))
    if exported is None or last == 1:
        return
    graphs = {Precision.FP32: exported, Precision.BF16: exported, **_quantize(state, exported)}
    if last == 2:
        return
    if context.elsewhere is not None:
        _defer(state, graphs, exported, bundled=last > 3)
        return
    _compile(state, graphs)
    if last == 3:
        return
    _select_and_bundle(state, graphs)


def _quantize(state: Run, exported: Artifact) -> dict[Precision, Artifact]:
    """The graphs that were made and passed their check; FP32 and BF16 run the exported one (docs/decisions.md)."""
    from edgeattn.quantize.form import of_backend

    rest_is_fp16 = of_backend(state.context.target.backend).rest_is_fp16

    def quantized(precision: Precision) -> Row:
        make = stages.quantize
        row = _made(
            Stage.QUANTIZE,
            precision.value,
            "onnxruntime",
            lambda: make(state.context, exported, precision),
            emulated=state.context.elsewhere is not None,
        )
        if row.artifact is None:
            return row
        record = row.artifact.json("quantization.json")
        by = record["kept_by"] + (f" and the setting {record['setting']}" if "search" in record else "")
        # Beside INT8 the rest runs in whatever float the engine chooses; in an FP16 graph these are exceptions.
        wide = "FP32" if precision is Precision.FP16 else "float"
        kept = f"{len(record['float_nodes'])} nodes kept in {wide} by {by}"
        if islands := record.get("fp32_nodes"):
            kept += f"; of its FP16 rest {len(islands)} in FP32 by range and form"
        skipped = (f"INT8 setting {name} was skipped: {why}" for name, why in record.get("skipped", {}).items())
        if precision is not Precision.FP16 and not rest_is_fp16:
            return replace(row, notes=(kept, *skipped))
        # ONNX Runtime by itself computes such a graph in FP32, in which nothing overflows.
        rounded = "accuracy with every FP16 result rounded (quantize.emulate)"
        return replace(row, judge=ROUNDED, notes=(rounded, kept, *skipped))

    rows = _checked(state, [quantized(p) for p in state.context.wanted if p in (Precision.FP16, Precision.INT8)])
    return {Precision(row.variant): row.artifact for row in rows if row.artifact is not None}


def _compile(state: Run, graphs: dict[Precision, Artifact]) -> None:
    context = state.context
    backend, place = context.target.backend, place_of(context)
    native = place.precisions(context)
    ranges = gate.measured(context, graphs[Precision.FP32])  # what only a calibrated range shows

    def compiled(precision: Precision) -> Row:
        reason = context.left_out(precision)
        if reason is None and precision.value not in native:
            reason = f"{place.processor()} does not execute {precision.value} natively; it has {', '.join(native)}."
        elif reason is None and precision not in graphs:
            reason = f"There is no sound {precision.value} graph to compile; see quantize/{precision.value}."
        if reason is not None:
            return Row(Stage.COMPILE, precision.value, backend, "unsupported", reason=reason)
        graph = graphs[precision]
        refused, warnings = gate.refusal(context, graph, ranges)
        if refused is not None:
            return Row(Stage.COMPILE, precision.value, backend, "failed", reason=refused)
        make = place.compile_engine
        row = _made(Stage.COMPILE, precision.value, backend, lambda: make(context, graph, precision))
        if row.artifact is None:
            return row
        engine = row.artifact.json("engine.json")
        execution = {"layers": engine["layers"], "macs": engine["macs"]}
        row = replace(row, execution=execution, notes=(*engine["notes"], *warnings, *place.notes()))
        return place.spread(context, graph, row) if context.twice else row

    _checked(state, [compiled(precision) for precision in context.wanted])


def _select_and_bundle(state: Run, graphs: dict[Precision, Artifact]) -> None:
    engines = [row for row in state.rows if row.stage is Stage.COMPILE and row.latency is not None]
    state.selection = select([row.candidate() for row in engines], state.limits) if engines else _no_engine(state)
    chosen = next((row for row in engines if row.variant == state.selection.variant), None)
    if chosen is None or chosen.artifact is None:
        return
    engine, graph = chosen.artifact, graphs[Precision(chosen.variant)]
    row = _made(
        Stage.BUNDLE,
        chosen.variant,
        chosen.backend,
        lambda: place_of(state.context).bundle(state.context, graph, engine),
        notes=(
            "the whole call as an app makes it: frame preparation, engine, decoding",
            *place_of(state.context).notes(),
        ),
    )
    state.bundle = _only(_checked(state, [row], beside=[chosen]))


def _defer(state: Run, graphs: dict[Precision, Artifact], exported: Artifact, *, bundled: bool) -> None:
    """What can be told of engines that only the device can build; the bundle carries the graph to build one from."""
    context = state.context
    rows = deferred.engines(state, graphs, exported)
    if not bundled:
        return
    state.selection = deferred.select(state, rows)
    chosen = state.selection.variant
    if chosen is None:
        return
    graph = graphs[Precision(chosen)]
    row = _made(
        Stage.BUNDLE,
        chosen,
        context.target.backend,
        lambda: bundling.bundle(context, graph, None),
        emulated=True,
        notes=("the whole call as an app makes it, with ONNX Runtime in place of the engine",),
    )
    state.bundle = _only(_checked(state, [row]))


def _no_engine(state: Run) -> Selection:
    """Nothing could be compared, so the budget says nothing: why there is no engine. Failures are rows of their own."""
    compiled = [row for row in state.rows if row.stage is Stage.COMPILE]
    unsupported = tuple(row.reason for row in compiled if row.status == "unsupported" and row.reason is not None)
    end = "No engine could be built here." if len(unsupported) == len(compiled) else "No engine passed its checks here."
    return Selection(None, (*unsupported, end))


def _made(stage: Stage, variant: str, backend: str, make: Callable[[], Artifact], **fields: Any) -> Row:
    """The row of what `make` builds; a failed row without artifact when its own proof says no.

    Also when a library cannot make it (ModelError), unless it is what all others are made from: its model is wrong.
    """
    try:
        return built(stage, variant, backend, make(), **fields)
    except (StageFailed, ModelError) as error:
        if isinstance(error, ModelError) and stage in (Stage.TRAIN, Stage.EXPORT):
            raise
        return Row(stage, variant, backend, "failed", reason=str(error))


def _checked(state: Run, rows: list[Row], beside: list[Row] | None = None) -> list[Row]:
    """Measure accuracy of each row, then the latency of all sound ones in one interleaved run; add all to the report.

    Returns the sound ones. `beside` are rows of earlier stages that run along, as parents to compare with.
    """
    context = state.context
    place = place_of(context) if rows and rows[0].stage in (Stage.COMPILE, Stage.BUNDLE) else HERE
    sound: list[Row] = []
    for row in rows:
        if row.artifact is None:
            state.add(row)
            continue
        try:
            measured, check = place.accuracy(context, row, state.accuracy.get(checks.REFERENCE))
        except (StageFailed, ModelError) as error:
            if isinstance(error, ModelError) and row.name == checks.REFERENCE:
                raise
            state.add(replace(row, status="failed", reason=str(error)))
            continue
        state.accuracy[row.name] = check
        if row.emulated and row.stage is not Stage.BUNDLE:
            measured = deferred.noise(context, measured, check, state.accuracy.get(checks.REFERENCE))
        file = state.row(f"{Stage.QUANTIZE.value}/{row.variant}") if row.stage is Stage.COMPILE else None
        note = unlike_its_file(measured, file)
        sound.append(replace(measured, notes=(*measured.notes, note)) if note else measured)
    if not sound:
        return []
    if context.elsewhere is not None:  # how fast this machine is says nothing of the device
        state.add(*sound)
        return sound
    reference = state.row(checks.REFERENCE) if place.has_reference else None
    along = [*([reference] if reference else []), *(beside or [])]
    timed = place.latency(context, [*along, *sound])[len(along) :]
    state.add(*timed)
    return [row for row in timed if row.status != "failed"]


def _only(rows: list[Row]) -> Artifact | None:
    """The artifact of a stage that makes one row; None when it failed."""
    return rows[0].artifact if rows else None
