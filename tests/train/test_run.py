from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from edgeattn.data.base import Sample, Splits
from edgeattn.errors import DataError, MachineError, ModelError, RecipeError, StageFailed
from edgeattn.imaging import Preprocess
from edgeattn.models import camera
from edgeattn.progress import silent
from edgeattn.train import run

VARIANTS = {
    "sgd": {},
    "adamw": {"optimizer": "adamw", "learning_rate": 0.003, "weight_decay": 0.05},
    "average": {"ema_decay": 0.9},
    "fp32": {"precision": "fp32"},
    "se_resnet": {"model": {"name": "se_resnet", "reduction": 4}},
}


class Stop(BaseException):
    """As Ctrl-C: an Exception would be taken for a mistake of the network's own code."""


def train(recipe, splits, folder, progress=silent):
    """The bytes of the trained weights."""
    out = folder / "out"
    out.mkdir(parents=True, exist_ok=True)
    run.train(recipe, splits, folder, out, progress)
    return (out / "weights.safetensors").read_bytes()


def stop_in_epoch(number):
    def progress(done, total, text):
        if text.startswith(f"epoch {number}/"):
            raise Stop

    return progress


def test_same_seed_same_bytes_other_seed_other_bytes(recipe, splits, tmp_path):
    first, second = (train(recipe(), splits(), tmp_path / name) for name in "ab")
    assert first == second
    assert train(recipe().model_copy(update={"seed": 1}), splits(), tmp_path / "c") != first


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("epoch", [2, 3])
def test_a_resumed_run_gives_the_bytes_of_an_unbroken_one(variant, epoch, recipe, splits, tmp_path, monkeypatch):
    settings = recipe(**VARIANTS[variant])
    unbroken = train(settings, splits(), tmp_path / "unbroken")
    with pytest.raises(Stop):
        train(settings, splits(), tmp_path / "broken", stop_in_epoch(epoch))
    seen = []
    resumed = train(settings, splits(), tmp_path / "broken", lambda done, total, text: seen.append(text))
    assert not any(text.startswith(f"epoch {epoch - 1}/") for text in seen)
    assert resumed == unbroken
    records = [(tmp_path / name / "out/training.json").read_text() for name in ("unbroken", "broken")]
    assert records[0] == records[1]


@pytest.mark.parametrize("variant", ["sgd", "average"])
def test_stopped_after_the_last_epoch_nothing_is_trained_again(variant, recipe, splits, tmp_path, monkeypatch):
    settings = recipe(**VARIANTS[variant])
    unbroken = train(settings, splits(), tmp_path / "unbroken")

    def refuse(model, folder):
        raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(camera, "save", refuse)
        train(settings, splits(), tmp_path / "broken")
    assert train(settings, splits(), tmp_path / "broken", stop_in_epoch(3)) == unbroken


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from conftest import toy_recipe, toy_splits
from pathlib import Path
from edgeattn.train.run import train
def progress(done, total, text):
    if text.startswith("epoch 2/") and sys.argv[3] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
