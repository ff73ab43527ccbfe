"""`edgeattn doctor`: what this machine can do, and what it lacks."""

from __future__ import annotations

import importlib

import click

from edgeattn import backends, host
from edgeattn.board import describe_device, in_words
from edgeattn.cli.options import data_root, echo_json, json_option


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Say what this machine is, which backends work here and in which precisions, and where data is looked for.

    \b
    Example:
      edgeattn doctor
    """
    facts = {**host.describe(), "device": describe_device() or {}}
    state = {}
    for name in backends.names():
        module = importlib.import_module(f"edgeattn.backends.{name}")
        reason = module.missing()
        native = module.precisions() if reason is None and hasattr(module, "precisions") else []
        state[name] = {"usable": reason is None, "reason": reason, "precisions": native}
    root = data_root()
    data = {"path": str(root), "exists": root.is_dir()}
    if as_json:
        echo_json({"host": facts, "backends": state, "data": data})
        return
    click.echo(f"cpu      {facts['cpu']}, {facts['cores']} cores, {facts['memory_gb']} GB")
    click.echo(f"isa      {' '.join(facts['isa']) or 'unknown'}")
    click.echo(f"system   {facts['os']}, Python {facts['python']}")
    if device := facts["device"]:
        click.echo(f"board    {in_words(device)}")
    click.echo(f"data     {root} ({'found' if data['exists'] else 'not there; set EDGEATTN_DATA'})")
    for name, entry in state.items():
        precisions = f" ({', '.join(entry['precisions'])})" if entry["precisions"] else ""
        click.echo(f"{name:<12} {'usable' + precisions if entry['usable'] else entry['reason']}")
