"""Options that several commands share."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output, alone.")


def data_root() -> Path:
    """Where data sets are looked for: $EDGEATTN_DATA, else `data/`."""
    return Path(os.environ.get("EDGEATTN_DATA") or "data")


def deploy_options(command: F) -> F:
    """The common options of docs/contract.md that one deployment takes as well as many."""
    return _decorated(
        command,
        click.option("--target", default="cpu", show_default=True, help="The device; see: edgeattn targets."),
        click.option(
            "--store",
            type=click.Path(path_type=Path),
            default=Path(".edgeattn"),
            show_default=True,
            help="Where artifacts are kept.",
        ),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Any recipe field; repeatable."),
        click.option("--seed", type=click.IntRange(min=0), help="Seed of data, training and statistics."),
        click.option("--force", is_flag=True, help="Make everything again, also what is unchanged."),
        json_option,
        click.option("-v", "--verbose", is_flag=True, help="Every step on a line of its own."),
        click.option("-q", "--quiet", is_flag=True, help="Only errors and the result."),
    )


def run_options(command: F) -> F:
    """The common options of docs/contract.md for whatever runs stages of one recipe."""
    return _decorated(
        command,
        click.argument("recipe"),
        click.option(
            "--out", type=click.Path(path_type=Path), help="Report folder [default: reports/RECIPE-TARGET/TIME/]."
        ),
        deploy_options,
        click.option(
            "--sign", "sign_key", type=click.Path(path_type=Path), help="Private key (Ed25519, PEM): sign the bundle."
        ),
    )


def host_options(command: F) -> F:
    """Where engines are compiled and measured, when it is not here."""
    return _decorated(
        command,
        click.option(
            "--host",
            metavar="USER@DEVICE",
            help="Compile, prove and measure on this machine, over ssh. Keys only; its host key must be known.",
        ),
        click.option(
            "--host-python",
            default="python3",
            show_default=True,
            metavar="PATH",
            help="The Python there that has NumPy, OpenCV and the engine's library; '~/' is the home folder there.",
        ),
        click.option(
            "--ssh-option",
            "ssh_options",
            multiple=True,
            metavar="KEY=VALUE",
            help="As ssh -o, such as Port=2222; repeatable. What is always so goes into ~/.ssh/config.",
        ),
        click.option("--twice", is_flag=True, help="Compile each engine a second time there: how far do they differ?"),
    )


def _decorated(command: F, *decorators: Callable[[F], F]) -> F:
    """`command` as if the decorators stood above it in this order."""
    for decorator in reversed(decorators):
        command = decorator(command)
    return command


def echo_json(value: Any) -> None:
    """Print a command's result for another program to read: in ASCII, which every terminal and locale can take."""
    click.echo(json.dumps(value, indent=1))
