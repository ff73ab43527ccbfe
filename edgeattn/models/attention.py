"""Attention blocks shared by the networks: each a screenful, formula and paper in its docstring."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    """Channel attention: `x * sigmoid(W2 relu(W1 mean_hw(x)))`.

    Hu et al., "Squeeze-and-Excitation Networks", 2018, arXiv:1709.01507, section 3.

    Shapes: `(N, C, H, W)` in and out. `W1` maps C to `max(C // reduction, 4)` channels; the floor
    keeps the bottleneck of 16-channel layers from shrinking to a single number.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(channels // reduction, 4)
        self.reduce = nn.Conv2d(channels, hidden, kernel_size=1)
        self.expand = nn.Conv2d(hidden, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = x.mean(dim=(2, 3), keepdim=True)
        gate = torch.sigmoid(self.expand(torch.relu(self.reduce(squeezed))))
        return x * gate


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


class MultiHeadSelfAttention(nn.Module):
    """Scaled dot-product self-attention over a token sequence: `softmax((Q/sqrt(d)) K^T) V`.

    Vaswani et al., "Attention Is All You Need", 2017, arXiv:1706.03762, section 3.2.

    Shapes: `(N, T, C)` in and out. The scale multiplies Q *before* the product, so that the scores
    never exceed their final range: in FP16 an unscaled `QK^T` can overflow, and INT8 wastes codes.
    Written out rather than through `scaled_dot_product_attention` so that the exported graph keeps
    this order of operations.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"channels must be a multiple of heads, got {channels} and {heads}")
        self.heads = heads
        self.head_channels = channels // heads
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.project = nn.Linear(channels, channels)

    def _split(self, x: Tensor) -> Tensor:
        """`(N, T, C)` -> `(N, heads, T, C / heads)`."""
        tokens = x.shape[1]
        return x.reshape(-1, tokens, self.heads, self.head_channels).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        tokens, channels = x.shape[1], x.shape[2]
        q = self._split(self.query(x) * self.head_channels**-0.5)
        k = self._split(self.key(x))
        v = self._split(self.value(x))
        weights = torch.softmax(q @ k.transpose(2, 3), dim=-1)
        mixed = (weights @ v).transpose(1, 2).reshape(-1, tokens, channels)
        out: Tensor = self.project(mixed)
        return out


class TransformerBlock(nn.Module):
    """Pre-norm encoder block: `x + attention(norm(x))`, then `x + mlp(norm(x))`, GELU in the MLP.

    Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021, arXiv:2010.11929, equations 2 and 3.

    Shapes: `(N, T, C)` in and out.
    """

    def __init__(self, channels: int, heads: int, mlp_ratio: float = 2.0) -> None:
        super().__init__()
        hidden = int(channels * mlp_ratio)
        self.norm_attention = nn.LayerNorm(channels)
        self.attention = MultiHeadSelfAttention(channels, heads)
        self.norm_mlp = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm_attention(x))
        out: Tensor = x + self.mlp(self.norm_mlp(x))
        return out
