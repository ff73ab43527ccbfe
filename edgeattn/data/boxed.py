"""Images with boxes, whatever format they are annotated in: calibration, checks, fingerprint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeattn.artifact import sha256_json
from edgeattn.data.base import Sample, Splits
from edgeattn.data.labelled import Reader, check_disjoint, draw_calibration, identify
from edgeattn.errors import DataError
from edgeattn.imaging import decode_image, printable

Box = tuple[float, float, float, float, int]  # x1, y1, x2, y2 (exclusive edges), class


@dataclass(frozen=True)
class Annotated:
    """One image file and its boxes. A class of `-(c + 1)` marks what is ignored (see `metrics.detection`).

    `skipped`: boxes that were left out because they have no area.
    """

    file: str
    boxes: tuple[Box, ...]
    skipped: int = 0


class BoxedImages:
    """Decodes an image when it is asked for; its boxes are cut at the frame, and those outside it left out."""

    def __init__(self, reader: Reader, images: Sequence[Annotated]) -> None:
        self._reader = reader
        self.images = tuple(images)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def skipped(self) -> int:
        """How many annotated boxes had no area."""
        return sum(image.skipped for image in self.images)

    def __getitem__(self, index: int) -> Sample:
        image = self.images[index]
        frame = decode_image(self._reader.read(image.file), self._reader.where(image.file))
        target = np.array(image.boxes, np.float32).reshape(-1, 5)
        high, wide = frame.shape[:2]
        target[:, :4] = np.clip(target[:, :4], 0, [wide, high, wide, high])
        inside = (target[:, 2] > target[:, 0]) & (target[:, 3] > target[:, 1])
        return Sample(frame=frame, target=target[inside])

    def name(self, index: int) -> str:
        return printable(self.images[index].file)


def is_box(x1: float, y1: float, x2: float, y2: float) -> bool:
    """False for a box without area, and for one that is not finite."""
    return bool(np.isfinite([x1, y1, x2, y2]).all()) and x2 > x1 and y2 > y1


def make_splits(
    name: str,
    reader: Reader,
    labels: tuple[str, ...],
    train: Sequence[Annotated],
    evaluation: Sequence[Annotated],
    calibration: int,
    seed: int,
) -> Splits:
    """Draw `calibration` images out of the training part, at most a quarter, and fingerprint. Decodes nothing.

    Raises DataError when a part is empty or an image is in two splits.
    """
    if not evaluation:
        raise DataError("The evaluation list names no images; correct data.evaluation.")
    if len(train) < 2:
        raise DataError(f"The training list names {len(train)} image(s); at least 2 are needed, one for calibration.")
    by_file = {image.file: image for image in train}
    rest, drawn = draw_calibration({"": list(by_file)}, calibration, seed)
    parts = {
        "train": BoxedImages(reader, [by_file[file] for file in rest[""]]),
        "calibration": BoxedImages(reader, [by_file[file] for file in drawn[""]]),
        "evaluation": BoxedImages(reader, evaluation),
    }
    files = {split: [image.file for image in images.images] for split, images in parts.items()}
    identities = identify(reader, files)
    check_disjoint(files, identities, reader)
    described = {
        split: [
            [printable(image.file), [list(box) for box in image.boxes], value]
            for image, value in zip(images.images, identities[split], strict=True)
        ]
        for split, images in parts.items()
    }
    identity = {"labels": labels, "train": described["train"], "evaluation": described["evaluation"]}
    return Splits(
        parts["train"],
        parts["calibration"],
        parts["evaluation"],
        labels,
        fingerprint=f"{name}-{sha256_json({**identity, 'calibration': described['calibration']})[:32]}",
        training_fingerprint=f"{name}-{sha256_json(identity)[:32]}",
        kind="boxes",
    )
