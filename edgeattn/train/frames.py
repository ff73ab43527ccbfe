"""Training frames and targets, decoded and fitted once, in parallel, into memory-mapped files that the epochs read.

Where the network takes tiles, a sample becomes windows of 1.5 to 2.5 times a tile's side, a tile apart, and each epoch
draws a random tile out of each window (`tiles.py` says how). Every place is seen once an epoch on the average, but for
the rim of up to 1.5 tiles, which is seen the less often the further out: the outermost pixels a fifth to a third as
often along each axis. Where images differ in size the windows fit the smallest, and the middle of larger ones may be
seen more often than that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from edgeattn.data.base import Dataset, Sample
from edgeattn.errors import DataError
from edgeattn.framing import frame_up
from edgeattn.imaging import Preprocess, View
from edgeattn.progress import Progress
from edgeattn.tiling import Tiling
from edgeattn.train.targets import BOXES_MAX, fit
from edgeattn.train.tiles import window_side, window_starts

Item = tuple[NDArray[np.uint8], NDArray[Any]]
Shape = tuple[int, int]


@dataclass(frozen=True)
class Fitting:
    """How samples become items. `window`: the side lengths that tiles are drawn from; None where nothing is tiled.

    `clean`: keep the target alone, as its own frame, since it will be degraded anew in every epoch; `scale` times
    smaller where the degradation shrinks it.
    """

    preprocess: Preprocess
    inputs: tuple[str, ...]
    kind: str
    window: Shape | None = None
    clean: bool = False
    scale: int = 1

    def items(self, sample: Sample) -> list[Item]:
        """`(F, h, w, 3)` frames and the fitted target, one pair or one for each window. Raises DataError."""
        if self.clean:
            sample = Sample(np.asarray(sample.target, np.uint8), np.uint8(0))
        if self.window is None:
            size = (self.preprocess.height * self.scale, self.preprocess.width * self.scale)
            framing = frame_up(replace(self.preprocess, height=size[0], width=size[1]), sample.frames, self.inputs)
            frames = np.concatenate([framing.calls[0][name] for name in self.inputs])
            return [(frames, fit("label" if self.clean else self.kind, sample.target, framing.views, *size))]
        return self._windows(sample, self.window)

    def count(self, shapes: list[Shape]) -> int:
        """How many items frames of these shapes give."""
        if self.window is None:
            return len(shapes)
        plans = (self._tiling(shape, self.window) for shape in shapes)
        return sum(len(plan.tops) * len(plan.lefts) for plan in plans)

    def _tiling(self, shape: Shape, window: Shape) -> Tiling:
        tile = (self.preprocess.height * self.scale, self.preprocess.width * self.scale)
        return Tiling(*shape, window, *(window_starts(*sides) for sides in zip(shape, window, tile, strict=True)))

    def _windows(self, sample: Sample, window: Shape) -> list[Item]:
        high, wide = sample.frame.shape[:2]
        tiling = self._tiling((high, wide), window)
        frames = tiling.cut(sample.frame)
        if self.clean:
            return [(frame[None], np.zeros((), np.uint8)) for frame in frames]
        if self.kind == "image":
            raise DataError("Pairs of clean and degraded images cannot be tiled; use the data format 'clean'.")
        return [
            (frame[None], fit(self.kind, target, (View(frame, np.eye(3)),), *window))
            for frame, target in zip(frames, tiling.cut(np.asarray(sample.target)), strict=True)
        ]


def training_fitting(
    preprocess: Preprocess, inputs: tuple[str, ...], kind: str, shapes: list[Shape], scale: int | None
) -> Fitting:
    """For training. `shapes`: of the frames, or of the clean images where `scale` says that they will be degraded."""
    factor = scale or 1
    if preprocess.fit != "tile":
        return Fitting(preprocess, inputs, kind, clean=scale is not None, scale=factor)
    tile = (preprocess.height * factor, preprocess.width * factor)
    smallest = (min(shape[0] for shape in shapes), min(shape[1] for shape in shapes))
    window = (window_side(smallest[0], tile[0]), window_side(smallest[1], tile[1]))
    return Fitting(preprocess, inputs, kind, window, clean=scale is not None, scale=factor)


class Watch:
    """The evaluation split for the training's own eyes: of a frame that would be tiled, the tile in its middle.

    Of boxes it shows no more than are fitted: nothing that is merely watched may stop a training.
    """

    def __init__(self, dataset: Dataset, preprocess: Preprocess, kind: str) -> None:
        self._dataset = dataset
        self._preprocess = preprocess
        self._kind = kind

    def __len__(self) -> int:
        return len(self._dataset)

    def name(self, index: int) -> str:
        return self._dataset.name(index)

    def __getitem__(self, index: int) -> Sample:
        sample = self._dataset[index]
        if self._kind == "boxes":
            sample = replace(sample, target=np.asarray(sample.target).reshape(-1, 5)[:BOXES_MAX])
        if self._preprocess.fit != "tile":
            return sample
        tile = (self._preprocess.height, self._preprocess.width)
        target, scale = np.asarray(sample.target), 1
        if self._kind == "image":
            scale = target.shape[0] // sample.frame.shape[0]
        return Sample(_middle(sample.frame, tile, 1), _middle(target, tile, scale))


def _middle(image: NDArray[Any], tile: Shape, scale: int) -> NDArray[Any]:
    """What lies below the middle tile of the frame, of which `image` is `scale` times the size."""
    # Reckoned in the frame's pixels: half of an odd rest would be another place in an image of twice the size.
    top, left = (max(0, image.shape[i] // scale - tile[i]) // 2 * scale for i in range(2))
    high, wide = tile[0] * scale, tile[1] * scale
    part = image[top : top + high, left : left + wide]
    return Tiling.plan(part.shape[0], part.shape[1], (high, wide), 0).cut(part)[0]


class _Fitted(torch.utils.data.Dataset["list[Item] | DataError"]):
    def __init__(self, dataset: Dataset, fitting: Fitting) -> None:
        self._dataset = dataset
        self._fitting = fitting

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> list[Item] | DataError:
        # Returned, not raised: an exception of a worker process would arrive with its traceback as its message.
        try:
            sample = self._dataset[index]
        except DataError as error:  # it names the file
            return error
        try:
            return self._fitting.items(sample)
        except DataError as error:
            return DataError(f"{self._dataset.name(index)}: {error}")


class _Shapes(torch.utils.data.Dataset["Shape | DataError"]):
    def __init__(self, dataset: Dataset, *, of_target: bool) -> None:
        self._dataset = dataset
        self._of_target = of_target

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Shape | DataError:
        try:
            sample = self._dataset[index]
        except DataError as error:
            return error
        image = sample.target if self._of_target else sample.frame
        return int(image.shape[0]), int(image.shape[1])


def shapes_of(dataset: Dataset, workers: int, *, of_target: bool) -> list[Shape]:
    """Height and width of every frame, or of every clean image. Decodes all of them. Raises DataError."""
    return list(_loaded(_Shapes(dataset, of_target=of_target), workers))


def prepare(
    dataset: Dataset, fitting: Fitting, folder: Path, workers: int, progress: Progress, *, count: int | None = None
) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Frames `(N, F, H, W, 3)` uint8 BGR and targets `(N, …)` as `targets.fit` makes them, both memory-mapped.

    `count`: how many items there will be, where that is not one for each sample. Raises DataError when a sample cannot
    be read, whichever process reads it, and OSError when the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    total = len(dataset) if count is None else count
    frames: NDArray[np.uint8] | None = None
    targets: NDArray[Any] = np.empty(0)
    done = 0
    for items in _loaded(_Fitted(dataset, fitting), workers):
        for frame, target in items:
            if frames is None:
                frames = _claimed(folder / "frames.npy", (total, *frame.shape), frame.dtype)
                targets = _claimed(folder / "targets.npy", (total, *target.shape), target.dtype)
            frames[done], targets[done] = frame, target
            done += 1
        progress(min(done, total), total, "preparing frames")
    assert frames is not None, "splits are checked not to be empty"
    return frames, targets


def _claimed(path: Path, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    # The page cache keeps what fits in memory; what does not is read from disk, so no data set is too large.
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    # Claim the space now: a disk that fills up under a memory map ends the process with a bus error.
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _loaded(dataset: Any, workers: int) -> Iterator[Any]:
    for batch in DataLoader(dataset, batch_size=64, num_workers=workers, collate_fn=list):
        for value in batch:
            if isinstance(value, DataError):
                raise value
            yield value
