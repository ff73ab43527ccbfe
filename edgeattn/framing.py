"""Camera frames -> engine calls -> one set of outputs: the single copy for checks, calibration and the device.

Most networks take one prepared frame per call. One that tiles takes a large frame in several calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeattn.errors import DataError
from edgeattn.imaging import Frame, Preprocess, View, check_frame
from edgeattn.tiling import Tiling, frames_of

_TILES_MIN = 300  # tiles that calibration takes at least, where the samples give so many

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Framing:
    """The engine `calls` that one set of frames needs, each uint8 `(1, h, w, 3)` by input name, and their `views`."""

    calls: tuple[dict[str, NDArray[np.uint8]], ...]
    views: tuple[View, ...]
    tiling: Tiling | None = None

    def merge(self, outputs: Sequence[Tensors]) -> dict[str, NDArray[Any]]:
        """The outputs of all calls as those of the whole frame. Raises DataError when they are no maps of the tiles."""
        if self.tiling is None:
            return dict(outputs[0])
        return {name: self.tiling.join([output[name] for output in outputs]) for name in outputs[0]}


def choose_calls(
    of_samples: Sequence[Sequence[dict[str, NDArray[np.uint8]]]], count: int | None = None
) -> list[dict[str, NDArray[np.uint8]]]:
    """One call of each sample, as calibration and golden samples take them, up to `count`.

    Of a sample that is cut into tiles one of each; where that gives fewer than `count` (300 where it is None and there
    are no more samples), further ones. Tiles 0, 1, 2 of a first sample and 0, 1 of a second come as 1, 1', 2, 0', 0.
    """
    # Round by round: the middle tile of each sample first, since a corner is often empty.
    shifted = [[*calls[len(calls) // 2 :], *calls[: len(calls) // 2]] for calls in of_samples]
    longest = max((len(calls) for calls in shifted), default=0)
    turns = [calls[turn] for turn in range(longest) for calls in shifted if turn < len(calls)]
    return turns[: max(len(of_samples), _TILES_MIN) if count is None else count]


def frame_up(preprocess: Preprocess, frames: Sequence[Frame], names: Sequence[str]) -> Framing:
    """What must be called for `frames`, one for each input of `names`. Raises DataError for a wrong frame or number."""
    if len(frames) != len(names):
        raise DataError(f"This model takes {len(names)} frame(s) per call ({', '.join(names)}), got {len(frames)}.")
    for frame in frames:
        check_frame(frame)
    if preprocess.fit == "tile":
        if len(frames) != 1:
            raise DataError("Tiles are for models of one frame; use another input.fit.")
        tiling, tiles = frames_of(frames[0], (preprocess.height, preprocess.width), preprocess.overlap)
        return Framing(tuple({names[0]: tile[None]} for tile in tiles), (View(frames[0], np.eye(3)),), tiling)
    prepared = [preprocess.apply_with_matrix(frame) for frame in frames]
    call = {name: fitted[None] for name, (fitted, _) in zip(names, prepared, strict=True)}
    views = tuple(View(frame, matrix) for frame, (_, matrix) in zip(frames, prepared, strict=True))
    return Framing((call,), views)
