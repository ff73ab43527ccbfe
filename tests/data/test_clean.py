import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from sample_hashes import dataset_hashes

from edgeattn import data
from edgeattn.data.base import assert_disjoint
from edgeattn.data.clean import Settings, load
from edgeattn.data.degrade import Degradation
from edgeattn.errors import DataError, RecipeError
from edgeattn.imaging import encode_png
from edgeattn.metrics.restoration import psnr_db
from edgeattn.recipe import parse_settings

DATA = os.environ.get("EDGEATTN_DATA")


def folder(path: Path, layout: dict[str, int], size: tuple[int, int] = (13, 18)) -> Path:
    """`layout`: folder -> number of images in it; all images differ."""
    rng = np.random.default_rng(0)
    for name, count in layout.items():
        (path / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            pixels = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
            (path / name / f"{index:02d}.png").write_bytes(encode_png(pixels))
    return path


def names(dataset) -> list[str]:
    return [dataset.name(i) for i in range(len(dataset))]


def test_found_by_its_name() -> None:
    assert "clean" in data.names()
    assert data.find("clean").load is load


def test_named_splits(tmp_path: Path) -> None:
    splits = load(Settings(".", train="a", evaluation="b", calibration=2), folder(tmp_path, {"a": 8, "b": 3}), 0)
    assert names(splits.evaluation) == ["b/00.png", "b/01.png", "b/02.png"]
    assert sorted(names(splits.train) + names(splits.calibration)) == [f"a/{i:02d}.png" for i in range(8)]
    assert len(splits.calibration) == 2
    assert splits.kind == "image" and splits.labels == ()


def test_everything_but_the_evaluation_folder_trains(tmp_path: Path) -> None:
    splits = load(Settings(".", evaluation="b"), folder(tmp_path, {"a": 4, "b": 3, "c/d": 4}), 0)
    assert len(splits.train) + len(splits.calibration) == 8
    assert all(name.startswith("b/") for name in names(splits.evaluation))


@pytest.mark.parametrize(("fields", "held_out"), [({"eval_last": 3}, 3), ({}, 2), ({"eval_fraction": 0.5}, 5)])
def test_the_last_by_name_are_held_out(tmp_path: Path, fields: dict, held_out: int) -> None:
    splits = load(Settings("pics", **fields), folder(tmp_path, {"pics": 10}), 0)
    assert names(splits.evaluation) == [f"{i:02d}.png" for i in range(10 - held_out, 10)]


def test_samples_are_fixed_by_seed_and_index(tmp_path: Path) -> None:
    folder(tmp_path, {"": 6})
    settings = Settings(".", eval_last=2, noise=25.0)
    splits, again, other = load(settings, tmp_path, 1), load(settings, tmp_path, 1), load(settings, tmp_path, 2)
    for part in ("train", "calibration", "evaluation"):
        sample = getattr(splits, part)[0]
        assert (sample.frame == getattr(again, part)[0].frame).all()
        assert (sample.frame != sample.target).any()
    first = splits.evaluation[1]
    assert (first.frame == splits.evaluation[-1].frame).all()
    assert (first.frame == pickle.loads(pickle.dumps(splits.evaluation))[1].frame).all()
    assert (first.target == other.evaluation[1].target).all() and (first.frame != other.evaluation[1].frame).any()
    noise = [splits.evaluation[i].frame.astype(int) - splits.evaluation[i].target for i in range(2)]
    assert (noise[0] != noise[1]).any()
    assert splits.fingerprint != other.fingerprint
    assert_disjoint(dataset_hashes(splits.train), dataset_hashes(splits.evaluation), "train and evaluation")


def test_sides_are_cropped_to_the_scale(tmp_path: Path) -> None:
    """13 x 18 pixels at a quarter: 12 x 16 become 3 x 4."""
    splits = load(Settings(".", scale=4), folder(tmp_path, {"": 6}), 0)
    sample = splits.train[0]
    assert sample.frame.shape == (3, 4, 3) and sample.target.shape == (12, 16, 3)
    whole = cv2.imread(str(tmp_path / splits.train.name(0)))
    assert (sample.target == whole[:12, :16]).all()


def test_grey_images_stay_grey(tmp_path: Path) -> None:
    sample = load(Settings(".", grey=True, noise=30.0), folder(tmp_path, {"": 6}), 0).train[0]
    for image in (sample.frame, sample.target):
        assert (image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all()
    assert (sample.frame != sample.target).any()


def test_noise_of_its_own_for_evaluation(tmp_path: Path) -> None:
    folder(tmp_path, {"": 6}, (80, 80))
    splits = load(Settings(".", noise=(0.0, 1.0), evaluation_noise=40.0), tmp_path, 0)
    levels = [
        (part[0].frame.astype(float) - part[0].target)[np.abs(part[0].target.astype(int) - 128) < 10].std()
        for part in (splits.train, splits.calibration, splits.evaluation)
    ]
    assert levels[0] < 2 and levels[1] < 2 and levels[2] == pytest.approx(40, abs=3)
    assert splits.degradation == Degradation(noise=(0.0, 1.0))


def test_fingerprints_follow_content_and_degradation(tmp_path: Path) -> None:
    folder(tmp_path, {"": 8})
    base = load(Settings(".", noise=5.0, calibration=2), tmp_path, 0)
    assert load(Settings(".", noise=5.0, calibration=2), tmp_path, 0).fingerprint == base.fingerprint
    changed = [{"noise": 6.0}, {"noise": 5.0, "grey": True}, {"noise": 5.0, "holes": 0.1}, {"noise": 5.0, "scale": 2}]
    changed += [{"noise": 5.0, "evaluation_noise": 6.0}, {"noise": 5.0, "eval_last": 3}]
    changed += [{"noise": 5.0, "holes": 0.1, "hole_px": 12}]
    prints = {load(Settings(".", calibration=2, **fields), tmp_path, 0).fingerprint for fields in changed}
    assert len(prints | {base.fingerprint}) == len(changed) + 1
    assert load(Settings(".", noise=5.0, calibration=2, hole_px=12), tmp_path, 0).fingerprint == base.fingerprint
    (tmp_path / "00.png").write_bytes(encode_png(np.zeros((12, 12, 3), np.uint8)))
    assert load(Settings(".", noise=5.0, calibration=2), tmp_path, 0).training_fingerprint != base.training_fingerprint


def test_the_size_of_holes_is_the_recipes(tmp_path: Path) -> None:
    folder(tmp_path, {"": 6}, (80, 80))
    splits = load(Settings(".", holes=0.2, hole_px=8), tmp_path, 0)
    assert splits.degradation == Degradation(holes=0.2, hole_px=8)
    with pytest.raises(DataError, match=r"^data: hole_px must be at least 1, got 0\.$"):
        load(Settings(".", holes=0.2, hole_px=0), tmp_path, 0)


def test_settings_are_read_from_a_recipe() -> None:
    settings = parse_settings(Settings, {"path": "x", "noise": [0, 55], "grey": True}, "data")
    assert settings == Settings("x", noise=(0.0, 55.0), grey=True)
    with pytest.raises(RecipeError, match="scale"):
        parse_settings(Settings, {"path": "x", "scale": 3}, "data")


@pytest.mark.parametrize(
    ("layout", "fields", "says"),
    [
        ({"a": 3}, {"train": "b"}, "no images in .*b "),
        ({"a": 3}, {"evaluation": "a"}, "leaves 0 image"),
        ({"a": 3}, {"eval_last": 3}, "3 of the 3 image.* data.eval_last"),
        ({"a": 3}, {"eval_last": 2}, "leaves 1 image"),
        ({"a": 3}, {"eval_fraction": 1.0}, "data.eval_fraction must lie between 0 and 1"),
        ({"a": 6}, {"calibration": 0}, "data.calibration must be at least 1"),
        ({"a": 6}, {"noise": -3.0}, "data: noise must lie in 0..255.*-3"),
        ({"a": 6, "b": 4}, {"train": "a", "evaluation": "a"}, "evaluation split is the same image as"),
    ],
)
def test_what_cannot_be_split_is_refused(tmp_path: Path, layout: dict[str, int], fields: dict, says: str) -> None:
    with pytest.raises(DataError, match=says):
        load(Settings(".", **fields), folder(tmp_path, layout), 0)


def test_a_copy_in_another_split_is_found(tmp_path: Path) -> None:
    folder(tmp_path, {"a": 6, "b": 2})
    (tmp_path / "b" / "copy.png").write_bytes((tmp_path / "a" / "03.png").read_bytes())
    with pytest.raises(DataError, match=r"b/copy.png in the evaluation split is the same image as .*a/03.png"):
        load(Settings(".", train="a", evaluation="b"), tmp_path, 0)


def test_files_that_are_no_images(tmp_path: Path) -> None:
    folder(tmp_path, {"a": 6})
    (tmp_path / "a" / "notes.txt").write_text("x")
    (tmp_path / "a" / ".hidden.png").write_text("x")
    (tmp_path / "a" / "05.png").write_bytes(b"not a PNG")
    splits = load(Settings("a", eval_last=1), tmp_path, 0)
    assert names(splits.evaluation) == ["05.png"]
    with pytest.raises(DataError, match=r"05.png is not an image"):
        splits.evaluation[0]
    with pytest.raises(DataError, match="is no folder"):
        load(Settings("a/notes.txt"), tmp_path, 0)


def test_an_image_smaller_than_the_scale(tmp_path: Path) -> None:
    splits = load(Settings(".", scale=4), folder(tmp_path, {"": 6}, (3, 9)), 0)
    with pytest.raises(DataError, match="smaller than 4 x 4 pixels"):
        splits.train[0]


@pytest.mark.skipif(not DATA, reason="EDGEATTN_DATA is not set")
def test_set12() -> None:
    """Noise of sigma 25 has 20.17 dB; clipping it to 0..255 removes a little."""
    settings = Settings("denoise_train400_set12", train="train400", evaluation="Set12", grey=True, noise=25.0)
    splits = load(settings, Path(DATA or ""), 0)
    assert (len(splits.train), len(splits.calibration), len(splits.evaluation)) == (300, 100, 12)
    noisy = [psnr_db(s.target, s.frame) for s in (splits.evaluation[i] for i in range(12))]
    assert np.mean(noisy) == pytest.approx(20.34, abs=0.03)


def test_an_image_in_both_folders_of_which_one_is_too_large_to_be_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path, {"a": 6, "a/b": 1})
    monkeypatch.setattr("edgeattn.data.labelled.HASHED_BYTES_MAX", 2 * (tmp_path / "a/b/00.png").stat().st_size)
    with pytest.raises(DataError, match=r"a/b/00\.png in the evaluation split is the same image as"):
        load(Settings(".", train="a", evaluation="a/b", calibration=1), tmp_path, 3)
