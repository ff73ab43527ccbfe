"""`edgeattn weights`: keep a run's trained network, so that others deploy it without training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import click

from edgeattn.artifact import PROVENANCE, WEIGHT_FILES, folder_sha256, sha256_file, write_atomic
from edgeattn.errors import InputError


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Such as pipelines/weights/NAME.")
@click.option("--licence", required=True, help="What the training data's licence is, and what it means for weights.")
def command(run_dir: Path, out: Path, licence: str) -> None:
    """Copy the network that the run in RUN_DIR trained into OUT, with where it comes from.

    A recipe with `weights: OUT` takes it instead of training. RUN_DIR must have trained it itself, and its store must
    still hold it.

    \b
    Example:
      edgeattn deploy drive --set weights=null --out reports/drive-trained
      edgeattn weights reports/drive-trained --out pipelines/weights/drive --licence "DRIVE: research use"
    """
    from edgeattn import report

    found = report.load(run_dir)
    row = next((r for r in found["rows"] if r["stage"] == "train" and r["artifact"]), None)
    if row is None:
        raise InputError(f"The run in {run_dir} trained nothing; give the folder of a run of `deploy` or `train`.")
    _check_own(found, run_dir)
    source = _checked_source(row["artifact"], run_dir)
    out.mkdir(parents=True, exist_ok=True)
    for name in WEIGHT_FILES:
        temporary = out / f".{name}.tmp"
        shutil.copyfile(source / name, temporary)
        temporary.replace(out / name)
    write_atomic(out / PROVENANCE, json.dumps(_provenance(found, row, out, licence), indent=1) + "\n")
    click.echo(out)


def _check_own(found: Any, run_dir: Path) -> None:
    """Weights that were given to a run were trained on other data than its report tells of."""
    if given := (found.get("training") or {}).get("weights"):
        raise InputError(
            f"The run in {run_dir} did not train its weights but took them from {given}; use those, or train with "
            "--set weights=null."
        )


def _checked_source(artifact: dict[str, Any], run_dir: Path) -> Path:
    """The folder of the trained network, which is still the one that was measured. Raises InputError."""
    again = "run the command in its report again with its store."
    if artifact["path"] is None:
        raise InputError(f"The report in {run_dir} does not say where its trained network is; {again}")
    source = Path(artifact["path"])
    if missing := [name for name in WEIGHT_FILES if not (source / name).is_file()]:
        raise InputError(f"{source} of the run in {run_dir} lacks {missing[0]}; {again}")
    if folder_sha256(source) != artifact["sha256"]:
        raise InputError(f"The files in {source} are not those that the run in {run_dir} measured; {again}")
    return source


def _command(command: str | None) -> str | None:
    """What trains them again, also when the recipe takes them by then."""
    return command if command is None or "weights=null" in command else f"{command} --set weights=null"


def _provenance(found: Any, row: dict[str, Any], out: Path, licence: str) -> dict[str, Any]:
    return {
        "schema": "edgeattn.weights/1",
        "recipe": found["recipe"],
        "command": _command(found.get("command")),
        "git": found["git"],
        "created": found["created"],
        "seed": found["seed"],
        "data": found["data"],
        "licence": licence,
        "metric": row["metric"],
        "train": (found.get("settings") or {}).get("recipe", {}).get("train"),
        "training_seconds": (found.get("training") or {}).get("seconds"),
        "host": _host(found),
        "files": {name: sha256_file(out / name) for name in WEIGHT_FILES},
    }


def _host(found: Any) -> dict[str, Any]:
    """The machine, with the GPU where it was trained on one; `host` of a report knows none."""
    host = {key: found["host"][key] for key in ("cpu", "cores", "python")}
    gpu = (found.get("training") or {}).get("gpu")
    return {**host, "gpu": gpu} if gpu else host
