"""The target's own rules as a gate: no graph is built that they say would be refused or compute something else."""

from __future__ import annotations

import json
from pathlib import Path

from edgeattn.artifact import Artifact, Stage, write_atomic
from edgeattn.pipeline import stages
from edgeattn.provenance import code_version, library_versions

_RANGE_SAMPLES = 32


def ranges(context: stages.Context, exported: Artifact) -> dict[str, float]:
    """The largest |x| of every tensor of the FP32 graph on `_RANGE_SAMPLES` calibration samples."""

    def make(work: Path, out: Path) -> None:
        from edgeattn.quantize.ranges import largest

        calls = stages.prepared(context, context.splits.calibration, _RANGE_SAMPLES)
        found = largest(exported.path / "model.onnx", calls, context.progress)
        write_atomic(out / "ranges.json", json.dumps(found, indent=1))

    inputs = {
        "model": exported.sha256,
        "samples": _RANGE_SAMPLES,
        "calibration": stages.data_record(context).json("data.json")["calibration_sha256"],
        "preprocess": context.preprocess.to_dict(),
        "code": code_version("edgeattn.quantize.ranges", "edgeattn.framing", *stages.backend_modules("onnxruntime")),
        "libraries": library_versions("onnx", "onnxruntime"),
    }
    found: dict[str, float] = context.build(Stage.CHECK, "ranges", inputs, make).json("ranges.json")
    return found


def refusal(context: stages.Context, graph: Artifact, ranges: dict[str, float]) -> tuple[str | None, tuple[str, ...]]:
    """Why the target would refuse `graph` or compute something else (None when it would not), and notes on the rest."""
    from edgeattn.lint import lint
    from edgeattn.lint.base import Rules, Severity, parse_version
    from edgeattn.lint.reading import read

    span = context.target.tensorrt
    if span is None:
        return None, ()
    model = read(graph.path / "model.onnx")
    notes = []
    for version in dict.fromkeys(version for version in (span.min, span.max) if version):
        found = lint(model, Rules(parse_version(version)), ranges)
        errors = [finding for finding in found if finding.severity is Severity.ERROR]
        if errors:
            more = f" ({len(errors) - 1} more)" if len(errors) > 1 else ""
            return f"TensorRT {version} would refuse it or compute something else: {errors[0].sentence()}{more}", ()
        if warnings := [finding for finding in found if finding.severity is Severity.WARNING]:
            rules = ", ".join(sorted({finding.rule for finding in warnings}))
            notes.append(
                f"TensorRT {version}: {len(warnings)} warning(s) ({rules}); see edgeattn inspect MODEL --target "
                f"{context.target.name}"
            )
    return None, tuple(notes)
