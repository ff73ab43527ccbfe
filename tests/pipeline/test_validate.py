"""Refusals before anything is made, of a context whose data and network are made up."""

from __future__ import annotations

from typing import Any

import pytest

from edgeattn import backends
from edgeattn.artifact import Stage, Store
from edgeattn.data.base import Splits
from edgeattn.data.degrade import Degradation
from edgeattn.errors import DataError, MissingLibrary, ModelError, RecipeError
from edgeattn.pipeline import stages
from edgeattn.pipeline import validate as validation
from edgeattn.pipeline.context import Context
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

    def make(
        images: int,
        variants: tuple[str, ...],
        kind: str = "label",
        labels: tuple[str, ...] = ("a", "b"),
        degradation: Degradation | None = None,
        **changes: Any,
    ) -> Context:
        made = Context(
            recipe=Recipe(**{**RECIPE, "variants": variants, **changes}),
            target=Target(name="cpu", title="t", backend="openvino", precisions=("fp32", "int8")),
            store=Store(tmp_path / "store"),
            data_root=tmp_path,
            progress=lambda done, total, text: None,
        )
        made.__dict__["splits"] = Splits([], [None] * images, [], labels, "f", "t", kind=kind, degradation=degradation)
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


RESTORE = {"task": "restore", "kind": "image", "labels": (), "degradation": Degradation(noise=25)}
SPOILT = (
    "recipe mine: train.augment.noise and train.augment.erase are not for clean images, which the data's degradation "
    "spoils; leave them out, and set data.noise or data.holes."
)
TILE = {"height": 64, "width": 32, "fit": "tile"}
REFUSED = {
    "a metric the task lacks": ({"metric": "top5"}, "The task classify has no metric 'top5'; known: top1."),
    "tiles of what is no map": (
        {"input": TILE},
        "recipe mine: input.fit tile cuts frames into tiles and joins maps, which the task classify does not give; "
        "choose crop, letterbox or stretch.",
    ),
    "an overlap of a whole tile": (
        {"input": {**TILE, "overlap": 32}, "task": "segment", "kind": "mask"},
        "recipe mine: input.overlap must be less than a tile of 64 x 32 pixels, got 32.",
    ),
    "a metric of two classes on three": (
        {"metric": "auc", "task": "segment", "kind": "mask", "labels": ("a", "b", "c")},
        "recipe mine: the metric auc is of 2 labels, the data give 3; choose another: mIoU, pixel_accuracy, dice.",
    ),
    "noise on what the data spoil": (
        {**RESTORE, "train": {"epochs": 1, "augment": {"noise": 5}}},
        SPOILT,
    ),
    "holes in what the data spoil": (
        {**RESTORE, "train": {"epochs": 1, "augment": {"erase": 0.5}}},
        SPOILT,
    ),
    "boxes to be turned": (
        {"task": "detect", "kind": "boxes", "train": {"epochs": 1, "augment": {"rotate": 15}}},
        "recipe mine: train.augment.rotate must be 0 where boxes are taught, got 15: the upright box around a turned "
        "one is larger than the object in it; use flip, shift and scale.",
    ),
    "data of another kind": (
        {"kind": "mask"},
        "recipe mine: the task classify is trained on targets of the kind 'label', the data give 'mask'; change task "
        "or data.",
    ),
    "a task of another kind": (
        {"task": "segment", "kind": "label"},
        "recipe mine: the task segment is trained on targets of the kind 'mask', the data give 'label'; change task "
        "or data.",
    ),
}


