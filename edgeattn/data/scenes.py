"""Digit scenes, the embedded default: real handwritten digits on real photographs, nothing to download.

    data: {format: scenes, train: 12000, calibration_dir: calibration_data/digit_scenes}

Each 64-pixel scene shows a digit (from scikit-learn's `load_digits`) at a random place, size, tilt, colour and lighting
on a crop of one of its two sample photographs, with blur and sensor noise. Digits and photograph regions are disjoint
between the splits.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeattn.artifact import sha256_file, sha256_json
from edgeattn.data.base import Dataset, Sample, Splits
from edgeattn.data.calibration import find_calibration, read_calibration
from edgeattn.data.scene_plan import ScenePlan, make_plan
from edgeattn.data.scene_render import degraded
from edgeattn.data.scene_source import LABELS, SPLITS, assert_splits_disjoint, fingerprint, source
from edgeattn.errors import DataError

GENERATOR = 1  # raise it whenever the same plan gives other pixels: it is part of the fingerprint


@dataclass(frozen=True)
class Settings:
    """`size` is the frame's side in pixels, `digits` how many each scene shows (one for classification).

    `calibration_dir`: a folder of committed calibration files, used whole instead of `calibration` new scenes.
    """

    size: int = 64
    train: int = 12000
    calibration: int = 300
    evaluation: int = 2000
    digits: int = 1
    calibration_dir: str | None = None


class Scenes:
    """`length` scenes of one split, drawn when asked for. The target is the label, or all labels when `digits` > 1."""

    def __init__(self, split: str, length: int, *, seed: int, size: int = 64, digits: int = 1) -> None:
        self.split = split
        self._length = length
        self._seed = seed
        self._size = size
        self._digits = digits

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        plan = self.plan(index)
        labels = tuple(digit.label for digit in plan.digits)
        target: Any = labels[0] if self._digits == 1 else labels
        return Sample(frame=degraded(source(), plan), target=target)

    def plan(self, index: int) -> ScenePlan:
        """Every random choice of scene `index`, for boxes, masks and second views. Raises IndexError."""
        if not 0 <= index < self._length:
            raise IndexError(f"scene {index} of {self._length}")
        return make_plan(source(), self.split, index, seed=self._seed, size=self._size, digits=self._digits)

    def name(self, index: int) -> str:
        return f"{self.split}/{index:06d}"


def load(settings: Settings, root: Path, seed: int) -> Splits:
    """Raises DataError (settings, calibration files) and MissingLibrary (scikit-learn)."""
    _check(settings)
    assert_splits_disjoint(source())
    train, calibration, evaluation = (
        Scenes(split, getattr(settings, split), seed=seed, size=settings.size, digits=settings.digits)
        for split in SPLITS
    )
    identity: dict[str, Any] = {
        "settings": asdict(settings) | {"calibration_dir": None},
        "seed": seed,
        "generator": GENERATOR,
        "source": fingerprint(),
    }
    used: Dataset = calibration
    if settings.calibration_dir is not None:
        folder = find_calibration(settings.calibration_dir)
        used = _committed(folder)
        identity["calibration"] = sha256_file(folder / "manifest.json")
    return Splits(train, used, evaluation, LABELS, f"scenes-{sha256_json(identity)[:32]}")


def _committed(folder: Path) -> Dataset:
    files = read_calibration(folder)
    if files.labels != LABELS:
        raise DataError(f"The calibration files in {folder} have the labels {files.labels}, not the digits 0 to 9.")
    return files


def _check(settings: Settings) -> None:
    limits = {"size": (32, 1024), "digits": (1, 16)} | dict.fromkeys(SPLITS, (1, 10_000_000))
    for field, (low, high) in limits.items():
        value = getattr(settings, field)
        if not low <= value <= high:
            raise DataError(f"data.{field} of the scenes must be {low} to {high}, got {value}.")
