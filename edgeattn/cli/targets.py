"""`edgeattn targets`: the devices a recipe can be deployed to."""

from __future__ import annotations

import click

from edgeattn.cli import datasheet
from edgeattn.cli.options import echo_json, json_option
from edgeattn.recipe import load_target, target_names


@click.command()
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List the targets with their backend, precisions and versions; of NAME show everything.

    Peaks are those of dense arithmetic; what its maker does not publish is not stated.

    \b
    Examples:
      edgeattn targets
      edgeattn targets jetson
    """
    targets = {each: load_target(each) for each in ([name] if name else target_names())}
    if as_json:
        shown = {each: datasheet.values(target) for each, target in targets.items()}
        echo_json(shown[name] if name else shown)
    elif name:
        click.echo("\n".join(datasheet.page(targets[name])))
    else:
        click.echo("\n".join(datasheet.line(each, target) for each, target in targets.items()))
