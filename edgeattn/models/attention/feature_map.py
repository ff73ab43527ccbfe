"""Self-attention between the positions of a feature map, and the way from maps to tokens and back."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeattn.models.attention.scores import Scores, scoring, softmax


def to_tokens(x: Tensor) -> Tensor:
    """`(N, C, H, W)` -> `(N, H * W, C)`, row by row."""
    return x.flatten(2).transpose(1, 2)


def to_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """`(N, height * width, C)` -> `(N, C, height, width)`, undoing `to_tokens`."""
    return tokens.transpose(1, 2).reshape(-1, tokens.shape[2], height, width)


class FeatureMapAttention(nn.Module):
    """Every position attends to every other: `x + g * W_o(softmax((Q / sqrt(d)) K^T) V)`, Q, K, V by 1x1 convolutions.

    Zhang et al., "Self-Attention Generative Adversarial Networks", 2019, arXiv:1805.08318, section 3: Q, K and V have
    `channels / reduction` channels, and `g`, learned, starts at 0, so that the block starts as the identity. The scale
    1/sqrt(d), the heads and the cosine scores are additions (`scores`).

    `pool` takes the maximum of keys and values over `pool x pool` positions, which divides scores and products by
    `pool^2` while every position still asks (Wang et al., "Non-local Neural Networks", 2018, arXiv:1711.07971,
    section 3.3). A 64 x 64 map has 16.8 million scores per head, with `pool=4` 1.0 million.

    Shapes: `(N, C, H, W)` in and out. Raises ValueError when sizes do not divide.
    """

    def __init__(
        self, channels: int, heads: int = 1, reduction: int = 8, pool: int = 1, scores: Scores = "dot"
    ) -> None:
        super().__init__()
        if min(heads, reduction, pool) < 1:
            raise ValueError(f"heads, reduction and pool must be at least 1, got {heads}, {reduction} and {pool}")
        inner = channels // reduction
        if inner < 1 or inner % heads:
            got = f"{channels} channels, reduction {reduction} and {heads} heads"
            raise ValueError(f"channels / reduction must be a positive multiple of heads, got {got}")
        self.heads = heads
        self.head_channels = inner // heads
        self.pool = pool
        self.query = nn.Conv2d(channels, inner, kernel_size=1)
        self.key = nn.Conv2d(channels, inner, kernel_size=1)
        self.value = nn.Conv2d(channels, inner, kernel_size=1)
        self.project = nn.Conv2d(inner, channels, kernel_size=1)
        self.scores = scoring(scores, heads)
        self.scale = nn.Parameter(torch.zeros(1))

    def _split(self, x: Tensor) -> Tensor:
        """`(N, C', h, w)` -> `(N, heads, h * w, C' / heads)`."""
        return x.reshape(-1, self.heads, self.head_channels, x.shape[2] * x.shape[3]).transpose(2, 3)

    def _pooled(self, x: Tensor) -> Tensor:
        return functional.max_pool2d(x, self.pool) if self.pool > 1 else x

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(x)[0]

    def attend(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`forward` and the weights `(N, heads, H * W, H * W / pool^2)`; each row sums to 1."""
        height, width = x.shape[2:]
        if height % self.pool or width % self.pool:
            raise ValueError(f"a map of {height} x {width} positions cannot be pooled by {self.pool}")
        q = self._split(self.query(x))
        k = self._split(self._pooled(self.key(x)))
        v = self._split(self._pooled(self.value(x)))
        weights = softmax(self.scores(q, k))
        mixed = (weights @ v).transpose(2, 3).reshape(-1, self.heads * self.head_channels, height, width)
        return x + self.scale * self.project(mixed), weights
