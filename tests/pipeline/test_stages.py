"""What the stages are made from: engine inputs, keys, the record of the data."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from edgeattn import provenance
from edgeattn.artifact import WEIGHT_FILES, Precision, Store
from edgeattn.data import clean, warps
from edgeattn.data.base import Sample, Splits, sample_hash, set_hash
from edgeattn.errors import DataError, ModelError
from edgeattn.pipeline import stages
from edgeattn.pipeline.context import Context, prepared
from edgeattn.recipe import Recipe, Target

RECIPE = {
    "name": "mine",
    "task": "classify",
    "model": {"name": "attention_cnn"},
    "input": {"height": 8, "width": 8},
    "data": {"format": "scenes"},
    "train": {"epochs": 1},
}


class Images(list):
    def name(self, index):
        return str(index)


def noise(high, wide, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (high, wide, 3), dtype=np.uint8)


@pytest.fixture
def context(tmp_path):
    def make(splits: Splits | None = None, **changes: Any) -> Context:
        made = Context(
            recipe=Recipe(**{**RECIPE, **changes}),
            target=Target(name="cpu", title="t", backend="openvino", precisions=("fp32", "int8"), threads=1),
            store=Store(tmp_path / "store"),
            data_root=tmp_path,
            progress=lambda done, total, text: None,
        )
        made.__dict__["splits"] = splits or Splits(Images(), Images(), Images(), ("a", "b"), "f", "t")
        return made

    return make


@pytest.mark.parametrize(("count", "made"), [(None, 3), (2, 2), (9, 3)])
def test_one_call_for_each_sample(context, count, made):
    samples = Images(Sample(noise(8, 8, i), 0) for i in range(3))
    calls = prepared(context(), samples, count)
    assert [list(call) for call in calls] == [["frame"]] * made
    assert all((call["frame"][0] == sample.frame).all() for call, sample in zip(calls, samples, strict=False))


def test_two_frames_in_one_call(context):
    first, second = noise(8, 8), noise(8, 8, 1)
    (call,) = prepared(context(task="align"), Images([Sample(first, np.eye(3), second)]))
    assert list(call) == ["frame_a", "frame_b"]
    assert (call["frame_a"][0] == first).all() and (call["frame_b"][0] == second).all()


def tiles(context, samples, count):
    """Which tile, by its pixels, of tiles of 8 that share none: `(sample, index)`."""
    made = context(task="segment", input={"height": 8, "width": 8, "fit": "tile", "overlap": 0})
    known = {
        sample.frame[top : top + 8, left : left + 8].tobytes(): (
            number,
            top // 8 * (sample.frame.shape[1] // 8) + left // 8,
        )
        for number, sample in enumerate(samples)
        for top in range(0, sample.frame.shape[0], 8)
        for left in range(0, sample.frame.shape[1], 8)
    }
    return [known[call["frame"].tobytes()] for call in prepared(made, samples, count)]


def test_of_tiled_samples_the_middle_comes_first(context):
    """4 tiles in the first, 1 in the second, 3 in the third: from the middle round, a tile of each in turn."""
    samples = Images([Sample(noise(16, 16), 0), Sample(noise(8, 8, 1), 0), Sample(noise(8, 24, 2), 0)])
    order = [(0, 2), (1, 0), (2, 1), (0, 3), (2, 2), (0, 0), (2, 0), (0, 1)]
    assert tiles(context, samples, None) == order
    assert tiles(context, samples, 5) == [(0, 2), (1, 0), (2, 1), (0, 3), (2, 2)]
    assert tiles(context, samples, 2) == [(0, 2), (1, 0)]
    assert tiles(context, samples, 100) == order


def test_calibration_takes_at_least_so_many_tiles_and_no_more(context):
    samples = Images(Sample(noise(8, 8 * 40, i), 0) for i in range(10))
    found = tiles(context, samples, None)
    assert len(found) == len(set(found)) == 300
    assert {number: sum(n == number for n, _ in found) for number in range(10)} == dict.fromkeys(range(10), 30)


@pytest.mark.parametrize(
    ("key", "module"), [("compared_by", "edgeattn.tasks.classify"), ("prepared_by", "edgeattn.framing")]
)
def test_int8_knows_who_chose_its_frames_and_judged_it(context, key, module):
    """The setting is chosen by the task's own comparison; which frames it is chosen on is decided in `framing`."""
    built = []
    made = context()
    made.__dict__["build"] = lambda stage, variant, inputs, make: built.append(inputs)
    stages.quantize(made, SimpleNamespace(sha256="0"), Precision.INT8)
    assert built[0][key] == provenance.code_version(module)


def weights(folder, text="{}"):
    folder.mkdir(exist_ok=True)
    for name in WEIGHT_FILES:
        (folder / name).write_text(text)
    return str(folder)


def test_given_weights_are_known_by_their_content(context, tmp_path):
    inputs = stages._train_inputs(context(weights=weights(tmp_path / "a")))
    assert inputs == stages._train_inputs(context(weights=weights(tmp_path / "b"), train={"epochs": 7}, seed=3))
    (tmp_path / "b/weights.safetensors").write_text("other")
    assert inputs != stages._train_inputs(context(weights=str(tmp_path / "b")))
    assert inputs != stages._train_inputs(context())
    other = Splits(Images(), Images(), Images(), ("a", "c"), "f", "t")
    assert inputs != stages._train_inputs(context(other, weights=str(tmp_path / "a")))


