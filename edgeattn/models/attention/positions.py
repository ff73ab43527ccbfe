"""Where a token of a map stands: fixed sines, or learned rows and columns."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def sine_positions(height: int, width: int, channels: int, temperature: float = 10_000.0) -> Tensor:
    """Fixed 2-D sine position encoding, `(H * W, C)` float32 in -1..1, row-major over the map.

    Half of the channels encode the row, half the column; in each half channel `2i` is
    `sin(p / temperature^(2i / half))` and channel `2i + 1` the cosine of the same angle
    (Vaswani et al., 2017, arXiv:1706.03762, section 3.5, per axis as in DETR, arXiv:2005.12872).

    Raises ValueError unless `channels` divides by 4.
    """
    if channels % 4:
        raise ValueError(f"sine positions need channels divisible by 4, got {channels}")
    half = channels // 2
    frequency = temperature ** (-torch.arange(0, half, 2, dtype=torch.float32) / half)

    def axis(length: int) -> Tensor:
        angle = torch.arange(length, dtype=torch.float32)[:, None] * frequency
        return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)

    rows = axis(height)[:, None, :].expand(height, width, half)
    columns = axis(width)[None, :, :].expand(height, width, half)
    return torch.cat((rows, columns), dim=-1).reshape(height * width, channels)


class LearnedPositions(nn.Module):
    """Learned 2-D positions: `p[y, x] = row[y] + column[x]`, `(H + W) C` numbers instead of `H W C`.

    Learned embeddings as in Dosovitskiy et al., 2021, arXiv:2010.11929, section 3.1 (initialised with deviation 0.02),
    by rows and columns as in Carion et al., "DETR", 2020, arXiv:2005.12872. For a map of another size rows and columns
    are resampled linearly (half-pixel centres, edges held), so that weights serve any resolution.

    `forward(height, width)` -> `(height * width, C)`, row-major over the map, to be added to tokens `(N, H * W, C)`.
    """

    def __init__(self, height: int, width: int, channels: int) -> None:
        super().__init__()
        if min(height, width, channels) < 1:
            raise ValueError(f"learned positions need positive sizes, got {height} x {width} x {channels}")
        self.row = nn.Parameter(torch.randn(height, channels) * 0.02)
        self.column = nn.Parameter(torch.randn(width, channels) * 0.02)

    def forward(self, height: int, width: int) -> Tensor:
        rows, columns = _resampled(self.row, height), _resampled(self.column, width)
        return (rows[:, None, :] + columns[None, :, :]).reshape(height * width, rows.shape[1])


def _resampled(table: Tensor, length: int) -> Tensor:
    """`(L, C)` -> `(length, C)`, linearly. A product with a fixed matrix: no Resize of three axes in the graph."""
    known = table.shape[0]
    if length == known:
        return table
    matrix = [[0.0] * known for _ in range(length)]
    for row, weights in enumerate(matrix):
        place = min(max((row + 0.5) * known / length - 0.5, 0.0), known - 1.0)
        low = min(int(place), max(known - 2, 0))
        weights[low] = 1.0 - (place - low)
        if known > 1:
            weights[low + 1] = place - low
    return torch.tensor(matrix, dtype=table.dtype, device=table.device) @ table
