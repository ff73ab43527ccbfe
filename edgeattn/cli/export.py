"""`edgeattn export`: the pipeline up to its export stage."""

from __future__ import annotations

from edgeattn.artifact import Stage
from edgeattn.cli.stages import stage_command

command = stage_command(
    Stage.EXPORT,
    "export",
    """Train, then export to ONNX and prove the graph equal to PyTorch.

    \b
    Example:
      edgeattn export digit_scenes --target cpu
    """,
)
