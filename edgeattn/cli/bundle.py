"""`edgeattn bundle`: the pipeline up to its bundle stage."""

from __future__ import annotations

from edgeattn.artifact import Stage
from edgeattn.cli.stages import stage_command

command = stage_command(
    Stage.BUNDLE,
    "bundle",
    """All stages up to the bundle; the same as deploy.

    \b
    Example:
      edgeattn bundle digit_scenes --target cpu
    """,
)
