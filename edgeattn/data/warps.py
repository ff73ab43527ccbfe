"""Photographs, of which pairs with a known homography are made from a seed.

    data: {format: warps, path: bsds500_train/images, eval_last: 40, pairs: 20000}

The protocol of DeTone et al., "Deep Image Homography Estimation", 2016, arXiv:1606.03798, section 3: the photograph is
resized to 320 x 240 grey or colour pixels, a square patch of 128 is placed at random at least 32 pixels from its
border, each of its corners is moved by up to 32 pixels along each axis, and the photograph, warped so that the moved
corners come to lie where the corners were, is cut at the same place. Here the warped patch is image a and the plain one
b, so that `target`, from pixels of a to pixels of b, is the homography that moves the corners, and the corner error is
the paper's. A photograph higher than wide is turned by a quarter first: nothing of it is cut away or squeezed.

Pair `index` of a split depends on seed, split and index alone, so loader processes make pairs in any order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeattn.artifact import sha256_json
from edgeattn.data.base import Sample, Splits, frame_hash, locate
from edgeattn.data.labelled import FolderReader, by_name, check_disjoint, identify
from edgeattn.data.scene_plan import homography_between
from edgeattn.errors import DataError
from edgeattn.imaging import IMAGE_SUFFIXES, Frame, decode_image, printable

# Changes with what a seed gives: it is part of the fingerprint, so that other pairs mean another training.
GENERATOR = 2
_SPLITS = ("train", "calibration", "evaluation")
_NOISE = 10.0  # standard deviation in grey levels, as all that follows the protocol of the project's bars
_GAMMA = (0.6, 1.5)
_OFFSET = 20.0
_BLUR = 1.5
# Steps from photograph to photograph and from turn to turn: with neither a ratio of whole numbers, nor one of the two
# a multiple of the other, the remainders fill 0..1 evenly both ways, however many photographs there are.
_PHOTO_STEP, _TURN_STEP = (5**0.5 - 1) / 2, 2**0.5 - 1


@dataclass(frozen=True)
class Settings:
    """`path`: a folder of photographs, searched with its sub-folders.

    `eval_last` photographs by name (a fifth of them when null) make the evaluation pairs; `calibration` of the others,
    drawn from the seed and at most a quarter, the calibration pairs. `photo` is width and height. `degraded` is the
    share of pairs of the training and calibration split whose two images each get a gamma of 0.6 to 1.5, an offset of
    up to 20 grey levels, a blur of up to 1.5 px and noise of 10 grey levels of their own, about the same share of every
    photograph's pairs; `eval_degraded` that of the evaluation split.
    """

    path: str
    size: int = 128
    photo: tuple[int, int] = (320, 240)
    displacement: float = 32.0
    pairs: int = 20_000
    eval_pairs: int = 1_000
    calibration_pairs: int = 300
    eval_last: int | None = None
    calibration: int = 16
    degraded: float = 0.5
    eval_degraded: float = 0.5


class Warps:
    """One split. Photographs are decoded once per process."""

    def __init__(
        self,
        folder: Path,
        files: tuple[str, ...],
        split: str,
        pairs: int,
        degraded: float,
        settings: Settings,
        seed: int,
    ) -> None:
        self.files = files
        self._folder = folder
        self._split = _SPLITS.index(split)
        self._pairs = pairs
        self._degraded = degraded
        self._settings = settings
        self._seed = seed

    def __len__(self) -> int:
        return self._pairs

    def name(self, index: int) -> str:
        return f"{printable(self._file(index))}#{index}"

    def source(self, index: int) -> str:
        """The photograph that pair `index` was cut from."""
        return self._file(index)

    def __getitem__(self, index: int) -> Sample:
        """Raises DataError when the photograph cannot be read, IndexError beyond the last pair."""
        if not 0 <= index < self._pairs:
            raise IndexError(f"pair {index} of {self._pairs}")
        rng = np.random.default_rng((self._seed, self._split, index))
        path = self._folder / self._file(index)
        photo = _photo(str(path), path.stat().st_mtime_ns if path.exists() else 0, self._settings.photo)
        sample = make_pair(photo, self._settings.size, self._settings.displacement, rng)
        if is_degraded(index, len(self.files), self._degraded):
            first, second = degrade(sample.frame, rng), degrade(sample.frames[1], rng)
            return Sample(first, sample.target, second)
        return sample

    def origins(self) -> list[str]:
        """Of the photographs' decoded pixels. Raises DataError."""
        return [frame_hash(_decoded(self._folder / file)) for file in self.files]

    def _file(self, index: int) -> str:
        return self.files[index % len(self.files)]


