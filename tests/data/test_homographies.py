from __future__ import annotations

import os
import pickle

import numpy as np
import pytest

from edgeattn.data.homographies import Settings, load
from edgeattn.errors import DataError
from edgeattn.imaging import encode_png

HEADER = "image_a,image_b,h11,h12,h13,h21,h22,h23,h31,h32,h33\n"


@pytest.fixture
def folder(tmp_path):
    """Images 0.png … 19.png; the pixels of each are its number."""
    for value in range(20):
        (tmp_path / f"{value}.png").write_bytes(encode_png(np.full((2, 3, 3), value, np.uint8)))
    return tmp_path


def row(a, b, shift=1.0, last=1.0):
    return f"{a}.png,{b}.png,1,0,{shift},0,1,0,0,0,{last}\n"


def write(folder, text):
    (folder / "pairs.csv").write_text(text, encoding="utf-8")
    return Settings("pairs.csv")


def images(dataset):
    return {name for i in range(len(dataset)) for name in dataset.name(i).split(" -> ")}


def test_pairs(folder):
    text = "\ufeff" + HEADER + "".join(row(2 * i, 2 * i + 1, i, 2.0) for i in range(10))
    splits = pickle.loads(pickle.dumps(load(write(folder, text), folder, 0)))
    assert (len(splits.train), len(splits.calibration), len(splits.evaluation)) == (6, 2, 2)
    assert images(splits.evaluation) == {"16.png", "17.png", "18.png", "19.png"}
    sample = splits.evaluation[1]
    assert (int(sample.frame[0, 0, 0]), int(sample.second[0, 0, 0])) == (18, 19)
    assert sample.target.tolist() == [[0.5, 0, 4.5], [0, 0.5, 0], [0, 0, 1]]  # divided by h33
    assert (splits.kind, splits.labels) == ("homography", ())


def test_rows_that_share_an_image_stay_together(folder):
    """0-1, 2-3, 1-2 are one group through image 1 and 2; so are 18 and 17 through the last row."""
    text = HEADER + row(0, 1) + row(2, 3) + row(4, 5) + row(6, 7) + row(1, 2) + row(18, 19) + row(16, 17) + row(17, 18)
    for seed in range(6):
        splits = load(write(folder, text), folder, seed)
        parts = [images(part) for part in (splits.train, splits.calibration, splits.evaluation)]
        assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
        assert parts[2] == {"16.png", "17.png", "18.png", "19.png"}
        assert sum(len(part) for part in (splits.train, splits.calibration, splits.evaluation)) == 8


def test_the_same_image_under_another_name_is_the_same(folder):
    (folder / "19.png").write_bytes((folder / "0.png").read_bytes())
    splits = load(write(folder, HEADER + row(0, 1) + row(2, 3) + row(4, 5) + row(18, 19)), folder, 0)
    found = [images(part) for part in (splits.train, splits.calibration, splits.evaluation)]
    assert sum({"0.png", "19.png"} <= part for part in found) == 1


def test_of_large_folders_size_and_time_alone_make_no_two_the_same(folder, monkeypatch):
    for number in range(20):  # all of one size, and of one time
        (folder / f"{number}.png").write_bytes(encode_png(np.zeros((2, 3, 3), np.uint8)))
        os.utime(folder / f"{number}.png", (1, 1))
    text = HEADER + "".join(row(2 * i, 2 * i + 1) for i in range(10))
    with pytest.raises(DataError, match=r"holds 1 group\(s\)"):
        load(write(folder, text), folder, 0)
    monkeypatch.setattr("edgeattn.data.labelled.HASHED_BYTES_MAX", 1)
    splits = load(write(folder, text), folder, 0)
    assert (len(splits.train), len(splits.calibration), len(splits.evaluation)) == (6, 2, 2)


def test_fingerprint_follows_numbers_and_pixels(folder):
    text = HEADER + "".join(row(2 * i, 2 * i + 1) for i in range(5))
    before = load(write(folder, text), folder, 0)
    assert load(write(folder, text), folder, 0).fingerprint == before.fingerprint
    moved = load(write(folder, text.replace("0.png,1.png,1", "0.png,1.png,1.5")), folder, 0)
    assert moved.fingerprint != before.fingerprint
    write(folder, text)
    (folder / "9.png").write_bytes(encode_png(np.full((2, 3, 3), 200, np.uint8)))
    assert load(Settings("pairs.csv"), folder, 0).training_fingerprint != before.training_fingerprint


GOOD = row(0, 1) + row(2, 3) + row(4, 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the header must be image_a,image_b,h11"),
        ("image_a,image_b\n", "line 1: the header must be"),
        (HEADER, "lists no pairs"),
        (HEADER + GOOD + row(6, 77), r"line 5: there is no image .*77\.png"),
        (HEADER + "0.png,1.png,1,0\n", "line 2: expected an image, an image and nine numbers"),
        (HEADER + "0.png,1.png,1,0,0,0,1,0,0,0,x\n", "line 2: could not convert .*must be numbers"),
        (HEADER + "0.png,1.png,1,0,0,0,1,0,0,0,nan\n", "line 2: h11 to h33 are no homography"),
        (HEADER + "0.png,1.png,1,0,0,1,0,0,0,0,1\n", "line 2: h11 to h33 are no homography"),
        (HEADER + row(0, 1) + row(1, 2) + row(2, 3), r"holds 1 group\(s\)"),
        (HEADER + '"0.png', r"line \d: unexpected end of data"),
    ],
)
def test_mistakes_in_tables(folder, text, message):
    with pytest.raises(DataError, match=message):
        load(write(folder, text), folder, 0)


def test_other_mistakes(folder):
    write(folder, HEADER + GOOD)
    with pytest.raises(DataError, match="eval_fraction must lie between"):
        load(Settings("pairs.csv", eval_fraction=1.0), folder, 0)
    with pytest.raises(DataError, match="calibration must be at least 1"):
        load(Settings("pairs.csv", calibration=0), folder, 0)
    with pytest.raises(DataError, match="EDGEATTN_DATA"):
        load(Settings("absent.csv"), folder, 0)
    (folder / "pairs.csv").write_bytes((HEADER + "\xe9").encode("latin-1"))
    with pytest.raises(DataError, match="is not UTF-8"):
        load(Settings("pairs.csv"), folder, 0)
