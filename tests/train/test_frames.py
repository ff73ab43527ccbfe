from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from edgeattn.data.base import Sample
from edgeattn.errors import DataError
from edgeattn.imaging import Preprocess
from edgeattn.progress import silent
from edgeattn.train.frames import Fitting, Watch, prepare, shapes_of, training_fitting

LABELS = Fitting(Preprocess(8, 8), ("frame",), "label")


class Grey:
    """Frame i is a grey of value i, larger than what is asked for."""

    def __init__(self, count, broken=None):
        self.count, self.broken = count, broken

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index == self.broken:
            raise DataError(f"The image {index} is broken.")
        return Sample(np.full((20, 30, 3), index, np.uint8), index + 1000)

    def name(self, index):
        return str(index)


class Listed:
    """The samples themselves."""

    def __init__(self, *samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]

    def name(self, index):
        return f"no. {index}"


def noise(high, wide, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (high, wide, 3), dtype=np.uint8)


def halved(clean):
    return np.ascontiguousarray(clean[::2, ::2])


@pytest.mark.parametrize("workers", [0, 2])
def test_frames_keep_their_order_and_targets_across_batches(workers, tmp_path):
    seen = []
    frames, targets = prepare(Grey(130), LABELS, tmp_path / "new", workers, lambda *a: seen.append(a[:2]))
    assert frames.shape == (130, 1, 8, 8, 3)
    assert frames.dtype == np.uint8
    assert [int(frame.max()) for frame in frames] == [int(frame.min()) for frame in frames] == list(range(130))
    assert targets.dtype == np.int64 and targets.tolist() == list(range(1000, 1130))
    assert (seen[0], seen[-1]) == ((1, 130), (130, 130))
    assert np.array_equal(np.load(tmp_path / "new/frames.npy"), frames)


def test_preparing_again_starts_over(tmp_path):
    prepare(Grey(9), LABELS, tmp_path, 0, silent)
    frames, _ = prepare(Grey(3), LABELS, tmp_path, 0, silent)
    assert len(frames) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_the_first_broken_image_is_told_as_it_is(workers, tmp_path):
    with pytest.raises(DataError) as caught:
        prepare(Grey(100, broken=70), LABELS, tmp_path, workers, silent)
    assert str(caught.value) == "The image 70 is broken."
    with pytest.raises(DataError) as caught:
        shapes_of(Grey(100, broken=70), workers, of_target=False)
    assert str(caught.value) == "The image 70 is broken."


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate")
def test_a_full_disk_is_an_error_not_a_crash(tmp_path, monkeypatch):
    def full(descriptor, offset, length):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        prepare(Grey(3), LABELS, tmp_path, 0, silent)


def test_pairs_are_kept_together(tmp_path):
    """No scaling: the first frame is cropped by 2 columns on each side, the second as it is; so is their target."""
    first, second = noise(8, 12), noise(8, 8, 1)
    fitting = Fitting(Preprocess(8, 8), ("frame_a", "frame_b"), "homography")
    frames, targets = prepare(Listed(Sample(first, np.eye(3), second)), fitting, tmp_path, 0, silent)
    assert frames.shape == (1, 2, 8, 8, 3)
    assert (frames[0, 0] == first[:, 2:10]).all() and (frames[0, 1] == second).all()
    assert targets.dtype == np.float32 and targets.tolist() == [[[1, 0, 2], [0, 1, 0], [0, 0, 1]]]


@pytest.mark.parametrize(
    ("kind", "target", "shape", "dtype"),
    [
        ("mask", np.ones((20, 30), np.uint8), (8, 8), np.uint8),
        ("boxes", np.float32([[0, 0, 20, 20, 1]]), (100, 5), np.float32),
        ("image", noise(40, 60), (16, 16, 3), np.uint8),
    ],
)
def test_targets_of_every_kind_are_stored_as_they_are_fitted(kind, target, shape, dtype, tmp_path):
    fitting = Fitting(Preprocess(8, 8), ("frame",), kind)
    if kind == "image":
        target = noise(40, 60)
    _, targets = prepare(Listed(*[Sample(noise(20, 30), target)] * 3), fitting, tmp_path, 0, silent)
    assert (targets.shape, targets.dtype) == ((3, *shape), dtype)


