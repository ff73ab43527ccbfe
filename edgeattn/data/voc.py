"""Boxes as Pascal VOC has them: `JPEGImages/`, `Annotations/*.xml` and lists in `ImageSets/Main/*.txt`.

    data: {format: voc, path: bccd, train: [train, val], evaluation: [test]}

VOC counts pixels from 1 and its corners are inside the box: xmin 1, xmax 10 become the edges 0 and 10. What is marked
`difficult` is neither trained on nor counted; boxes of no area (xmax not above xmin, or so for y) are skipped. The
images are found by the list's name, not by what the XML says: `<path>` is the annotator's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from edgeattn.data.base import Splits, locate
from edgeattn.data.boxed import Annotated, Box, is_box, make_splits
from edgeattn.data.labelled import FolderReader, by_name
from edgeattn.errors import DataError
from edgeattn.imaging import IMAGE_SUFFIXES

_IMAGES = "JPEGImages"


@dataclass(frozen=True)
class Settings:
    """`train` and `evaluation` name lists of `ImageSets/Main`. `labels`: the classes in their order, by default those
    of the training lists, sorted. `calibration` images, a quarter at most, are drawn out of the training lists.
    """

    path: str
    train: tuple[str, ...] = ("train",)
    evaluation: tuple[str, ...] = ("val",)
    labels: tuple[str, ...] | None = None
    calibration: int = 32


@dataclass(frozen=True)
class _Object:
    label: str
    corners: tuple[float, float, float, float]
    difficult: bool


def load(settings: Settings, root: Path, seed: int) -> Splits:
    """Reads lists and annotations and hashes the images, decodes none. Raises DataError naming the file."""
    path = locate(settings.path, root)
    images = _images(path)
    parts = {
        what: {name: _objects(path / "Annotations" / f"{name}.xml") for name in _names(path, lists, what)}
        for what, lists in (("train", settings.train), ("evaluation", settings.evaluation))
    }
    labels = settings.labels
    if labels is None:
        labels = tuple(sorted({o.label for objects in parts["train"].values() for o in objects}, key=by_name))
    if not labels or len(set(labels)) < len(labels):
        raise DataError(f"There must be at least one class and none twice, got: {', '.join(labels) or 'none'}.")
    train, evaluation = (
        [_annotated(path, images, name, objects, labels) for name, objects in part.items()] for part in parts.values()
    )
    return make_splits("voc", FolderReader(path), labels, train, evaluation, settings.calibration, seed)


def _images(path: Path) -> dict[str, str]:
    """Name without suffix -> file relative to `path`."""
    try:
        files = sorted((path / _IMAGES).iterdir())
    except OSError as error:
        raise DataError(
            f"There is no folder {path / _IMAGES} ({error.strerror}); expected {_IMAGES}, Annotations and "
            "ImageSets/Main."
        ) from error
    return {file.stem: f"{_IMAGES}/{file.name}" for file in files if file.suffix.lower() in IMAGE_SUFFIXES}


def _names(path: Path, lists: Sequence[str], what: str) -> list[str]:
    """The images of all `lists`, in their order."""
    seen: dict[str, str] = {}
    for name in lists:
        file = path / "ImageSets" / "Main" / f"{name}.txt"
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except OSError as error:
            raise DataError(f"The list {file} cannot be read ({error.strerror}); correct data.{what}.") from error
        except UnicodeDecodeError as error:
            raise DataError(f"The list {file} is not UTF-8 ({error.reason}); save it as UTF-8.") from error
        for number, line in enumerate(lines, start=1):
            image = line.strip()
            if not image:
                continue
            if image in seen:
                raise DataError(f"{file}, line {number}: the image {image} was already listed in {seen[image]}.")
            seen[image] = f"{file}, line {number}"
    return list(seen)


def _objects(file: Path) -> list[_Object]:
    try:
        root = ElementTree.fromstring(file.read_bytes())
    except OSError as error:
        raise DataError(
            f"The annotation {file} cannot be read ({error.strerror}); every listed image needs one."
        ) from error
    except ElementTree.ParseError as error:
        raise DataError(f"The annotation {file} is not XML ({error}); repair or remove it.") from error
    found = []
    for number, item in enumerate(root.iter("object"), start=1):
        label = (item.findtext("name") or "").strip()
        if not label:
            raise DataError(f"{file}, object {number}: the name is missing.")
        corners = [item.findtext(f"bndbox/{corner}") for corner in ("xmin", "ymin", "xmax", "ymax")]
        try:
            x1, y1, x2, y2 = (float(corner or "") for corner in corners)
        except ValueError as error:
            raise DataError(
                f"{file}, object {number}: expected bndbox with the numbers xmin, ymin, xmax and ymax, got {corners}."
            ) from error
        found.append(_Object(label, (x1, y1, x2, y2), (item.findtext("difficult") or "0").strip() == "1"))
    return found


def _annotated(
    path: Path, images: dict[str, str], name: str, objects: Sequence[_Object], labels: Sequence[str]
) -> Annotated:
    if name not in images:
        raise DataError(f"There is no image called {name} in {path / _IMAGES}, but a list names it; correct the list.")
    boxes: list[Box] = []
    for item in objects:
        if item.label not in labels:
            raise DataError(
                f"{path / 'Annotations' / name}.xml has the class '{item.label}', which is none of {', '.join(labels)} "
                "(data.labels, or the classes of the training lists)."
            )
        if is_box(*item.corners):
            class_id = labels.index(item.label)
            x1, y1, x2, y2 = item.corners
            boxes.append((x1 - 1, y1 - 1, x2, y2, -class_id - 1 if item.difficult else class_id))
    return Annotated(images[name], tuple(boxes), len(objects) - len(boxes))
