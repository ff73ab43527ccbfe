from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from edgeattn.data.base import Sample
from edgeattn.errors import DataError
from edgeattn.imaging import Preprocess
from edgeattn.progress import silent
from edgeattn.train.frames import prepare


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


@pytest.mark.parametrize("workers", [0, 2])
def test_frames_keep_their_order_and_targets_across_batches(workers, tmp_path):
    seen = []
    frames, targets = prepare(Grey(130), Preprocess(8, 8), tmp_path / "new", workers, lambda *a: seen.append(a[:2]))
    assert frames.shape == (130, 8, 8, 3)
    assert frames.dtype == np.uint8
    assert [int(frame.max()) for frame in frames] == [int(frame.min()) for frame in frames] == list(range(130))
    assert targets.tolist() == list(range(1000, 1130))
    assert seen == [(64, 130), (128, 130), (130, 130)]
    assert np.array_equal(np.load(tmp_path / "new/frames.npy"), frames)


def test_preparing_again_starts_over(tmp_path):
    prepare(Grey(9), Preprocess(8, 8), tmp_path, 0, silent)
    frames, _ = prepare(Grey(3), Preprocess(8, 8), tmp_path, 0, silent)
    assert len(frames) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_the_first_broken_image_is_told_as_it_is(workers, tmp_path):
    with pytest.raises(DataError) as caught:
        prepare(Grey(100, broken=70), Preprocess(8, 8), tmp_path, workers, silent)
    assert str(caught.value) == "The image 70 is broken."


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate")
def test_a_full_disk_is_an_error_not_a_crash(tmp_path, monkeypatch):
    def full(descriptor, offset, length):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        prepare(Grey(3), Preprocess(8, 8), tmp_path, 0, silent)
