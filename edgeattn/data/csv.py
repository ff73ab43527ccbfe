"""Labels in a table, or one list of files per split.

    data: {format: csv, path: photos/labels.csv}                       # header image,label or image,label,split
    data: {format: csv, path: photos, splits: {train: train.txt, evaluation: val.txt}}

In a table `split` is train, calibration or evaluation (val, valid, validation and test mean evaluation). A list has one
image per line, followed by white space and its label; without a label the image's folder is the label.
Image paths are relative to the table's folder, or to `path` for lists.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgeattn.data.base import Splits, locate
from edgeattn.data.labelled import FolderReader, draw_calibration, hold_out, make_splits
from edgeattn.errors import DataError
from edgeattn.imaging import IMAGE_SUFFIXES

_SPLITS = {
    "train": "train",
    "calibration": "calibration",
    "evaluation": "evaluation",
    "val": "evaluation",
    "valid": "evaluation",
    "validation": "evaluation",
    "test": "evaluation",
}


@dataclass(frozen=True)
class Settings:
    """`path`: the table, or the folder that `splits` (split name -> list file in it) and the images are relative to.

    Without an evaluation split the last `eval_fraction` of each class by name is held out; without a calibration split
    `calibration` images are drawn out of the training part.
    """

    path: str
    splits: dict[str, str] | None = None
    eval_fraction: float = 0.2
    calibration: int = 300


@dataclass(frozen=True)
class _Row:
    split: str
    image: str
    label: str
    where: str


def load(settings: Settings, root: Path, seed: int) -> Splits:
    """Reads the table or lists and hashes the images, decodes none. Raises DataError naming file and line."""
    path = locate(settings.path, root)
    if settings.splits is not None:
        folder = path
        rows = [row for split, file in settings.splits.items() for row in _list_rows(folder / file, _split(split))]
    else:
        folder = path.parent
        rows = list(_table_rows(path))
    parts: dict[str, dict[str, list[str]]] = {"train": {}, "calibration": {}, "evaluation": {}}
    seen: dict[str, str] = {}
    for row in rows:
        if row.image in seen:
            raise DataError(f"{row.where}: the image {row.image} was already listed in {seen[row.image]}.")
        if not (folder / row.image).is_file():
            raise DataError(f"{row.where}: there is no image {folder / row.image}; correct the path.")
        seen[row.image] = row.where
        parts[row.split].setdefault(row.label, []).append(row.image)
    train, calibration, evaluation = parts.values()
    if not train:
        raise DataError(f"{path} lists no training images.")
    if not evaluation:
        train, evaluation = hold_out(train, last=None, fraction=settings.eval_fraction)
    if not calibration:
        train, calibration = draw_calibration(train, settings.calibration, seed)
    return make_splits("csv", FolderReader(folder), train, calibration, evaluation)


def _split(name: str) -> str:
    if name not in _SPLITS:
        raise DataError(f"data.splits names '{name}'; the splits are train, calibration and evaluation.")
    return _SPLITS[name]


def _table_rows(path: Path) -> Iterator[_Row]:
    table = csv.DictReader(_lines(path), skipinitialspace=True, strict=True)
    columns = {"image", "label"}
    try:
        if not columns <= set(table.fieldnames or ()):
            raise DataError(f"{path}, line 1: the header must be image,label or image,label,split.")
        for values in table:
            where = f"{path}, line {table.line_num}"
            if None in values or None in values.values():
                raise DataError(f"{where}: expected {len(table.fieldnames or ())} fields separated by commas.")
            image, label, split = (values.get(column, "").strip() for column in ("image", "label", "split"))
            if not image or not label:
                raise DataError(f"{where}: the {'image' if not image else 'label'} is empty.")
            if (split or "train") not in _SPLITS:
                raise DataError(f"{where}: the split is '{split}'; expected train, calibration or evaluation.")
            if "split" in values and not split:
                raise DataError(f"{where}: the split is empty; expected train, calibration or evaluation.")
            yield _Row(_SPLITS[split or "train"], PurePosixPath(image).as_posix(), label, where)
    except csv.Error as error:
        raise DataError(f"{path}, line {table.line_num}: {error}; quote fields that hold commas or quotes.") from error


def _list_rows(path: Path, split: str) -> Iterator[_Row]:
    for number, line in enumerate(_lines(path), start=1):
        text = line.strip()
        if not text:
            continue
        image, label = text, PurePosixPath(text).parent.name
        if PurePosixPath(text).suffix.lower() not in IMAGE_SUFFIXES:
            # Only the last word is the label: paths may hold spaces.
            image, _, label = text.replace("\t", " ").rpartition(" ")
        if not image.strip() or not label:
            raise DataError(f"{path}, line {number}: expected 'folder/image label' or 'label/image', got '{text}'.")
        yield _Row(split, PurePosixPath(image.strip()).as_posix(), label, f"{path}, line {number}")


def _lines(path: Path) -> list[str]:
    try:
        # utf-8-sig: spreadsheet programs put a byte-order mark first.
        return path.read_text(encoding="utf-8-sig").splitlines(keepends=True)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check data.path and data.splits.") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8."
        ) from error
