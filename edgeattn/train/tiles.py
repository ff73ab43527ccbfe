"""Random tiles for training: the windows that are kept of each image, and the tile drawn out of each in every epoch.

Windows lie a tile's side t apart, and the centre of a tile is drawn uniformly over its window's whole side and moved
inside where the tile would reach over the rim. In one dimension every pixel between is then in one tile an epoch on the
average, exactly: whatever the windows' sides, what one of them gives a pixel less, the next gives more. An image's own
rim has no window beyond it; its outermost pixel is in t / 2w tiles an epoch, a fifth to a third of one with the windows
of side w that `window_side` chooses. (Uniform offsets would show the outermost pixel to one tile in a hundred.)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def window_side(length: int, tile: int) -> int:
    """Of the windows in images of `length`: 1.5 to 2.5 tiles, so that some of them a tile apart fill the image exactly.

    Of less than 1.5 tiles the whole length, but never less than a tile. Tiles of 192 in a length of 584 have windows
    of 392, at 0 and 192; even steps of less than a tile would show the middle far more often than the rest.
    """
    return max(tile, length - max(0, math.floor(length / tile - 1.5)) * tile)


def window_starts(length: int, window: int, tile: int) -> tuple[int, ...]:
    """First pixels of the windows: as few as lie at most a tile apart, spread evenly.

    They are less than a tile apart in an image that `window` was not chosen for; its middle is seen more often then.
    """
    steps = math.ceil(max(0, length - window) / tile)
    return tuple(round((length - window) * step / steps) for step in range(steps + 1)) if steps else (0,)


def draw(count: int, window: int, tile: int) -> Tensor:
    """First pixels, int64 `(count,)`, of one tile in each of `count` windows along one axis, from torch's generator."""
    centred = torch.rand(count) * window - tile / 2
    return centred.floor().clamp(0, window - tile).long()


def cut(images: Tensor, tops: Tensor, lefts: Tensor, size: tuple[int, int], *, mirror: bool) -> Tensor:
    """The part of `size` (h, w) of each image of `(N, C, H, W)`, from its own first row and column: `(N, C, h, w)`.

    Beyond an image's rim, which a part may reach over by less than the image's side, its pixels are mirrored, or the
    outermost one is repeated.
    """
    rows, columns = (
        _within(first[:, None] + torch.arange(side), limit, mirror=mirror).to(images.device)
        for first, side, limit in zip((tops, lefts), size, images.shape[-2:], strict=True)
    )
    each = torch.arange(len(images), device=images.device)[:, None, None]
    return images.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _within(index: Tensor, limit: int, *, mirror: bool) -> Tensor:
    """Indices of 0 … limit - 1. Mirrored about the outermost pixel, as torch's "reflect" does: -1 becomes 1."""
    if mirror:
        index = index.abs()
        index = (limit - 1) - (limit - 1 - index).abs()
    return index.clamp(0, limit - 1)
