"""`edgeattn run`: a bundle on images or video."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeattn.cli.options import json_option

if TYPE_CHECKING:
    from edgeattn.tasks.base import Result


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--source", required=True, help="An image, a folder of images, or a video file.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write the overlays: a file, or a folder for several images."
)
@click.option(
    "--key", type=click.Path(path_type=Path), help="Public key (PEM): refuse a bundle its owner did not sign."
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the engine [default: all].")
@json_option
def command(bundle: Path, source: str, out: Path | None, key: Path | None, threads: int | None, as_json: bool) -> None:
    """Run BUNDLE on every frame of a source and print the results; with --out, write them drawn on the frames.

    A model of two frames, as those that align, gets each frame together with the one before it, the first one with
    itself; its result is drawn on the later one.

    \b
    Examples:
      edgeattn run digit_scenes-cpu.edgeattn --source photo.jpg
      edgeattn run digit_scenes-cpu.edgeattn --source photos/ --out overlays/
      edgeattn run digit_scenes-cpu.edgeattn --source photos/ --json | jq .confidence
    """
    from edgeattn import runtime
    from edgeattn.runtime.run import json_line, line, run
    from edgeattn.runtime.sources import quiet_opencv
    from edgeattn.runtime.ticker import Ticker

    def emit(name: str, result: Result) -> None:
        click.echo(json_line(name, result) if as_json else line(name, result))

    quiet_opencv()
    with Ticker(patience_s=2.0) as progress:
        model = runtime.load(bundle, key=key, threads=threads, progress=progress)
    with model:
        for note in model.notes:
            click.echo(f"note: {note}", err=True)
        run(model, source, emit, out=out)
