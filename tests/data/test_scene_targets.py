"""Digit scenes for every kind of target. Labels, the first kind there was, are in test_scenes.py."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from sample_hashes import dataset_hashes

from edgeattn.cli.calibration import command
from edgeattn.data import scenes
from edgeattn.data.base import assert_disjoint
from edgeattn.data.calibration import MANIFEST, read_calibration, write_calibration
from edgeattn.data.scene_plan import make_second_view
from edgeattn.data.scene_render import add_sensor
from edgeattn.data.scenes import Scenes, Settings, load
from edgeattn.errors import DataError

DIGITS = tuple("0123456789")
TARGETS = ("label", "mask", "boxes", "homography", "image")
SMALL = Settings(train=12, calibration=6, evaluation=8, size=96, digits=3)


def splits_of(target: str, tmp_path: Path = Path(), **changes: object):
    digits = {"digits": 1} if target == "label" else {}
    return load(replace(SMALL, target=target, **digits, **changes), tmp_path, 0)


@pytest.mark.parametrize(
    ("target", "labels", "dtype", "shape"),
    [
        ("mask", ("background", *DIGITS), np.uint8, (96, 96)),
        ("boxes", DIGITS, np.float32, (3, 5)),
        ("homography", (), np.float64, (3, 3)),
        ("image", (), np.uint8, (96, 96, 3)),
    ],
)
def test_what_each_kind_is(target, labels, dtype, shape) -> None:
    splits = splits_of(target)
    assert (splits.kind, splits.labels, splits.degradation) == (target, labels, None)
    for split in (splits.train, splits.calibration, splits.evaluation):
        sample = split[1]
        assert (sample.target.dtype, sample.target.shape) == (dtype, shape)
        assert sample.frame.shape == (96, 96, 3) and sample.frame.dtype == np.uint8
        assert (sample.second is not None) == (target == "homography")


def test_every_kind_shows_the_same_scene() -> None:
    frames = [splits_of(target).train[2].frame for target in TARGETS[1:]]
    assert all(np.array_equal(frames[0], frame) for frame in frames)
    one = [Scenes("train", 5, seed=0, target=target)[4].frame for target in TARGETS]
    assert all(np.array_equal(one[0], frame) for frame in one)


def test_labels_are_as_they_ever_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pinned before the other kinds came: artifacts made then stay valid."""
    monkeypatch.setattr(scenes, "fingerprint", lambda: "source")
    splits = load(Settings(), Path(), 0)
    assert splits.fingerprint == "scenes-8b3797435665514cba7e2f2388d6e3a7"
    assert splits.training_fingerprint == "scenes-f966a565bc0b358ef3b6302757381d3e"
    assert load(Settings(digits=1, noise=8, target="label"), Path(), 0).fingerprint == splits.fingerprint
    chosen = []
    for split in (splits.train, splits.calibration, splits.evaluation):
        for plan in map(split.plan, range(50)):
            (digit,), camera = plan.digits, plan.camera
            chosen.append(
                f"{digit.glyph} {digit.x:.4f} {digit.y:.4f} {digit.scale:.5f} {digit.angle_deg:.4f} {plan.region.left} "
                f"{plan.crop_left:.4f} {camera.gain:.4f} {camera.blur_px:.4f} {camera.noise:.4f} {camera.noise_seed}"
            )
    assert chosen[3] == ("1458 45.7903 43.8567 0.48384 15.5990 0 96.0909 0.9540 0.4032 2.9148 2043893842011843313")
    pinned = "bdb3e0d9be76949279af57861ce7e0a121ffb7e800a33c97b835f7181f49c04b"
    assert hashlib.sha256("\n".join(chosen).encode()).hexdigest() == pinned


@pytest.mark.parametrize(("size", "digits"), [(96, 3), (128, 5), (128, 9)])
def test_boxes_enclose_what_the_mask_shows(size: int, digits: int) -> None:
    marked = Scenes("evaluation", 15, seed=2, size=size, digits=digits, target="mask")
    boxed = Scenes("evaluation", 15, seed=2, size=size, digits=digits, target="boxes")
    touching = 0
    for index in range(15):
        mask, boxes = marked[index].target, boxed[index].target.astype(int)
        assert [row[4] for row in boxes] == [digit.label for digit in boxed.plan(index).digits]
        for x1, y1, x2, y2, label in boxes:
            ink = mask[y1:y2, x1:x2] == label + 1
            assert ink[0].any() and ink[-1].any() and ink[:, 0].any() and ink[:, -1].any()
            touching += min(x1, y1, size - x2, size - y2) <= 1
            mask[y1:y2, x1:x2][ink] = 0
        assert not mask.any()  # nothing is marked that no box of its class encloses
    assert touching or size > 96  # rims are among what was looked at


