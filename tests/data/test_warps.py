from __future__ import annotations

import os
import pickle
from dataclasses import replace

import cv2
import numpy as np
import pytest

from edgeattn.data import warps
from edgeattn.data.base import Derived, frame_hash, sources
from edgeattn.data.warps import Settings, degrade, is_degraded, load, make_pair
from edgeattn.errors import DataError
from edgeattn.imaging import encode_png
from edgeattn.metrics.alignment import corners, project

SMALL = Settings(".", size=32, photo=(80, 60), displacement=8, pairs=12, eval_pairs=8, calibration_pairs=4)


def smooth(high, wide, seed):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (high // 10, wide // 10, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (wide, high), interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Ten photographs 0.png … 9.png, every third higher than wide."""
    for value in range(10):
        shape = (120, 90) if value % 3 == 0 else (90, 120)
        (tmp_path / f"{value}.png").write_bytes(encode_png(smooth(*shape, value)))
    return tmp_path


def names(dataset):
    return {dataset.name(i).split("#")[0] for i in range(len(dataset))}


def test_splits_share_no_photograph(folder):
    splits = load(SMALL, folder, 0)
    assert (len(splits.train), len(splits.calibration), len(splits.evaluation)) == (12, 4, 8)
    assert names(splits.evaluation) == {"8.png", "9.png"}  # a fifth, the last by name
    assert len(names(splits.calibration)) == 2 and len(names(splits.train)) == 6
    assert not names(splits.calibration) & names(splits.train)
    assert (splits.kind, splits.labels, splits.degradation) == ("homography", (), None)
    assert names(load(replace(SMALL, eval_last=3), folder, 0).evaluation) == {"7.png", "8.png", "9.png"}


def test_pairs_of_one_photograph_have_one_source(folder):
    evaluation = load(SMALL, folder, 0).evaluation
    assert sources(evaluation) == [evaluation.name(i).partition("#")[0] for i in range(len(evaluation))]
    assert len(set(sources(evaluation))) < len(evaluation)


def test_it_knows_its_photographs_by_their_pixels(folder):
    splits = load(SMALL, folder, 0)
    assert isinstance(splits.train, Derived)
    assert splits.evaluation.origins() == [frame_hash(cv2.imread(str(folder / name))) for name in ("8.png", "9.png")]
    cv2.imwrite(str(folder / "9.bmp"), cv2.imread(str(folder / "0.png")))
    (folder / "9.png").unlink()
    assert set(load(SMALL, folder, 0).evaluation.origins()) & set(
        splits.train.origins() + splits.calibration.origins()
    ) == {frame_hash(cv2.imread(str(folder / "0.png")))}


def test_the_corners_move_by_up_to_the_displacement():
    photo, rng = smooth(240, 320, 0), np.random.default_rng(0)
    moves = []
    for _ in range(300):
        sample = make_pair(photo, 128, 32.0, rng)
        assert sample.frame.shape == sample.second.shape == (128, 128, 3)
        moves.append(project(sample.target, corners(128, 128)) - corners(128, 128))
    found = np.abs(moves)
    assert 31 < found.max() <= 32 + 1e-6
    # A uniform displacement in [-32, 32]^2 is 24.5 px long in the mean.
    assert np.linalg.norm(moves, axis=-1).mean() == pytest.approx(24.5, abs=0.6)


def test_the_target_takes_a_to_b():
    """a, warped by the target, is b: 1.5 grey levels apart, of which interpolation twice is the cause."""
    photo, rng = smooth(240, 320, 1), np.random.default_rng(1)
    for _ in range(5):
        sample = make_pair(photo, 128, 32.0, rng)
        seen = cv2.warpPerspective(sample.frame, sample.target, (128, 128))
        covered = cv2.warpPerspective(np.full((128, 128), 255, np.uint8), sample.target, (128, 128)) == 255
        assert covered.mean() > 0.2
        assert np.abs(seen.astype(int) - sample.second)[covered].mean() < 2
        wrong = cv2.warpPerspective(sample.frame, np.linalg.inv(sample.target), (128, 128))
        assert np.abs(wrong.astype(int) - sample.second)[covered].mean() > 10


def test_nothing_outside_the_photograph_is_seen():
    sample = make_pair(np.full((240, 320, 3), 77, np.uint8), 128, 32.0, np.random.default_rng(0))
    assert (sample.frame == 77).all() and (sample.second == 77).all()


def test_a_pair_depends_on_seed_split_and_index_alone(folder):
    splits = load(SMALL, folder, 0)
    late = splits.train[5]
    again = pickle.loads(pickle.dumps(load(SMALL, folder, 0))).train[5]
    assert (late.frame == again.frame).all() and (late.second == again.second).all()
    assert (late.target == again.target).all()
    assert not np.array_equal(late.target, load(SMALL, folder, 1).train[5].target)
    assert not np.array_equal(late.target, splits.evaluation[5].target)
    assert not np.array_equal(late.target, splits.train[6].target)


@pytest.mark.parametrize("index", [-1, 12])
def test_beyond_the_last_pair(folder, index):
    with pytest.raises(IndexError):
        load(SMALL, folder, 0).train[index]


def test_both_kinds_are_evaluated_on_the_same_pairs(folder):
    clean, degraded = (load(replace(SMALL, eval_degraded=share), folder, 0).evaluation for share in (0.0, 1.0))
    for index in range(8):
        assert (clean[index].target == degraded[index].target).all()
        assert (clean[index].frame != degraded[index].frame).mean() > 0.8
        assert (clean[index].second != degraded[index].second).mean() > 0.8


@pytest.mark.parametrize("eval_last", [1, 2])
def test_every_photograph_is_seen_clean_and_degraded(folder, eval_last):
    """Of 7 or 6 training photographs; three turns are enough for a share of one half."""
    settings = replace(SMALL, eval_last=eval_last, pairs=21)
    clean, some = (load(replace(settings, degraded=share), folder, 0).train for share in (0.0, 0.5))
    assert len(clean.files) == 8 - eval_last
    seen = {file: set() for file in clean.files}
    for i in range(21):
        assert (clean[i].target == some[i].target).all()
        seen[clean.name(i).split("#")[0]].add(np.array_equal(clean[i].frame, some[i].frame))
    assert all(kinds == {True, False} for kinds in seen.values())


@pytest.mark.parametrize("photos", [1, 2, 7, 40, 144, 185])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.25, 0.5, 0.8, 1.0])
def test_the_share_of_degraded_pairs(photos, share):
    """Of every prefix and of every photograph's pairs; exactly none and exactly all at the ends."""
    chosen = np.array([is_degraded(i, photos, share) for i in range(50 * photos)])
    counts = np.cumsum(chosen) - share * np.arange(1, len(chosen) + 1)
    of_each = chosen.reshape(50, photos).sum(axis=0) - share * 50
    exact = share in (0.0, 1.0)
    assert np.abs(counts).max() <= (0 if exact else 5)
    assert np.abs(of_each).max() <= (0 if exact else 2)


