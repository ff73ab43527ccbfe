"""The trained networks that come with the recipes: whole, small, of the recipe that names them, and of known origin."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from edgeattn import tasks
from edgeattn.artifact import PROVENANCE, WEIGHT_FILES, sha256_file
from edgeattn.recipe import Recipe, load_recipe
from edgeattn.tasks.base import metric_of

PIPELINES = Path(__file__).parents[1] / "pipelines"
FOLDERS = sorted((PIPELINES / "weights").iterdir())
NAMES = [folder.name for folder in FOLDERS]
HASHES = ("calibration_sha256", "eval_sha256", "eval_origins_sha256")


def provenance(folder: Path) -> dict:
    return json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))


def recipe_of(folder: Path) -> Recipe:
    return load_recipe(str(PIPELINES / f"{folder.name}.yaml"))


def test_there_are_some_and_they_are_small_together():
    assert len(FOLDERS) >= 5
    assert sum(file.stat().st_size for folder in FOLDERS for file in folder.iterdir()) <= 60e6


@pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)
def test_the_files_are_those_that_were_kept(folder):
    assert sorted(file.name for file in folder.iterdir()) == sorted([*WEIGHT_FILES, PROVENANCE])
    assert provenance(folder)["files"] == {name: sha256_file(folder / name) for name in WEIGHT_FILES}
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 10e6


@pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)
def test_the_recipe_of_that_name_takes_them(folder, tmp_path):
    from edgeattn.train.given import take

    recipe = recipe_of(folder)
    assert (recipe.name, recipe.weights) == (folder.name, f"pipelines/weights/{folder.name}")
    labels = tuple(json.loads((folder / "model.json").read_text())["labels"])
    assert labels == tuple(recipe.data.settings.get("labels", labels)), "where the recipe names them"
    take(recipe, labels, folder, tmp_path)
    assert (tmp_path / "weights.safetensors").read_bytes() == (folder / "weights.safetensors").read_bytes()


@pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)
def test_where_they_are_from(folder):
    found, recipe = provenance(folder), recipe_of(folder)
    assert (found["schema"], found["recipe"], found["seed"]) == ("edgeattn.weights/1", folder.name, recipe.seed)
    assert re.match(rf"edgeattn (deploy|train) (pipelines/)?{folder.name}(\.yaml)? --target \w+", found["command"])
    assert found["command"].endswith("--set weights=null"), "the recipe takes them by now"
    assert re.fullmatch(r"[0-9a-f]{40}", found["git"]), "of a commit, so that others can train them again"
    assert len(found["licence"]) > 10
    data = found["data"]
    assert recipe.data.settings["path"] == data["name"]
    assert min(data["train_n"], data["calibration_n"], data["eval_n"]) > 0
    assert all(re.fullmatch(r"[0-9a-f]{64}", data[name]) for name in HASHES)
    metric, spec = found["metric"], metric_of(tasks.find(recipe.task), recipe.metric)
    assert (metric["name"], metric["unit"]) == (spec.name, spec.unit)
    assert metric["n"] == data["eval_n"]
    low, high = metric["ci95"]
    assert math.isfinite(low) and low < metric["value"] < high
    assert found["training_seconds"] > 0


@pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)
def test_they_were_trained_as_their_recipe_says(folder):
    train = recipe_of(folder).train
    history = json.loads((folder / "training.json").read_text(encoding="utf-8"))["history"]
    assert len(history) == train.epochs
    assert provenance(folder)["train"] == train.model_dump(mode="json")


def test_every_recipe_that_names_weights_has_them():
    """A recipe may take another's; bsds_align_degraded does."""
    for path in PIPELINES.glob("*.yaml"):
        recipe = load_recipe(str(path))
        assert recipe.weights is None or Path(recipe.weights).name in NAMES, path.name


def test_every_recipe_on_real_data_comes_with_weights():
    """What is drawn, `scenes`, is trained in minutes wherever it is; real data not everybody has."""
    recipes = [load_recipe(str(path)) for path in sorted(PIPELINES.glob("*.yaml"))]
    without = [recipe.name for recipe in recipes if recipe.data.format != "scenes" and recipe.weights is None]
    assert len(recipes) >= 20 and not without
