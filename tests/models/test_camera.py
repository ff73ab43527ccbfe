from __future__ import annotations

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
        (at_cause(RuntimeError("Next steps: ..."), KeyError("aten::odd")), ModelError, "It fails ('aten::odd'); x."),
        (MemoryError(), MachineError, "It fails: the memory of this machine is not enough; "),
        (torch.OutOfMemoryError("Tried to allocate"), MachineError, "It fails: the memory of this machine"),
        (at_cause(RuntimeError("wrapped"), MemoryError()), MachineError, "It fails: the memory of this machine"),
    ],
)
def test_what_torch_raises_becomes_a_sentence(raised, kind, said):
    with pytest.raises(kind) as caught, camera.torch_errors("It fails", "x"):
        raise raised
    assert str(caught.value).startswith(said)


def test_more_memory_than_any_machine_has():
    with pytest.raises(MachineError, match="the memory of this machine is not enough"), camera.torch_errors("It", "x"):
        torch.empty(1 << 60, dtype=torch.uint8)


@pytest.mark.parametrize("error", [StageFailed("own"), ModelError("own"), OSError(28, "full"), KeyboardInterrupt()])
def test_what_others_raise_passes(error):
    with pytest.raises(type(error)) as caught, camera.torch_errors("It fails", "x"):
        raise error
    assert caught.value is error
