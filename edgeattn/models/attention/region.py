"""Regions of a map weighed against each other, at one scale or several."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeattn.models.attention.additive import AdditiveAttention

Grid = tuple[int, int]


def split_regions(x: Tensor, grid: Grid) -> Tensor:
    """`(N, C, H, W)` -> `(N, R, C, H / rows, W / columns)`: the `R = rows * columns` regions, row by row.

    Raises ValueError when the grid does not divide the map.
    """
    (rows, columns), (height, width) = grid, _region_size(grid, x.shape[2], x.shape[3])
    parts = x.reshape(-1, x.shape[1], rows, height, columns, width).permute(0, 2, 4, 1, 3, 5)
    return parts.reshape(-1, rows * columns, x.shape[1], height, width)


def paint(weights: Tensor, grid: Grid, height: int, width: int) -> Tensor:
    """Region weights `(N, R)` -> a map `(N, 1, height, width)` in which every position has its region's weight.

    Raises ValueError when the grid does not divide the map.
    """
    (rows, columns), (tall, wide) = grid, _region_size(grid, height, width)
    cells = weights.reshape(-1, 1, rows, 1, columns, 1).expand(-1, 1, rows, tall, columns, wide)
    return cells.reshape(-1, 1, height, width)


def _region_size(grid: Grid, height: int, width: int) -> tuple[int, int]:
    rows, columns = grid
    if height % rows or width % columns:
        raise ValueError(f"a grid of {rows} x {columns} regions does not divide {height} x {width} positions")
    return height // rows, width // columns


class RegionAttention(nn.Module):
    """A map is cut into `R = rows * columns` regions, a network scores each, and their weighted sum is the answer.

    `z_r = encode(region r)`, `e_r = v^T tanh(W z_r + b)`, `a = softmax(e)`, `sum_r a_r z_r`: attention-based pooling,
    Ilse et al., "Attention-based Deep Multiple Instance Learning", 2018, arXiv:1802.04712, equations 7 and 8, with the
    regions as the bag. Without `encode` a region is its mean; with it, a network `(M, C, h, w) -> (M, channels)` sees
    the pixels of each region, so that `x` may be the image itself.

    Shapes: `x` `(N, C, H, W)` -> the vector `(N, channels)` and the weights `(N, R)`, regions row by row. Without
    `encode` C is `channels`. Raises ValueError when the grid does not divide the map.
    """

    def __init__(self, channels: int, grid: Grid, hidden: int, encode: nn.Module | None = None) -> None:
        super().__init__()
        if min(grid) < 1:
            raise ValueError(f"a grid has at least one row and one column, got {grid[0]} x {grid[1]}")
        self.grid = grid
        self.encode = encode
        self.channels = channels
        self.pool = AdditiveAttention(channels, hidden)

    def describe(self, x: Tensor) -> Tensor:
        """The region vectors `(N, R, channels)`."""
        if self.encode is None:
            return functional.avg_pool2d(x, _region_size(self.grid, x.shape[2], x.shape[3])).flatten(2).transpose(1, 2)
        parts = split_regions(x, self.grid)
        encoded: Tensor = self.encode(parts.flatten(0, 1))
        return encoded.reshape(-1, parts.shape[1], self.channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        vector, weights = self.pool(self.describe(x))
        return vector, weights


class MultiScaleRegionAttention(nn.Module):
    """Region attention on several grids, then attention over their answers.

    `u_s = region_s(x)`, `e_s = v^T tanh(W u_s + b)`, `b = softmax(e)`, `sum_s b_s u_s`: two levels of attention as in
    Yang et al., "Hierarchical Attention Networks for Document Classification", 2016 (NAACL), section 2.2, with regions
    and scales for words and sentences, and the grids of a spatial pyramid (He et al., 2015, arXiv:1406.4729).

    Shapes: `x` `(N, C, H, W)` -> the vector `(N, C)`, the weights of the regions, `(N, R_s)` per scale, and the weights
    of the scales, `(N, S)`. Raises ValueError when there is no grid or one does not divide the map.
    """

    def __init__(self, channels: int, grids: Sequence[Grid], hidden: int) -> None:
        super().__init__()
        if not grids:
            raise ValueError("multi-scale attention needs at least one grid, got none")
        self.scales = nn.ModuleList(RegionAttention(channels, grid, hidden) for grid in grids)
        self.grids = tuple(grids)
        self.pool = AdditiveAttention(channels, hidden)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
        answers = [scale(x) for scale in self.scales]
        vector, weights = self.pool(torch.stack([vector for vector, _ in answers], dim=1))
        return vector, tuple(regions for _, regions in answers), weights

    def paint(self, regions: Sequence[Tensor], scales: Tensor, height: int, width: int) -> Tensor:
        """`(N, 1, height, width)` in 0..1: at each position the weights of its regions, each times its scale's."""
        maps = [paint(weights, grid, height, width) for weights, grid in zip(regions, self.grids, strict=True)]
        return (torch.cat(maps, dim=1) * scales[:, :, None, None]).sum(dim=1, keepdim=True)
