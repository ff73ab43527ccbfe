"""`edgeattn verify`: is this bundle whole, genuine and right on this machine?"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from edgeattn.cli.options import echo_json, json_option


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--key", type=click.Path(path_type=Path), help="Public key (PEM): refuse a bundle its owner did not sign."
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the engine [default: all].")
@json_option
def command(bundle: Path, key: Path | None, threads: int | None, as_json: bool) -> None:
    """Check hashes, signature and compatibility of BUNDLE, and run its golden self-test on this machine.

    \b
    Exit codes: 0 right; 1 the self-test failed; 2 not a whole bundle; 3 a library is missing.

    \b
    Examples:
      edgeattn verify digit_scenes-cpu.edgeattn
      edgeattn verify app.edgeattn --key owner.pub.pem --json
    """
    from edgeattn.runtime.ticker import Ticker
    from edgeattn.runtime.verify import verify

    with Ticker(patience_s=2.0) as progress:
        result = verify(bundle, key, threads=threads, progress=progress)
    if as_json:
        echo_json(result.to_dict())
    else:
        for line in result.lines():
            click.echo(line)
    sys.exit(0 if result.passed else 1)
