import json
import pickle
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sample_hashes import dataset_hashes

from edgeattn.cli.calibration import command
from edgeattn.data.base import assert_disjoint
from edgeattn.data.calibration import MANIFEST, read_calibration, write_calibration
from edgeattn.data.scene_source import LABELS
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
    others += [load(SMALL, tmp_path, 1), load(replace(SMALL, calibration_dir=str(COMMITTED)), tmp_path, 0)]
    assert len({same, *(splits.fingerprint for splits in others)}) == 7


def test_training_fingerprint_does_not_follow_calibration(tmp_path: Path) -> None:
    same = load(SMALL, tmp_path, 0).training_fingerprint
    for changes in ({"calibration": 40}, {"calibration_dir": str(COMMITTED)}):
        assert load(replace(SMALL, **changes), tmp_path, 0).training_fingerprint == same
    others = [load(replace(SMALL, **{name: 40}), tmp_path, 0) for name in ("size", "train", "evaluation")]
    others += [load(SMALL, tmp_path, 1)]
    assert len({same, *(splits.training_fingerprint for splits in others)}) == 5


def test_fingerprint_follows_committed_files_not_the_words_about_them(tmp_path: Path) -> None:
    def fingerprint(**changes: object) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(COMMITTED, folder)
        manifest = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).write_text(json.dumps(manifest | changes))
        return load(replace(SMALL, calibration_dir=str(folder)), tmp_path, 0).fingerprint

    files = json.loads((COMMITTED / MANIFEST).read_text())["files"]
    same = fingerprint()
    assert fingerprint(source="elsewhere", licence="x", rebuild="y", name="z") == same
    assert fingerprint(files=files[1:]) != same
    assert fingerprint(files=[files[0] | {"target": 9}, *files[1:]]) != same


def test_committed_scenes_of_another_size_are_refused(tmp_path: Path) -> None:
    says = r"64-pixel scenes.*asks for 96.*data\.calibration_dir=null or rebuild.*edgeattn calibration"
    with pytest.raises(DataError, match=says):
        load(replace(SMALL, size=96, calibration_dir=str(COMMITTED)), tmp_path, 0)
    several = Scenes("calibration", 3, seed=0, digits=2)
    write_calibration(
        several, LABELS, tmp_path / "two", name="n", source="", licence="", rebuild="", settings=several.settings
    )
    with pytest.raises(DataError, match="2 digit"):
        load(replace(SMALL, calibration_dir=str(tmp_path / "two")), tmp_path, 0)


def test_the_command_rebuilds_what_is_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the images' hashes, which another OpenCV may change by a rounding."""
    shutil.copytree(COMMITTED.parents[1] / "pipelines", tmp_path / "pipelines")
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(command, ["digit_scenes", "--out", "calibration_data/digit_scenes"])
    assert ended.exit_code == 0, ended.output
    ours, theirs = (
        re.sub(r'"sha256": "\w{64}"', "", (folder / MANIFEST).read_text())
        for folder in (tmp_path / "calibration_data" / "digit_scenes", COMMITTED)
    )
    assert ours == theirs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 16}, r"data\.size .* 32 to 1024, got 16"),
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