# Tiles of 16 x 16. Windows are 1.5 to 2.5 times that, a tile apart in the smallest frame, at most so in others.
WINDOWS = {
    "one each": ([(32, 32), (32, 32)], (32, 32), 2),
    "several": ([(44, 50)], (28, 34), 2 * 2),  # 28 + 16 and 34 + 16
    "of different sizes": ([(40, 50), (32, 33)], (32, 33), 2 * 3 + 1 * 1),  # 8 / 16 = 0.5 and 17 / 16 = 1.1 steps
    "the smallest decides": ([(20, 40), (48, 40)], (20, 24), 1 * 2 + 3 * 2),  # 28 / 16 = 1.75 and 1 steps
    "no larger than a tile": ([(16, 16), (16, 40)], (16, 16), 1 + 3),
    "smaller than a tile": ([(9, 12), (40, 40)], (16, 16), 1 + 9),
}


@pytest.mark.parametrize(("shapes", "window", "count"), WINDOWS.values(), ids=WINDOWS)
def test_windows_that_tiles_are_drawn_from(shapes, window, count, tmp_path):
    fitting = training_fitting(Preprocess(16, 16, "tile", 4), ("frame",), "mask", shapes, None)
    assert (fitting.window, fitting.clean, fitting.count(shapes)) == (window, False, count)
    samples = Listed(*(Sample(noise(*shape), noise(*shape)[..., 0]) for shape in shapes))
    assert shapes_of(samples, 0, of_target=False) == shapes
    frames, targets = prepare(samples, fitting, tmp_path, 0, silent, count=fitting.count(shapes))
    assert frames.shape == (count, 1, *window, 3) and targets.shape == (count, *window)
    assert (frames[:, 0, ..., 0] == targets).all(), "frames and masks are cut at the same places"


