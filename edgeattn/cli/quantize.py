"""`edgeattn quantize`: the pipeline up to its quantize stage."""

from __future__ import annotations

from edgeattn.artifact import Stage
from edgeattn.cli.stages import stage_command

command = stage_command(
    Stage.QUANTIZE,
    "quantize",
    """Train, export, then make the FP16 and INT8 graphs and check their drift.

    \b
    Example:
      edgeattn quantize digit_scenes --target cpu
    """,
)
