"""Clean images, degraded from a seed: for denoising, super-resolution and the filling of holes.

    data: {format: clean, path: denoise_train400_set12, train: train400, evaluation: Set12, grey: true, noise: 25}

The samples of every split are the same in each run: image i of a split is degraded from the seed, the split and i.
Training may ignore its samples' frames and degrade the clean images anew (`Splits.degradation`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import cv2
import numpy as np

from edgeattn.artifact import sha256_json
from edgeattn.data.base import Sample, Splits, locate
from edgeattn.data.degrade import Degradation
from edgeattn.data.labelled import FolderReader, by_name, check_disjoint, draw_calibration, identify
from edgeattn.errors import DataError
from edgeattn.imaging import IMAGE_SUFFIXES, Frame, decode_image, printable


@dataclass(frozen=True)
class Settings:
    """`path`: a folder with images in it or in folders below. `train`, `evaluation`: folders below it, one per split.

    Otherwise the last `eval_last` images by name, or `eval_fraction` of them, are held out. `calibration` images are
    drawn out of the training part (a quarter of it at most). `grey` turns images into grey with three equal channels.
    `noise`, `scale`, `holes`, `hole_px`: see `data.degrade.Degradation`; `evaluation_noise`: another noise for the
    evaluation split, so that a network for unknown noise can be measured at a published level.
    """

    path: str
    train: str | None = None
    evaluation: str | None = None
    eval_last: int | None = None
    eval_fraction: float = 0.2
    calibration: int = 300
    grey: bool = False
    noise: float | tuple[float, float] = 0.0
    evaluation_noise: float | tuple[float, float] | None = None
    scale: Literal[1, 2, 4] = 1
    holes: float = 0.0
    hole_px: int = 24


class CleanImages:
    """Decodes and degrades an image when it is asked for; `seed` is the splits' seed and the number of this one."""

    def __init__(
        self, reader: FolderReader, files: Sequence[str], degradation: Degradation, seed: tuple[int, int]
    ) -> None:
        self._reader = reader
        self._degradation = degradation
        self._seed = seed
        self.files = tuple(files)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        """Sides that do not divide by the scale lose their last pixels. Raises DataError."""
        file = self.files[index]
        where = self._reader.where(file)
        clean = decode_image(self._reader.read(file), where)
        if self._degradation.grey:
            clean = np.asarray(cv2.cvtColor(cv2.cvtColor(clean, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR), np.uint8)
        clean = _cropped(clean, self._degradation.scale, where)
        # A negative index is the same image from the other end.
        rng = np.random.default_rng((*self._seed, index % len(self.files)))
        return Sample(frame=self._degradation.apply(clean, rng), target=clean)

    def name(self, index: int) -> str:
        return printable(self.files[index])


def load(settings: Settings, root: Path, seed: int) -> Splits:
    """Lists and hashes the images, decodes none. Raises DataError."""
    path = locate(settings.path, root)
    if not path.is_dir():
        raise DataError(f"{path} is no folder; data.path must be a folder of images.")
    degradation = _degradation(settings, settings.noise)
    evaluated = degradation
    if settings.evaluation_noise is not None:
        evaluated = _degradation(settings, settings.evaluation_noise)
    train, evaluation = _split(settings, path)
    # One class without a name; the rule for how many may be drawn is that of every other format.
    rest, calibration = draw_calibration({"": train}, settings.calibration, seed)
    files = {"train": rest[""], "calibration": calibration[""], "evaluation": evaluation}
    reader = FolderReader(path)
    described = _described(reader, files)
    identity = {
        "seed": seed,
        "degradation": _identity(degradation),
        "evaluated": _identity(evaluated),
        "train": described["train"],
        "evaluation": described["evaluation"],
    }
    return Splits(
        train=CleanImages(reader, files["train"], degradation, (seed, 0)),
        calibration=CleanImages(reader, files["calibration"], degradation, (seed, 1)),
        evaluation=CleanImages(reader, files["evaluation"], evaluated, (seed, 2)),
        labels=(),
        fingerprint=f"clean-{sha256_json({**identity, 'calibration': described['calibration']})[:32]}",
        training_fingerprint=f"clean-{sha256_json(identity)[:32]}",
        kind="image",
        degradation=degradation,
    )


def _degradation(settings: Settings, noise: float | tuple[float, float]) -> Degradation:
    try:
        return Degradation(
            noise=noise, grey=settings.grey, scale=settings.scale, holes=settings.holes, hole_px=settings.hole_px
        )
    except ValueError as error:
        raise DataError(f"data: {error}.") from error


def _identity(degradation: Degradation) -> dict[str, Any]:
    """What changes its frames: without the size of holes that there are none of."""
    values = asdict(degradation)
    if not degradation.holes:
        del values["hole_px"]
    return values


def _split(settings: Settings, path: Path) -> tuple[list[str], list[str]]:
    """The files of training part and evaluation split. Raises DataError when there are too few."""
    if settings.evaluation is not None:
        train, evaluation = _images(path, settings.train or ""), _images(path, settings.evaluation)
        if settings.train is None:  # everything that is not the evaluation folder's
            train = sorted(set(train) - set(evaluation), key=by_name)
    else:
        train, evaluation = _hold_out(_images(path, settings.train or ""), settings, path)
    if len(train) < 2:
        raise DataError(
            f"{path} leaves {len(train)} image(s) for training and calibration, at least one each is needed; add "
            "images or change data.train, data.evaluation, data.eval_last or data.eval_fraction."
        )
    return train, evaluation


def _hold_out(files: list[str], settings: Settings, path: Path) -> tuple[list[str], list[str]]:
    if not 0.0 < settings.eval_fraction < 1.0:
        raise DataError(f"data.eval_fraction must lie between 0 and 1, got {settings.eval_fraction}.")
    count = settings.eval_last if settings.eval_last is not None else max(1, round(settings.eval_fraction * len(files)))
    if not 1 <= count < len(files):
        raise DataError(
            f"{count} of the {len(files)} image(s) in {path} cannot be held out for evaluation; change data.eval_last "
            "or data.eval_fraction."
        )
    return files[:-count], files[-count:]


def _images(path: Path, folder: str) -> list[str]:
    """Images below `path`/`folder`, relative to `path`, sorted bytewise; hidden ones are left out."""
    top = path / folder
    files = []
    for inside, folders, names in os.walk(top, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
        relative = Path(os.path.relpath(inside, path))
        files += [
            (relative / name).as_posix()
            for name in names
            if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")
        ]
    if not files:
        raise DataError(f"There are no images in {top} (looked for {', '.join(sorted(IMAGE_SUFFIXES))}).")
    return sorted(files, key=by_name)


def _described(reader: FolderReader, files: dict[str, list[str]]) -> dict[str, list[list[str]]]:
    """Name and identity of every file by split. Raises DataError when two splits share an image."""
    identities = identify(reader, files)
    check_disjoint(files, identities, reader)
    return {
        split: [[printable(name), value] for name, value in zip(names, identities[split], strict=True)]
        for split, names in files.items()
    }


def _cropped(clean: Frame, scale: int, where: str) -> Frame:
    high, wide = (side - side % scale for side in clean.shape[:2])
    if not high or not wide:
        raise DataError(f"The image {where} is smaller than {scale} x {scale} pixels; remove it or lower data.scale.")
    return np.ascontiguousarray(clean[:high, :wide])
