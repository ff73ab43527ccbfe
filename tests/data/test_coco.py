from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgeattn.data.coco import Settings, load
from edgeattn.errors import DataError
from edgeattn.imaging import encode_png

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
SETTINGS = Settings(".", "train.json", "val.json", train_images="train", evaluation_images="val", calibration=1)


def content(images, *annotations):
    keys = ("image_id", "category_id", "bbox", "iscrowd")
    return {
        "images": [{"id": number, "file_name": f"{number}.png"} for number in images],
        "annotations": [dict(zip(keys, values, strict=False)) for values in annotations],
        "categories": CATEGORIES,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of 20 x 30: 0 to 4 in train, 5 in val."""
    for index in range(6):
        file = tmp_path / ("train" if index < 5 else "val") / f"{index}.png"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(encode_png(np.full((20, 30, 3), index, np.uint8)))
    write(tmp_path, "train", content(range(5), (0, 3, [1, 2, 3, 4])))
    boxes = (5, 7, [1.5, 2, 10, 4], 0), (5, 3, [0, 0, 30, 30], 1), (5, 3, [4, 4, 0, 9]), (5, 3, [25, 1, 10, 2])
    write(tmp_path, "val", content([5], *boxes))
    return tmp_path


def write(folder: Path, split: str, value) -> None:
    (folder / f"{split}.json").write_text(value if isinstance(value, str) else json.dumps(value))


def test_splits_and_targets(folder: Path):
    splits = load(SETTINGS, folder, 0)
    assert splits.kind == "boxes" and splits.labels == ("cat", "dog")
    assert len(splits.train) == 4 and len(splits.calibration) == 1
    assert splits.evaluation.name(0) == "val/5.png" and splits.evaluation.skipped == 1
    sample = splits.evaluation[0]
    # The crowd is ignored (class -1 is -(0 + 1)), the last cut at the frame.
    assert sample.target.tolist() == [[1.5, 2, 11.5, 6, 1], [0, 0, 30, 20, -1], [25, 1, 30, 3, 0]]


def test_fingerprint_follows_boxes(folder: Path):
    before = load(SETTINGS, folder, 0).fingerprint
    write(folder, "train", content(range(5), (0, 3, [1, 2, 3, 5])))
    assert load(SETTINGS, folder, 0).fingerprint != before


@pytest.mark.parametrize(
    ("split", "value", "message"),
    [
        ("train", "{", r"train\.json are not JSON"),
        ("train", "[]", r"train\.json are not COCO's: TypeError"),
        ("train", {"images": []}, r"are not COCO's: KeyError 'categories'"),
        ("train", content(range(5), (0, 3, [1, 2, 3])), "are not COCO's: ValueError"),
        ("train", content(range(5), (9, 3, [1, 2, 3, 4])), "annotation 1 is of image 9, which the file does not list"),
        ("train", content(range(5), (0, 4, [1, 2, 3, 4])), "annotation 1 is of category 4, which"),
        ("train", content([0, 1, 9]), r"there is no image .*train/9\.png"),
        ("train", content([0]), r"training list names 1 image\(s\)"),
        ("val", content([]), "evaluation list names no images"),
        ("val", {**content([5]), "categories": CATEGORIES[:1]}, "has the categories dog, .* has cat, dog"),
        ("val", {**content([5]), "categories": []}, "at least one category"),
    ],
)
def test_mistakes(folder: Path, split, value, message):
    write(folder, split, value)
    with pytest.raises(DataError, match=message):
        load(SETTINGS, folder, 0)


def test_one_image_under_two_names(folder: Path):
    (folder / "val" / "5.png").write_bytes((folder / "train" / "2.png").read_bytes())
    with pytest.raises(DataError, match=r"val/5\.png in the evaluation split is the same image as train/2\.png"):
        load(SETTINGS, folder, 0)


def test_absent_annotations(folder: Path):
    (folder / "val.json").unlink()
    with pytest.raises(DataError, match=r"val\.json cannot be read"):
        load(SETTINGS, folder, 0)
