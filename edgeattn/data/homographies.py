"""Pairs of images with the homography between them, in a table.

    data: {format: homographies, path: views/pairs.csv}

The header is `image_a,image_b,h11,h12,h13,h21,h22,h23,h31,h32,h33`; a row's matrix takes pixels of a to pixels of b,
with the origin at the centre of the first pixel. Image paths are relative to the table's folder. Rows that share an
image, directly or through others, stay together: the last groups of the table are the evaluation split, and calibration
pairs are groups drawn out of the rest, so that no image is in two splits.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from edgeattn.artifact import sha256_json
from edgeattn.data.base import Sample, Splits, locate
from edgeattn.data.labelled import FolderReader, identify
from edgeattn.errors import DataError
from edgeattn.imaging import decode_image, printable

_ELEMENTS = tuple(f"h{row}{column}" for row in (1, 2, 3) for column in (1, 2, 3))
_HEADER = ("image_a", "image_b", *_ELEMENTS)


@dataclass(frozen=True)
class Settings:
    """`path`: the table. The last groups, with at least `eval_fraction` of the rows, are held out for evaluation;
    groups with about `calibration` rows, at most a quarter of the rest, are drawn for calibration.
    """

    path: str
    eval_fraction: float = 0.2
    calibration: int = 300


@dataclass(frozen=True, eq=False)
class Row:
    image_a: str
    image_b: str
    homography: NDArray[np.float64]


class Pairs:
    """Decodes two images when a pair is asked for."""

    def __init__(self, reader: FolderReader, rows: tuple[Row, ...]) -> None:
        self._reader = reader
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        row = self.rows[index]
        first, second = (
            decode_image(self._reader.read(file), self._reader.where(file)) for file in (row.image_a, row.image_b)
        )
        return Sample(first, row.homography, second)

    def name(self, index: int) -> str:
        return printable(f"{self.rows[index].image_a} -> {self.rows[index].image_b}")


def load(settings: Settings, root: Path, seed: int) -> Splits:
    """Reads the table and hashes the images, decodes none. Raises DataError naming file and line."""
    if not 0.0 < settings.eval_fraction < 1.0:
        raise DataError(f"data.eval_fraction must lie between 0 and 1, got {settings.eval_fraction}.")
    if settings.calibration < 1:
        raise DataError(f"data.calibration must be at least 1, got {settings.calibration}.")
    path = locate(settings.path, root)
    rows = _rows(path)
    reader = FolderReader(path.parent)
    files = sorted({file for row in rows for file in (row.image_a, row.image_b)})
    identity = dict(zip(files, identify(reader, {"all": files})["all"], strict=True))
    parts = _split(_groups(rows, identity), settings, seed, path)
    described = {
        split: [
            [
                printable(r.image_a),
                identity[r.image_a],
                printable(r.image_b),
                identity[r.image_b],
                r.homography.tolist(),
            ]
            for r in part
        ]
        for split, part in parts.items()
    }
    training = {"train": described["train"], "evaluation": described["evaluation"]}
    return Splits(
        Pairs(reader, tuple(parts["train"])),
        Pairs(reader, tuple(parts["calibration"])),
        Pairs(reader, tuple(parts["evaluation"])),
        labels=(),
        fingerprint=f"homographies-{sha256_json(described)[:32]}",
        training_fingerprint=f"homographies-{sha256_json(training)[:32]}",
        kind="homography",
    )


def _groups(rows: list[Row], identity: dict[str, str]) -> list[list[Row]]:
    """Rows that are linked by images of the same content, in the order of their first row."""
    leader: dict[str, str] = {}

    def find(value: str) -> str:
        while leader.setdefault(value, value) != value:
            value = leader[value]
        return value

    for row in rows:
        leader[find(identity[row.image_b])] = find(identity[row.image_a])
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(find(identity[row.image_a]), []).append(row)
    return list(groups.values())


def _split(groups: list[list[Row]], settings: Settings, seed: int, path: Path) -> dict[str, list[Row]]:
    if len(groups) < 3:
        raise DataError(
            f"{path} holds {len(groups)} group(s) of rows that share no image; at least 3 are needed, one each for "
            "training, calibration and evaluation: add pairs of other images."
        )
    total = sum(map(len, groups))
    rest, evaluation = list(groups), list[list[Row]]()
    while len(rest) > 2 and sum(map(len, evaluation)) < settings.eval_fraction * total:
        evaluation.insert(0, rest.pop())
    limit = min(settings.calibration, max(1, sum(map(len, rest)) // 4))
    chosen: set[int] = set()
    for index in np.random.default_rng((seed, 11)).permutation(len(rest)).tolist():
        if not chosen or (len(chosen) < len(rest) - 1 and sum(len(rest[i]) for i in {*chosen, index}) <= limit):
            chosen.add(index)
    return {
        "train": [row for i, group in enumerate(rest) if i not in chosen for row in group],
        "calibration": [row for i, group in enumerate(rest) if i in chosen for row in group],
        "evaluation": [row for group in evaluation for row in group],
    }


def _rows(path: Path) -> list[Row]:
    try:
        # utf-8-sig: spreadsheet programs put a byte-order mark first.
        lines = path.read_text(encoding="utf-8-sig").splitlines(keepends=True)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check data.path.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8.") from error
    table = csv.DictReader(lines, skipinitialspace=True, strict=True)
    try:
        if not set(_HEADER) <= set(table.fieldnames or ()):
            raise DataError(f"{path}, line 1: the header must be {','.join(_HEADER)}.")
        rows = [_row(values, path.parent, f"{path}, line {table.line_num}") for values in table]
    except csv.Error as error:
        raise DataError(f"{path}, line {table.line_num}: {error}; quote fields that hold commas or quotes.") from error
    if not rows:
        raise DataError(f"{path} lists no pairs.")
    return rows


def _row(values: dict[str, str], folder: Path, where: str) -> Row:
    if None in values or None in values.values():
        raise DataError(f"{where}: expected an image, an image and nine numbers, separated by commas.")
    images = [PurePosixPath(values[name].strip()).as_posix() for name in ("image_a", "image_b")]
    for image in images:
        if not (folder / image).is_file():
            raise DataError(f"{where}: there is no image {folder / image}; correct the path.")
    try:
        matrix = np.array([float(values[name]) for name in _ELEMENTS]).reshape(3, 3)
    except ValueError as error:
        raise DataError(f"{where}: {error}; h11 to h33 must be numbers.") from error
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12 or matrix[2, 2] == 0:
        raise DataError(f"{where}: h11 to h33 are no homography (finite, invertible, h33 not 0).")
    return Row(images[0], images[1], matrix / matrix[2, 2])
