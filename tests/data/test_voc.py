from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from edgeattn import data
from edgeattn.data.voc import Settings, load
from edgeattn.errors import DataError
from edgeattn.imaging import encode_png

OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult>"
    "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def annotation(*objects):
    inside = "".join(OBJECT.format(*values) for values in objects)
    return f"<annotation><path>/home/pi/x.jpg</path><filename>wrong</filename>{inside}</annotation>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight images of 20 x 30, a0 … a7, with a cat each; a0 to a5 are `train`, a6 and a7 `test`."""
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (tmp_path / part).mkdir(parents=True)
    for index in range(8):
        image = np.full((20, 30, 3), index, np.uint8)
        (tmp_path / "JPEGImages" / f"a{index}.png").write_bytes(encode_png(image))
        write(tmp_path, index, annotation(("cat", 0, 1, 1, 10, 20)))
    (tmp_path / "ImageSets/Main/train.txt").write_text("".join(f"a{i}\n" for i in range(6)))
    (tmp_path / "ImageSets/Main/test.txt").write_text("a6\n\na7\n")
    return tmp_path


def write(folder: Path, index: int, text: str) -> None:
    (folder / "Annotations" / f"a{index}.xml").write_text(text)


SETTINGS = Settings(".", evaluation=("test",), calibration=1)


def names(dataset) -> list[str]:
    return [dataset.name(i) for i in range(len(dataset))]


def test_a_format_among_others():
    assert "voc" in data.names() and "boxed" not in data.names()


def test_splits_and_targets(folder: Path):
    write(folder, 6, annotation(("cat", 1, 11, 2, 20, 4), ("cat", 0, 0, 15, 40, 18)))
    splits = load(SETTINGS, folder, 0)
    assert splits.kind == "boxes" and splits.labels == ("cat",)
    assert names(splits.evaluation) == ["JPEGImages/a6.png", "JPEGImages/a7.png"]
    assert len(splits.train) == 5 and len(splits.calibration) == 1
    assert not set(names(splits.train)) & set(names(splits.calibration))
    sample = pickle.loads(pickle.dumps(splits.evaluation))[0]
    assert sample.frame.shape == (20, 30, 3) and int(sample.frame[0, 0, 0]) == 6
    # The difficult one is of class -1: ignored; the last is cut at the frame.
    assert sample.target.dtype == np.float32
    assert sample.target.tolist() == [[10, 1, 20, 4, -1], [0, 14, 30, 18, 0]]
    assert splits.evaluation[1].target.tolist() == [[0, 0, 10, 20, 0]]


def test_boxes_without_area_are_skipped_and_counted(folder: Path):
    boxes = [("cat", 0, 5, 6, 5, 9), ("cat", 0, 5, 6, 9, 6), ("cat", 0, 9, 9, 5, 5), ("cat", 0, 1, 1, 2, 2)]
    write(folder, 7, annotation(*boxes))
    evaluation = load(SETTINGS, folder, 0).evaluation
    assert evaluation.skipped == 3
    assert evaluation[1].target.tolist() == [[0, 0, 2, 2, 0]]
    write(folder, 7, annotation(*boxes[:3]))
    assert load(SETTINGS, folder, 0).evaluation[1].target.shape == (0, 5)


def test_several_lists_and_given_labels(folder: Path):
    (folder / "ImageSets/Main/val.txt").write_text("a6\n")
    (folder / "ImageSets/Main/test.txt").write_text("a7\n")
    settings = Settings(".", train=("train", "val"), evaluation=("test",), labels=("dog", "cat"), calibration=1)
    splits = load(settings, folder, 0)
    assert len(splits.train) + len(splits.calibration) == 7
    assert splits.labels == ("dog", "cat") and splits.evaluation[0].target[0, 4] == 1


def test_fingerprints_follow_content(folder: Path):
    before = load(SETTINGS, folder, 0)
    assert load(SETTINGS, folder, 0).fingerprint == before.fingerprint
    write(folder, 7, annotation(("cat", 0, 1, 1, 10, 19)))
    moved = load(SETTINGS, folder, 0)
    assert moved.fingerprint != before.fingerprint and moved.training_fingerprint != before.training_fingerprint
    (folder / "JPEGImages" / "a6.png").write_bytes(encode_png(np.full((20, 30, 3), 99, np.uint8)))
    assert load(SETTINGS, folder, 0).fingerprint != moved.fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: write(f, 0, "<annotation>"), r"a0\.xml is not XML"),
        (lambda f: (f / "Annotations/a0.xml").unlink(), r"a0\.xml cannot be read"),
        (lambda f: write(f, 0, annotation(("", 0, 1, 1, 2, 2))), r"a0\.xml, object 1: the name is missing"),
        (lambda f: write(f, 0, annotation(("cat", 0, 1, 1, "x", 2))), r"a0\.xml, object 1: expected bndbox"),
        (lambda f: write(f, 6, annotation(("dog", 0, 1, 1, 2, 2))), r"has the class 'dog', which is none of cat"),
        (lambda f: (f / "JPEGImages/a7.png").unlink(), r"no image called a7 in .*JPEGImages"),
        (lambda f: (f / "ImageSets/Main/test.txt").unlink(), r"test\.txt cannot be read .*correct data\.evaluation"),
        (lambda f: (f / "ImageSets/Main/test.txt").write_text("\n"), "evaluation list names no images"),
        (lambda f: (f / "ImageSets/Main/train.txt").write_text("a0\n"), r"training list names 1 image\(s\)"),
        (lambda f: (f / "ImageSets/Main/train.txt").write_text("a0\na1\na0\n"), r"line 3: the image a0 was already"),
        (lambda f: (f / "ImageSets/Main/test.txt").write_text("a0\n"), r"is the same image as .*a0\.png in the"),
        (lambda f: [write(f, i, annotation()) for i in range(8)], "at least one class"),
    ],
)
def test_mistakes(folder: Path, change, message):
    change(folder)
    with pytest.raises(DataError, match=message):
        load(SETTINGS, folder, 0)


def test_no_such_folders(tmp_path: Path):
    with pytest.raises(DataError, match="expected JPEGImages, Annotations and ImageSets/Main"):
        load(SETTINGS, tmp_path, 0)


@pytest.mark.skipif("EDGEATTN_DATA" not in os.environ, reason="needs the data sets in EDGEATTN_DATA")
def test_bccd():
    """364 images; two of the 4,888 boxes have no area (its README)."""
    settings = Settings("bccd", train=("train", "val"), evaluation=("test",))
    splits = load(settings, Path(os.environ["EDGEATTN_DATA"]), 0)
    parts = (splits.train, splits.calibration, splits.evaluation)
    assert [len(part) for part in parts] == [260, 32, 72]
    assert splits.labels == ("Platelets", "RBC", "WBC")
    assert sum(part.skipped for part in parts) == 2
    assert sum(len(image.boxes) for part in parts for image in part.images) == 4886
    assert splits.evaluation[0].frame.shape == (480, 640, 3)


def test_an_image_in_both_lists_of_which_one_is_too_large_to_be_hashed(folder: Path, monkeypatch: pytest.MonkeyPatch):
    (folder / "ImageSets/Main/test.txt").write_text("a0\n")
    monkeypatch.setattr("edgeattn.data.labelled.HASHED_BYTES_MAX", 2 * (folder / "JPEGImages/a0.png").stat().st_size)
    with pytest.raises(DataError, match=r"a0\.png in the evaluation split is the same image as"):
        load(SETTINGS, folder, 0)
