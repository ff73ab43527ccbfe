"""`edgeattn calibration`: a recipe's calibration split as real files that can be read, reviewed and committed."""

from __future__ import annotations

from pathlib import Path

import click

from edgeattn.cli.options import data_root


@click.command()
@click.argument("recipe")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder to write.")
@click.option("--source", default="", help="Where the images come from; recorded in the manifest.")
@click.option("--licence", default="", help="Under which licence; recorded in the manifest.")
def command(recipe: str, out: Path, source: str, licence: str) -> None:
    """Write the calibration images of RECIPE as PNG files with a manifest of their hashes.

    \b
    Example:
      edgeattn calibration digit_scenes --out calibration_data/digit_scenes
    """
    from edgeattn import data
    from edgeattn.data.calibration import write_calibration
    from edgeattn.recipe import load_recipe, parse_settings

    chosen = load_recipe(recipe)
    module = data.find(chosen.data.format)
    fields = {
        **chosen.data.settings,
        **({"calibration_dir": None} if "calibration_dir" in chosen.data.settings else {}),
    }
    settings = parse_settings(module.Settings, fields, f"recipe {chosen.name}, data")
    splits = module.load(settings, data_root(), chosen.seed)
    written = write_calibration(
        splits.calibration,
        splits.labels,
        out,
        name=chosen.name,
        source=source or getattr(module, "SOURCE", ""),
        licence=licence or getattr(module, "LICENCE", ""),
        rebuild=f"edgeattn calibration {recipe} --out {out}",
        settings=getattr(splits.calibration, "settings", None),
    )
    click.echo(written)
