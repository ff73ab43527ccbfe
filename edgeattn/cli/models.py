"""`edgeattn models`: the networks a recipe can name."""

from __future__ import annotations

import dataclasses

import click

from edgeattn.cli.options import echo_json, json_option


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List the networks with their task and settings.

    \b
    Example:
      edgeattn models
    """
    from edgeattn import models

    found = {name: models.find(name) for name in models.names()}
    settings = {name: dataclasses.asdict(module.Settings()) for name, module in found.items()}
    if as_json:
        echo_json({name: {"task": found[name].TASK, "settings": settings[name]} for name in found})
        return
    for name, module in found.items():
        fields = ", ".join(f"{key}={value}" for key, value in settings[name].items())
        click.echo(f"{name:<16} {module.TASK:<10} {fields}")
