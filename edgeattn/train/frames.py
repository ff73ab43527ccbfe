"""Training frames, decoded and resized once, in parallel, into a memory-mapped file that the epochs read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from edgeattn.data.base import Dataset
from edgeattn.errors import DataError
from edgeattn.imaging import Preprocess
from edgeattn.progress import Progress


class _Prepared(torch.utils.data.Dataset["tuple[NDArray[np.uint8], int] | DataError"]):
    def __init__(self, dataset: Dataset, preprocess: Preprocess) -> None:
        self._dataset = dataset
        self._preprocess = preprocess

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], int] | DataError:
        # Returned, not raised: an exception of a worker process would arrive with its traceback as its message.
        try:
            sample = self._dataset[index]
            return self._preprocess.apply(sample.frame), int(sample.target)
        except DataError as error:
            return error


def prepare(
    dataset: Dataset, preprocess: Preprocess, folder: Path, workers: int, progress: Progress
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All frames as `(N, H, W, 3)` uint8 BGR, memory-mapped from `folder`, and targets `(N,)` int64.

    Raises DataError when a sample cannot be read, whichever process reads it, and OSError when the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, count = folder / "frames.npy", len(dataset)
    shape = (count, preprocess.height, preprocess.width, 3)
    # The page cache keeps what fits in memory; what does not is read from disk, so no data set is too large.
    frames = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    # Claim the space now: a disk that fills up under a memory map ends the process with a bus error.
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    targets = np.empty(count, np.int64)
    done = 0
    for batch, batch_targets in _batches(dataset, preprocess, workers):
        frames[done : done + len(batch)] = batch
        targets[done : done + len(batch)] = batch_targets
        done += len(batch)
        progress(done, count, "preparing frames")
    return frames, targets


def _batches(
    dataset: Dataset, preprocess: Preprocess, workers: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    prepared = _Prepared(dataset, preprocess)
    for samples in DataLoader(prepared, batch_size=64, num_workers=workers, collate_fn=list):
        for sample in samples:
            if isinstance(sample, DataError):
                raise sample
        yield np.stack([frame for frame, _ in samples]), np.array([target for _, target in samples], np.int64)
