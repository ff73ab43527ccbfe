from __future__ import annotations

import numpy as np
import pytest

from edgeattn.data.base import Sample
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
