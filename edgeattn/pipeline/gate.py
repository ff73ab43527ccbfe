"""The target's own rules as a gate: no graph is built that they say would be refused or compute something else."""

from __future__ import annotations

from edgeattn.artifact import Artifact
from edgeattn.errors import ModelError
from edgeattn.pipeline import stages


def reached(context: stages.Context, exported: Artifact) -> dict[str, float]:
    """The largest |x| of the FP32 graph's tensors; empty where it cannot be run, which the rows of its graphs say."""
    try:
        found: dict[str, float] = stages.ranges(context, exported).json("ranges.json")
    except ModelError:
        return {}
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
