from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgeattn.errors import MachineError, ModelError, RecipeError, StageFailed
from edgeattn.imaging import Preprocess
from edgeattn.models import camera

DESCRIPTION = camera.Description(
    "attention_cnn",
    {"stages": [8, 8], "heads": 2, "blocks": 1},
    ("a", "b", "c"),
    Preprocess(16, 24),
    (100.0, 110.0, 120.0),
    (50.0, 60.0, 70.0),
)


def make():
    torch.manual_seed(0)
    return camera.CameraModel(DESCRIPTION).eval()


@pytest.fixture
def saved(tmp_path):
    camera.save(make(), tmp_path)
    return tmp_path


def test_camera_frames_are_normalised_per_channel_by_hand():
    model = make()
    frame = np.zeros((1, 16, 24, 3), np.uint8)
    frame[..., 0], frame[..., 1], frame[..., 2] = 150, 110, 50
    seen = []
    model.network.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    model(torch.from_numpy(frame))
    assert seen[0].shape == (1, 3, 16, 24)
    np.testing.assert_allclose(seen[0][0, :, 3, 4], [1.0, 0.0, -1.0], atol=1e-6)


def test_saved_and_loaded_it_is_the_same_model(saved):
    model, again = make(), camera.load(saved)
    frame = torch.randint(0, 256, (2, 16, 24, 3), dtype=torch.uint8)
    assert torch.equal(model(frame), again(frame))
    assert again.description == DESCRIPTION
    assert not again.training


def test_equal_models_are_equal_files(saved, tmp_path):
    camera.save(make(), tmp_path / "again")
    for name in ("weights.safetensors", "model.json"):
        assert (saved / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_what_the_description_says(saved):
    values = json.loads((saved / "model.json").read_text())
    assert values["schema"] == "edgeattn.model/1"
    assert (values["task"], values["outputs"], values["labels"]) == ("classify", ["logits"], ["a", "b", "c"])


PAIRED = """
from dataclasses import dataclass
from torch import nn

TASK = "classify"
INPUTS = ("frame_a", "frame_b")

def outputs(settings):
    return ("sum", "apart") if settings.apart else ("sum",)

@dataclass(frozen=True)
class Settings:
    apart: bool = False

class Network(nn.Module):
    def __init__(self, settings, classes):
        super().__init__()
        self.settings = settings
        self.head = nn.Linear(1, classes)

    def forward(self, a, b):
        return (a + b, a - b) if self.settings.apart else a + b
"""


@pytest.fixture
def paired(tmp_path, monkeypatch):
    """Descriptions of a network of two frames in a package of somebody's own."""
    (tmp_path / "cameranets").mkdir()
    (tmp_path / "cameranets/pair.py").write_text(PAIRED)
    monkeypatch.syspath_prepend(tmp_path)

    def describe(**settings):
        return dataclasses.replace(DESCRIPTION, name="cameranets.pair", settings=settings)

    return describe


def test_two_frames_are_each_normalised(paired):
    description = paired(apart=True)
    first, second = (torch.full((1, 16, 24, 3), value, dtype=torch.uint8) for value in (150, 50))
    added, apart = camera.CameraModel(description)(first, second)
    assert added.shape == apart.shape == (1, 3, 16, 24)
    # (150 - 100) / 50 and (50 - 100) / 50; (150 - 110) / 60 and (50 - 110) / 60; (150 - 120) / 70 and (50 - 120) / 70
    np.testing.assert_allclose(added[0, :, 0, 0], [0, -1 / 3, -4 / 7], atol=1e-6)
    np.testing.assert_allclose(apart[0, :, 0, 0], [2, 10 / 6, 10 / 7], atol=1e-6)


def test_outputs_may_depend_on_settings_and_inputs_have_names(paired, tmp_path):
    assert paired().outputs == ("sum",)
    assert (paired(apart=True).outputs, paired().inputs) == (("sum", "apart"), ("frame_a", "frame_b"))
    assert (DESCRIPTION.outputs, DESCRIPTION.inputs) == (("logits",), ("frame",))
    camera.save(camera.CameraModel(paired(apart=True)), tmp_path)
    values = json.loads((tmp_path / "model.json").read_text())
    assert (values["inputs"], values["outputs"]) == (["frame_a", "frame_b"], ["sum", "apart"])
    assert camera.load(tmp_path).description == paired(apart=True)


def test_tiles_are_described_with_their_overlap(saved):
    tiled = dataclasses.replace(DESCRIPTION, preprocess=Preprocess(16, 24, "tile", 5))
    assert camera.Description.from_dict(tiled.to_dict()) == tiled
    assert tiled.to_dict()["preprocess"] == {"height": 16, "width": 24, "fit": "tile", "overlap": 5}
    assert "overlap" not in json.loads((saved / "model.json").read_text())["preprocess"]


def test_a_blank_frame_tells_of_shapes_and_of_sides_that_do_not_fit(paired):
    training = make().train()
    (logits,) = camera.try_blank(training)
    assert logits.shape == (1, len(DESCRIPTION.labels)) and not training.training
    assert len(camera.try_blank(camera.CameraModel(paired(apart=True)))) == 2
    odd = dataclasses.replace(
        DESCRIPTION, name="region_attention", settings={"stages": [8], "grids": [4]}, preprocess=Preprocess(18, 24)
    )
    with pytest.raises((ValueError, RuntimeError, ModelError)):
        camera.try_blank(camera.CameraModel(odd))


def cut(folder):
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def empty(folder):
    (folder / "weights.safetensors").write_bytes(b"")


def garbage(folder):
    (folder / "weights.safetensors").write_bytes(bytes(range(256)) * 8)


def drop(folder):
    (folder / "weights.safetensors").unlink()


def drop_description(folder):
    (folder / "model.json").unlink()


def no_json(folder):
    (folder / "model.json").write_text('{"name": ')


def a_list(folder):
    (folder / "model.json").write_text("[]")


def no_labels(folder):
    values = json.loads((folder / "model.json").read_text())
    del values["labels"]
    (folder / "model.json").write_text(json.dumps(values))


def more_labels(folder):
    values = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**values, "labels": list("abcd")}))


