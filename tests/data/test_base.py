from pathlib import Path

import numpy as np
import pytest
from sample_hashes import dataset_hashes

from edgeattn import data
from edgeattn.data.base import (
    Sample,
    assert_disjoint,
    frame_hash,
    locate,
    origin_hashes,
    sample_hash,
    set_hash,
)
from edgeattn.errors import DataError, RecipeError


class Ramp:
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Sample:
        return Sample(np.full((1, 1, 3), index, np.uint8), index)

    def name(self, index: int) -> str:
        return f"ramp/{index}"


def test_hashes_cover_pixels_and_shape() -> None:
    wide, high = np.zeros((1, 2, 3), np.uint8), np.zeros((2, 1, 3), np.uint8)
    assert sample_hash(Sample(wide, 0)) != sample_hash(Sample(high, 0))
    assert sample_hash(Sample(wide, 0)) == sample_hash(Sample(wide.copy(), 1))
    strided = np.zeros((1, 4, 3), np.uint8)[:, ::2]
    assert sample_hash(Sample(strided, 0)) == sample_hash(Sample(wide, 0))
    hashes = dataset_hashes(Ramp())
    assert set_hash(hashes) == set_hash(hashes[::-1]) != set_hash(hashes[:3])


def test_a_pair_is_both_of_its_frames() -> None:
    first, second = np.zeros((2, 2, 3), np.uint8), np.ones((2, 2, 3), np.uint8)
    alone, pair = Sample(first, None), Sample(first, None, second)
    assert len(alone.frames) == 1 and alone.frames[0] is first
    assert len(pair.frames) == 2 and pair.frames[1] is second
    hashes = {sample_hash(s) for s in (alone, pair, Sample(second, None, first), Sample(first, None, first))}
    assert len(hashes) == 4
    joined = np.concatenate((first, second))
    assert sample_hash(Sample(joined, None)) not in hashes


def test_an_image_is_known_in_whatever_is_made_of_it() -> None:
    first, second, clean = (np.full((2, 2, 3), value, np.uint8) for value in range(3))
    assert origin_hashes(Sample(first, 3), "label") == [frame_hash(first)] == [sample_hash(Sample(first, 3))]
    assert origin_hashes(Sample(first, np.eye(3), second), "homography") == [frame_hash(first), frame_hash(second)]
    assert origin_hashes(Sample(first, clean), "image") == [frame_hash(clean)]


def test_assert_disjoint() -> None:
    assert_disjoint(["a", "b"], ["c"], "train and evaluation")
    with pytest.raises(DataError, match=r"1 image\(s\) are in both the train and evaluation splits"):
        assert_disjoint(["a", "b"], ["b", "c"], "train and evaluation")


def test_locate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(DataError, match=r"root/x nor .*here/x; set the environment variable EDGEATTN_DATA"):
        locate("x", tmp_path / "root")
    (tmp_path / "here" / "x").touch()
    assert locate("x", tmp_path / "root") == tmp_path / "here" / "x"
    (tmp_path / "root" / "x").touch()
    assert locate("x", tmp_path / "root") == tmp_path / "root" / "x"
    assert locate(str(tmp_path / "here" / "x"), tmp_path / "root") == tmp_path / "here" / "x"


def test_locate_knows_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x").touch()
    assert locate("~/x", tmp_path / "root") == tmp_path / "x"
    with pytest.raises(DataError, match=r"There is no .*~nobody-of-this-name/x"):
        locate("~nobody-of-this-name/x", tmp_path)


def test_formats_are_found_by_file_name() -> None:
    assert set(data.names()) >= {"csv", "imagefolder", "scenes"}
    for name in data.names():
        module = data.find(name)
        assert callable(module.load) and module.Settings.__dataclass_params__.frozen
    with pytest.raises(RecipeError, match=r"no data format 'calibration'; known formats: .*csv, .*imagefolder"):
        data.find("calibration")
