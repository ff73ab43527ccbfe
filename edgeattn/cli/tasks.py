"""`edgeattn tasks`: what a model can be asked to do."""

from __future__ import annotations

import click

from edgeattn import tasks
from edgeattn.cli.options import echo_json, json_option


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List the tasks with their metrics; budgets count in the first unless a recipe names another.

    \b
    Example:
      edgeattn tasks
    """
    found = {name: tasks.find(name).metrics for name in tasks.names()}
    if as_json:
        echo_json(
            {
                name: {
                    "metric": metrics[0].name,
                    "unit": metrics[0].unit,
                    "metrics": [
                        {"name": m.name, "unit": m.unit, "higher_is_better": m.higher_is_better} for m in metrics
                    ],
                }
                for name, metrics in found.items()
            }
        )
        return
    for name, metrics in found.items():
        words = (
            f"{m.name} ({m.unit or '0 to 1'}, {'higher' if m.higher_is_better else 'lower'} is better)" for m in metrics
        )
        click.echo(f"{name:<10} {', '.join(words)}")
