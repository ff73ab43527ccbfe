from __future__ import annotations

from pathlib import Path

import pytest

from edgeattn.data import labelled
from edgeattn.data.labelled import FolderReader, check_disjoint, identify
from edgeattn.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of 3, 3 and 1 bytes; b holds what a holds."""
    for name, content in (("a", b"abc"), ("b", b"abc"), ("c", b"c")):
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_identities_are_those_of_the_content(folder: Path) -> None:
    found = identify(FolderReader(folder), {"train": ["a", "c"], "calibration": [], "evaluation": ["b"]})
    assert {split: len(values) for split, values in found.items()} == {"train": 2, "calibration": 0, "evaluation": 1}
    assert found["evaluation"] == found["train"][:1] != found["train"][1:]


@pytest.mark.parametrize("limit", [3, 6])
def test_all_splits_are_described_alike(folder: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """The training split is above the limit, or only both together; the evaluation split never is."""
    monkeypatch.setattr(labelled, "HASHED_BYTES_MAX", limit)
    found = identify(FolderReader(folder), {"train": ["a", "c"], "evaluation": ["a", "b"]})
    assert found["evaluation"][0] == found["train"][0]
    assert found["evaluation"][1] != found["train"][0], "of the same size and perhaps time, but another path"


def test_the_same_image_in_two_splits_is_named_with_both(folder: Path) -> None:
    reader, splits = FolderReader(folder), {"train": ["c", "a"], "calibration": [], "evaluation": ["b"]}
    with pytest.raises(DataError) as caught:
        check_disjoint(splits, identify(reader, splits), reader)
    assert str(caught.value) == (
        f"{folder / 'b'} in the evaluation split is the same image as a in the train split; remove one of them or "
        "change the split, or the evaluation would not be honest."
    )


def test_twice_in_one_split_is_no_matter(folder: Path) -> None:
    reader, splits = FolderReader(folder), {"train": ["a", "b"], "evaluation": ["c"]}
    check_disjoint(splits, identify(reader, splits), reader)