def test_every_tile_of_an_image_lies_in_a_window_of_two_tiles_or_more():
    shape = (48, 83)
    fitting = training_fitting(Preprocess(16, 16, "tile", 4), ("frame",), "mask", [shape], None)
    assert fitting.window == (32, 35)
    numbered = np.arange(shape[0] * shape[1]).reshape(shape)
    frame = np.stack([numbered % 256, numbered // 256, numbered * 0], axis=-1).astype(np.uint8)
    corners = set()
    for frames, _ in fitting.items(Sample(frame, np.zeros(shape, np.uint8))):
        whole = frames[0, ..., 0] + 256 * frames[0, ..., 1].astype(int)
        corners |= set(whole[: whole.shape[0] - 15, : whole.shape[1] - 15].ravel().tolist())
    assert corners == set(numbered[: shape[0] - 15, : shape[1] - 15].ravel().tolist())


@pytest.mark.parametrize("scale", [1, 2])
def test_clean_images_are_kept_alone_when_they_are_degraded_anew(scale, tmp_path):
    """Windows count in clean pixels: tiles of 16 are 32 of an image that is halved."""
    clean = noise(40 * scale, 50 * scale)
    sample = Sample(np.zeros((40, 50, 3), np.uint8), clean)
    shapes = shapes_of(Listed(sample), 0, of_target=True)
    assert shapes == [(40 * scale, 50 * scale)]
    fitting = training_fitting(Preprocess(16, 16, "tile", 4), ("frame",), "image", shapes, scale)
    high, wide = 24 * scale, 34 * scale
    assert (fitting.window, fitting.clean, fitting.count(shapes)) == ((high, wide), True, 4)
    frames, targets = prepare(Listed(sample), fitting, tmp_path, 0, silent, count=4)
    assert frames.shape == (4, 1, high, wide, 3) and targets.tolist() == [0] * 4
    assert (frames[0, 0] == clean[:high, :wide]).all() and (frames[-1, 0] == clean[-high:, -wide:]).all()


@pytest.mark.parametrize("scale", [1, 2])
def test_clean_images_that_are_not_tiled_are_kept_alone_too(scale, tmp_path):
    """Not the frames, which are degraded already: training would degrade them twice."""
    clean = noise(8 * scale, 12 * scale)
    fitting = training_fitting(Preprocess(8, 8, "crop"), ("frame",), "image", [], scale)
    sample = Sample(np.zeros((8, 12, 3), np.uint8), clean)
    frames, targets = prepare(Listed(sample), fitting, tmp_path, 0, silent)
    assert frames.shape == (1, 1, 8 * scale, 8 * scale, 3) and targets.tolist() == [0]
    assert (frames[0, 0] == clean[:, 2 * scale : 10 * scale]).all()


def test_pairs_of_clean_and_degraded_images_are_not_tiled():
    fitting = training_fitting(Preprocess(16, 16, "tile", 4), ("frame",), "image", [(32, 32)], None)
    with pytest.raises(DataError, match="cannot be tiled; use the data format 'clean'"):
        fitting.items(Sample(noise(32, 32), noise(32, 32)))


def test_watching_leaves_frames_alone_that_are_not_tiled():
    sample = Sample(noise(20, 30), 3)
    watch = Watch(Listed(sample), Preprocess(8, 8), "label")
    assert watch[0] is sample and len(watch) == 1 and watch.name(0) == "no. 0"


def test_watching_sees_the_tile_in_the_middle():
    """16 of 40 rows begin at 12, 16 of 51 columns at 17."""
    frame, mask = noise(40, 51), noise(40, 51, 1)[..., 0]
    seen = Watch(Listed(Sample(frame, mask)), Preprocess(16, 16, "tile", 4), "mask")[0]
    assert (seen.frame == frame[12:28, 17:33]).all() and (seen.target == mask[12:28, 17:33]).all()


@pytest.mark.parametrize("size", [(5, 7), (5, 40), (40, 9), (16, 16), (33, 16)])
def test_watching_a_frame_that_is_smaller_than_a_tile(size):
    frame = noise(*size)
    seen = Watch(Listed(Sample(frame, frame[..., 0])), Preprocess(16, 16, "tile", 4), "mask")[0]
    assert seen.frame.shape == (16, 16, 3)
    assert (seen.frame[..., 0] == seen.target).all()
    top, left = (max(0, side - 16) // 2 for side in size)
    high, wide = (min(side, 16) for side in size)
    assert (seen.frame[:high, :wide] == frame[top : top + high, left : left + wide]).all()


@pytest.mark.parametrize("size", [(40, 50), (39, 51), (41, 17), (9, 33), (9, 7)])
@pytest.mark.parametrize("scale", [1, 2])
def test_watching_shows_frame_and_clean_image_of_the_same_place(size, scale):
    clean = noise(size[0] * scale, size[1] * scale)
    frame = halved(clean) if scale == 2 else clean
    seen = Watch(Listed(Sample(frame, clean)), Preprocess(16, 16, "tile", 4), "image")[0]
    assert seen.target.shape == (16 * scale, 16 * scale, 3)
    high, wide = (min(side, 16) for side in size)
    again = halved(seen.target) if scale == 2 else seen.target
    assert (again[:high, :wide] == seen.frame[:high, :wide]).all()


def boxes(count):
    return np.tile(np.float32([2, 2, 12, 12, 0]), (count, 1))


def test_an_image_of_too_many_boxes_is_named(tmp_path):
    samples = Listed(Sample(noise(16, 16), boxes(100)), Sample(noise(16, 16), boxes(101)))
    fitting = Fitting(Preprocess(16, 16), ("frame",), "boxes")
    with pytest.raises(DataError) as caught:
        prepare(samples, fitting, tmp_path, 0, silent)
    assert str(caught.value) == "no. 1: An image has 101 boxes; at most 100 are trained on: cut the image."


def test_an_image_of_too_many_boxes_is_watched_with_those_there_is_room_for(tmp_path):
    watch = Watch(Listed(Sample(noise(16, 16), boxes(130)), Sample(noise(16, 16), [])), Preprocess(16, 16), "boxes")
    fitting = Fitting(Preprocess(16, 16), ("frame",), "boxes")
    _, targets = prepare(watch, fitting, tmp_path, 0, silent)
    assert (targets[0, :, 4] == 0).all() and (targets[1, :, 4] == -1).all()
