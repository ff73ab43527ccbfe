"""`edgeattn train`: the pipeline up to its train stage."""

from __future__ import annotations

from edgeattn.artifact import Stage
from edgeattn.cli.stages import stage_command

command = stage_command(
    Stage.TRAIN,
    "train",
    """Train the recipe's network and check it on the evaluation split.

    \b
    Example:
      edgeattn train digit_scenes --target cpu
    """,
)