out = Path(sys.argv[2]) / "out"
out.mkdir(parents=True, exist_ok=True)
train(toy_recipe(), toy_splits(), out.parent, out, progress)
"""


@pytest.mark.slow
def test_killed_then_run_again(recipe, splits, tmp_path):
    def start(mode):
        command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path / "killed"), mode]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)

    killed = start("kill")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not list((tmp_path / "killed/out").iterdir())
    assert (tmp_path / "killed/last.ckpt").is_file()
    finished = start("finish")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout + finished.stderr == ""
    unbroken = train(recipe(), splits(), tmp_path / "unbroken")
    assert (tmp_path / "killed/out/weights.safetensors").read_bytes() == unbroken


def test_it_learns_and_writes_what_load_reads(recipe, splits, tmp_path):
    settings = recipe(epochs=12, precision="fp32", learning_rate=0.02, optimizer="adamw", augment={})
    texts = []
    train(settings, splits(48, 30), tmp_path, lambda done, total, text: texts.append((done, total, text)))
    record = json.loads((tmp_path / "out/training.json").read_text())
    assert [entry["epoch"] for entry in record["history"]] == list(range(1, 13))
    assert record["history"][-1]["train_loss"] < record["history"][0]["train_loss"]
    assert record["history"][-1]["eval_metric"] > 80
    model = camera.load(tmp_path / "out")
    assert record["params"] == sum(p.numel() for p in model.parameters())
    assert record["gpu"] == (torch.cuda.get_device_name() if torch.cuda.is_available() else None)
    assert model.description.labels == ("blue", "green", "red")
    dark_green = np.full((1, 16, 16, 3), 128, np.uint8)
    dark_green[..., 1] = 32
    assert int(model(torch.from_numpy(dark_green)).argmax()) == 1
    steps = [(done, total) for done, total, text in texts if text.startswith("epoch")]
    assert steps == [(i, 72) for i in range(1, 73)]  # 48 images in batches of 8, 12 times


def test_the_average_is_another_model_and_keeps_the_last_weights_out(recipe, splits, tmp_path):
    plain = train(recipe(), splits(), tmp_path / "plain")
    slow = train(recipe(ema_decay=0.999), splits(), tmp_path / "slow")
    quick = train(recipe(ema_decay=0.001), splits(), tmp_path / "quick")
    assert plain != slow
    weights = {name: camera.load(tmp_path / name / "out").network.head.weight for name in ("plain", "slow", "quick")}
    apart = {name: float((weights[name] - weights["plain"]).detach().abs().max()) for name in ("slow", "quick")}
    assert apart["quick"] < 0.01 * apart["slow"]  # an average with hardly any memory is the last step's weights
    assert quick != slow


@pytest.mark.parametrize(
    "settings",
    [
        {"warmup": 0.0},
        {"warmup": 1.0},
        {"epochs": 1, "batch_size": 64},  # a single step
        {"epochs": 2, "batch_size": 64, "warmup": 1.0},
        {"epochs": 1, "batch_size": 1},
    ],
)
def test_schedules_at_their_edges(settings, recipe, splits, tmp_path):
    train(recipe(**settings), splits(3, 1), tmp_path)


@pytest.mark.parametrize(("train_n", "eval_n"), [(0, 6), (1, 6), (20, 0)])
def test_too_little_data(train_n, eval_n, recipe, splits, tmp_path):
    with pytest.raises(DataError, match=rf"toy has {train_n} training and {eval_n} evaluation images; at least 2 and"):
        train(recipe(), splits(train_n, eval_n), tmp_path)


def test_changes_that_boxes_do_not_take_are_refused_before_anything_is_prepared(recipe, splits, tmp_path):
    asked = recipe(augment={"rotate": 10}).model_copy(update={"task": "detect"})
    with pytest.raises(RecipeError, match=r"train\.augment\.rotate"):
        train(asked, splits(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_image_that_cannot_be_read_is_named_without_a_traceback(recipe, splits, tmp_path):
    with pytest.raises(DataError) as caught:
        train(recipe(), splits(broken=3), tmp_path)
    assert str(caught.value) == "The image 3 is broken."


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_lost_weights(optimizer, recipe, splits, tmp_path):
    with pytest.raises(StageFailed, match=r"loss became \S+ in epoch \d.*lower the learning rate"):
        train(recipe(optimizer=optimizer, learning_rate=1e30), splits(), tmp_path)
    assert not list((tmp_path / "out").iterdir())


def test_weights_lost_in_the_very_last_step(recipe, splits, tmp_path, monkeypatch):
    def spoil(training):
        training.model.network.head.weight.data[0, 0] = float("nan")

    monkeypatch.setattr(run.Training, "on_train_end", spoil)
    with pytest.raises(StageFailed, match=r"in the training run are not finite: 'network\.head\.weight' holds NaN"):
        train(recipe(), splits(), tmp_path)
    assert not list((tmp_path / "out").iterdir())


def test_a_batch_norm_has_nothing_to_average_over(recipe, splits, tmp_path):
    """Strides shrink 16 pixels to one, and a batch of one has a single value per channel."""
    settings = recipe({"name": "se_resnet", "depth": 18}, batch_size=1)
    with pytest.raises(
        ModelError,
        match=r"The network of toy cannot be trained \(Expected more than 1 value .*batch_size in the recipe\.$",
    ):
        train(settings, splits(4, 1), tmp_path)
    assert not list((tmp_path / "out").iterdir())


def test_a_network_that_no_machine_can_hold(recipe, splits, tmp_path):
    settings = recipe({"name": "attention_cnn", "stages": [8, 1 << 40], "blocks": 1, "heads": 2})
    with pytest.raises(MachineError, match="The network of toy cannot be trained: the memory of this machine"):
        train(settings, splits(4, 1), tmp_path)


def test_ctrl_c(recipe, splits, tmp_path):
    def progress(done, total, text):
        if text.startswith("epoch 2/"):
            os.kill(os.getpid(), signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(), splits(), tmp_path, progress)
    assert signal.getsignal(signal.SIGINT) is handler
    assert train(recipe(), splits(), tmp_path) == train(recipe(), splits(), tmp_path / "unbroken")


def test_it_can_run_beside_the_main_thread(recipe, splits, tmp_path):
    made = []
    thread = threading.Thread(target=lambda: made.append(train(recipe(epochs=1), splits(), tmp_path)))
    thread.start()
    thread.join(120)
    assert made


class Halved:
    scale = 2

    def apply(self, clean, rng):
        return np.ascontiguousarray(clean[::2, ::2])


class Clean:
    """A clean image of 20 x 24 pixels; its frame is half as large and black, so that it shows where it is used."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return Sample(np.zeros((10, 12, 3), np.uint8), np.full((20, 24, 3), 50 + index, np.uint8))

    def name(self, index):
        return str(index)


