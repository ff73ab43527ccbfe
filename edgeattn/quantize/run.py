"""Make one variant of an exported graph."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from edgeattn import tasks
from edgeattn.artifact import Precision, sha256_bytes, write_atomic
from edgeattn.backends.base import Tensors
from edgeattn.errors import ModelError
from edgeattn.onnxgraph.file import serialized
from edgeattn.progress import Progress
from edgeattn.quantize import calibration, fp16, int8
from edgeattn.quantize.form import CPU, Form
from edgeattn.recipe import QuantizeSection


def quantize(
    source: Path,
    precision: Precision,
    calls: Sequence[Tensors],
    settings: QuantizeSection,
    out: Path,
    progress: Progress,
    *,
    form: Form = CPU,
    spare_bit: bool = False,
    ranges: Mapping[str, float] | None = None,
) -> None:
    """Write `model.onnx`, `model.json` and `quantization.json` of the variant `precision` into `out`.

    `source` holds the exported graph, `calls` the calibration inputs, batch 1, in any order. `spare_bit` keeps INT8
    weights to 7 bits for CPUs whose 8-bit products saturate. `ranges`: the largest |x| of the graph's tensors
    (`quantize.ranges`), by which FP16 decides what stays FP32. Raises DataError when there are too few frames,
    RecipeError when no setting applies, StageFailed when no setting works, ModelError when a library refuses the graph.
    """
    model = onnx.load(source / "model.onnx")
    if precision is Precision.FP16:
        graph = fp16.to_fp16(model, ranges)
        record = {"setting": "fp16 with fp32 islands", "kept_by": "range and form", "float_nodes": fp16.kept(graph)}
    elif precision is Precision.INT8:
        graph, record = _int8(model, source, calls, settings, progress, form, spare_bit, ranges)
    else:
        raise ModelError(f"There is no quantized graph for {precision.value}; fp16 and int8 have one.")
    write_atomic(out / "model.onnx", serialized(graph))
    write_atomic(out / "quantization.json", json.dumps(record, indent=1, sort_keys=True))
    shutil.copyfile(source / "model.json", out / "model.json")


def _int8(
    model: onnx.ModelProto,
    source: Path,
    calls: Sequence[Tensors],
    settings: QuantizeSection,
    progress: Progress,
    form: Form,
    spare_bit: bool,
    ranges: Mapping[str, float] | None,
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    # The order of the files must not matter: it decides which samples judge, and float sums depend on it.
    ordered = sorted(calls, key=lambda call: sha256_bytes(b"".join(call[name].tobytes() for name in sorted(call))))
    judges = calibration.held_back(len(ordered), settings.search_samples)
    judge, calibrate = ordered[:judges], ordered[judges:]
    tried = int8.candidates(settings.candidates, model.graph, form)
    task = tasks.find(json.loads((source / "model.json").read_text())["task"])
    graph, trials = int8.search(
        model, task, calibrate, judge, tried, progress, form=form, spare_bit=spare_bit, ranges=ranges
    )
    measured = {trial.setting: trial.sqnr_db for trial in trials if trial.sqnr_db is not None}
    chosen = max(measured, key=measured.__getitem__)
    (candidate,) = (candidate for candidate in tried if candidate.name == chosen)
    record = int8.describe(trials, chosen, int8.float_nodes(model, graph, candidate, form), len(calibrate))
    # Of the float rest, where it is FP16: what of it had to stay FP32.
    return graph, {**record, "kept_by": "the attention-safe policy", "fp32_nodes": fp16.kept(graph)}
