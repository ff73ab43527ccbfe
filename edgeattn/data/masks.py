"""An image folder and a mask folder, and where there is one a folder of field-of-view masks.

    data:
      format: masks
      path: drive_train
      images: "images/{id}_training.tif"
      masks: "1st_manual/{id}_manual1.gif"
      field_of_view: "mask/{id}_training_mask.gif"
      values: binary
      labels: [background, vessel]
      eval_last: 4

Patterns are relative to `path`; `{id}` is what image and mask have in common, `*` and `?` are as in a shell; none of
these crosses a folder. Every image needs its mask; masks without an image are passed over.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeattn.artifact import sha256_json
from edgeattn.data.base import Sample, Splits, locate
from edgeattn.data.labelled import FolderReader, by_name, check_disjoint, draw_calibration, identify
from edgeattn.errors import DataError, MissingLibrary
from edgeattn.imaging import decode_image, printable

IGNORED = 255
_PLACEHOLDER = "{id}"
_KINDS = ("images", "masks", "field_of_view")


@dataclass(frozen=True)
class Settings:
    """`labels`: the names of the classes 0, 1, ….

    `values` says what is in a mask. `ids`: class ids (the indices, where a mask has a palette of colours, as VOC's do);
    the id `ignore`, and always 255, is not counted; masks of 0 and 255 alone need `ignore: 255`, since they look like
    binary ones. `binary`: 0 and 255, of which `positive` is class 1. Outside the
    field of view (0, inside 255) nothing is counted.

    Held out for evaluation are the files of the `eval_…` patterns; or else the last `eval_last` images, or
    `eval_fraction` of them, by id, in which numbers count as numbers: 9 comes before 10. `calibration` images, a
    quarter at most, are drawn out of the training part from the seed; INT8 needs at least 3.
    """

    path: str
    images: str
    masks: str
    labels: tuple[str, ...]
    field_of_view: str | None = None
    values: Literal["ids", "binary"] = "ids"
    positive: Literal[0, 255] = 255
    ignore: int | None = None
    eval_images: str | None = None
    eval_masks: str | None = None
    eval_field_of_view: str | None = None
    eval_last: int | None = None
    eval_fraction: float = 0.2
    calibration: int = 16


@dataclass(frozen=True)
class _Files:
    """Of one sample, relative to the data set's folder."""

    image: str
    mask: str
    field_of_view: str | None = None


class MaskedImages:
    """Decodes image and mask when they are asked for; in the order of the ids."""

    def __init__(self, reader: FolderReader, files: Sequence[_Files], settings: Settings) -> None:
        self._reader = reader
        self.files = tuple(files)
        self._settings = settings

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        files = self.files[index]
        frame = decode_image(self._reader.read(files.image), self._reader.where(files.image))
        mask = self._read(files.mask, files.image, frame.shape[:2])
        if self._settings.values == "ids":
            mask = self._ids(mask, files.mask)
        else:
            mask = self._binary(mask, files.mask) ^ np.uint8(self._settings.positive == 0)
        if files.field_of_view is not None:
            view = self._read(files.field_of_view, files.image, frame.shape[:2])
            mask = np.where(self._binary(view, files.field_of_view) == 1, mask, np.uint8(IGNORED))
        return Sample(frame=frame, target=np.ascontiguousarray(mask, np.uint8))

    def name(self, index: int) -> str:
        return printable(self.files[index].image)

    def _read(self, file: str, image: str, shape: tuple[int, ...]) -> NDArray[Any]:
        where = self._reader.where(file)
        mask = decode_mask(self._reader.read(file), where)
        if mask.shape != shape:
            raise DataError(
                f"The mask {where} has {mask.shape[0]} x {mask.shape[1]} pixels, its image {self._reader.where(image)} "
                f"{shape[0]} x {shape[1]}; they must agree: correct the patterns or the files."
            )
        return mask

    def _binary(self, mask: NDArray[Any], file: str) -> NDArray[np.uint8]:
        """0 and 255 -> 0 and 1."""
        wrong = mask[(mask != 0) & (mask != 255)]
        if wrong.size:
            raise DataError(
                f"The mask {self._reader.where(file)} holds the value {wrong.flat[0]}; expected 0 and 255 only. Store "
                "masks without loss, or set data.values to ids."
            )
        return np.asarray(mask == 255, np.uint8)

    def _ids(self, mask: NDArray[Any], file: str) -> NDArray[np.uint8]:
        if self._settings.ignore is None and (mask == IGNORED).any() and ((mask == IGNORED) | (mask == 0)).all():
            # Taken for ids, everything but the background would not be counted, and any network would be right.
            raise DataError(
                f"The mask {self._reader.where(file)} holds the values 0 and 255 alone, and as a class id 255 is not "
                f"counted; set data.values to binary, or data.ignore to {IGNORED} if these are class ids."
            )
        known = mask < len(self._settings.labels)
        ignored = (mask == IGNORED) | (mask == (IGNORED if self._settings.ignore is None else self._settings.ignore))
        wrong = mask[~(known | ignored)]
        if wrong.size:
            raise DataError(
                f"The mask {self._reader.where(file)} holds the class id {wrong.flat[0]}, but there are "
                f"{len(self._settings.labels)} labels; correct data.labels, data.ignore or data.values."
            )
        return np.asarray(np.where(ignored, IGNORED, mask), np.uint8)


def load(settings: Settings, root: Path, seed: int) -> Splits:
    """Lists and hashes images and masks, decodes none. Raises DataError."""
    _check(settings)
    path = locate(settings.path, root)
    given = (settings.images, settings.masks, settings.field_of_view)
    found = _match(path, dict(zip(_KINDS, given, strict=True)))
    if settings.eval_images is not None:
        held = (settings.eval_images, settings.eval_masks, settings.eval_field_of_view)
        patterns = {f"eval_{kind}": pattern for kind, pattern in zip(_KINDS, held, strict=True)}
        train, evaluation = found, list(_match(path, patterns).values())
    else:
        train, evaluation = _hold_out(found, settings)
    if len(train) < 3:
        raise DataError(
            f"{len(train)} image(s) of {path} are left for training and calibration; at least 3 are needed: correct "
            "data.images, or hold out fewer."
        )
    rest, calibration = draw_calibration({"": list(train)}, settings.calibration, seed)
    parts = {
        "train": [train[key] for key in sorted(rest[""], key=_in_order)],
        "calibration": [train[key] for key in sorted(calibration[""], key=_in_order)],
        "evaluation": evaluation,
    }
    return _splits(settings, FolderReader(path), parts)


def decode_mask(data: bytes, where: str) -> NDArray[Any]:
    """A mask's values `(H, W)`, uint8 or uint16: grey levels, or the indices where a palette has colours.

    Raises DataError when they are neither, and MissingLibrary when only Pillow could read the file and is not there.
    """
    indexed = data[:8] == b"\x89PNG\r\n\x1a\n" and data[25:26] == b"\x03"
    if not indexed:
        try:
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
        except cv2.error:
            picture = None
        if picture is not None and picture.dtype in (np.uint8, np.uint16):
            if picture.ndim == 2:
                return np.asarray(picture)
            if (picture[..., :1] == picture[..., 1:3]).all():
                return np.ascontiguousarray(picture[..., 0])
    return _by_pillow(data, where)


def _by_pillow(data: bytes, where: str) -> NDArray[Any]:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MissingLibrary(
            f"OpenCV {cv2.__version__} cannot read the mask {where} as one number per pixel, and Pillow, which could, "
            "is not installed: pip install pillow, or convert the mask to a grey PNG."
        ) from error
    try:
        with Image.open(BytesIO(data)) as picture:
            mode = picture.mode
            palette = np.array(picture.getpalette() or [], np.uint8).reshape(-1, 3)
            values = np.asarray(picture.convert("L") if (palette == palette[:, :1]).all() and mode == "P" else picture)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(
            f"The mask {where} is not an image OpenCV or Pillow can decode ({len(data)} bytes); replace it."
        ) from error
    if mode not in {"P", "L"}:
        raise DataError(
            f"The mask {where} is a picture of the mode {mode}; expected one number per pixel: a grey image, or one "
            "with a palette."
        )
    return values


def _check(settings: Settings) -> None:
    binary = settings.values == "binary"
    if not 2 <= len(settings.labels) <= IGNORED or (binary and len(settings.labels) != 2):
        raise DataError(
            f"data.labels must name {'2' if binary else f'2 to {IGNORED}'} classes, got {len(settings.labels)}."
        )
    if len(set(settings.labels)) < len(settings.labels):
        raise DataError(f"data.labels names a class twice: {', '.join(settings.labels)}.")
    if binary and settings.ignore is not None:
        raise DataError("data.ignore is for masks of class ids; remove it or set data.values to ids.")
    if not binary and settings.positive != 255:
        raise DataError("data.positive is for masks of 0 and 255; remove it or set data.values to binary.")
    if settings.ignore is not None and not 0 <= settings.ignore <= IGNORED:
        raise DataError(f"data.ignore must be an id of 0 to {IGNORED}, got {settings.ignore}.")
    held = (settings.eval_images, settings.eval_masks)
    if (held[0] is None) != (held[1] is None):
        raise DataError("data.eval_images and data.eval_masks belong together; give both or neither.")
    if (settings.eval_field_of_view is not None) != (held[0] is not None and settings.field_of_view is not None):
        raise DataError(
            "data.eval_field_of_view belongs to eval_images with a field_of_view; give it there, and only there."
        )
    if settings.eval_last is not None and held[0] is not None:
        raise DataError("data.eval_last and data.eval_images both say what is held out; give one of them.")
    if settings.eval_last is not None and settings.eval_last < 1:
        raise DataError(f"data.eval_last must be at least 1, got {settings.eval_last}.")
    if not 0.0 < settings.eval_fraction < 1.0:
        raise DataError(f"data.eval_fraction must lie between 0 and 1, got {settings.eval_fraction}.")


def _match(path: Path, patterns: Mapping[str, str | None]) -> dict[str, _Files]:
    """Id -> the files of a sample, in the order of the ids. `patterns`: of the three kinds, by setting."""
    found = {name: _find(path, name, pattern) for name, pattern in patterns.items() if pattern is not None}
    images, *others = found.values()
    for name, files in found.items():
        if missing := [key for key in images if key not in files]:
            expected = str(patterns[name]).replace(_PLACEHOLDER, missing[0])
            raise DataError(
                f"The image {printable(images[missing[0]])} in {path} has no file {printable(expected)}; add it or "
                f"correct data.{name}."
            )
    return {key: _Files(images[key], *(files[key] for files in others)) for key in sorted(images, key=_in_order)}


def _find(path: Path, setting: str, pattern: str) -> dict[str, str]:
    """Id -> file for all files below `path` that `pattern` fits."""
    parts = pattern.split("/")
    if pattern.count(_PLACEHOLDER) != 1 or "**" in pattern or not {"", ".."}.isdisjoint(parts):
        raise DataError(
            f"data.{setting} must be a path below data.path with one {_PLACEHOLDER} in it, such as "
            f"images/{_PLACEHOLDER}.png, got '{pattern}'."
        )
    wild = pattern.replace("[", "[[]").replace(_PLACEHOLDER, "*")
    before, after = (_expression(half) for half in pattern.split(_PLACEHOLDER))
    fits = re.compile(f"{before}([^/]+){after}", re.DOTALL)
    found: dict[str, str] = {}
    for file in sorted(glob.glob(wild, root_dir=path), key=by_name):  # noqa: PTH207  (Path.glob reads [ as a set)
        fit = fits.fullmatch(Path(file).as_posix())
        if fit is None or not (path / file).is_file():
            continue
        if (other := found.setdefault(fit[1], file)) != file:
            raise DataError(
                f"{printable(other)} and {printable(file)} in {path} both fit data.{setting} with the id "
                f"'{printable(fit[1])}'; make the pattern fit one of them."
            )
    if not found:
        raise DataError(f"No file in {path} fits data.{setting}: {pattern}; correct the pattern.")
    return found


def _expression(pattern: str) -> str:
    return "".join({"*": "[^/]*", "?": "[^/]"}.get(character) or re.escape(character) for character in pattern)


def _in_order(key: str) -> tuple[list[bytes | int], bytes]:
    """Sort key of ids: numbers as numbers, the rest bytewise; every odd place of the split is a number."""
    split = re.split("([0-9]+)", key)
    return [int(part) if place % 2 else by_name(part) for place, part in enumerate(split)], by_name(key)


def _hold_out(found: Mapping[str, _Files], settings: Settings) -> tuple[dict[str, _Files], list[_Files]]:
    count = settings.eval_last
    if count is None:
        count = max(1, round(settings.eval_fraction * len(found)))
    keys = list(found)
    return {key: found[key] for key in keys[:-count]}, [found[key] for key in keys[-count:]]


def _splits(settings: Settings, reader: FolderReader, parts: Mapping[str, list[_Files]]) -> Splits:
    """Fingerprints, after a check that no image is in two splits."""
    listed = {split: [file for one in files for file in _names(one)] for split, files in parts.items()}
    content = {
        file: value
        for split, values in identify(reader, listed).items()
        for file, value in zip(listed[split], values, strict=True)
    }
    images = {split: [one.image for one in files] for split, files in parts.items()}
    check_disjoint(images, {split: [content[file] for file in files] for split, files in images.items()}, reader)
    described = {
        split: [[[printable(file), content[file]] for file in _names(one)] for one in files]
        for split, files in parts.items()
    }
    read_as = {key: asdict(settings)[key] for key in ("labels", "values", "positive", "ignore")}
    identity = {**read_as, "train": described["train"], "evaluation": described["evaluation"]}
    datasets = {split: MaskedImages(reader, files, settings) for split, files in parts.items()}
    return Splits(
        datasets["train"],
        datasets["calibration"],
        datasets["evaluation"],
        settings.labels,
        fingerprint=f"masks-{sha256_json({**identity, 'calibration': described['calibration']})[:32]}",
        training_fingerprint=f"masks-{sha256_json(identity)[:32]}",
        kind="mask",
    )


def _names(files: _Files) -> list[str]:
    return [file for file in (files.image, files.mask, files.field_of_view) if file is not None]