@pytest.mark.parametrize("missing", WEIGHT_FILES)
def test_given_weights_that_lack_a_file(context, tmp_path, missing):
    folder = weights(tmp_path / "a")
    (tmp_path / "a" / missing).unlink()
    with pytest.raises(ModelError) as caught:
        stages.trained(context(weights=folder))
    assert str(caught.value).startswith(
        f"The weights in {folder} are incomplete (No such file or directory: {missing});"
    )


def test_given_weights_are_taken_and_not_trained(context, tmp_path, monkeypatch):
    from edgeattn.train import given, run

    taken = []
    monkeypatch.setattr(run, "train", lambda *arguments: pytest.fail("it trained"))
    monkeypatch.setattr(given, "take", lambda recipe, labels, folder, out: taken.append((labels, str(folder))))
    folder = weights(tmp_path / "a")
    assert not stages.train(context(weights=folder)).cached
    assert taken == [(("a", "b"), folder)]


@pytest.mark.parametrize(
    "changes",
    [
        {"metric": "top1"},  # the first anyway
        {"input": {"height": 8, "width": 8, "overlap": 7}},  # nothing is tiled
    ],
)
def test_what_says_the_same_trains_the_same(context, changes):
    assert stages._train_inputs(context(**changes)) == stages._train_inputs(context())


def test_a_network_of_ones_own_trains_anew_when_it_changes(context, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "stagenets").mkdir()
    found = []
    for blocks in ("ONE = 1\n", "ONE = 2\n", "ONE = 1  # again\n"):
        for cached in (provenance._source, provenance._module_hash, provenance._folders):
            cached.cache_clear()
        (tmp_path / "stagenets/net.py").write_text("from stagenets.blocks import ONE\n")
        (tmp_path / "stagenets/blocks.py").write_text(blocks)
        found.append(stages._train_inputs(context(model={"name": "stagenets.net"}))["code"])
    assert found[0] == found[2] != found[1]


def pair(seed, target):
    return Sample(noise(8, 8, seed), target, noise(8, 8, seed + 100))


def test_the_record_of_the_data_knows_targets_and_pairs(context):
    def key(*evaluation):
        splits = Splits(
            Images([pair(1, np.eye(3))]), Images([pair(2, np.eye(3))]), Images(evaluation), (), repr(keys), "t"
        )
        return stages.data_record(context(splits, task="align")).json("data.json")["eval_key"]

    keys: list[str] = []
    keys.append(key(pair(3, np.eye(3))))
    keys.append(key(pair(3, 2 * np.eye(3))))
    keys.append(key(pair(3, np.eye(3, dtype=np.float32))))
    keys.append(key(Sample(noise(8, 8, 3), np.eye(3), noise(8, 8, 4))))
    assert len(set(keys)) == 4
    assert key(pair(3, np.eye(3))) == keys[0]


def test_a_pair_that_is_trained_and_evaluated_on(context):
    splits = Splits(Images([pair(1, 0)]), Images([pair(2, 0)]), Images([pair(1, 1)]), (), "f", "t")
    with pytest.raises(DataError, match=r"2 image\(s\) are in both the train and evaluation splits"):
        stages.data_record(context(splits, task="align"))


def test_one_frame_of_a_pair_that_is_in_another_pair(context):
    first, other = noise(8, 8, 1), noise(8, 8, 2)
    train, evaluation = Images([Sample(first, 0, noise(8, 8, 3))]), Images([Sample(other, 0, first)])
    with pytest.raises(DataError, match=r"1 image\(s\) are in both the train and evaluation splits"):
        stages.data_record(context(Splits(train, Images([pair(9, 0)]), evaluation, (), "f", "t"), task="align"))


FORMATS = {
    "clean": lambda folder: clean.load(clean.Settings(".", noise=25.0, eval_last=2, calibration=2), folder, 0),
    "smaller": lambda folder: clean.load(
        clean.Settings(".", scale=2, noise=5.0, eval_last=2, calibration=2), folder, 0
    ),
    "warps": lambda folder: warps.load(
        warps.Settings(
            ".", 32, (80, 60), 8, pairs=8, eval_pairs=4, calibration_pairs=4, eval_last=2, calibration=2, degraded=1.0
        ),
        folder,
        0,
    ),
}


@pytest.mark.parametrize("copied", [None, "train", "calibration"])
@pytest.mark.parametrize("name", FORMATS)
def test_the_same_pixels_in_another_kind_of_file_of_another_split(context, tmp_path, name, copied):
    """A PNG that is trained or calibrated on, and a BMP that is evaluated on: other bytes, noise and patches."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(8):
        cv2.imwrite(str(folder / f"{number}.png"), noise(60, 80, number))
    splits = FORMATS[name](folder)
    if copied is not None:
        (folder / "7.png").unlink()
        cv2.imwrite(str(folder / "7.bmp"), cv2.imread(str(folder / getattr(splits, copied).files[0])))
        splits = FORMATS[name](folder)
    task = "align" if name == "warps" else "restore"
    if copied is None:
        record = stages.data_record(context(splits, task=task)).json("data.json")
        frames = splits.evaluation
        hashes = [sample_hash(frames[i]) for i in range(len(frames))]
        assert record["eval_sha256"] == set_hash(hashes), "of the frames, as before"
        return
    with pytest.raises(DataError) as caught:
        stages.data_record(context(splits, task=task))
    assert str(caught.value).startswith(f"1 image(s) are in both the {copied} and evaluation splits (same pixels)")
