"""Samples that are asked for again and again, kept in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeattn.data.base import Dataset, Sample

LIMIT_BYTES = 1 << 28
# Not every dataset has these, and having them means something (`data.base.sources`, `data.base.Derived`).
_SOMETIMES = ("source", "origins")


class Kept:
    """`dataset`, of which samples stay in memory once they were read, as far as `limit_bytes` go.

    Every check reads the whole evaluation split: to decode or draw it anew each time takes longer than many a network.
    Arrays are read-only, kept or not: who changed one in place would spoil it for all checks after.
    """

    def __init__(self, dataset: Dataset, limit_bytes: int = LIMIT_BYTES) -> None:
        self._dataset = dataset
        self._left = limit_bytes
        self._samples: dict[int, Sample] = {}
        for name in _SOMETIMES:
            if hasattr(dataset, name):
                setattr(self, name, getattr(dataset, name))

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Sample:
        if index in self._samples:
            return self._samples[index]
        sample = _read_only(self._dataset[index])
        size = sum(frame.nbytes for frame in sample.frames) + np.asarray(sample.target).nbytes
        if size <= self._left:
            self._left -= size
            self._samples[index] = sample
        return sample

    def name(self, index: int) -> str:
        return self._dataset.name(index)


def _read_only(sample: Sample) -> Sample:
    second = None if sample.second is None else _view(sample.second)
    target = _view(sample.target) if isinstance(sample.target, np.ndarray) else sample.target
    return Sample(_view(sample.frame), target, second)


def _view(array: NDArray[Any]) -> NDArray[Any]:
    """Without copying, and without taking the right to write from the array's owner."""
    view = array.view()
    view.setflags(write=False)
    return view
