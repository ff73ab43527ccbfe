"""The body of `deploy` and of the commands that end at an earlier stage."""

from __future__ import annotations

import os
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from edgeattn.artifact import Stage, Store
from edgeattn.cli import summary
from edgeattn.cli.console import RunConsole
from edgeattn.cli.options import data_root, echo_json, host_options, run_options
from edgeattn.errors import InputError, StorageError
from edgeattn.recipe import load_recipe, load_target
from edgeattn.remote.host import Host


def stage_command(stage: Stage, name: str, description: str) -> click.Command:
    """A command that runs every stage up to `stage`, in the same store as `deploy`."""

    @click.command(name=name, help=description)
    @run_options
    def command(**options: Any) -> None:
        sys.exit(run_until(stage, **options))

    # Options may be added to a finished command as well: the stages before make nothing that is for a machine.
    return host_options(command) if stage in (Stage.COMPILE, Stage.BUNDLE) else command


def run_until(
    stage: Stage,
    *,
    recipe: str,
    target: str,
    out: Path | None,
    store: Path,
    overrides: tuple[str, ...],
    seed: int | None,
    force: bool,
    sign_key: Path | None,
    as_json: bool,
    verbose: bool,
    quiet: bool,
    host: str | None = None,
    host_python: str = "python3",
    ssh_options: tuple[str, ...] = (),
    twice: bool = False,
) -> int:
    """Validate everything first, run, write the report, print the closing summary; returns the exit code."""
    from edgeattn import pipeline, report
    from edgeattn.pipeline.context import Context
    from edgeattn.pipeline.validate import validate
    from edgeattn.report.schema import plain

    chosen = load_recipe(recipe, overrides, seed)
    device = load_target(target)
    remote = _remote(host, host_python, ssh_options, twice)
    folder = out or Path("reports") / f"{chosen.name}-{device.name}" / f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}"
    # What the run itself unpacks of bundles stays in the store, not in the home folder.
    os.environ.setdefault("EDGEATTN_CACHE", str(store / "cache"))
    with RunConsole(quiet=quiet or as_json, verbose=verbose) as console:
        context = Context(
            recipe=chosen,
            target=device,
            store=Store(store, on_wait=console.note),
            data_root=data_root(),
            progress=console.progress,
            force=force,
            sign_key=sign_key,
            remote=remote,
            twice=twice,
        )
        validate(context, stage)
        check_writable(store, folder)
        result = pipeline.run(context, console.row, until=stage)
    result["command"] = _command_line(recipe, target, overrides, seed, stage, host, twice)
    bundle = _copy_bundle(result, folder)
    report.render(result, folder)
    if as_json:
        echo_json(plain(result))  # JSON knows no NaN
    else:
        summary.show(result, folder, bundle)
    return 0 if result["verdict"]["passed"] else 1


def check_writable(*folders: Path) -> None:
    """Raise StorageError now rather than after a long training."""
    for folder in folders:
        try:
            # Probed without making it: bad input found later must leave nothing behind.
            existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
            with tempfile.TemporaryFile(dir=existing):
                pass
        except OSError as error:
            raise StorageError(
                f"{folder} cannot be written ({error.strerror}); choose a writable folder with --store or --out."
            ) from error


def _copy_bundle(result: dict[str, Any], folder: Path) -> Path | None:
    if not result["bundle"]:
        return None
    from edgeattn.artifact import write_atomic

    source = Path(result["bundle"]["path"])
    copy = folder / source.name
    write_atomic(copy, source.read_bytes())
    result["bundle"]["path"] = str(copy)
    return copy


def _remote(host: str | None, python: str, ssh_options: tuple[str, ...], twice: bool) -> Host | None:
    if host is not None:
        return Host(host, ssh_options, python)
    if twice:
        raise InputError(
            "--twice is for engines that another machine compiles; name it with --host USER@DEVICE, or on that machine "
            "use: python -m edgeattn.runtime build BUNDLE --twice."
        )
    if ssh_options or python != "python3":
        raise InputError("--ssh-option and --host-python are for another machine; name it with --host USER@DEVICE.")
    return None


def _command_line(
    recipe: str,
    target: str,
    overrides: tuple[str, ...],
    seed: int | None,
    stage: Stage,
    host: str | None,
    twice: bool,
) -> str:
    import shlex

    name = "deploy" if stage is Stage.BUNDLE else stage.value
    words = ["edgeattn", name, recipe, "--target", target]
    if host is not None:
        words += ["--host", host]
    if twice:
        words += ["--twice"]
    for override in overrides:
        words += ["--set", override]
    if seed is not None:
        words += ["--seed", str(seed)]
    return shlex.join(words)
