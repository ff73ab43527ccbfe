"""The target's own rules as a gate: no graph is built that they say would be refused or compute something else."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from edgeattn.artifact import Artifact
from edgeattn.errors import ModelError
from edgeattn.pipeline import stages
from edgeattn.pipeline.context import Context


def measured(context: Context, exported: Artifact) -> Path | None:
    """`stages.ranges`; None where the target has no rules, or the graph cannot be run, which its rows say."""
    if context.target.tensorrt is None:
        return None
    try:
        return stages.ranges(context, exported).path / stages.RANGES
    except ModelError:
        return None


def refusal(context: Context, graph: Artifact, ranges: Path | None) -> tuple[str | None, tuple[str, ...]]:
    """Why the target would refuse `graph` or compute something else (None when it would not), and notes on the rest.

    `ranges`: the file of the FP32 graph's, by which FP16 is judged.
    """
    from edgeattn.lint import lint
    from edgeattn.lint.base import Severity, rules_for
    from edgeattn.lint.reading import read

    span = context.target.tensorrt
    if span is None:
        return None, ()
    path = graph.path / "model.onnx"
    command = ["edgeattn", "inspect", str(path), "--target", context.target.name]
    again = shlex.join(command + (["--ranges", str(ranges)] if ranges else []))
    model, reached = read(path), json.loads(ranges.read_text()) if ranges else {}
    notes = []
    for version in dict.fromkeys(version for version in (span.min, span.max) if version):
        found = lint(model, rules_for(context.target, version), reached)
        errors = [finding for finding in found if finding.severity is Severity.ERROR]
        if errors:
            more = f" {len(errors) - 1} more: {again}" if len(errors) > 1 else ""
            return f"TensorRT {version} would refuse it or compute something else: {errors[0].sentence()}{more}", ()
        if warnings := [finding for finding in found if finding.severity is Severity.WARNING]:
            rules = ", ".join(sorted({finding.rule for finding in warnings}))
            notes.append(f"TensorRT {version}: {len(warnings)} warning(s) ({rules}); see {again}")
    return None, tuple(notes)
