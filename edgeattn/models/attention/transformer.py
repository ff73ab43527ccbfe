"""Pre-norm residual blocks around multi-head attention, GELU in their MLP."""

from __future__ import annotations

from torch import Tensor, nn

from edgeattn.models.attention.multi_head import CrossAttention, MultiHeadSelfAttention
from edgeattn.models.attention.scores import Scores


def _mlp(channels: int, ratio: float) -> nn.Sequential:
    hidden = int(channels * ratio)
    if hidden < 1:
        raise ValueError(f"the MLP needs at least one hidden channel, got {channels} channels times {ratio:g}")
    return nn.Sequential(nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels))


class TransformerBlock(nn.Module):
    """Encoder block: `x + attention(norm(x))`, then `x + mlp(norm(x))`.

    Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021, arXiv:2010.11929, equations 2 and 3.

    Shapes: `(N, T, C)` in and out; `mask` `(N, T)` or `(N, T, T)` boolean, True where a key counts.
    """

    def __init__(self, channels: int, heads: int, mlp_ratio: float = 2.0, scores: Scores = "dot") -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(channels)
        self.attention = MultiHeadSelfAttention(channels, heads, scores)
        self.norm_mlp = nn.LayerNorm(channels)
        self.mlp = _mlp(channels, mlp_ratio)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.attend(x, mask)[0]

    def attend(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`forward` and the weights `(N, heads, T, T)`."""
        mixed, weights = self.attention.attend(self.norm_attention(x), mask)
        x = x + mixed
        return x + self.mlp(self.norm_mlp(x)), weights


class CrossBlock(nn.Module):
    """Cross-attention block: `x + attention(norm(x), norm(context))`, then `x + mlp(norm(x))`.

    The cross-attention layer of Sun et al., "LoFTR", 2021, arXiv:2104.00680, section 3.2, in pre-norm form. Both sides
    have a norm of their own, for they may come from different layers.

    Shapes: `x` `(N, T, C)`, `context` `(N, S, C)` -> `(N, T, C)`; `mask` `(N, S)` or `(N, T, S)` boolean.
    """

    def __init__(self, channels: int, heads: int, mlp_ratio: float = 2.0, scores: Scores = "dot") -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(channels)
        self.norm_context = nn.LayerNorm(channels)
        self.attention = CrossAttention(channels, heads, scores=scores)
        self.norm_mlp = nn.LayerNorm(channels)
        self.mlp = _mlp(channels, mlp_ratio)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.attend(x, context, mask)[0]

    def attend(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`forward` and the weights `(N, heads, T, S)`."""
        mixed, weights = self.attention.attend(self.norm_attention(x), self.norm_context(context), mask)
        x = x + mixed
        return x + self.mlp(self.norm_mlp(x)), weights
