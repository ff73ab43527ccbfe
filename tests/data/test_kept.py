from __future__ import annotations

import numpy as np
import pytest

from edgeattn.data.base import Derived, Sample, sources
from edgeattn.data.kept import Kept


class Counted:
    def __init__(self):
        self.read = []

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index >= len(self):
            raise IndexError(index)
        self.read.append(index)
        return Sample(np.full((2, 2, 3), index, np.uint8), np.int64(index))

    def name(self, index):
        return f"n{index}"


@pytest.mark.parametrize(("limit", "read"), [(1000, [0, 1, 2, 3]), (40, [0, 1, 2, 3, 2, 3]), (0, [0, 1, 2, 3] * 2)])
def test_what_fits_is_read_once(limit, read):
    """A sample has 12 bytes of pixels and 8 of target: two fit into 40."""
    counted = Counted()
    kept = Kept(counted, limit)
    for _ in range(2):
        for index in range(len(kept)):
            sample = kept[index]
            assert (sample.frames[0] == index).all()
            assert sample.target == index
    assert counted.read == read
    assert kept.name(3) == "n3"
    with pytest.raises(IndexError):
        kept[4]


def test_where_samples_come_from_is_told_of_those_that_tell_it():
    class Cut(Counted):
        def source(self, index):
            return f"photo {index // 2}"

        def origins(self):
            return ["hash"]

    kept = Kept(Cut())
    assert sources(kept) == ["photo 0", "photo 0", "photo 1", "photo 1"]
    assert isinstance(kept, Derived) and kept.origins() == ["hash"]
    assert sources(Kept(Counted())) is None and not isinstance(Kept(Counted()), Derived)


@pytest.mark.parametrize("limit", [1000, 0])
def test_nobody_can_change_what_others_read_later(limit):
    class Pairs(Counted):
        def __init__(self):
            super().__init__()
            self.own = np.zeros((3, 3))

        def __getitem__(self, index):
            return Sample(np.zeros((2, 2, 3), np.uint8), self.own, np.zeros((2, 2, 3), np.uint8))

    pairs = Pairs()
    sample = Kept(pairs, limit)[0]
    for array in (*sample.frames, sample.target):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 1
    pairs.own += 1  # it is still its owner's to write
    assert Kept(Counted())[2].target == 2, "a label is no array"
