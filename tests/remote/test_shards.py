"""Arrays to files and back."""

from __future__ import annotations

import numpy as np

from edgeattn.remote.shards import read_shards, shards_in, write_shards


def entries(count=5):
    random = np.random.default_rng(0)
    return [{"b": random.integers(0, 256, (4, i + 1, 3), np.uint8), "a": np.float32(i)} for i in range(count)]


def test_they_come_back_in_order_with_their_names(tmp_path):
    paths = write_shards(entries(), tmp_path / "x", limit_bytes=300)
    assert len(paths) > 1 and shards_in(tmp_path / "x") == paths
    back = list(read_shards(paths))
    assert [list(arrays) for arrays in back] == [["b", "a"]] * 5
    for one, other in zip(entries(), back, strict=True):
        np.testing.assert_array_equal(one["b"], other["b"])
        assert other["b"].dtype == np.uint8 and other["a"].shape == () and other["a"] == one["a"]


def test_same_arrays_same_bytes(tmp_path):
    one, other = (write_shards(entries(), tmp_path / name) for name in "ab")
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other] and len(one) == 1


def test_one_that_is_larger_than_a_file_has_one_of_its_own(tmp_path):
    assert len(write_shards(entries(3), tmp_path, limit_bytes=1)) == 3


def test_nothing(tmp_path):
    assert write_shards([], tmp_path) == [] and list(read_shards([])) == []
