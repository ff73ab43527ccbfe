"""What a report says of weights that were trained before: where they are from, and what they were kept away from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgeattn.artifact import PROVENANCE, WEIGHT_FILES, sha256_file
from edgeattn.pipeline.context import Context
from edgeattn.pipeline.stages import data_record


def notes(context: Context) -> tuple[str, ...]:
    """Of the row of the weights: none when they are trained in this run."""
    if context.recipe.weights is None:
        return ()
    found = [f"Not trained in this run: the weights were taken from {context.recipe.weights}."]
    kept_from = held_back(Path(context.recipe.weights))
    here = data_record(context).json("data.json")
    if kept_from is None:
        found.append(
            "What they were trained on is unknown, so that images that are evaluated on here may have been trained on."
        )
    elif kept_from["eval_sha256"] == here["eval_sha256"]:
        pass
    elif kept_from.get("eval_origins_sha256") == here["eval_origins_sha256"]:
        found.append("They were trained for other samples of the same held-back images.")
    else:
        found.append(
            "They were trained for another evaluation split; whether images that are evaluated on here were trained "
            "on is not recorded."
        )
    return tuple(found)


def held_back(folder: Path) -> dict[str, Any] | None:
    """Hashes of what the weights in `folder` were kept away from, as in `data.json`; None when nothing says so.

    `eval_origins_sha256` is missing where they were kept before it was recorded (November 2026).
    """
    try:
        provenance = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        # What stands beside other weights than it was written for says nothing of these.
        its_own = all(provenance["files"][name] == sha256_file(folder / name) for name in WEIGHT_FILES)
        data = dict(provenance["data"])
        return data if its_own and "eval_sha256" in data else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
