"""Weights that were trained before, in place of a training run."""

from __future__ import annotations

import shutil
from pathlib import Path

from edgeattn.artifact import WEIGHT_FILES
from edgeattn.errors import ModelError
from edgeattn.imaging import Preprocess
from edgeattn.models import camera
from edgeattn.recipe import Recipe, parse_settings


def take(recipe: Recipe, labels: tuple[str, ...], folder: Path, out: Path) -> None:
    """Copy the weights in `folder` into `out`. Raises ModelError unless they are of the recipe's network and labels."""
    from edgeattn import models

    found = camera.load(folder).description
    module = models.find(recipe.model.name)
    settings = parse_settings(module.Settings, recipe.model.settings, f"recipe {recipe.name}, model")
    theirs = parse_settings(module.Settings, found.settings, str(folder)) if found.name == recipe.model.name else None
    wanted = {
        "model": (recipe.model.name, found.name),
        "model settings": (settings, theirs),
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