@pytest.mark.parametrize(("changes", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_go_together_is_refused(context, changes, sentence, tmp_path):
    with pytest.raises(RecipeError) as caught:
        validate(context(3, ("fp32",), **changes), Stage.BUNDLE)
    assert str(caught.value) == sentence
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "changes",
    [
        {"metric": "top1"},
        {"input": {"height": 8, "width": 8, "overlap": 99}},
        {"task": "segment", "kind": "mask", "metric": "f1"},
        {"task": "segment", "kind": "mask", "metric": "dice", "labels": ("a", "b", "c")},
        {**RESTORE, "degradation": None, "train": {"epochs": 1, "augment": {"noise": 5}}},
        {**RESTORE, "weights": "given", "train": {"epochs": 1, "augment": {"noise": 5}}, "scaled": True},
        {"task": "detect", "kind": "boxes", "train": {"epochs": 1, "augment": {"flip": True, "shift": 0.1}}},
        {"task": "detect", "kind": "boxes", "weights": "given", "train": {"epochs": 1, "augment": {"rotate": 15}}},
    ],
)
def test_what_does_go_together(context, changes, monkeypatch):
    """An overlap means nothing where nothing is tiled, nor do changes of training frames where nothing is trained."""
    changes = dict(changes)
    if changes.pop("scaled", False):
        monkeypatch.setattr(validation, "_check_model", lambda context: None)
    validate(context(3, ("fp32",), **changes), Stage.BUNDLE)


def test_tiles_of_maps(context):
    validate(context(3, ("fp32",), kind="mask", task="segment", input={**TILE, "overlap": 31}), Stage.BUNDLE)


NETWORK = """
from dataclasses import dataclass
from torch import nn

TASK = "classify"
OUTPUTS = ("logits",)

@dataclass(frozen=True)
class Settings:
    width: int = 4

class Network(nn.Module):
    def __init__(self, settings, classes):
        super().__init__()
        self.head = nn.Linear(3 * 32 * 32, classes)

    def forward(self, x):
        return self.head(x.flatten(1))

    def loss(self, logits, targets, label_smoothing):
        return nn.functional.cross_entropy(logits, targets)
"""
FORWARD = "        return self.head(x.flatten(1))\n"
FAILS = "recipe mine: the model {} fails on a blank frame ("
OWN = {
    "right": (NETWORK, {}, None),
    "its settings": (
        NETWORK,
        {"model": {"name": "{}", "wdth": 3}},
        "recipe mine, model {}: unknown field 'wdth'; did you mean 'width'; known: width.",
    ),
    "another task": (
        NETWORK.replace("classify", "segment"),
        {},
        "recipe mine: the model {} is made for the task 'segment', got 'classify'; change task or model.name.",
    ),
    "other inputs": (
        NETWORK.replace("(self, x)", "(self, x, y)") + "INPUTS = ('frame_a', 'frame_b')\n",
        {},
        "recipe mine: the task classify gives a network the frames frame; the model {} does not take those: its "
        "INPUTS must name them.",
    ),
    "sides that do not fit": (
        NETWORK,
        {"input": {"height": 24, "width": 32}},
        "recipe mine: the model {} cannot take frames of 24 x 32 pixels (mat1 and mat2 shapes cannot be multiplied "
        "(1x2304 and 3072x2)); change input or model.",
    ),
    "a name in init": (
        NETWORK.replace("super().__init__()", "super().__init__()\n        self.size = size"),
        {},
        FAILS + "NameError: name 'size' is not defined, a_name_in_init.py line 15); mend the model.",
    ),
    "no super init": (
        NETWORK.replace("super().__init__()", "pass"),
        {},
        FAILS
        + "AttributeError: cannot assign module before Module.__init__() call, no_super_init.py line 15); mend the "
        "model.",
    ),
    "init without classes": (
        NETWORK.replace("settings, classes):", "settings):"),
        {},
        FAILS + "Network.__init__() takes 2 positional arguments but 3 were given); mend the model.",
    ),
    "an attribute in forward": (
        NETWORK.replace("self.head(x", "self.hed(x"),
        {},
        FAILS
        + "AttributeError: 'Network' object has no attribute 'hed', an_attribute_in_forward.py line 18); mend the "
        "model.",
    ),
    "a key in forward": (
        NETWORK.replace(FORWARD, "        return {}['logits']\n"),
        {},
        FAILS + "KeyError: 'logits', a_key_in_forward.py line 18); mend the model.",
    ),
    "no forward": (
        NETWORK.replace("def forward", "def forwards"),
        {},
        FAILS + 'Module [Network] is missing the required "forward" function); mend the model.',
    ),
    "a file in init": (
        NETWORK.replace("super().__init__()", "super().__init__()\n        open('no_such.pt')"),
        {},
        FAILS + "[Errno 2] No such file or directory: 'no_such.pt', a_file_in_init.py line 15); mend the model.",
    ),
    "a dictionary": (
        NETWORK.replace(FORWARD, "        return {'logits': x}\n"),
        {},
        "recipe mine: the model {} names the outputs logits, but returns dict; it must return one tensor for each, "
        "several as a tuple.",
    ),
    "more outputs than named": (
        NETWORK.replace(FORWARD, "        return x, x\n"),
        {},
        "recipe mine: the model {} names the outputs logits, but returns Tensor, Tensor; it must return one tensor for "
        "each, several as a tuple.",
    ),
    "outputs that fail": (
        NETWORK.replace('OUTPUTS = ("logits",)', "def outputs(settings): return oops"),
        {},
        FAILS + "NameError: name 'oops' is not defined, outputs_that_fail.py line 6); mend the model.",
    ),
    "settings that fail": (
        NETWORK.replace("width: int = 4", "width: int = 4\n    def __post_init__(self): self.wdth"),
        {},
        "recipe mine: the model {} fails with these settings (AttributeError: 'Settings' object has no attribute "
        "'wdth', settings_that_fail.py line 11); mend the model.",
    ),
    "no loss": (
        NETWORK.replace("def loss", "def losses"),
        {},
        "recipe mine: the model {} cannot be trained: its Network has neither loss nor training_loss; see "
        "edgeattn/models/__init__.py.",
    ),
    "another way to train": (NETWORK.replace("def loss(self, ", "def training_loss(self, frame, "), {}, None),
    "no loss, but weights": (NETWORK.replace("def loss", "def losses"), {"weights": "given"}, None),
}


@pytest.mark.parametrize("case", OWN)
def test_a_network_of_ones_own_is_looked_at_before_it_is_trained(context, case, tmp_path, monkeypatch):
    text, changes, sentence = OWN[case]
    package = tmp_path / "packages"
    (package / "validnets").mkdir(parents=True)
    module = case.replace(" ", "_").replace(",", "")
    (package / "validnets" / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(package)
    monkeypatch.setattr(stages, "trained", lambda context: None)
    name = f"validnets.{module}"
    model = {key: value.format(name) if value == "{}" else value for key, value in changes.get("model", {}).items()}
    made = context(3, ("fp32",), **{**changes, "model": model or {"name": name}})
    if sentence is None:
        validate(made, Stage.BUNDLE)
        return
    with pytest.raises(RecipeError) as caught:
        validate(made, Stage.BUNDLE)
    assert str(caught.value) == sentence.format(name)


def test_a_network_of_ones_own_that_is_not_there(context, monkeypatch):
    with pytest.raises(RecipeError, match=r"no model 'nowhere\.at_all'; known models: .* or package\.module"):
        validate(context(3, ("fp32",), model={"name": "nowhere.at_all"}), Stage.BUNDLE)


def test_weights_that_are_not_there_are_found_before_anything_is_made(context, monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setattr(backends, "find_compiler", lambda name: None)
    with pytest.raises(ModelError, match=r"The weights in no/such are incomplete \(No such file or directory: model"):
        validate(context(3, ("fp32",), weights="no/such"), Stage.BUNDLE)
    assert not list(tmp_path.iterdir())


UNET = {"name": "restore_unet", "widths": [8], "blocks": [1], "stem": 1}


@pytest.mark.parametrize("weights", [None, "given"])
@pytest.mark.parametrize(
    ("model", "data", "says"),
    [
        (1, 1, None),
        (2, 2, None),
        (2, 1, "makes 64 x 64 pixels of a frame of 32 x 32, the data's clean images are 1 time(s) as large as their"),
        (1, 4, "makes 32 x 32 pixels of a frame of 32 x 32, the data's clean images are 4 time(s) as large as their"),
    ],
)
def test_the_scales_of_network_and_data_must_be_equal(context, monkeypatch, weights, model, data, says):
    """Also of given weights that an earlier run proved to be the network's: on other data."""
    if weights is None:
        monkeypatch.setattr(stages, "trained", lambda context: None)
    settings = {**RESTORE, "degradation": Degradation(scale=data), "model": {**UNET, "scale": model}}
    made = context(3, ("fp32",), **settings, weights=weights)
    if says is None:
        validate(made, Stage.BUNDLE)
        return
    with pytest.raises(RecipeError) as caught:
        validate(made, Stage.BUNDLE)
    assert says in str(caught.value)
    assert str(caught.value).endswith("; make the scale of model and data equal.")


def test_frames_that_no_degradation_makes_are_as_large_as_their_clean_images(context, monkeypatch):
    monkeypatch.setattr(stages, "trained", lambda context: None)
    settings = {**RESTORE, "degradation": None}
    validate(context(3, ("fp32",), **settings, model=UNET), Stage.BUNDLE)
    with pytest.raises(RecipeError, match="clean images are 1 time"):
        validate(context(3, ("fp32",), **settings, model={**UNET, "scale": 2}), Stage.BUNDLE)


MAPS = """
from dataclasses import dataclass
from torch import nn

TASK = "segment"
OUTPUTS = ("logits",)

@dataclass(frozen=True)
class Settings:
    stride: tuple[int, int] = (1, 1)

class Network(nn.Module):
    def __init__(self, settings, classes):
        super().__init__()
        self.head = nn.Conv2d(3, classes, 1, stride=settings.stride)

    def forward(self, x):
        return self.head(x)

    def loss(self, logits, targets, label_smoothing):
        return logits.mean()
"""


@pytest.mark.parametrize("fit", ["crop", "letterbox", "stretch", "tile"])
@pytest.mark.parametrize(("stride", "sides"), [((1, 1), None), ((4, 4), "8 x 16"), ((1, 2), "32 x 32")])
def test_a_mask_needs_a_map_as_fine_as_the_frame(context, monkeypatch, tmp_path, fit, stride, sides):
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps/coarse.py").write_text(MAPS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(stages, "trained", lambda context: None)
    made = context(
        3,
        ("fp32",),
        kind="mask",
        task="segment",
        model={"name": "maps.coarse", "stride": stride},
        input={"height": 32, "width": 64, "fit": fit, "overlap": 8},
    )
    if sides is None:
        validate(made, Stage.BUNDLE)
        return
    with pytest.raises(RecipeError) as caught:
        validate(made, Stage.BUNDLE)
    assert str(caught.value) == (
        f"recipe mine: the model maps.coarse makes a map of {sides} of a frame of 32 x 64 pixels, and a mask needs one "
        "value per pixel; let the network enlarge its logits to its frame."
    )


@pytest.mark.parametrize(
    ("lacks", "until", "refused"),
    [
        ("nncf", Stage.TRAIN, False),
        ("nncf", Stage.EXPORT, False),
        ("nncf", Stage.QUANTIZE, True),
        ("onnxruntime", Stage.TRAIN, False),
        ("onnxruntime", Stage.EXPORT, True),
        ("kornia", Stage.TRAIN, True),
        ("kornia", Stage.BUNDLE, True),
    ],
)
def test_a_machine_needs_only_what_its_stages_need(lacks, until, refused, context, monkeypatch):
    found = validation.importlib.util.find_spec
    monkeypatch.setattr(validation.importlib.util, "find_spec", lambda name: None if name == lacks else found(name))
    made = context(500, ("fp32",))
    if not refused:
        validate(made, until)
        return
    with pytest.raises(MissingLibrary, match=f"{lacks} cannot be found; install with"):
        validate(made, until)
