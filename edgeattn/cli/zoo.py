"""`edgeattn zoo`: many recipes through every stage, then one table and one page of pictures of them all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from edgeattn.artifact import write_atomic
from edgeattn.errors import InputError, MachineError, RecipeError
from edgeattn.recipe import PIPELINES, recipe_names
from edgeattn.report.zoo import BEGIN, BRIEF, END, placed

_PREFIX = "scenes_"
_LAUNCH = "from edgeattn.cli import main; main()"
_INTERRUPTED = 130
_PATIENCE_S = 10.0  # how long an interrupted deployment may take to end by itself


@click.command()
@click.argument("recipes", nargs=-1)
@click.option("--target", default="cpu", show_default=True, help="A device of `edgeattn targets`.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("reports/zoo"), show_default=True)
@click.option("--store", type=click.Path(path_type=Path), default=Path(".edgeattn"), show_default=True)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Any recipe field, for all recipes.")
@click.option(
    "--into",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help=f"Also put a shorter table into this Markdown file, between its lines '{BEGIN}' and '{END}'; repeatable.",
)
@click.option("--pages", is_flag=True, help="Deploy nothing: table and gallery of the reports that lie in OUT.")
def command(
    recipes: tuple[str, ...],
    target: str,
    out: Path,
    store: Path,
    overrides: tuple[str, ...],
    into: tuple[Path, ...],
    pages: bool,
) -> None:
    """Deploy RECIPES one after the other (by default every model family on the embedded scenes).

    Writes OUT/<recipe>/report.* for each, OUT/README.md with one table and OUT/gallery.html with their pictures; both
    hold every report below OUT. The exit code is the worst of all.

    \b
    Examples:
      edgeattn zoo
      EDGEATTN_DATA=~/data edgeattn zoo drive bccd --out reports/zoo
      edgeattn zoo --pages --into README.md
    """
    for path in into:
        _check_place(path)
    if pages:
        sys.exit(_only_pages(recipes, out, into))
    known = recipe_names()
    chosen = list(dict.fromkeys(recipes)) or ["digit_scenes", *(name for name in known if name.startswith(_PREFIX))]
    if unknown := [name for name in chosen if name not in known]:
        raise RecipeError(f"There is no recipe '{unknown[0]}' in {PIPELINES}/; `edgeattn recipes` lists them.")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give --out a folder for the reports.")
    codes, silent = {}, {}
    for number, name in enumerate(chosen, start=1):
        click.echo(f"\n[{number}/{len(chosen)}] {name}")
        before = _stamp(out / name)
        codes[name] = _deploy(name, target, out / name, store, overrides)
        if codes[name] == _INTERRUPTED:  # Ctrl-C ends the whole, not one of them
            sys.exit(_INTERRUPTED)
        if _stamp(out / name) == before:  # a report that still lies there is an earlier run's
            silent[name] = f"exit code {codes[name]}"
    written = write_pages(out, silent, into)
    failed = [name for name, code in codes.items() if code]
    click.echo(f"\n{len(chosen) - len(failed)} of {len(chosen)} passed{': not ' + ', '.join(failed) if failed else ''}")
    for path in written:
        click.echo(path)
    sys.exit(max(codes.values()))


def _check_place(path: Path) -> None:
    if placed(_text(path), "") is None:
        raise InputError(f"{path} lacks the line '{BEGIN}' or, below it, '{END}'; add both where the table belongs.")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8, or give another file with --into."
        ) from error


def _only_pages(recipes: tuple[str, ...], out: Path, into: tuple[Path, ...]) -> int:
    if recipes:
        raise InputError("--pages shows every report that lies in OUT; name no recipes with it.")
    written = write_pages(out, {}, into)
    if not written:
        raise InputError(f"There is no report in {out} (looked for {out}/*/report.json); deploy with `edgeattn zoo`.")
    for path in written:
        click.echo(path)
    return 0


def _stamp(folder: Path) -> tuple[int, int] | None:
    """What changes when a report is written again; None when there is none."""
    try:
        found = (folder / "report.json").stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def _deploy(name: str, target: str, out: Path, store: Path, overrides: tuple[str, ...]) -> int:
    """The exit code of `edgeattn deploy`, in a process of its own.

    What one training leaves in memory must not meet the next one's measurements.
    """
    command_line = [sys.executable, "-c", _LAUNCH, "deploy", name, "--target", target]
    command_line += ["--out", str(out), "--store", str(store)]
    for override in overrides:
        command_line += ["--set", override]
    sys.stdout.flush()  # or what was said here would come after what the deployment says
    with subprocess.Popen(command_line) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            _end(process)
            return _INTERRUPTED
    if code == -signal.SIGINT:
        return _INTERRUPTED
    if code < 0:
        click.echo(f"{name} was ended by signal {-code}; often the system does so for want of memory.", err=True)
        return MachineError.exit_code
    return code


def _end(process: subprocess.Popen[bytes]) -> None:
    """Waits for an interrupted deployment, which a terminal interrupts too; tells it when it was not."""
    try:
        process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        process.wait()


def write_pages(out: Path, silent: Mapping[str, str] | None = None, into: tuple[Path, ...] = ()) -> list[Path]:
    """OUT/README.md and OUT/gallery.html from every OUT/*/report.json, and the table in `into`; nothing without one.

    `silent` names folders whose report is not this run's, each with the reason: they are named below the table.
    A report that cannot be read is named there too.
    """
    from edgeattn import report
    from edgeattn.report.zoo import gallery, left_out, table

    missing, found = dict(silent or {}), {}
    for path in sorted(out.glob("*/report.json")):
        name = path.parent.name
        if name in missing:
            continue
        try:
            found[name] = report.load(path)
        except InputError as error:
            missing[name] = str(error)
    if not found:
        return []
    heading = "# Every system, from PyTorch to the engine that ships\n\n"
    text = f"{heading}Made by `edgeattn zoo`; figures as in each report. [Pictures](gallery.html).\n\n{table(found)}"
    write_atomic(out / "README.md", text + left_out(missing))
    write_atomic(out / "gallery.html", gallery(found))
    for path in into:
        base = Path(os.path.relpath(out.resolve(), path.resolve().parent)).as_posix() + "/"
        document = placed(_text(path), table(found, BRIEF, base))
        write_atomic(path, str(document))
    return [out / "README.md", out / "gallery.html", *into]
