"""Frames larger than the network: cut into tiles that overlap, and their outputs joined without seams.

The overlap-tile strategy of Ronneberger et al., "U-Net", 2015, arXiv:1505.04597, figure 2, with two changes: the tiles
keep one size, so that a static engine runs them, and outputs are blended by weights that fall towards each tile's rim,
so that what a network sees less of there is never used alone unless it is the frame's own rim.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeattn.errors import DataError
from edgeattn.imaging import Frame
from edgeattn.opencv import cv2


@dataclass(frozen=True)
class Tiling:
    """Where the tiles of one frame lie: `tops` x `lefts`, row by row, each `tile` (height, width).

    A frame smaller than a tile is mirrored up to its size at the bottom and right; `height` and `width` are the frame's
    own.
    """

    height: int
    width: int
    tile: tuple[int, int]
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    @classmethod
    def plan(cls, height: int, width: int, tile: tuple[int, int], overlap: int) -> Tiling:
        """As few tiles as leave at least `overlap` pixels shared between neighbours, spread evenly.

        A width of 300 with tiles of 128 that share 32 needs 3 tiles, at 0, 86 and 172. Raises DataError unless the
        overlap is smaller than a tile.
        """
        if not 0 <= overlap < min(tile):
            raise DataError(f"Tiles of {tile[0]} x {tile[1]} pixels cannot share {overlap}; lower input.overlap.")
        return cls(height, width, tile, _starts(height, tile[0], overlap), _starts(width, tile[1], overlap))

    def cut(self, frame: NDArray[Any]) -> list[NDArray[Any]]:
        """The tiles of `frame` `(height, width, …)`, contiguous copies."""
        high, wide = self.tile
        filled = self._filled(frame)
        return [
            np.ascontiguousarray(filled[top : top + high, left : left + wide])
            for top in self.tops
            for left in self.lefts
        ]

    def join(self, parts: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Outputs `(1, C, h * s, w * s)` of the tiles in order -> one float32 `(1, C, height * s, width * s)`.

        Coarser ones, such as attention maps, whose sides are the tile's over one whole number, are enlarged first.
        Raises DataError when an output is neither.
        """
        parts = [self._enlarged(part) for part in parts]
        scale = self._scale(parts[0].shape)
        high, wide = (side * scale for side in self.tile)
        weight = self._weight(scale)
        channels = parts[0].shape[1]
        full = (max(self.height, self.tile[0]) * scale, max(self.width, self.tile[1]) * scale)
        total = np.zeros((channels, *full), np.float32)
        weights = np.zeros(full, np.float32)
        for index, part in enumerate(parts):
            top = self.tops[index // len(self.lefts)] * scale
            left = self.lefts[index % len(self.lefts)] * scale
            total[:, top : top + high, left : left + wide] += part[0] * weight
            weights[top : top + high, left : left + wide] += weight
        joined = total / weights
        return np.ascontiguousarray(joined[None, :, : self.height * scale, : self.width * scale])

    def _filled(self, frame: NDArray[Any]) -> NDArray[Any]:
        down, right = max(0, self.tile[0] - self.height), max(0, self.tile[1] - self.width)
        if not (down or right):
            return frame
        return np.asarray(cv2.copyMakeBorder(frame, 0, down, 0, right, cv2.BORDER_REFLECT))

    def _enlarged(self, part: NDArray[Any]) -> NDArray[Any]:
        """A coarser map with each value repeated over the pixels it stands for; anything else as it is."""
        if part.ndim != 4 or not 0 < part.shape[2] < self.tile[0] or self.tile[0] % part.shape[2]:
            return part
        times = self.tile[0] // part.shape[2]
        return part.repeat(times, axis=2).repeat(times, axis=3) if part.shape[3] * times == self.tile[1] else part

    def _scale(self, shape: tuple[int, ...]) -> int:
        if len(shape) == 4 and shape[0] == 1 and shape[2] % self.tile[0] == 0 and shape[2]:
            scale = shape[2] // self.tile[0]
            if shape[3] == self.tile[1] * scale:
                return scale
        raise DataError(
            f"An output of shape {shape} is no map of a tile of {self.tile[0]} x {self.tile[1]} pixels, so tiles "
            "cannot be joined; use another input.fit with this model."
        )

    def _weight(self, scale: int) -> NDArray[np.float32]:
        """A tent over the tile, never 0: `(h * s, w * s)`."""
        down, across = (_tent(side * scale) for side in self.tile)
        return np.asarray(down[:, None] * across[None, :], np.float32)


def frames_of(frame: Frame, tile: tuple[int, int], overlap: int) -> tuple[Tiling, list[Frame]]:
    """The tiling of `frame` and its tiles."""
    tiling = Tiling.plan(frame.shape[0], frame.shape[1], tile, overlap)
    return tiling, tiling.cut(frame)


def _starts(length: int, tile: int, overlap: int) -> tuple[int, ...]:
    if length <= tile:
        return (0,)
    count = math.ceil((length - overlap) / (tile - overlap))
    return tuple(int(v) for v in np.rint(np.linspace(0, length - tile, count)))


def _tent(length: int) -> NDArray[np.float32]:
    rising = np.arange(1, length + 1, dtype=np.float32)
    return np.asarray(np.minimum(rising, rising[::-1]) / ((length + 1) / 2), np.float32)
