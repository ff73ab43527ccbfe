"""`edgeattn zoo`: many recipes through every stage, and one table of all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click

from edgeattn.artifact import write_atomic
from edgeattn.errors import RecipeError
from edgeattn.recipe import PIPELINES, recipe_names

_PREFIX = "scenes_"
_LAUNCH = "from edgeattn.cli import main; main()"


@click.command()
@click.argument("recipes", nargs=-1)
@click.option("--target", default="cpu", show_default=True, help="A device of `edgeattn targets`.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("reports/zoo"), show_default=True)
@click.option("--store", type=click.Path(path_type=Path), default=Path(".edgeattn"), show_default=True)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Any recipe field, for all recipes.")
def command(recipes: tuple[str, ...], target: str, out: Path, store: Path, overrides: tuple[str, ...]) -> None:
    """Deploy RECIPES one after the other (by default every model family on the embedded scenes).

    Writes OUT/<recipe>/report.* for each and OUT/README.md with one table. The exit code is the worst of all.

    \b
    Examples:
      edgeattn zoo
      EDGEATTN_DATA=~/data edgeattn zoo drive bccd --out reports/zoo
    """
    chosen = list(recipes) or ["digit_scenes", *(name for name in recipe_names() if name.startswith(_PREFIX))]
    if unknown := [name for name in chosen if name not in recipe_names()]:
        raise RecipeError(f"There is no recipe '{unknown[0]}' in {PIPELINES}/; `edgeattn recipes` lists them.")
    codes = {}
    for number, name in enumerate(chosen, start=1):
        click.echo(f"\n[{number}/{len(chosen)}] {name}")
        codes[name] = _deploy(name, target, out / name, store, overrides)
        if codes[name] == 130:  # Ctrl-C ends the whole, not one of them
            sys.exit(130)
    write_table(out)
    failed = [name for name, code in codes.items() if code]
    click.echo(f"\n{len(chosen) - len(failed)} of {len(chosen)} passed{': not ' + ', '.join(failed) if failed else ''}")
    click.echo(out / "README.md")
    sys.exit(max(codes.values()))


def _deploy(name: str, target: str, out: Path, store: Path, overrides: tuple[str, ...]) -> int:
    # A process each: what one training leaves in memory does not meet the next one's measurements.
    command_line = [sys.executable, "-c", _LAUNCH, "deploy", name, "--target", target]
    command_line += ["--out", str(out), "--store", str(store)]
    for override in overrides:
        command_line += ["--set", override]
    try:
        return subprocess.run(command_line, env=os.environ, check=False).returncode
    except KeyboardInterrupt:
        return 130


def write_table(out: Path) -> None:
    """OUT/README.md from every OUT/*/report.json."""
    from edgeattn import report
    from edgeattn.report.zoo import table

    found = {path.parent.name: report.load(path.parent) for path in sorted(out.glob("*/report.json"))}
    links = {str(values["recipe"]): f"{name}/report.md" for name, values in found.items()}
    heading = "# Every system, from PyTorch to the engine that ships\n\n"
    text = f"{heading}Made by `edgeattn zoo`; figures as in each report.\n\n{table(list(found.values()), links)}"
    write_atomic(out / "README.md", text)
