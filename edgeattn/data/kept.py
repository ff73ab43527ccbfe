"""Samples that are asked for again and again, kept in memory."""

from __future__ import annotations

import numpy as np

from edgeattn.data.base import Dataset, Sample

LIMIT_BYTES = 1 << 28


class Kept:
    """`dataset`, of which samples stay in memory once they were read, as far as `limit_bytes` go.

    Every check reads the whole evaluation split: to decode or draw it anew each time takes longer than many a network.
    """

    def __init__(self, dataset: Dataset, limit_bytes: int = LIMIT_BYTES) -> None:
        self._dataset = dataset
        self._left = limit_bytes
        self._samples: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Sample:
        if index in self._samples:
            return self._samples[index]
        sample = self._dataset[index]
        size = sum(frame.nbytes for frame in sample.frames) + np.asarray(sample.target).nbytes
        if size <= self._left:
            self._left -= size
            self._samples[index] = sample
        return sample

    def name(self, index: int) -> str:
        return self._dataset.name(index)