def test_the_homography_takes_the_first_view_to_the_second() -> None:
    """The first view, warped, has its edges where the second view has them, to less than two pixels."""
    pairs = Scenes("evaluation", 12, seed=1, size=96, digits=4, target="homography")
    for index in range(12):
        sample = pairs[index]
        assert sample.target[2, 2] == 1
        corners = np.array([[0, 0, 1], [95, 0, 1], [95, 95, 1], [0, 95, 1]], float).T
        moved = sample.target @ corners
        assert 1 < np.abs(moved[:2] / moved[2] - corners[:2]).max() <= 0.12 * 96 + 1e-9
        warped = cv2.warpPerspective(sample.frame, sample.target, (96, 96)).astype(float)
        inside = cv2.warpPerspective(np.ones((96, 96), np.uint8), sample.target, (96, 96)) > 0
        inside = cv2.erode(inside.astype(np.uint8), np.ones((7, 7)), borderValue=0) > 0

        def unlike(first, second=sample.second, inside=inside):
            """1 - correlation of the edges, which another light hardly changes."""
            a, b = (
                cv2.Laplacian(cv2.GaussianBlur(x.astype(np.float32), (0, 0), 1.5), cv2.CV_32F) for x in (first, second)
            )
            return 1 - np.corrcoef(a[inside].ravel(), b[inside].ravel())[0, 1]

        assert unlike(warped) < 0.5 * unlike(sample.frame)
        assert unlike(warped) < unlike(np.roll(warped, 2, axis=0))
        assert unlike(warped) < unlike(np.roll(warped, 2, axis=1))


def test_second_views_are_of_their_own_light_and_noise_as_strong_as_asked() -> None:
    pairs = Scenes("train", 4, seed=3, size=96, digits=4, target="homography", noise=40)
    second = make_second_view(pairs.plan(0), seed=3, noise=40)
    np.testing.assert_array_equal(second.homography, pairs[0].target)
    calm = make_second_view(pairs.plan(0), seed=3)
    np.testing.assert_array_equal(calm.homography, second.homography)
    assert second.camera == replace(calm.camera, noise=calm.camera.noise * 5)  # 40 / 8
    assert second.camera.noise_seed != pairs.plan(0).camera.noise_seed


def test_the_clean_image_is_the_frame_without_its_sensor() -> None:
    clear, noisy = (Scenes("train", 30, seed=0, size=96, digits=4, target="image", noise=n) for n in (0, 30))
    errors = []
    for index in range(30):
        sample, camera = noisy[index], noisy.plan(index).camera
        np.testing.assert_array_equal(sample.target, clear[index].target)
        np.testing.assert_array_equal(sample.frame, add_sensor(sample.target, camera))
        assert camera.noise <= 30
        errors.append((sample.frame.astype(float) - sample.target).std())
    # Noise of 0 to 30, drawn evenly: 15 on the average, a little less where it is cut off at 0, more where blurred.
    assert 11 < np.mean(errors) < 19


@pytest.mark.parametrize("target", TARGETS)
def test_splits_share_nothing(target: str) -> None:
    splits = splits_of(target)
    hashes = [dataset_hashes(split) for split in (splits.train, splits.calibration, splits.evaluation)]
    assert len({value for split in hashes for value in split}) == 26
    assert_disjoint(hashes[0], hashes[2], "train and evaluation")
    train, evaluation = ([split.plan(i) for i in range(len(split))] for split in (splits.train, splits.evaluation))
    glyphs = [{digit.glyph for plan in plans for digit in plan.digits} for plans in (train, evaluation)]
    assert not glyphs[0] & glyphs[1]
    assert not any(first.region.overlaps(second.region) for first in train for second in evaluation)


DIGEST = """
import hashlib, sys
from pathlib import Path
import numpy as np
from edgeattn.data.scenes import Settings, load
for target in ("mask", "boxes", "homography", "image"):
    split = load(Settings(train=12, size=96, digits=3, target=target), Path(), 0).train
    for index in (int(i) for i in sys.argv[1:]):
        sample = split[index]
        parts = (*sample.frames, np.asarray(sample.target))
        print(target, index, hashlib.sha256(b"".join(p.tobytes() for p in parts)).hexdigest())
"""


def test_another_process_makes_the_same_in_any_order() -> None:
    forwards, backwards = (
        subprocess.run([sys.executable, "-c", DIGEST, *order], capture_output=True, text=True, check=True).stdout
        for order in (("0", "5", "11"), ("11", "5", "0"))
    )
    assert sorted(forwards.split("\n")) == sorted(backwards.split("\n"))
    assert len(set(forwards.split())) == 4 + 3 + 12
    for target in TARGETS[1:]:
        scene = splits_of(target).train
        copy = pickle.loads(pickle.dumps(scene))[5]
        digest = hashlib.sha256(b"".join(part.tobytes() for part in (*copy.frames, copy.target))).hexdigest()
        assert f"{target} 5 {digest}" in forwards


