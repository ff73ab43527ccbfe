"""`edgeattn compile`: the pipeline up to its compile stage."""

from __future__ import annotations

from edgeattn.artifact import Stage
from edgeattn.cli.stages import stage_command

command = stage_command(
    Stage.COMPILE,
    "compile",
    """All stages up to the engines, each checked for drift and latency.

    \b
    Example:
      edgeattn compile digit_scenes --target cpu
    """,
)
