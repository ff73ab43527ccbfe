"""`edgeattn report`: render a run's pages again from its JSON."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Where to write [default: the run's own folder].")
def command(run_dir: Path, out: Path | None) -> None:
    """Write report.html, report.md and junit.xml from RUN_DIR/report.json.

    \b
    Example:
      edgeattn report reports/digit_scenes-cpu
    """
    from edgeattn import report

    folder = out or (run_dir if run_dir.is_dir() else run_dir.parent)
    for path in report.render(report.load(run_dir), folder):
        click.echo(path)