def test_degradation():
    """Noise of 10 grey levels on a flat frame; gamma and offset move all of it alike, and differ each time."""
    rng, flat = np.random.default_rng(0), np.full((64, 64, 3), 128, np.uint8)
    frames = [degrade(flat, rng) for _ in range(40)]
    assert (flat == 128).all() and frames[0].dtype == np.uint8
    assert np.mean([frame.std() for frame in frames]) == pytest.approx(10, abs=0.3)
    means = [frame.mean() for frame in frames]
    # 255 (128 / 255)^gamma: 168.6 for 0.6 and 90.7 for 1.5, and 20 either way.
    assert 90.7 - 21 < min(means) < 100 and 160 < max(means) < 168.6 + 21


def test_a_high_photograph_is_turned(folder):
    photo = warps._photo(str(folder / "0.png"), 0, (80, 60))
    turned = cv2.rotate(smooth(120, 90, 0), cv2.ROTATE_90_COUNTERCLOCKWISE)
    assert np.array_equal(photo, cv2.resize(turned, (80, 60), interpolation=cv2.INTER_AREA))
    with pytest.raises(ValueError, match="read-only"):
        photo[0] = 0


def test_fingerprints(folder, monkeypatch):
    base = load(SMALL, folder, 0)
    assert load(SMALL, folder, 0).fingerprint == base.fingerprint
    for change in ({"pairs": 13}, {"displacement": 7}, {"degraded": 0.1}, {"eval_degraded": 0.1}, {"size": 30}):
        changed = load(replace(SMALL, **change), folder, 0)
        assert changed.fingerprint != base.fingerprint
        assert changed.training_fingerprint != base.training_fingerprint
    assert load(SMALL, folder, 1).training_fingerprint != base.training_fingerprint
    more = load(replace(SMALL, calibration_pairs=5), folder, 0)
    assert more.fingerprint != base.fingerprint and more.training_fingerprint == base.training_fingerprint
    monkeypatch.setattr(warps, "GENERATOR", warps.GENERATOR + 1)
    assert load(SMALL, folder, 0).fingerprint != base.fingerprint
    monkeypatch.undo()
    (folder / "9.png").write_bytes(encode_png(smooth(90, 120, 99)))
    assert load(SMALL, folder, 0).fingerprint != base.fingerprint


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"path": "absent"}, "EDGEATTN_DATA"),
        ({"path": "0.png"}, "is no folder"),
        ({"size": 45}, r"at most 44 for photographs of 80 x 60 and 8 px, got 45"),
        ({"size": 8}, "at least 16"),
        ({"size": 16, "displacement": 8}, "less than half of data.size"),
        ({"displacement": -1}, "less than half of data.size"),
        ({"degraded": 1.5}, "data.degraded is a share between 0 and 1, got 1.5"),
        ({"pairs": 0}, "data.pairs must be at least 1"),
        ({"eval_last": 9}, "There are 10 photographs in .*, too few to keep 9"),
    ],
)
def test_mistakes(folder, values, message):
    with pytest.raises(DataError, match=message):
        load(replace(SMALL, **values), folder, 0)


def test_a_photograph_in_two_splits(folder):
    (folder / "9.png").write_bytes((folder / "0.png").read_bytes())
    with pytest.raises(DataError, match=r"9\.png in the evaluation split is the same image as 0\.png"):
        load(SMALL, folder, 0)


def test_a_photograph_that_cannot_be_decoded(folder):
    (folder / "9.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"9\.png is not an image"):
        load(SMALL, folder, 0).evaluation[1]


def test_photographs_of_all_splits_are_told_apart_alike(folder, monkeypatch):
    """With one split above the limit none is hashed: hashes of one and sizes of another would never match."""
    held_out = sum((folder / name).stat().st_size for name in ("8.png", "9.png"))
    monkeypatch.setattr("edgeattn.data.labelled.HASHED_BYTES_MAX", 2 * held_out)
    before = load(SMALL, folder, 0).fingerprint
    os.utime(folder / "9.png", (1, 1))
    assert load(SMALL, folder, 0).fingerprint != before
