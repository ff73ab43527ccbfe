"""Refusals before anything is made, of a context whose data and network are made up."""

from __future__ import annotations

import pytest

from edgeattn import backends
from edgeattn.artifact import Stage, Store
from edgeattn.data.base import Splits
from edgeattn.errors import DataError
from edgeattn.pipeline import stages
from edgeattn.pipeline.stages import Context
from edgeattn.pipeline.validate import validate
from edgeattn.recipe import Recipe, Target

RECIPE = {
    "name": "mine",
    "task": "classify",
    "model": {"name": "attention_cnn"},
    "input": {"height": 32, "width": 32},
    "data": {"format": "scenes"},
    "train": {"epochs": 1},
}


@pytest.fixture
def context(tmp_path, monkeypatch):
    monkeypatch.setattr(backends, "find_compiler", lambda name: None)
    monkeypatch.setattr(stages, "trained", lambda context: "a network whose settings are known to be right")

    def make(images: int, variants: tuple[str, ...]) -> Context:
        made = Context(
            recipe=Recipe(**RECIPE, variants=variants),
            target=Target(name="cpu", title="t", backend="openvino", precisions=("fp32", "int8")),
            store=Store(tmp_path / "store"),
            data_root=tmp_path,
            progress=lambda done, total, text: None,
        )
        made.__dict__["splits"] = Splits([], [None] * images, [], (), "f", "t")
        return made

    return make


@pytest.mark.parametrize("until", [Stage.QUANTIZE, Stage.COMPILE, Stage.BUNDLE])
def test_too_few_calibration_images_are_found_before_the_training(context, until, tmp_path):
    with pytest.raises(DataError, match=r"INT8 needs at least 3 calibration images \(300 are usual\), got 2"):
        validate(context(2, ("fp32", "int8")), until)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("images", "variants", "until"),
    [
        (3, ("fp32", "int8"), Stage.BUNDLE),
        (0, ("fp32",), Stage.BUNDLE),
        (0, ("fp32", "int8"), Stage.EXPORT),
        (0, ("fp32", "int8"), Stage.TRAIN),
    ],
)
def test_where_int8_is_not_made_no_calibration_image_is_asked_for(context, images, variants, until):
    validate(context(images, variants), until)
