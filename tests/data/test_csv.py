import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from edgeattn.data.csv import Settings, load
from edgeattn.errors import DataError
from edgeattn.imaging import encode_png


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten images, a/0.png … a/4.png and b/0.png … b/4.png; the pixels count from 0 to 9."""
    for value in range(10):
        path = tmp_path / "ab"[value // 5] / f"{value % 5}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode_png(np.full((2, 2, 3), value, np.uint8)))
    return tmp_path


def names(dataset) -> list[str]:
    return [dataset.name(i) for i in range(len(dataset))]


def table(folder: Path, text: str) -> Settings:
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    return Settings("labels.csv", calibration=2)


SPLIT_OF = ("train", "train", "calibration", "calibration", "val")
ROWS = "".join(f"{label}/{index}.png,{label.upper()}\n" for label in "ab" for index in range(5))


def test_table_without_splits(folder: Path) -> None:
    splits = load(table(folder, "image,label\n" + ROWS), folder, 0)
    assert splits.labels == ("A", "B")
    assert names(splits.evaluation) == ["a/4.png", "b/4.png"]
    assert len(splits.calibration) == 2 and len(splits.train) == 6
    assert (int(splits.evaluation[1].frame[0, 0, 0]), splits.evaluation[1].target) == (9, 1)


def test_table_with_splits_other_columns_and_a_byte_order_mark(folder: Path) -> None:
    text = "\ufeffsplit, label, image, note\ntrain,A,a/0.png,x\ntrain,B,b/0.png,\ncalibration,A,a/1.png,\n"
    text += 'val,A,a/2.png,"p, q"\ntest,B,./b/2.png,\nevaluation,B,b/3.png,\n'
    splits = load(table(folder, text), folder, 0)
    assert names(splits.train) == ["a/0.png", "b/0.png"]
    assert names(splits.calibration) == ["a/1.png"]
    assert names(splits.evaluation) == ["a/2.png", "b/2.png", "b/3.png"]


def test_lists_with_and_without_labels(folder: Path) -> None:
    (folder / "b" / "my cat.png").write_bytes(encode_png(np.full((2, 2, 3), 99, np.uint8)))
    (folder / "train.txt").write_text("a/0.png\na/1.png\n\nb/0.png\nb/my cat.png\n")
    (folder / "val.txt").write_text("a/2.png a\nb/2.png\tb\n")
    settings = Settings(".", splits={"train": "train.txt", "val": "val.txt"}, calibration=2)
    splits = load(settings, folder, 0)
    assert splits.labels == ("a", "b")
    assert names(splits.evaluation) == ["a/2.png", "b/2.png"]
    assert Counter(names(splits.train) + names(splits.calibration)) == Counter(
        ["a/0.png", "a/1.png", "b/0.png", "b/my cat.png"]
    )


def test_training_fingerprint_does_not_follow_calibration(folder: Path) -> None:
    rows = [f"{label}/{index}.png,{label},{split}\n" for label in "ab" for index, split in enumerate(SPLIT_OF)]
    before = load(table(folder, "image,label,split\n" + "".join(rows)), folder, 0)
    after = load(table(folder, "image,label,split\n" + "".join(row for row in rows if "a/3" not in row)), folder, 0)
    assert len(after.calibration) == len(before.calibration) - 1
    assert after.fingerprint != before.fingerprint
    assert after.training_fingerprint == before.training_fingerprint


def test_fingerprint_follows_labels(folder: Path) -> None:
    before = load(table(folder, "image,label\n" + ROWS), folder, 0).fingerprint
    assert load(table(folder, "image,label\n" + ROWS), folder, 0).fingerprint == before
    swapped = ROWS.replace("a/4.png,A", "a/4.png,B")
    assert load(table(folder, "image,label\n" + swapped), folder, 0).fingerprint != before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"labels\.csv, line 1: the header must be image,label"),
        ("file,label\na/0.png,A\n", r"line 1: the header must be image,label"),
        ("image,label\na/0.png,A\na/9.png,A\n", r"line 3: there is no image .*a/9\.png"),
        ("image,label\na/0.png\n", r"line 2: expected 2 fields"),
        ("image,label\na/0.png,A,B\n", r"line 2: expected 2 fields"),
        ("image,label\na/0.png,\n", r"line 2: the label is empty"),
        ("image,label\n,A\n", r"line 2: the image is empty"),
        ("image,label,split\na/0.png,A,dev\n", r"line 2: the split is 'dev'; expected train"),
        ("image,label,split\na/0.png,A,\n", r"line 2: the split is empty"),
        ("image,label\na/0.png,A\n./a/0.png,B\n", r"line 3: the image a/0\.png was already listed in .*line 2"),
        ('image,label\n"a/0.png,A\n', r"line \d: unexpected end of data"),
        ("image,label\n", "lists no training images"),
        ("image,label\na/0.png,A\na/1.png,A\na/2.png,A\n", r"at least 2 classes, found 1 \(A\)"),
        ("image,label\na/0.png,A\nb/0.png,B\n", r"'A' has 1 image\(s\), too few"),
    ],
)
def test_mistakes_in_tables(folder: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(table(folder, text), folder, 0)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("0.png\n", r"train\.txt, line 1: expected 'folder/image label'"),
        ("a/0.png\na/5.png\n", r"train\.txt, line 2: there is no image"),
        ("a/0\n", r"train\.txt, line 1: expected"),
        ("a/0.png\nb/0.png x\n", "too few"),
    ],
)
def test_mistakes_in_lists(folder: Path, lines: str, message: str) -> None:
    (folder / "train.txt").write_text(lines)
    with pytest.raises(DataError, match=message):
        load(Settings(".", splits={"train": "train.txt"}), folder, 0)


def test_other_mistakes(folder: Path) -> None:
    with pytest.raises(DataError, match="names 'dev'; the splits are"):
        load(Settings(".", splits={"dev": "dev.txt"}), folder, 0)
    with pytest.raises(DataError, match=r"dev\.txt cannot be read"):
        load(Settings(".", splits={"train": "dev.txt"}), folder, 0)
    with pytest.raises(DataError, match="EDGEATTN_DATA"):
        load(Settings("absent.csv"), folder, 0)
    (folder / "labels.csv").write_bytes("image,label\na/0.png,\xe9\n".encode("latin-1"))
    with pytest.raises(DataError, match="is not UTF-8"):
        load(Settings("labels.csv"), folder, 0)


def test_an_image_in_two_splits_under_two_names(folder: Path) -> None:
    (folder / "b" / "3.png").write_bytes((folder / "a" / "0.png").read_bytes())
    text = "image,label,split\na/0.png,A,train\na/1.png,A,train\nb/0.png,B,train\nb/1.png,B,train\nb/3.png,B,test\n"
    with pytest.raises(DataError, match=r"b/3\.png in the evaluation split is the same image as a/0\.png"):
        load(table(folder, text), folder, 0)


def test_images_of_all_splits_are_told_apart_alike(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one split above the limit none is hashed: hashes of one and sizes of another would never match."""
    settings = table(folder, "image,label\n" + ROWS)
    monkeypatch.setattr("edgeattn.data.labelled.HASHED_BYTES_MAX", 3 * (folder / "a/0.png").stat().st_size)
    before = load(settings, folder, 0).fingerprint
    os.utime(folder / "b" / "4.png", (1, 1))  # one of the two that are held out
    assert load(settings, folder, 0).fingerprint != before
