"""Boxes as COCO has them: one JSON file of images, annotations and categories for each split.

    data:
      format: coco
      path: coco
      train: annotations/instances_train2017.json
      train_images: train2017
      evaluation: annotations/instances_val2017.json
      evaluation_images: val2017

A box is x, y, width, height with (0, 0) at the corner of the first pixel. Crowds are neither trained on nor counted, as
in COCO's own evaluation; boxes of no area are skipped. Classes are numbered in the order of the categories' ids.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from edgeattn.data.base import Splits, locate
from edgeattn.data.boxed import Annotated, Box, is_box, make_splits
from edgeattn.data.labelled import FolderReader
from edgeattn.errors import DataError


@dataclass(frozen=True)
class Settings:
    """`train` and `evaluation` are files, `…_images` the folders their images are in, all relative to `path`.

    `calibration` images, a quarter at most, are drawn out of the training file's.
    """

    path: str
    train: str
    evaluation: str
    train_images: str = "."
    evaluation_images: str = "."
    calibration: int = 32


def load(settings: Settings, root: Path, seed: int) -> Splits:
    """Reads both files and hashes the images, decodes none. Raises DataError naming the file."""
    path = locate(settings.path, root)
    labels, train = _read(path, settings.train, settings.train_images)
    others, evaluation = _read(path, settings.evaluation, settings.evaluation_images)
    if others != labels:
        raise DataError(
            f"{path / settings.evaluation} has the categories {', '.join(others)}, {path / settings.train} has "
            f"{', '.join(labels)}; they must be the same."
        )
    return make_splits("coco", FolderReader(path), labels, train, evaluation, settings.calibration, seed)


def _read(path: Path, name: str, folder: str) -> tuple[tuple[str, ...], list[Annotated]]:
    file = path / name
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise DataError(f"The annotations {file} cannot be read ({error.strerror}); check the path.") from error
    except ValueError as error:
        raise DataError(f"The annotations {file} are not JSON ({error}); get the file again.") from error
    try:
        return _parsed(content, path, folder, str(file))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(
            f"The annotations {file} are not COCO's: {type(error).__name__} {error}; expected images (id, file_name), "
            "annotations (image_id, category_id, bbox) and categories (id, name)."
        ) from error


def _parsed(content: Any, path: Path, folder: str, where: str) -> tuple[tuple[str, ...], list[Annotated]]:
    categories = sorted(content["categories"], key=lambda category: category["id"])
    labels = tuple(str(category["name"]) for category in categories)
    if not labels or len(set(labels)) < len(labels):
        raise DataError(f"{where}: there must be at least one category and no name twice.")
    classes = {category["id"]: index for index, category in enumerate(categories)}
    boxes: dict[Any, list[Box]] = {image["id"]: [] for image in content["images"]}
    skipped = dict.fromkeys(boxes, 0)
    for number, annotation in enumerate(content["annotations"], start=1):
        image, category = annotation["image_id"], annotation["category_id"]
        if image not in boxes or category not in classes:
            what = f"image {image}" if image not in boxes else f"category {category}"
            raise DataError(f"{where}: annotation {number} is of {what}, which the file does not list.")
        x, y, wide, high = (float(value) for value in annotation["bbox"])
        if is_box(x, y, x + wide, y + high):
            class_id = classes[category]
            boxes[image].append((x, y, x + wide, y + high, -class_id - 1 if annotation.get("iscrowd") else class_id))
        else:
            skipped[image] += 1
    found: dict[str, Annotated] = {}
    for image in content["images"]:
        relative = (PurePosixPath(folder) / str(image["file_name"])).as_posix()
        if relative in found:
            raise DataError(f"{where}: the image {relative} is listed twice.")
        if not (path / relative).is_file():
            raise DataError(f"{where}: there is no image {path / relative}; correct the folder of the images.")
        found[relative] = Annotated(relative, tuple(boxes[image["id"]]), skipped[image["id"]])
    return labels, list(found.values())
