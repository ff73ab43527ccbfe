"""`edgeattn weights`: keep a run's trained network, so that others deploy it without training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import click

from edgeattn.artifact import WEIGHT_FILES, sha256_file, write_atomic
from edgeattn.errors import InputError

PROVENANCE = "provenance.json"


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Such as pipelines/weights/NAME.")
@click.option("--licence", required=True, help="What the training data's licence is, and what it means for weights.")
def command(run_dir: Path, out: Path, licence: str) -> None:
    """Copy the network that the run in RUN_DIR trained into OUT, with where it comes from.

    A recipe with `weights: OUT` takes it instead of training.

    \b
    Example:
      edgeattn weights reports/zoo/drive --out pipelines/weights/drive --licence "DRIVE: research use"
    """
    from edgeattn import report

    found = report.load(run_dir)
    row = next((r for r in found["rows"] if r["stage"] == "train" and r["artifact"]), None)
    if row is None:
        raise InputError(f"The run in {run_dir} trained nothing; give the folder of a run of `deploy` or `train`.")
    source = Path(row["artifact"]["path"])
    if missing := [name for name in WEIGHT_FILES if not (source / name).is_file()]:
        raise InputError(
            f"{source} of the run in {run_dir} lacks {missing[0]}; run the command in its report again with its store."
        )
    out.mkdir(parents=True, exist_ok=True)
    for name in WEIGHT_FILES:
        temporary = out / f".{name}.tmp"
        shutil.copyfile(source / name, temporary)
        temporary.replace(out / name)
    write_atomic(out / PROVENANCE, json.dumps(_provenance(found, row, out, licence), indent=1) + "\n")
    click.echo(out)


def _provenance(found: Any, row: dict[str, Any], out: Path, licence: str) -> dict[str, Any]:
    return {
        "schema": "edgeattn.weights/1",
        "recipe": found["recipe"],
        "command": found.get("command"),
        "git": found["git"],
        "created": found["created"],
        "seed": found["seed"],
        "data": found["data"],
        "licence": licence,
        "metric": row["metric"],
        "training_seconds": (found.get("training") or {}).get("seconds"),
        "host": {key: found["host"][key] for key in ("cpu", "cores", "python")},
        "files": {name: sha256_file(out / name) for name in WEIGHT_FILES},
    }
