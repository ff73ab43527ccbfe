"""What digit scenes are made of: the handwritten digits and the two photographs that ship with scikit-learn.

Both are divided once and for all, whatever the seed: a digit or a region of a photograph that any training split uses
is never seen in any calibration or evaluation split. The files are read where scikit-learn is installed without
importing it, which would cost a second and 100 MiB in every loader process.
"""

from __future__ import annotations

import gzip
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeattn.artifact import sha256_bytes, sha256_json
from edgeattn.data.base import assert_disjoint
from edgeattn.errors import DataError, MissingLibrary
from edgeattn.imaging import Frame, read_image

SPLITS = ("train", "calibration", "evaluation")
LABELS = tuple("0123456789")
PHOTOS = ("china.jpg", "flower.jpg")
# Share of each class's digits: from, to.
_DIGIT_SHARE = {"train": (0.0, 0.7), "calibration": (0.7, 0.8), "evaluation": (0.8, 1.0)}
_CELLS = 8  # a digit bitmap is 8 x 8 cells of 0..16
_MARGIN = 2  # empty cells around it, so that an enlarged stroke at the rim is not cut
CELL = 8  # glyph pixels per cell
INK = 85  # a glyph pixel of at least this value is ink


@dataclass(frozen=True)
class Region:
    """A rectangle of photograph `photo`, in pixels."""

    photo: int
    left: int
    top: int
    width: int
    height: int

    def overlaps(self, other: Region) -> bool:
        """Whether the two share a pixel."""
        return (
            self.photo == other.photo
            and self.left < other.left + other.width
            and other.left < self.left + self.width
            and self.top < other.top + other.height
            and other.top < self.top + self.height
        )


# Both photographs are 640 x 427. Each split gets sky, leaves and a part of the pagoda or of a flower.
_REGIONS = {
    "train": (Region(0, 192, 0, 288, 427), Region(1, 0, 0, 304, 427)),
    "calibration": (Region(0, 480, 0, 160, 427), Region(1, 304, 214, 336, 213)),
    "evaluation": (Region(0, 0, 0, 192, 427), Region(1, 304, 0, 336, 214)),
}


@dataclass(frozen=True, eq=False)
class Source:
    """The decoded material of every split.

    `bitmaps` uint8 `(N, 8, 8)` 0..16, no two equal; `labels` `(N,)`; `glyphs` uint8 `(N, 96, 96)`: the bitmaps
    enlarged smoothly, 0..255; `inks` `(N, 4)` float64: the ink of each glyph as x1, y1, x2, y2;
    `digits[split][label]`: indices into them; `regions[split][photo]`; `photos` uint8 BGR.
    """

    bitmaps: NDArray[np.uint8]
    labels: NDArray[np.int64]
    glyphs: NDArray[np.uint8]
    inks: NDArray[np.float64]
    digits: Mapping[str, tuple[NDArray[np.int64], ...]]
    photos: tuple[Frame, ...]
    regions: Mapping[str, tuple[Region, ...]]

    def pixels(self, region: Region) -> Frame:
        """A view (not a copy) of the region: uint8 BGR `(height, width, 3)`."""
        return self.photos[region.photo][
            region.top : region.top + region.height, region.left : region.left + region.width
        ]


@cache
def files() -> tuple[Path, ...]:
    """Digits, then photographs, where scikit-learn is installed. Raises MissingLibrary."""
    found = importlib.util.find_spec("sklearn")
    if found is None or not found.submodule_search_locations:
        raise MissingLibrary(
            "scikit-learn is not installed; the digit scenes are made from the digits and photographs it ships. "
            "Install it with: pip install 'edgeattn[train]'"
        )
    folder = Path(found.submodule_search_locations[0]) / "datasets"
    paths = (folder / "data" / "digits.csv.gz", *(folder / "images" / name for name in PHOTOS))
    for path in paths:
        if not path.is_file():
            raise MissingLibrary(
                f"This scikit-learn does not hold {path}, which the digit scenes are made from; install scikit-learn "
                "1.6 or newer."
            )
    return paths


