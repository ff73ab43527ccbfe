"""`edgeattn deploy`: from nothing to a verified bundle and a report."""

from __future__ import annotations

from edgeattn.artifact import Stage
from edgeattn.cli.stages import stage_command

command = stage_command(
    Stage.BUNDLE,
    "deploy",
    """Train, export, quantize, compile, select and bundle RECIPE for a target, with a check after every stage.

    RECIPE is a name in pipelines/ or a path to a YAML file. Whatever is unchanged since an earlier run is taken from
    the store; an interrupted run resumes.

    \b
    Examples:
      edgeattn deploy digit_scenes --target cpu
      edgeattn deploy digit_scenes --set train.epochs=20 --set budget.metric_drop_max=0.2
      EDGEATTN_DATA=~/data edgeattn deploy cifar10 --target cpu --out reports/cifar10
      edgeattn deploy digit_scenes --json -q > report.json
      edgeattn deploy digit_scenes --target cpu --host user@box
    """,
)
