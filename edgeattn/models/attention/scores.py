"""How well a key answers a query, and the softmax over the keys that count."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

Scores = Literal["dot", "cosine"]

# Added to the score of a key that does not count. FP16 ends at 65,504, so an infinity or -1e9 would not survive it;
# exp(-1e4) is 0 in every float format, unless all scores of a query are themselves below about -9,000.
MASKED = -1e4
# The shortest vector that is still brought to length one: FP16's least normal number is 6.1e-5.
_LENGTH_MIN = 1e-4


class DotProduct(nn.Module):
    """Scaled dot product: `(Q / sqrt(d)) K^T`.

    Vaswani et al., "Attention Is All You Need", 2017, arXiv:1706.03762, section 3.2.1.

    Shapes: `q` `(N, heads, T, d)` and `k` `(N, heads, S, d)` -> `(N, heads, T, S)`. The scale multiplies Q *before* the
    product, so that the scores never exceed their final range: in FP16 an unscaled `QK^T` can overflow.
    """

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        scale: float = q.shape[-1] ** -0.5
        return (q * scale) @ k.transpose(-2, -1)


class Cosine(nn.Module):
    """Cosine similarity over a learned temperature, one per head: `(q / |q|) (k / |k|)^T / t`, `t >= 0.01`.

    Liu et al., "Swin Transformer V2", 2022, arXiv:2111.09883, section 3.2 (scaled cosine attention). What is learned
    is `log(1 / t)`, which starts at `log 10`. No score exceeds `1 / t` in size, however long the vectors grow.

    Shapes: `q` `(N, heads, T, d)` and `k` `(N, heads, S, d)` -> `(N, heads, T, S)`. A zero vector scores 0.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(10.0)))

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        scale = self.log_scale.clamp(max=math.log(100.0)).exp()
        return (_unit(q) * scale) @ _unit(k).transpose(-2, -1)


def _unit(x: Tensor) -> Tensor:
    """Vectors of length one along the last axis."""
    # A single ReduceL2, which the FP16 form keeps in FP32.
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / length.clamp_min(_LENGTH_MIN)


def scoring(name: str, heads: int) -> nn.Module:
    """The score module called "dot" or "cosine". Raises ValueError for any other name."""
    if name == "dot":
        return DotProduct()
    if name == "cosine":
        return Cosine(heads)
    raise ValueError(f"scores must be 'dot' or 'cosine', got '{name}'")


def softmax(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Weights over the last axis, summing to 1; exactly 0, with no gradient, where `mask` is False.

    `mask` is boolean, True where a key counts. Scores `(N, heads, T, S)` take one for all queries, `(N, S)`, or one per
    query, `(N, T, S)`; scores `(N, T)` take `(N, T)`. Where every key is masked they are
    weighed as if none were in FP32, but equally in 16 bits, where -1e4 swallows the scores (FP16 those below 4 in
    size, BF16 those below 32). Raises ValueError when the mask is not boolean or its shape does not fit.
    """
    if mask is not None:
        scores = scores + (_fitted(mask, scores).to(scores.dtype) - 1.0) * -MASKED
    return torch.softmax(scores, dim=-1)


def _fitted(mask: Tensor, scores: Tensor) -> Tensor:
    """`mask` with the axes of `scores`; the batch is not compared, for it may be dynamic in an export."""
    if mask.dtype != torch.bool:
        raise ValueError(f"an attention mask is boolean, True where a key counts, got {mask.dtype}")
    fits = mask.ndim >= 2 and mask.shape[-1] == scores.shape[-1]
    if scores.ndim == 4:
        fits = fits and (mask.ndim == 2 or (mask.ndim == 3 and mask.shape[1] == scores.shape[2]))
    else:
        fits = fits and mask.ndim == scores.ndim
    if not fits:
        tail = tuple(scores.shape[1:])
        wanted = f"(N, {tail[-1]})" if len(tail) == 1 else f"(N, {tail[-1]}) or (N, {tail[-2]}, {tail[-1]})"
        raise ValueError(f"an attention mask here has the shape {wanted}, got {tuple(mask.shape)}")
    if scores.ndim == 4:
        return mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]
    return mask
