"""`edgeattn targets`: the devices a recipe can be deployed to."""

from __future__ import annotations

import click

from edgeattn.cli.options import echo_json, json_option
from edgeattn.recipe import load_target, target_names


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List the targets with their backend and precisions.

    \b
    Example:
      edgeattn targets
    """
    targets = [load_target(name) for name in target_names()]
    if as_json:
        echo_json({target.name: target.model_dump(mode="json") for target in targets})
        return
    for target in targets:
        click.echo(f"{target.name:<24} {target.backend:<12} {', '.join(p.value for p in target.precisions)}")