def drop_tensor(folder):
    tensors = load_file(folder / "weights.safetensors")
    del tensors["network.head.bias"]
    save_file(tensors, folder / "weights.safetensors")


@pytest.mark.parametrize(
    "harm",
    [cut, empty, garbage, drop, drop_description, no_json, a_list, no_labels, more_labels, drop_tensor],
    ids=lambda harm: harm.__name__,
)
def test_a_folder_that_is_not_a_model(harm, saved):
    harm(saved)
    with pytest.raises(
        ModelError, match=r"The model in .* cannot be loaded \(.+\); expected model.json and weights"
    ) as caught:
        camera.load(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(value, saved):
    tensors = load_file(saved / "weights.safetensors")
    tensors["network.head.bias"][1] = value
    save_file(tensors, saved / "weights.safetensors")
    with pytest.raises(ModelError, match=r"'network.head.bias' holds NaN or infinity; train again"):
        camera.load(saved)


def test_a_model_that_is_not_known_here(saved):
    values = json.loads((saved / "model.json").read_text())
    (saved / "model.json").write_text(json.dumps({**values, "name": "unknown"}))
    with pytest.raises(RecipeError, match="There is no model 'unknown'"):
        camera.load(saved)


def at_cause(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("raised", "kind", "said"),
    [
        (
            ValueError("Expected more than 1 value.\nsecond line"),
            ModelError,
            "It fails (Expected more than 1 value); x.",
        ),
        (RuntimeError(""), ModelError, "It fails (RuntimeError); x."),
        (TypeError("\n  not two\n"), ModelError, "It fails (not two); x."),
        (
            at_cause(RuntimeError("Next steps: ..."), KeyError("aten::odd")),
            ModelError,
            "It fails (KeyError: 'aten::odd'); x.",
        ),
        (MemoryError(), MachineError, "It fails: the memory of this machine is not enough; "),
        (torch.OutOfMemoryError("Tried to allocate"), MachineError, "It fails: the memory of this machine"),
        (at_cause(RuntimeError("wrapped"), MemoryError()), MachineError, "It fails: the memory of this machine"),
    ],
)
def test_what_torch_raises_becomes_a_sentence(raised, kind, said):
    with pytest.raises(kind) as caught, camera.torch_errors("It fails", "x"):
        raise raised
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (
            AttributeError("'Network' object has no attribute 'hed'"),
            "AttributeError: 'Network' object has no attribute 'hed'",
        ),
        (NameError("name 'x' is not defined."), "NameError: name 'x' is not defined"),
        (AssertionError(), "AssertionError"),
        (KeyError("x"), "KeyError: 'x'"),
        (ValueError("Expected more than 1 value"), "Expected more than 1 value"),
    ],
)
def test_what_a_networks_own_code_raises_becomes_a_sentence(raised, said):
    with pytest.raises(ModelError) as caught, camera.torch_errors("It fails", "x"), camera.own_code():
        raise raised
    assert str(caught.value) == f"It fails ({said}); x."


def test_more_memory_than_any_machine_has():
    with pytest.raises(MachineError, match="the memory of this machine is not enough"), camera.torch_errors("It", "x"):
        torch.empty(1 << 60, dtype=torch.uint8)


@pytest.mark.parametrize("error", [StageFailed("own"), ModelError("own"), OSError(28, "full"), KeyboardInterrupt()])
def test_what_others_raise_passes(error):
    with pytest.raises(type(error)) as caught, camera.torch_errors("It fails", "x"), camera.own_code():
        raise error
    assert caught.value is error


@pytest.mark.parametrize("error", [KeyError("ours"), LookupError("the caller's")])
def test_what_is_not_the_networks_passes(error):
    """Such as what a caller's progress raises in the middle of a training."""
    with pytest.raises(type(error)) as caught, camera.torch_errors("It fails", "x"):
        raise error
    assert caught.value is error
