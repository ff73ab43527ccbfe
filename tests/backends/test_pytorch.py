from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from edgeattn import backends
from edgeattn.backends import pytorch
from edgeattn.errors import MissingLibrary, ModelError
from edgeattn.imaging import Preprocess
from edgeattn.models import camera


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    settings = {"stages": [8, 8], "heads": 2, "blocks": 1}
    description = camera.Description("attention_cnn", settings, ("a", "b"), Preprocess(8, 12), (0, 0, 0), (1, 2, 3))
    camera.save(camera.CameraModel(description), tmp_path)
    return tmp_path


@pytest.fixture
def runner(folder):
    threads = torch.get_num_threads()
    runner = backends.find("pytorch").load(folder, threads=1)
    yield runner
    runner.close()
    torch.set_num_threads(threads)


def frames(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 12, 3), dtype=np.uint8)


def test_it_answers_as_the_module_does(runner, folder):
    assert torch.get_num_threads() == 1
    assert [(s.name, s.shape, s.dtype) for s in runner.specs.inputs] == [("frame", (None, 8, 12, 3), "uint8")]
    frame = frames(3)
    found = runner.infer({"frame": frame})
    assert list(found) == ["logits"]
    want = camera.load(folder)(torch.from_numpy(frame)).detach().numpy()
    np.testing.assert_allclose(found["logits"], want, rtol=1e-5, atol=1e-5)
    assert found["logits"].dtype == np.float32


def test_a_batch_is_its_frames_and_earlier_outputs_stay(runner):
    frame = frames(4)
    whole = runner.infer({"frame": frame})["logits"]
    kept = whole.copy()
    single = [runner.infer({"frame": frame[i : i + 1]})["logits"] for i in range(4)]
    np.testing.assert_allclose(np.concatenate(single), whole, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(whole, kept)


def test_views_and_read_only_frames_are_taken(runner):
    frame = frames(1)
    want = runner.infer({"frame": frame})["logits"]
    turned = np.ascontiguousarray(frame[:, :, ::-1])[:, :, ::-1]
    turned.setflags(write=False)
    np.testing.assert_array_equal(runner.infer({"frame": turned})["logits"], want)


PAIRED = """
from torch import nn

TASK = "classify"
INPUTS = ("before", "after")
OUTPUTS = ("apart", "sum")
Settings = dict

class Network(nn.Module):
    def __init__(self, settings, classes):
        super().__init__()
        self.own = nn.Linear(1, 1)

    def forward(self, before, after):
        return after - before, after + before
"""


def test_two_frames_and_two_outputs_go_by_their_names(tmp_path, monkeypatch):
    (tmp_path / "torchnets").mkdir()
    (tmp_path / "torchnets/pair.py").write_text(PAIRED)
    monkeypatch.syspath_prepend(tmp_path)
    description = camera.Description("torchnets.pair", {}, (), Preprocess(8, 12), (0, 0, 0), (1, 1, 1))
    camera.save(camera.CameraModel(description), tmp_path / "saved")
    threads = torch.get_num_threads()
    pair = pytorch.load(tmp_path / "saved", threads=1)
    torch.set_num_threads(threads)
    assert [spec.name for spec in pair.specs.inputs] == ["before", "after"]
    assert all(spec.shape == (None, 8, 12, 3) for spec in pair.specs.inputs)
    before, after = frames(2), frames(2, seed=1)
    found = pair.infer({"after": after, "before": before})
    assert list(found) == ["apart", "sum"]
    np.testing.assert_array_equal(found["apart"], (after.astype(np.float32) - before).transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(found["sum"], (after.astype(np.float32) + before).transpose(0, 3, 1, 2))
    with pytest.raises(ModelError, match=r"takes the inputs \['after', 'before'\]|takes the inputs \['before'"):
        pair.infer({"before": before})


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"image": frames(1)}, r"takes the inputs \['frame'\], got \['image'\]"),
        ({"frame": frames(1).astype(np.float32)}, "must be uint8, got float32"),
        ({"frame": frames(1)[0]}, r"must have shape \(None, 8, 12, 3\), got \(8, 12, 3\)"),
        ({"frame": frames(1)[:, :6]}, r"must have shape \(None, 8, 12, 3\), got \(1, 6, 12, 3\)"),
    ],
)
def test_wrong_inputs(inputs, sentence, runner):
    with pytest.raises(ModelError, match=sentence):
        runner.infer(inputs)


def test_a_closed_runner_says_so(runner):
    runner.close()
    with pytest.raises(ModelError, match="This runner is closed; load the model again"):
        runner.infer({"frame": frames(1)})


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(ModelError, match="cannot be loaded"):
        pytorch.load(tmp_path, threads=1)


def test_without_torch(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingLibrary, match=r'pip install "edgeattn\[train\]"'):
        backends.find("pytorch")