@pytest.mark.parametrize(
    ("preprocess", "count", "side"),
    [(Preprocess(8, 8, "tile", 2), 3 * 1, (20, 24)), (Preprocess(8, 8, "crop"), 3, (16, 16))],
    ids=["tile", "crop"],
)
def test_training_that_degrades_anew_keeps_clean_images(preprocess, count, side, tmp_path):
    """Whether or not they are tiled: of windows up to 32 x 32 clean pixels, 20 x 24 is one."""
    splits = Splits(Clean(), Clean(), Clean(), (), "f", "t", kind="image", degradation=Halved())
    task = SimpleNamespace(inputs=("frame",), target="image")
    frames, targets = run._training_items(splits, preprocess, task, tmp_path, 0, silent)
    assert frames.shape == (count, 1, *side, 3) and targets.tolist() == [0] * count
    assert [int(frame.min()) for frame in frames] == [int(frame.max()) for frame in frames] == [50, 51, 52]


def test_training_on_pairs_keeps_both(tmp_path):
    splits = Splits(Clean(), Clean(), Clean(), (), "f", "t", kind="image")
    task = SimpleNamespace(inputs=("frame",), target="image")
    frames, targets = run._training_items(splits, Preprocess(8, 8), task, tmp_path, 0, silent)
    assert frames.shape == (3, 1, 8, 8, 3) and targets.shape == (3, 16, 16, 3)
    assert frames.max() == 0 and targets.min() == 50


def test_networks_that_want_0_to_1_get_no_statistics(tmp_path, monkeypatch):
    frames = np.full((2, 1, 4, 4, 3), 90, np.uint8)
    assert run._normalisation("se_resnet", frames, 0) == ((90.0,) * 3, (1.0,) * 3)
    (tmp_path / "mynet").mkdir()
    parts = "TASK = 'classify'\nOUTPUTS = ('logits',)\nSettings = Network = object\n"
    (tmp_path / "mynet/plain.py").write_text(parts + "NORMALISED = False\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert run._normalisation("mynet.plain", frames, 0) == ((0.0,) * 3, (255.0,) * 3)


def test_pixel_statistics_by_hand():
    frames = np.zeros((2, 1, 1, 2, 3), np.uint8)
    frames[0, ..., 0] = 10  # blue: 10, 10, 20, 40 -> mean 20, variance (100 + 100 + 0 + 400) / 4 = 150
    frames[1, 0, 0, :, 0] = (20, 40)
    frames[..., 2] = 255
    mean, std = run._pixel_statistics(frames, seed=0)
    assert mean == (20.0, 0.0, 255.0)
    assert std == (12.247, 1.0, 1.0)  # a constant channel divides by one, not by zero
