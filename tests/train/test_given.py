from __future__ import annotations

import json

import pytest
import torch

from edgeattn.artifact import WEIGHT_FILES
from edgeattn.errors import ModelError
from edgeattn.imaging import Preprocess
from edgeattn.models import camera
from edgeattn.train.given import take

LABELS = ("blue", "green", "red")
SETTINGS = {"stages": [8, 8], "blocks": 1, "heads": 2}


def write(folder, name="attention_cnn", settings=None, labels=LABELS, preprocess=None):
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    description = camera.Description(
        name, SETTINGS if settings is None else settings, labels, preprocess or Preprocess(16, 16), (1, 2, 3), (4, 5, 6)
    )
    camera.save(camera.CameraModel(description), folder)
    (folder / "training.json").write_text(json.dumps({"history": [{"epoch": 1}], "params": 7}))
    return folder


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_the_weights_are_taken_as_they_are(recipe, tmp_path, out):
    folder = write(tmp_path / "given")
    take(recipe(), LABELS, folder, out)
    assert sorted(path.name for path in out.iterdir()) == sorted(WEIGHT_FILES)
    assert all((out / name).read_bytes() == (folder / name).read_bytes() for name in WEIGHT_FILES)
    assert camera.load(out).description.labels == LABELS


def test_settings_that_are_left_to_their_defaults_are_equal(recipe, tmp_path, out):
    """The recipe names heads and blocks, the weights were described with every field of theirs."""
    folder = write(tmp_path / "given", settings={**SETTINGS, "mlp_ratio": 2.0})
    take(recipe(), LABELS, folder, out)
    assert (out / "weights.safetensors").is_file()


def test_whether_attention_is_shown_is_the_recipes_affair(recipe, tmp_path, out):
    settings = {"stages": [8], "grids": [2]}
    folder = write(tmp_path / "given", name="region_attention", settings=settings)
    asked = {"name": "region_attention", **settings, "attention_output": True}
    take(recipe(model=asked), LABELS, folder, out)
    model = camera.load(out)
    assert model.description.outputs == ("logits", "attention")
    frames = torch.randint(0, 256, (1, 16, 16, 3), generator=torch.manual_seed(1)).to(torch.uint8)
    assert torch.equal(model(frames)[0], camera.load(folder)(frames))
    take(recipe(model={**asked, "attention_output": False}), LABELS, out, folder)
    assert camera.load(folder).description.outputs == ("logits",)


MISMATCHES = {
    "model": ({"name": "se_resnet", "settings": {}}, "have the model se_resnet, the recipe toy asks for attention_cnn"),
    "settings": (
        {"settings": {**SETTINGS, "blocks": 2}},
        r"have the model settings Settings\(.*blocks=2.*\), the recipe toy asks for Settings\(.*blocks=1.*\);",
    ),
    "labels": (
        {"labels": ("blue", "green", "grey")},
        r"have the labels \('blue', 'green', 'grey'\), the recipe toy asks for \('blue', 'green', 'red'\);",
    ),
    "size": (
        {"preprocess": Preprocess(16, 24)},
        r"have the input \{'height': 16, 'width': 24, 'fit': 'crop'\}, the recipe toy asks for .*'width': 16",
    ),
    "fit": ({"preprocess": Preprocess(16, 16, "letterbox")}, r"have the input .*'letterbox'.* asks for .*'crop'"),
}


@pytest.mark.parametrize(("differs", "says"), MISMATCHES.values(), ids=MISMATCHES)
def test_weights_of_something_else(differs, says, recipe, tmp_path, out):
    folder = write(tmp_path / "given", **differs)
    with pytest.raises(ModelError, match=says) as caught:
        take(recipe(), LABELS, folder, out)
    assert str(caught.value).startswith(f"The weights in {folder} have the ")
    assert str(caught.value).endswith("; change the recipe, or train with weights: null.")
    assert not list(out.iterdir())


@pytest.mark.parametrize("missing", ["model.json", "weights.safetensors"])
def test_a_file_that_is_missing(missing, recipe, tmp_path, out):
    folder = write(tmp_path / "given")
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=r"cannot be loaded .*; expected model\.json and weights\.safetensors"):
        take(recipe(), LABELS, folder, out)
    assert not list(out.iterdir())
