"""`edgeattn zoo`: many recipes through every stage, then one table and one page of pictures of them all."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from edgeattn.cli.options import deploy_options, echo_json
from edgeattn.cli.pages import check_place, write_pages
from edgeattn.errors import InputError, MachineError, RecipeError
from edgeattn.recipe import PIPELINES, load_recipe, load_target, recipe_names
from edgeattn.report.zoo import BEGIN, BEGIN_WHOLE, END

SCHEMA = "edgeattn.zoo/1"

_PREFIX = "scenes_"
_LAUNCH = "from edgeattn.cli import main; main()"
_INTERRUPTED = 130
_DONE = (0, 1)  # the exit codes of a deployment that has a verdict
_PATIENCE_S = 10.0  # how long an interrupted deployment may take to end by itself


@dataclass(frozen=True)
class Ended:
    """How one deployment ended. `report`: its report.json; None when it wrote none, whatever lies there."""

    code: int
    report: Path | None

    def to_dict(self) -> dict[str, Any]:
        report = None if self.report is None else str(self.report)
        return {"exit_code": self.code, "verdict": _verdict(self.report), "report": report}


@click.command()
@click.argument("recipes", nargs=-1)
@click.option("--out", type=click.Path(path_type=Path), default=Path("reports/zoo"), show_default=True)
@deploy_options
@click.option(
    "--into",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help=f"Also put a shorter table into this Markdown file, between its lines '{BEGIN}' (or, for all columns, "
    f"'{BEGIN_WHOLE}') and '{END}'; repeatable.",
)
@click.option("--pages", is_flag=True, help="Deploy nothing: table and gallery of the reports that lie in OUT.")
def command(
    recipes: tuple[str, ...], out: Path, into: tuple[Path, ...], pages: bool, as_json: bool, **options: Any
) -> None:
    """Deploy RECIPES one after the other (by default every model family on the embedded scenes).

    Writes OUT/<recipe>/report.* for each, OUT/README.md with one table and OUT/gallery.html with their pictures; both
    hold every report below OUT. They stay as they are when no recipe came to a verdict, the files of --into also when
    one of RECIPES left no report. The exit code is the worst of all.

    \b
    Examples:
      edgeattn zoo
      EDGEATTN_DATA=~/data edgeattn zoo drive bccd --out reports/zoo
      edgeattn zoo --pages --into README.md
    """
    for path in into:
        check_place(path)
    if pages:
        _only_pages(recipes, out, into, as_json)
        return
    chosen = _chosen(recipes)
    # Nothing may be deployed, and no page written, before all of them are known to be right.
    load_target(options["target"])
    for name in chosen:
        load_recipe(name, options["overrides"], options["seed"])
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give --out a folder for the reports.")
    ended = _deploy_all(chosen, out, _arguments(**options, silent=as_json), as_json)
    if any(one.code == _INTERRUPTED for one in ended.values()):
        sys.exit(_INTERRUPTED)
    written = _pages_of_this_run(out, ended, into)
    if as_json:
        _echo(ended, written)
    else:
        failed = [name for name, one in ended.items() if one.code]
        click.echo(
            f"\n{len(ended) - len(failed)} of {len(ended)} passed" + (": not " if failed else "") + ", ".join(failed)
        )
        _list(written)
    sys.exit(max(one.code for one in ended.values()))


def _chosen(recipes: Sequence[str]) -> list[str]:
    """Each once; by default the embedded ones. Raises RecipeError for a name that there is no file for."""
    known = recipe_names()
    chosen = list(dict.fromkeys(recipes)) or ["digit_scenes", *(name for name in known if name.startswith(_PREFIX))]
    if unknown := [name for name in chosen if name not in known]:
        raise RecipeError(f"There is no recipe '{unknown[0]}' in {PIPELINES}/; `edgeattn recipes` lists them.")
    return chosen


def _only_pages(recipes: tuple[str, ...], out: Path, into: tuple[Path, ...], as_json: bool) -> None:
    if recipes:
        raise InputError("--pages shows every report that lies in OUT; name no recipes with it.")
    written = write_pages(out, into=into)
    if not written:
        raise InputError(f"There is no report in {out} (looked for {out}/*/report.json); deploy with `edgeattn zoo`.")
    if as_json:
        _echo({}, written)
    else:
        _list(written)


def _arguments(
    target: str,
    store: Path,
    overrides: tuple[str, ...],
    seed: int | None,
    force: bool,
    verbose: bool,
    quiet: bool,
    silent: bool,
) -> list[str]:
    """What every deployment is told."""
    told = ["--target", target, "--store", str(store)]
    for override in overrides:
        told += ["--set", override]
    told += [] if seed is None else ["--seed", str(seed)]
    flags = {"--force": force, "--verbose": verbose and not silent, "--quiet": quiet or silent}
    return told + [flag for flag, given in flags.items() if given]


def _deploy_all(chosen: Sequence[str], out: Path, arguments: list[str], silent: bool) -> dict[str, Ended]:
    """How each recipe's deployment ended; Ctrl-C ends the whole, not one of them."""
    ended: dict[str, Ended] = {}
    for number, name in enumerate(chosen, start=1):
        if not silent:
            click.echo(f"\n[{number}/{len(chosen)}] {name}")
        before = _stamp(out / name)
        code = _deploy(name, out / name, arguments, silent)
        after = _stamp(out / name)
        # A report that still lies there is an earlier run's.
        ended[name] = Ended(code, out / name / "report.json" if after not in (None, before) else None)
        if code == _INTERRUPTED:
            break
    return ended


def _stamp(folder: Path) -> tuple[int, int] | None:
    """What changes when a report is written again; None when there is none."""
    try:
        found = (folder / "report.json").stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def _deploy(name: str, out: Path, arguments: list[str], silent: bool) -> int:
    """The exit code of `edgeattn deploy`, in a process of its own; `silent` drops what it prints but errors.

    What one training leaves in memory must not meet the next one's measurements.
    """
    command_line = [sys.executable, "-c", _LAUNCH, "deploy", name, "--out", str(out), *arguments]
    sys.stdout.flush()  # or what was said here would come after what the deployment says
    with subprocess.Popen(command_line, stdout=subprocess.DEVNULL if silent else None) as process:
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


def _pages_of_this_run(out: Path, ended: Mapping[str, Ended], into: tuple[Path, ...]) -> list[Path]:
    """What was written: nothing when no recipe came to a verdict; nothing of `into` when one left no report.

    OUT's own page names those below its table; the pages of `into` have no room for that, and would lose rows.
    """
    if not any(one.code in _DONE for one in ended.values()):
        return []
    silent = {name: f"exit code {one.code}" for name, one in ended.items() if one.report is None}
    if silent and into:
        files, names = ", ".join(map(str, into)), ", ".join(silent)
        click.echo(f"left as it is: {files} (no report of this run: {names})", err=True)
    return write_pages(out, silent, () if silent else into)


def _verdict(report: Path | None) -> dict[str, Any] | None:
    """`verdict` of the report; None where there is no report that can be read."""
    from edgeattn.report import load

    try:
        return None if report is None else dict(load(report)["verdict"])
    except InputError:
        return None


def _echo(ended: Mapping[str, Ended], written: Sequence[Path]) -> None:
    recipes = {name: one.to_dict() for name, one in ended.items()}
    echo_json({"schema": SCHEMA, "recipes": recipes, "pages": [str(path) for path in written]})


def _list(written: Sequence[Path]) -> None:
    for path in written:
        click.echo(path)
