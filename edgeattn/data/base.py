"""What a data set is to the rest: three disjoint splits of (frame, target), and a fingerprint.

A format is `data/<name>.py` with a frozen dataclass `Settings` (the recipe's fields) and `load(settings, root, seed)`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from edgeattn.errors import DataError
from edgeattn.imaging import Frame


@dataclass(frozen=True, eq=False)
class Sample:
    """`frame`: uint8 BGR `(H, W, 3)`, any size; `second`: the other image, where a task takes two.

    `target`: what the task scores against, in the pixels of `frame`, by the splits' `kind`:

    | kind | is |
    |---|---|
    | `label` | int |
    | `mask` | uint8 `(H, W)` class ids, 255 where nothing is known |
    | `boxes` | float32 `(M, 5)`: x1, y1, x2, y2 (exclusive edges), class |
    | `homography` | float64 `(3, 3)`, from pixels of `frame` to pixels of `second` |
    | `image` | uint8 `(H * s, W * s, 3)`, the clean image |
    """

    frame: Frame
    target: Any
    second: Frame | None = None

    @property
    def frames(self) -> tuple[Frame, ...]:
        return (self.frame,) if self.second is None else (self.frame, self.second)


class Degradation(Protocol):
    """A camera's or a channel's faults, drawn anew for each call."""

    @property
    def scale(self) -> int:
        """How many times smaller a frame is than its clean image."""
        ...

    def apply(self, clean: Frame, rng: np.random.Generator) -> Frame:
        """uint8 BGR `(H, W, 3)` -> the frame made from it, uint8 `(H / scale, W / scale, 3)`."""
        ...


class Dataset(Protocol):
    """A lazily read, picklable sequence of samples: loader processes each hold a copy."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample:
        """Raises DataError when the sample cannot be read."""
        ...

    def name(self, index: int) -> str:
        """A stable name a person can find the sample by, such as its path inside the data set."""
        ...


@runtime_checkable
class Derived(Protocol):
    """A dataset whose frames are cut from images that none of its samples holds."""

    def origins(self) -> list[str]:
        """`frame_hash` of each of those images, decoded and whole. Raises DataError."""
        ...


@dataclass(frozen=True)
class Splits:
    """`train`, `calibration` and `evaluation` share no image (see `origin_hashes`).

    `fingerprint` changes whenever the content of any split does; it enters artifact keys, so it must be cheap to
    compute and must not decode images. `training_fingerprint` is the same for `train` and `evaluation` alone, so that
    another calibration split does not call for another training. `kind` is that of the targets (see `Sample`).
    `degradation` is how clean images become frames, so that training can degrade them anew in every epoch.
    """

    train: Dataset
    calibration: Dataset
    evaluation: Dataset
    labels: tuple[str, ...]
    fingerprint: str
    training_fingerprint: str
    kind: str = "label"
    degradation: Degradation | None = None


def locate(path: str, root: Path) -> Path:
    """`path` as it is when absolute, else below `root`, else below the current directory; `~` is the home folder.

    Raises DataError when there is nothing.
    """
    places = tuple(dict.fromkeys((below(root, path), below(Path.cwd(), path))))
    for place in places:
        if place.exists():
            return place
    raise DataError(
        f"There is no {' nor '.join(str(place) for place in places)}; set the environment variable EDGEATTN_DATA to "
        "the folder that holds your data sets, or correct data.path."
    )


def below(root: Path, path: str) -> Path:
    """`root`/`path`, or `path` itself when it is absolute or begins with `~`."""
    return root / os.path.expanduser(path)  # noqa: PTH111  (Path.expanduser raises where there is no such user)


def sample_hash(sample: Sample) -> str:
    """SHA-256 of the pixels and their shape: the identity of an image, whatever its file was called."""
    digest = hashlib.sha256()
    for frame in sample.frames:
        digest.update(repr(frame.shape).encode())
        digest.update(np.ascontiguousarray(frame).tobytes())
    return digest.hexdigest()


def sources(dataset: Dataset) -> list[str] | None:
    """What each sample was cut from, where a data set makes several of one image; None when each is its own.

    Such a data set has a method `source(index)`. Samples of one source are not independent of each other.
    """
    source = getattr(dataset, "source", None)
    return None if source is None else [source(index) for index in range(len(dataset))]


def frame_hash(frame: Frame) -> str:
    """SHA-256 of one image's pixels and their shape."""
    return sample_hash(Sample(frame, None))


def origin_hashes(sample: Sample, kind: str) -> list[str]:
    """By what an image is known in every sample that is made of it: no two splits may share one of these.

    Each frame on its own, since a pair may hold one image of another pair; for targets of the kind `image` the clean
    image, since noise makes every frame another.
    """
    images = (np.asarray(sample.target),) if kind == "image" else sample.frames
    return [frame_hash(image) for image in images]


def set_hash(hashes: Sequence[str]) -> str:
    """One hash for a set of samples, whatever their order."""
    return hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()


def assert_disjoint(first: Sequence[str], second: Sequence[str], what: str) -> None:
    """Raise DataError when the two lists of hashes share an image."""
    shared = set(first) & set(second)
    if shared:
        raise DataError(
            f"{len(shared)} image(s) are in both the {what} splits (same pixels), so the evaluation would not be "
            "honest; remove the duplicates or change the split."
        )
