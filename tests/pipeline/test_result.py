from __future__ import annotations

import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edgeattn.artifact import Stage, Store
from edgeattn.pipeline import result
from edgeattn.pipeline.context import Context
from edgeattn.pipeline.state import Run
from edgeattn.recipe import Recipe, Target


@pytest.fixture
def described(tmp_path):
    """`described(path)`: the report's `data` for a recipe of that folder, always with the same store."""
    random = np.random.default_rng(0)
    for label in ("bird", "cat"):
        folder = tmp_path / "photos" / label
        folder.mkdir(parents=True)
        for number in range(6):
            cv2.imwrite(str(folder / f"{number}.png"), random.integers(0, 256, (8, 8, 3), np.uint8))

    def described(path, **data):
        recipe = Recipe(
            name="mine",
            task="classify",
            model={"name": "attention_cnn"},
            input={"height": 8, "width": 8},
            data={"format": "imagefolder", "path": path, "calibration": 2, **data},
            train={"epochs": 1},
        )
        target = Target(name="cpu", title="t", backend="openvino", precisions=("fp32",))
        context = Context(recipe, target, Store(tmp_path / "store"), tmp_path, progress=lambda done, total, text: None)
        return result.report(Run(context, on_row=lambda row: None), 0.0, Stage.TRAIN)["data"]

    return described


def test_the_same_images_in_another_folder_are_called_by_that(described, tmp_path):
    """The record of the images is found in the store; their name is not part of it."""
    first = described("photos")
    shutil.copytree(tmp_path / "photos", tmp_path / "renamed")
    second = described("renamed")
    assert len(list((tmp_path / "store/artifacts/check").iterdir())) == 1
    assert (first["name"], second["name"]) == ("photos", "renamed")
    assert {**first, "name": None} == {**second, "name": None}
    assert (first["train_n"], first["calibration_n"], first["eval_n"]) == (8, 2, 2)


@pytest.mark.parametrize(("weights", "seconds"), [(None, 61.5), ("pipelines/weights/mine", None)])
def test_weights_that_were_given_took_no_training(weights, seconds):
    artifact = SimpleNamespace(seconds=61.5, json=lambda name: {"history": [], "params": 7})
    recipe = SimpleNamespace(weights=weights)
    state = SimpleNamespace(
        row=lambda name: SimpleNamespace(artifact=artifact), rows=[], context=SimpleNamespace(recipe=recipe)
    )
    found = result._training(state)
    assert (found["seconds"], found["weights"], found["params"]) == (seconds, weights, 7)
