"""Digit scenes, the embedded default: real handwritten digits on real photographs, nothing to download.

    data: {format: scenes, train: 12000, calibration_dir: calibration_data/digit_scenes}

Each 64-pixel scene shows a digit (from scikit-learn's `load_digits`) at a random place, size, tilt, colour and lighting
on a crop of one of its two sample photographs, with blur and sensor noise. Digits and photograph regions are disjoint
between the splits.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeattn.artifact import sha256_json
from edgeattn.data.base import Dataset, Sample, Splits
from edgeattn.data.calibration import CalibrationFiles, find_calibration, read_calibration
from edgeattn.data.scene_plan import ScenePlan, make_plan
from edgeattn.data.scene_render import degraded
from edgeattn.data.scene_source import LABELS, SPLITS, assert_splits_disjoint, fingerprint, source
from edgeattn.errors import DataError

GENERATOR = 1  # raise it whenever the same plan gives other pixels: it is part of the fingerprint
SOURCE = (
    'edgeattn data format "scenes", split "calibration": digits of scikit-learn\'s load_digits (UCI Optical '
    "Recognition of Handwritten Digits, test set; E. Alpaydin, C. Kaynak) on its sample photographs china.jpg and "
    "flower.jpg (see ../README.md)"
)
LICENCE = "digits CC BY 4.0; photographs CC BY 2.0"


@dataclass(frozen=True)
class Settings:
    """`size` is the frame's side in pixels; each scene shows one digit.

    `calibration_dir`: a folder of committed calibration files, used whole instead of `calibration` new scenes.
    """

    size: int = 64
    train: int = 12000
    calibration: int = 300
    evaluation: int = 2000
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

    @property
    def settings(self) -> dict[str, int]:
        """What a calibration manifest records; files of another size or number of digits fit no other recipe."""
        return {"size": self._size, "digits": self._digits, "seed": self._seed}

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
        Scenes(split, getattr(settings, split), seed=seed, size=settings.size) for split in SPLITS
    )
    identity: dict[str, Any] = {
        "settings": {"size": settings.size, "train": settings.train, "evaluation": settings.evaluation},
        "seed": seed,
        "generator": GENERATOR,
        "source": fingerprint(),
    }
    used: Dataset = calibration
    calibrated: Any = settings.calibration
    if settings.calibration_dir is not None:
        used = files = _committed(find_calibration(settings.calibration_dir), calibration)
        # Only what calibration sees: other words in the manifest change nothing.
        calibrated = [[entry["sha256"], entry["target"]] for entry in files.files]
    return Splits(
        train,
        used,
        evaluation,
        LABELS,
        fingerprint=f"scenes-{sha256_json({**identity, 'calibration': calibrated})[:32]}",
        training_fingerprint=f"scenes-{sha256_json(identity)[:32]}",
    )


def _committed(folder: Path, wanted: Scenes) -> CalibrationFiles:
    """The files in `folder`. Raises DataError when they are not like `wanted`; another seed is allowed."""
    files = read_calibration(folder)
    if files.labels != LABELS:
        raise DataError(f"The calibration files in {folder} have the labels {files.labels}, not the digits 0 to 9.")
    asked = wanted.settings
    held = {**asked, **files.settings}
    if (held["size"], held["digits"]) != (asked["size"], asked["digits"]):
        raise DataError(
            f"{folder} holds {held['size']}-pixel scenes of {held['digits']} digit(s), the recipe asks for "
            f"{asked['size']}-pixel scenes of {asked['digits']}; set data.calibration_dir=null or rebuild it with "
            f"edgeattn calibration RECIPE --out {folder}."
        )
    return files


def _check(settings: Settings) -> None:
    limits = {"size": (32, 1024)} | dict.fromkeys(SPLITS, (1, 10_000_000))
    for field, (low, high) in limits.items():
        value = getattr(settings, field)
        if not low <= value <= high:
            raise DataError(f"data.{field} of the scenes must be {low} to {high}, got {value}.")