@cache
def fingerprint() -> str:
    """Hash of the files' contents; decodes nothing."""
    return sha256_json([sha256_bytes(path.read_bytes()) for path in files()])


@cache
def source() -> Source:
    """Read and divide everything, once per process (about 0.1 s). Raises MissingLibrary, DataError."""
    table = np.loadtxt(gzip.decompress(files()[0].read_bytes()).decode().splitlines(), delimiter=",", dtype=np.float32)
    hashes = [sha256_bytes(row.tobytes()) for row in table[:, :-1].astype(np.uint8)]
    # Identical bitmaps would put the same digit into two splits: keep the first of each.
    kept = sorted({value: index for index, value in reversed(list(enumerate(hashes)))}.values())
    bitmaps = table[kept, :-1].astype(np.uint8).reshape(-1, _CELLS, _CELLS)
    labels = table[kept, -1].astype(np.int64)
    glyphs = np.stack([_enlarge(bitmap) for bitmap in bitmaps])
    photos = tuple(read_image(path) for path in files()[1:])
    for photo, path in zip(photos, files()[1:], strict=True):
        if photo.shape != (427, 640, 3):
            raise DataError(f"{path} has the shape {photo.shape}, not (427, 640, 3); install scikit-learn again.")
        photo.setflags(write=False)
    return Source(
        bitmaps=bitmaps,
        labels=labels,
        glyphs=glyphs,
        inks=np.array([_ink(glyph) for glyph in glyphs]),
        digits=_divide([hashes[i] for i in kept], labels),
        photos=photos,
        regions=_REGIONS,
    )


def assert_splits_disjoint(material: Source) -> None:
    """Raise DataError when two splits share a digit bitmap or a pixel or content of a photograph's region."""
    hashes = {
        split: [sha256_bytes(material.bitmaps[i].tobytes()) for of_class in material.digits[split] for i in of_class]
        for split in SPLITS
    }
    for first, second in combinations(SPLITS, 2):
        assert_disjoint(hashes[first], hashes[second], f"{first} and {second}")
        for a in material.regions[first]:
            for b in material.regions[second]:
                if a.overlaps(b) or np.array_equal(material.pixels(a), material.pixels(b)):
                    raise DataError(f"The {first} and {second} splits share a part of {PHOTOS[a.photo]}: {a} and {b}.")


def _divide(hashes: list[str], labels: NDArray[np.int64]) -> dict[str, tuple[NDArray[np.int64], ...]]:
    """Share out each class's digits in the order of their hashes: fixed, yet unrelated to who wrote them when."""
    order = np.argsort(np.array(hashes), kind="stable")
    by_class = [order[labels[order] == label] for label in range(len(LABELS))]
    return {
        split: tuple(members[round(low * len(members)) : round(high * len(members))] for members in by_class)
        for split, (low, high) in _DIGIT_SHARE.items()
    }


def _enlarge(bitmap: NDArray[np.uint8]) -> NDArray[np.uint8]:
    padded = np.pad(bitmap.astype(np.float32) * (255 / 16), _MARGIN)
    enlarged = cv2.resize(padded, None, fx=CELL, fy=CELL, interpolation=cv2.INTER_CUBIC)
    # A little blur turns the steps that an 8 x 8 grid leaves in slanted strokes into straight edges; taking away a
    # wider blur opens the holes of 4, 6, 8 and 9 again, which are often a single half-filled cell.
    smooth = cv2.GaussianBlur(enlarged, (0, 0), 0.35 * CELL) - 0.7 * cv2.GaussianBlur(enlarged, (0, 0), 1.2 * CELL)
    return np.clip(np.rint(smooth * (255 / max(float(smooth.max()), 1.0))), 0, 255).astype(np.uint8)


def _ink(glyph: NDArray[np.uint8]) -> tuple[float, float, float, float]:
    left, top, width, height = cv2.boundingRect((glyph >= INK).astype(np.uint8))
    return float(left), float(top), float(left + width), float(top + height)
