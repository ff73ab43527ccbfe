"""Digit scenes, the embedded default: real handwritten digits on real photographs, nothing to download.

    data: {format: scenes, train: 12000, calibration_dir: calibration_data/digit_scenes}
    data: {format: scenes, target: boxes, size: 128, digits: 5}

Each scene shows digits (from scikit-learn's `load_digits`) at random places, sizes, tilts and colours on a crop of one
of its two sample photographs, under a light of its own, with blur and sensor noise. Digits and photograph regions are
disjoint between the splits, whatever the target:

| target | labels | what is asked |
|---|---|---|
| `label` | 0 to 9 | which digit it is |
| `mask` | background, 0 to 9 | which class each pixel shows: ink covers at least half of it |
| `boxes` | 0 to 9 | the box around each digit's ink, none of it hidden or cut |
| `homography` | none | how a second view of the scene is warped, whose corners moved by up to 12 % of the side |
| `image` | none | the scene before blur and noise; `noise: 30` makes the frame worth restoring |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgeattn.artifact import sha256_json
from edgeattn.data.base import Dataset, Sample, Splits
from edgeattn.data.calibration import CalibrationFiles, find_calibration, read_calibration
from edgeattn.data.scene_plan import NOISE, ScenePlan, make_plan, make_second_view
from edgeattn.data.scene_render import class_mask, clean, degraded, labelled_boxes, second_view
from edgeattn.data.scene_source import LABELS, SPLITS, assert_splits_disjoint, fingerprint, source
from edgeattn.errors import DataError

Target = Literal["label", "mask", "boxes", "homography", "image"]

GENERATOR = 1  # raise it whenever the same plan gives other pixels: it is part of the fingerprint
SOURCE = (
    'edgeattn data format "scenes", split "calibration": digits of scikit-learn\'s load_digits (UCI Optical '
    "Recognition of Handwritten Digits, test set; E. Alpaydin, C. Kaynak) on its sample photographs china.jpg and "
    "flower.jpg (see ../README.md)"
)
LICENCE = "digits CC BY 4.0; photographs CC BY 2.0"
_LABELS: dict[Target, tuple[str, ...]] = {
    "label": LABELS,
    "mask": ("background", *LABELS),
    "boxes": LABELS,
    "homography": (),
    "image": (),
}
_CELL_MIN = 24  # a digit's share of the frame in pixels: in a smaller one its ink is under 13 pixels long


@dataclass(frozen=True)
class Settings:
    """`size` is the frame's side in pixels; each scene shows `digits` digits, which do not overlap.

    `noise`: the largest standard deviation of the sensor's noise in grey levels; each scene draws its own up to it.
    `calibration_dir`: a folder of committed calibration files, used whole instead of `calibration` new scenes.
    """

    size: int = 64
    train: int = 12000
    calibration: int = 300
    evaluation: int = 2000
    calibration_dir: str | None = None
    target: Target = "label"
    digits: int = 1
    noise: float = NOISE


class Scenes:
    """`length` scenes of one split, drawn when asked for; `target` is the kind of their targets.

    With several digits `label` gives all their labels.
    """

    def __init__(
        self,
        split: str,
        length: int,
        *,
        seed: int,
        size: int = 64,
        digits: int = 1,
        target: Target = "label",
        noise: float = NOISE,
    ) -> None:
        self.split = split
        self._length = length
        self._seed = seed
        self._size = size
        self._digits = digits
        self._target = target
        self._noise = noise

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        plan = self.plan(index)
        frame = degraded(source(), plan)
        if self._target == "homography":
            second = make_second_view(plan, seed=self._seed, noise=self._noise)
            return Sample(frame, second.homography, second_view(source(), plan, second))
        return Sample(frame, self._answer(plan))

    def _answer(self, plan: ScenePlan) -> Any:
        if self._target == "mask":
            return class_mask(source(), plan)
        if self._target == "boxes":
            return labelled_boxes(source(), plan)
        if self._target == "image":
            return clean(source(), plan)
        labels = tuple(digit.label for digit in plan.digits)
        return labels[0] if self._digits == 1 else labels

    @property
    def settings(self) -> dict[str, Any]:
        """What a calibration manifest records: files of other scenes fit no recipe but their own, but for the seed."""
        return {"size": self._size, "digits": self._digits, "seed": self._seed, **_unusual(self._target, self._noise)}

    def plan(self, index: int) -> ScenePlan:
        """Every random choice of scene `index`. Raises IndexError."""
        if not 0 <= index < self._length:
            raise IndexError(f"scene {index} of {self._length}")
        return make_plan(
            source(), self.split, index, seed=self._seed, size=self._size, digits=self._digits, noise=self._noise
        )

    def name(self, index: int) -> str:
        return f"{self.split}/{index:06d}"


def load(settings: Settings, root: Path, seed: int) -> Splits:
    """Raises DataError (settings, calibration files) and MissingLibrary (scikit-learn)."""
    _check(settings)
    assert_splits_disjoint(source())
    scene: dict[str, Any] = {field: getattr(settings, field) for field in ("size", "digits", "target", "noise")}
    train, calibration, evaluation = (Scenes(split, getattr(settings, split), seed=seed, **scene) for split in SPLITS)
    digits = {"digits": settings.digits} if settings.digits != 1 else {}
    identity: dict[str, Any] = {
        "settings": {"size": settings.size, "train": settings.train, "evaluation": settings.evaluation}
        | digits
        | _unusual(settings.target, settings.noise),
        "seed": seed,
        "generator": GENERATOR,
        "source": fingerprint(),
    }
    used: Dataset = calibration
    calibrated: Any = settings.calibration
    if settings.calibration_dir is not None:
        used = files = _committed(find_calibration(settings.calibration_dir), calibration, _LABELS[settings.target])
        # Only what calibration sees: other words in the manifest change nothing.
        calibrated = files.identity
    return Splits(
        train,
        used,
        evaluation,
        _LABELS[settings.target],
        fingerprint=f"scenes-{sha256_json({**identity, 'calibration': calibrated})[:32]}",
        training_fingerprint=f"scenes-{sha256_json(identity)[:32]}",
        kind=settings.target,
    )


def _unusual(target: Target, noise: float) -> dict[str, Any]:
    """What differs from the first scenes there were, whose fingerprints and manifests name neither."""
    return ({"target": target} if target != "label" else {}) | ({"noise": noise} if noise != NOISE else {})


def _committed(folder: Path, wanted: Scenes, labels: tuple[str, ...]) -> CalibrationFiles:
    """The files in `folder`. Raises DataError when they are not like `wanted`; another seed is allowed."""
    files = read_calibration(folder)
    usual = {"target": "label", "noise": NOISE}
    asked = {**usual, **wanted.settings}
    # Files whose writer recorded nothing are taken for what is asked.
    held = {**asked, **(usual if files.settings else {}), **files.settings}
    if _in_words(held) != _in_words(asked):
        raise DataError(
            f"{folder} holds {_in_words(held)}, the recipe asks for {_in_words(asked)}; set data.calibration_dir=null "
            f"or rebuild it with edgeattn calibration RECIPE --out {folder}."
        )
    if files.labels != labels:
        expected = "the digits 0 to 9" if labels == LABELS else str(labels)
        raise DataError(f"The calibration files in {folder} have the labels {files.labels}, not {expected}.")
    return files


def _in_words(scene: dict[str, Any]) -> str:
    """All that makes frames fit or not fit for calibration."""
    asked = "" if scene["target"] == "label" else f" for target={scene['target']}"
    noise = "" if scene["noise"] == NOISE else f" with noise up to {scene['noise']:g}"
    return f"{scene['size']}-pixel scenes of {scene['digits']} digit(s){noise}{asked}"


def _check(settings: Settings) -> None:
    limits: dict[str, tuple[float, float]] = {"size": (32, 1024), "digits": (1, 64), "noise": (0, 100)}
    for field, (low, high) in (limits | dict.fromkeys(SPLITS, (1, 10_000_000))).items():
        value = getattr(settings, field)
        if not low <= value <= high:
            raise DataError(f"data.{field} of the scenes must be {low} to {high}, got {value}.")
    if settings.target == "label" and settings.digits != 1:
        raise DataError(
            f"A scene has one label, so data.digits must be 1 with data.target=label, got {settings.digits}."
        )
    if settings.size < _CELL_MIN * (across := math.ceil(math.sqrt(settings.digits))):
        raise DataError(
            f"{settings.digits} digits in {settings.size} pixels could not be read: data.size must be at least "
            f"{_CELL_MIN * across}."
        )