def test_the_fingerprint_follows_target_digits_and_noise() -> None:
    changes = [{"target": target} for target in TARGETS[1:]]
    changes += [{"target": "mask", "digits": 4}, {"target": "mask", "noise": 9.0}, {"target": "mask", "noise": 0}]
    every = [load(replace(SMALL, **change), Path(), 0) for change in changes]
    assert len({splits.fingerprint for splits in every}) == 7
    assert len({splits.training_fingerprint for splits in every}) == 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"digits": 3}, r"one label, so data\.digits must be 1 with data\.target=label, got 3"),
        ({"digits": 0, "target": "mask"}, r"data\.digits .* 1 to 64, got 0"),
        ({"noise": -1}, r"data\.noise .* 0 to 100, got -1"),
        ({"digits": 5, "size": 64, "target": "boxes"}, r"5 digits in 64 pixels .* data\.size must be at least 72"),
    ],
)
def test_settings_that_make_no_sense(changes: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(Settings(**changes), Path(), 0)
    load(Settings(digits=4, size=64, target="boxes"), Path(), 0)  # 4 cells of 32 pixels


@pytest.mark.parametrize("target", TARGETS[1:])
def test_calibration_files_hold_the_frames(target: str, tmp_path: Path) -> None:
    made = splits_of(target)
    settings = made.calibration.settings
    assert settings == {"size": 96, "digits": 3, "seed": 0, "target": target}
    out = tmp_path / "files"
    write_calibration(
        made.calibration, made.labels, out, name="n", source="", licence="", rebuild="", settings=settings
    )
    splits = splits_of(target, calibration_dir=str(out))
    assert splits.labels == made.labels
    assert splits.training_fingerprint == made.training_fingerprint and splits.fingerprint != made.fingerprint
    for index in range(6):
        kept, sample = splits.calibration[index], made.calibration[index]
        assert kept.target is None
        assert len(kept.frames) == len(sample.frames)
        assert all(np.array_equal(a, b) for a, b in zip(kept.frames, sample.frames, strict=True))
    other = "boxes" if target == "mask" else "mask"
    with pytest.raises(
        DataError, match=f"96-pixel scenes of 3 .*target={target}, the recipe asks for .*target={other}"
    ):
        splits_of(other, calibration_dir=str(out))
    with pytest.raises(DataError, match=r"asks for 96-pixel scenes of 3 digit\(s\) with noise up to 30"):
        splits_of(target, calibration_dir=str(out), noise=30)


def test_the_second_image_of_a_pair_counts(tmp_path: Path) -> None:
    made = splits_of("homography")
    settings = made.calibration.settings
    write_calibration(
        made.calibration, (), tmp_path / "a", name="n", source="", licence="", rebuild="", settings=settings
    )
    before = splits_of("homography", calibration_dir=str(tmp_path / "a")).fingerprint
    assert sorted(path.name for path in (tmp_path / "a").iterdir())[:2] == ["0000-second.png", "0000.png"]
    manifest = json.loads((tmp_path / "a" / MANIFEST).read_text())
    first, second = manifest["files"][:2]
    first["second"], second["second"] = second["second"], first["second"]
    (tmp_path / "a" / MANIFEST).write_text(json.dumps(manifest))
    assert splits_of("homography", calibration_dir=str(tmp_path / "a")).fingerprint != before
    for file, message in (("0009-second.png", "cannot be read"), ("../x.png", "outside its folder")):
        first["second"] = {"file": file, "sha256": ""}
        (tmp_path / "a" / MANIFEST).write_text(json.dumps(manifest))
        with pytest.raises(DataError, match=message):
            read_calibration(tmp_path / "a")
    first["second"] = "0000-second.png"
    (tmp_path / "a" / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="is not a calibration manifest"):
        read_calibration(tmp_path / "a")


def test_the_command_writes_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = (Path(__file__).parents[2] / "pipelines" / "digit_scenes.yaml").read_text()
    recipe = recipe.replace("calibration_dir: calibration_data/digit_scenes", "calibration: 3\n  target: homography")
    (tmp_path / "pairs.yaml").write_text(recipe)
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(command, ["pairs.yaml", "--out", "files"])
    assert ended.exit_code == 0, ended.output
    assert len(list((tmp_path / "files").glob("*.png"))) == 6
    assert read_calibration(tmp_path / "files").name(2) == "calibration/000002"
