"""`edgeattn tasks`: what a model can be asked to do."""

from __future__ import annotations

import click

from edgeattn import tasks
from edgeattn.cli.options import echo_json, json_option


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List the tasks with their metric.

    \b
    Example:
      edgeattn tasks
    """
    found = {name: tasks.find(name).metric for name in tasks.names()}
    if as_json:
        echo_json({name: {"metric": metric.name, "unit": metric.unit} for name, metric in found.items()})
        return
    for name, metric in found.items():
        direction = "higher" if metric.higher_is_better else "lower"
        click.echo(f"{name:<10} {metric.name} in {metric.unit}, {direction} is better")
