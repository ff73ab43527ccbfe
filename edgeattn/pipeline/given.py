"""What a report says of weights that were trained before: where they are from, and for which evaluation split."""

from __future__ import annotations

import json
from pathlib import Path

from edgeattn.artifact import PROVENANCE, WEIGHT_FILES, sha256_file
from edgeattn.pipeline.stages import Context, data_record


def notes(context: Context) -> tuple[str, ...]:
    """Of the row of the weights: none when they are trained in this run."""
    if context.recipe.weights is None:
        return ()
    found = [f"Not trained in this run: the weights were taken from {context.recipe.weights}."]
    split = evaluation_split(Path(context.recipe.weights))
    if split is None:
        found.append(
            "What they were trained on is unknown, so that images that are evaluated on here may have been trained on."
        )
    elif split != data_record(context).json("data.json")["eval_sha256"]:
        # The hash is of all samples together, and of pairs or spoilt images rather than of the photographs they are
        # made from: another seed or degradation of held-back photographs has another hash as well.
        found.append(
            "They were trained for another evaluation split; whether images that are evaluated on here were trained "
            "on is not recorded."
        )
    return tuple(found)


def evaluation_split(folder: Path) -> str | None:
    """The hash of the split that the weights in `folder` were kept away from; None when nothing says so of them."""
    try:
        provenance = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        # What stands beside other weights than it was written for says nothing of these.
        its_own = all(provenance["files"][name] == sha256_file(folder / name) for name in WEIGHT_FILES)
        return str(provenance["data"]["eval_sha256"]) if its_own else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
