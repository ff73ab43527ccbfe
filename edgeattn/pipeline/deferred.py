"""A target that is not here: what can be proven of its graphs without it, and what waits for it.

Accuracy is emulated: ONNX Runtime computes each graph node by node, every FP16 result rounded (`quantize.emulate`),
which predicts TensorRT's to about the noise of quantizing again (design notes TENSORRT.md, section 8). How large that
noise is shows a second run, rounded alike, with ONNX Runtime's optimizations, which fuse as the device does.
Latency is not emulated: a CPU's says nothing of a GPU's. An estimate from the target's peaks says what it cannot be
below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from edgeattn import tasks
from edgeattn.artifact import Artifact, Precision, Stage
from edgeattn.errors import ModelError, StageFailed
from edgeattn.measure.select import Selection, misses
from edgeattn.metrics.tensors import sums_by_name
from edgeattn.pipeline import checks, gate
from edgeattn.pipeline.context import Context
from edgeattn.pipeline.rows import FUSED, Row
from edgeattn.pipeline.state import Run

# FP16 first: on tensor cores it is faster than FP32 wherever both were published, while INT8 of attention often is not
# faster than FP16 (NVIDIA/TensorRT #4273, #2067), so that it ships before FP16 only where it was measured. What is not
# INT8 in an INT8 graph is FP16 there, so that FP32 comes last.
_PREFERRED = ("fp16", "int8", "fp32")


def noise(context: Context, row: Row, check: Artifact, reference: Artifact | None) -> Row:
    """The emulated `row` with how far ONNX Runtime's optimizations move its outputs, FP16 rounded in both runs.

    It fuses nodes and adds in another order, and such differences a device makes too.
    """
    fused = replace(row, judge=FUSED)
    try:
        measured, other = checks.accuracy(context, fused, reference)
    except (StageFailed, ModelError) as error:  # it is ONNX Runtime's optimizations that fail, not the graph
        return replace(row, notes=(*row.notes, f"how far fusing moves the outputs is not known: {error}"))
    task = tasks.find(context.recipe.task)
    pairs = zip(checks.load_outputs(other), checks.load_outputs(check), strict=True)
    apart = min(total.sqnr_db for total in sums_by_name(task.comparable(*pair) for pair in pairs).values())
    value = (measured.metric or {}).get("value")
    emulation = {"metric": value, "sqnr_db": round(apart, 2) if math.isfinite(apart) else None}
    moved = f"by {apart:.0f} dB SQNR" if math.isfinite(apart) else "not at all"
    said = f"fused by ONNX Runtime, as a device fuses in its way, the outputs move {moved} and give {value:.4g}"
    return replace(row, emulation=emulation, notes=(*row.notes, said) if value is not None else row.notes)


def engines(state: Run, graphs: dict[Precision, Artifact], exported: Artifact) -> list[Row]:
    """One row per wanted variant: deferred, with its graph's emulated accuracy, or failed by the target's rules."""
    context = state.context
    ranges = gate.measured(context, exported)
    reason = f"Built on the device, by python -m edgeattn.runtime build BUNDLE; not here: {context.elsewhere}"
    rows = []
    for precision in context.wanted:
        row = Row(Stage.COMPILE, precision.value, context.target.backend, "deferred", reason=reason)
        graph = graphs.get(precision)
        left_out = context.left_out(precision)
        if graph is None or left_out is not None:
            gone = left_out or f"There is no sound {precision.value} graph to compile; see quantize/{precision.value}."
            rows.append(replace(row, status="unsupported", reason=gone))
            continue
        why, notes = gate.refusal(context, graph, ranges)
        if why is not None:
            rows.append(replace(row, status="failed", reason=why))
            continue
        stage = Stage.EXPORT if graph is exported else Stage.QUANTIZE
        judged = state.row(f"{stage.value}/{graph.variant}")
        figures: dict[str, Any] = {}
        if judged is not None:
            figures = {"metric": judged.metric, "drift": judged.drift, "emulation": judged.emulation}
        estimate = roofline(context, graph)
        said = (estimate["sentence"],) if estimate else ()
        rows.append(replace(row, artifact=graph, emulated=True, estimate=estimate, notes=(*notes, *said), **figures))
    state.add(*rows)
    return [row for row in rows if row.status == "deferred"]


def roofline(context: Context, graph: Artifact) -> dict[str, Any] | None:
    """The least time of a frame on the target by `measure.roofline`, labelled an estimate; None where no hardware is
    described."""
    from edgeattn.lint.reading import read
    from edgeattn.lint.work import work
    from edgeattn.measure.roofline import on

    hardware = context.target.hardware
    if hardware is None:
        return None
    found = work(read(graph.path / "model.onnx"))
    bound = on(hardware, found.least_macs, found.weights_bytes, found.io_bytes)
    # Of frames of several sizes the first one, as for latencies.
    return bound.of_frame(len(checks.timed_frames(context)[0])).to_dict()


def select(state: Run, rows: Sequence[Row]) -> Selection:
    """The first of FP16, INT8 and FP32 whose emulated accuracy is inside the budget; the device judges latency."""
    limits = replace(state.limits, latency_p99_ms_max=None)
    why: list[str] = []
    inside = []
    for row in rows:
        missed = misses(row.candidate(), limits)
        why += [f"{sentence}." for sentence in missed]
        if not missed:
            inside.append(row.variant)
    chosen = next((name for name in _PREFERRED if name in inside), None)
    if chosen is None:
        return Selection(None, (*why, "No variant is inside the budget, by emulation."))
    if chosen != "int8" and "int8" in inside:
        why.append(
            f"Whether int8 is faster than {chosen} must be measured on the device; by emulation it is accurate enough."
        )
    if state.limits.latency_p99_ms_max is not None:
        why.append(f"The limit of {state.limits.latency_p99_ms_max:g} ms is judged on the device.")
    return Selection(chosen, (*why, f"{chosen} is inside the budget by emulation; its engine is built on the device."))
