"""Weights that were trained before, in place of a training run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeattn.artifact import WEIGHT_FILES, write_atomic
from edgeattn.errors import ModelError
from edgeattn.imaging import Preprocess
from edgeattn.models import camera
from edgeattn.recipe import Recipe, parse_settings

# A setting that shows what the network has computed anyway: with and without it the weights mean the same.
_SHOWS = "attention_output"


def take(recipe: Recipe, labels: tuple[str, ...], folder: Path, out: Path) -> None:
    """Copy the weights in `folder` into `out`. Raises ModelError unless they are of the recipe's network and labels.

    Whether the network shows its attention is the recipe's affair.
    """
    from edgeattn import models

    found = camera.load(folder).description
    module = models.find(recipe.model.name)
    settings = parse_settings(module.Settings, recipe.model.settings, f"recipe {recipe.name}, model")
    theirs = parse_settings(module.Settings, found.settings, str(folder)) if found.name == recipe.model.name else None
    wanted = {
        "model": (recipe.model.name, found.name),
        "model settings": (_unseen(settings), _unseen(theirs)),
        "labels": (labels, found.labels),
        "input": (Preprocess(**recipe.input.model_dump()).to_dict(), found.preprocess.to_dict()),
    }
    for what, (asked, got) in wanted.items():
        if asked != got:
            raise ModelError(
                f"The weights in {folder} have the {what} {got}, the recipe {recipe.name} asks for {asked}; change the "
                "recipe, or train with weights: null."
            )
    for name in WEIGHT_FILES:
        shutil.copyfile(folder / name, out / name)
    if settings != theirs:
        shown = replace(found, settings=recipe.model.settings)
        write_atomic(out / "model.json", json.dumps(shown.to_dict(), indent=1, sort_keys=True))


def _unseen(settings: Any) -> Any:
    return replace(settings, **{_SHOWS: False}) if hasattr(settings, _SHOWS) else settings
