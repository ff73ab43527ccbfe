import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeattn.data.base import assert_disjoint, dataset_hashes
from edgeattn.data.calibration import MANIFEST, read_calibration, write_calibration
from edgeattn.data.scenes import Scenes, Settings, load
from edgeattn.errors import DataError

COMMITTED = Path(__file__).parents[2] / "calibration_data" / "digit_scenes"
SMALL = Settings(train=20, calibration=10, evaluation=10)


def test_defaults_and_targets(tmp_path: Path) -> None:
    splits = load(Settings(), tmp_path, 0)
    assert (len(splits.train), len(splits.calibration), len(splits.evaluation)) == (12000, 300, 2000)
    assert splits.labels == tuple("0123456789")
    sample = splits.evaluation[5]
    assert sample.frame.shape == (64, 64, 3)
    assert sample.target == splits.evaluation.plan(5).digits[0].label
    assert splits.evaluation.name(5) == "evaluation/000005"


def test_samples_do_not_depend_on_order_process_or_length(tmp_path: Path) -> None:
    scenes = load(SMALL, tmp_path, 0).train
    forwards = dataset_hashes(scenes)
    copy = pickle.loads(pickle.dumps(scenes))
    assert [dataset_hashes(copy)[i] for i in range(20)] == forwards
    longer = load(replace(SMALL, train=500), tmp_path, 0).train
    np.testing.assert_array_equal(longer[19].frame, scenes[19].frame)
    assert len(pickle.dumps(scenes)) < 1000
    with pytest.raises(IndexError):
        scenes[20]


def test_splits_share_no_image(tmp_path: Path) -> None:
    splits = load(SMALL, tmp_path, 0)
    train, calibration, evaluation = map(dataset_hashes, (splits.train, splits.calibration, splits.evaluation))
    assert len(set(train + calibration + evaluation)) == 40
    assert_disjoint(train, evaluation, "train and evaluation")


def test_several_digits_give_all_labels() -> None:
    scenes = Scenes("train", 3, seed=0, size=96, digits=4)
    sample = scenes[1]
    assert sample.frame.shape == (96, 96, 3)
    assert sample.target == tuple(digit.label for digit in scenes.plan(1).digits)
    assert len(sample.target) == 4


def test_fingerprint_follows_content(tmp_path: Path) -> None:
    same = load(SMALL, tmp_path, 0).fingerprint
    assert load(SMALL, tmp_path, 0).fingerprint == same
    others = [
        load(replace(SMALL, **{name: 40}), tmp_path, 0) for name in ("size", "train", "calibration", "evaluation")
    ]
    others += [load(SMALL, tmp_path, 1), load(replace(SMALL, digits=2), tmp_path, 0)]
    others += [load(replace(SMALL, calibration_dir=str(COMMITTED)), tmp_path, 0)]
    assert len({same, *(splits.fingerprint for splits in others)}) == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 16}, r"data\.size .* 32 to 1024, got 16"),
        ({"digits": 0}, r"data\.digits .* got 0"),
        ({"evaluation": 0}, r"data\.evaluation .* got 0"),
        ({"calibration_dir": "no/such/folder"}, "no calibration folder .*no/such/folder"),
    ],
)
def test_settings_that_make_no_sense(changes: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        load(replace(SMALL, **changes), tmp_path, 0)


def test_calibration_files_replace_generated_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = load(SMALL, tmp_path, 0)
    write_calibration(
        source.calibration, source.labels, tmp_path / "files", name="n", source="s", licence="l", rebuild="r"
    )
    monkeypatch.chdir(tmp_path)
    splits = load(replace(SMALL, calibration_dir="files"), tmp_path, 0)
    assert dataset_hashes(splits.calibration) == dataset_hashes(source.calibration)
    manifest = json.loads((tmp_path / "files" / MANIFEST).read_text())
    manifest["labels"] = ["cat", "dog"]
    (tmp_path / "files" / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="not the digits 0 to 9"):
        load(replace(SMALL, calibration_dir="files"), tmp_path, 0)


def test_committed_calibration_files_are_what_the_generator_gives(tmp_path: Path) -> None:
    committed = read_calibration(COMMITTED)
    generated = load(Settings(), tmp_path, 0).calibration
    assert len(committed) == len(generated) == 300
    for index in range(300):
        ours, theirs = generated[index], committed[index]
        assert (ours.target, generated.name(index)) == (theirs.target, committed.name(index))
        # Another OpenCV may round an interpolation the other way.
        difference = np.abs(ours.frame.astype(int) - theirs.frame)
        assert difference.max() <= 3 and difference.mean() < 0.1


def test_the_recipe_s_calibration_folder_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    splits = load(Settings(calibration_dir="calibration_data/digit_scenes"), tmp_path, 0)
    assert len(splits.calibration) == 300