def load(settings: Settings, root: Path, seed: int) -> Splits:
    """Lists and hashes the photographs, decodes none. Raises DataError."""
    folder = locate(settings.path, root)
    _check(settings)
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; data.path must be a folder of photographs.")
    found = (p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    files = sorted((p.relative_to(folder).as_posix() for p in found), key=by_name)
    held_out = settings.eval_last if settings.eval_last is not None else max(1, len(files) // 5)
    if len(files) < held_out + 2:
        raise DataError(
            f"There are {len(files)} photographs in {folder}, too few to keep {held_out} for evaluation and at least "
            "one each for training and calibration; add photographs or change data.eval_last."
        )
    rest, evaluation = files[:-held_out], files[-held_out:]
    drawn = np.random.default_rng((seed, 7)).permutation(len(rest))[: min(settings.calibration, max(1, len(rest) // 4))]
    chosen = set(drawn.tolist())
    parts = {
        "train": [file for i, file in enumerate(rest) if i not in chosen],
        "calibration": [file for i, file in enumerate(rest) if i in chosen],
        "evaluation": evaluation,
    }
    reader = FolderReader(folder)
    identities = identify(reader, parts)
    check_disjoint(parts, identities, reader)
    counts = (settings.pairs, settings.calibration_pairs, settings.eval_pairs)
    shares = (settings.degraded, settings.degraded, settings.eval_degraded)
    sets = {
        split: Warps(folder, tuple(parts[split]), split, count, share, settings, seed)
        for split, count, share in zip(_SPLITS, counts, shares, strict=True)
    }
    described = {
        split: [counts[i], shares[i], list(zip(map(printable, parts[split]), identities[split], strict=True))]
        for i, split in enumerate(_SPLITS)
    }
    identity = {
        "generator": GENERATOR,
        "seed": seed,
        "geometry": [settings.size, list(settings.photo), settings.displacement],
        "train": described["train"],
        "evaluation": described["evaluation"],
    }
    return Splits(
        sets["train"],
        sets["calibration"],
        sets["evaluation"],
        labels=(),
        fingerprint=f"warps-{sha256_json({**identity, 'calibration': described['calibration']})[:32]}",
        training_fingerprint=f"warps-{sha256_json(identity)[:32]}",
        kind="homography",
    )


def make_pair(photo: Frame, size: int, displacement: float, rng: np.random.Generator) -> Sample:
    """One pair by the protocol: frames `(size, size, 3)`, target `(3, 3)` from the warped to the plain patch.

    The moved corners lie inside the photograph, so that both patches are full of it.
    """
    high, wide = photo.shape[:2]
    margin = int(np.ceil(displacement))
    left, top = (int(rng.integers(margin, side - size - margin + 1)) for side in (wide, high))
    end = size - 1.0
    corners = np.array([[0.0, 0.0], [end, 0.0], [end, end], [0.0, end]])
    homography = homography_between(corners, corners + rng.uniform(-displacement, displacement, (4, 2)))
    place = np.array([[1.0, 0.0, left], [0.0, 1.0, top], [0.0, 0.0, 1.0]])
    warped = cv2.warpPerspective(
        photo,
        place @ homography,
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    plain = np.ascontiguousarray(photo[top : top + size, left : left + size])
    return Sample(np.asarray(warped, np.uint8), homography, plain)


def is_degraded(index: int, photos: int, share: float) -> bool:
    """Whether pair `index` is degraded, where pair after pair takes the next of `photos` photographs.

    About `share` of every prefix are, and about as many of each photograph's pairs; none for 0.0, all for 1.0.
    """
    turn, photo = divmod(index, photos)
    return (photo * _PHOTO_STEP + turn * _TURN_STEP) % 1.0 < share


def degrade(frame: Frame, rng: np.random.Generator) -> Frame:
    """Blur, gamma, offset and noise, in a camera's order; a new uint8 frame."""
    sigma, gamma, offset = rng.uniform(0, _BLUR), rng.uniform(*_GAMMA), rng.uniform(-_OFFSET, _OFFSET)
    blurred = cv2.GaussianBlur(frame, (0, 0), sigma) if sigma > 0.2 else frame  # narrower than that changes nothing
    curve = (np.arange(256, dtype=np.float32) / 255.0) ** np.float32(gamma) * 255.0 + np.float32(offset)
    noisy = curve[blurred] + rng.standard_normal(frame.shape, dtype=np.float32) * np.float32(_NOISE)
    return np.asarray(np.clip(np.rint(noisy), 0, 255), np.uint8)


def _decoded(file: Path) -> Frame:
    return decode_image(FolderReader(file.parent).read(file.name), printable(str(file)))


@lru_cache(maxsize=1024)
def _photo(path: str, mtime_ns: int, size: tuple[int, int]) -> Frame:
    """A photograph as the pairs are cut from; the time of change tells one that was replaced. Raises DataError."""
    frame: NDArray[np.uint8] = _decoded(Path(path))
    if (frame.shape[0] > frame.shape[1]) != (size[1] > size[0]):
        frame = np.asarray(cv2.rotate(frame, cv2.ROTATE_90_COUNTERCLOCKWISE), np.uint8)
    shrinking = size[0] * size[1] < frame.shape[0] * frame.shape[1]
    resized = np.asarray(
        cv2.resize(frame, size, interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR), np.uint8
    )
    resized.setflags(write=False)
    return resized


def _check(settings: Settings) -> None:
    room = min(settings.photo) - 2 * int(np.ceil(settings.displacement))
    if settings.size < 16 or settings.size > room:
        raise DataError(
            f"data.size must be at least 16 and leave data.displacement around it: at most {room} for photographs of "
            f"{settings.photo[0]} x {settings.photo[1]} and {settings.displacement:g} px, got {settings.size}."
        )
    if not 0 <= settings.displacement < settings.size / 2:
        raise DataError(
            f"data.displacement must be less than half of data.size, or corners could change places; got "
            f"{settings.displacement:g} and {settings.size}."
        )
    for name in ("degraded", "eval_degraded"):
        if not 0.0 <= getattr(settings, name) <= 1.0:
            raise DataError(f"data.{name} is a share between 0 and 1, got {getattr(settings, name)}.")
    for name in ("pairs", "eval_pairs", "calibration_pairs", "calibration", "eval_last"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise DataError(f"data.{name} must be at least 1, got {value}.")
