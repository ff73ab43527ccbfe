"""Multi-head attention over token sequences: of the own sequence, or of another."""

from __future__ import annotations

from torch import Tensor, nn

from edgeattn.models.attention.scores import Scores, scoring, softmax


class _MultiHead(nn.Module):
    """The four projections and the heads; the classes below say who asks whom.

    Written out rather than through `scaled_dot_product_attention`, so that the exported graph keeps the order of
    operations. Raises ValueError unless `channels` is a multiple of `heads` and `scores` is known.
    """

    def __init__(self, channels: int, heads: int, context_channels: int, scores: Scores) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise ValueError(f"channels must be a multiple of heads, got {channels} and {heads}")
        self.heads = heads
        self.head_channels = channels // heads
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(context_channels, channels)
        self.value = nn.Linear(context_channels, channels)
        self.project = nn.Linear(channels, channels)
        self.scores = scoring(scores, heads)

    def _split(self, x: Tensor) -> Tensor:
        """`(N, T, C)` -> `(N, heads, T, C / heads)`."""
        return x.reshape(-1, x.shape[1], self.heads, self.head_channels).transpose(1, 2)

    def _attend(self, x: Tensor, context: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        tokens, channels = x.shape[1], self.heads * self.head_channels
        q = self._split(self.query(x))
        k = self._split(self.key(context))
        v = self._split(self.value(context))
        weights = softmax(self.scores(q, k), mask)
        mixed = (weights @ v).transpose(1, 2).reshape(-1, tokens, channels)
        return self.project(mixed), weights


class MultiHeadSelfAttention(_MultiHead):
    """Self-attention over a token sequence, by head: `softmax(scores(Q, K)) V` with Q, K, V from the same tokens.

    Vaswani et al., "Attention Is All You Need", 2017, arXiv:1706.03762, section 3.2. `scores` is "dot",
    `(Q / sqrt(d)) K^T`, or "cosine" (`scores.Cosine`).

    Shapes: `x` `(N, T, C)` in and out; `mask` `(N, T)` or `(N, T, T)` boolean, True where a key counts.
    """

    def __init__(self, channels: int, heads: int, scores: Scores = "dot") -> None:
        super().__init__(channels, heads, channels, scores)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self._attend(x, x, mask)[0]

    def attend(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`forward` and the weights `(N, heads, T, T)`; each row sums to 1."""
        return self._attend(x, x, mask)


class CrossAttention(_MultiHead):
    """Tokens of one sequence ask those of another: `softmax(scores(Q, K)) V`, Q from `x`, K and V from `context`.

    Vaswani et al., 2017, arXiv:1706.03762, section 3.2.3 (encoder-decoder attention); between two images as in Sun et
    al., "LoFTR", 2021, arXiv:2104.00680. The weights of one head are a soft matching: `weights @ coordinates` are the
    expected coordinates in the other image.

    Shapes: `x` `(N, T, C)`, `context` `(N, S, D)` -> `(N, T, C)`; D is C unless `context_channels` says otherwise.
    `mask` `(N, S)` or `(N, T, S)` boolean, True where a key counts. Maps become tokens by `feature_map.to_tokens`.
    """

    def __init__(self, channels: int, heads: int, context_channels: int | None = None, scores: Scores = "dot") -> None:
        super().__init__(channels, heads, context_channels or channels, scores)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        return self._attend(x, context, mask)[0]

    def attend(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`forward` and the weights `(N, heads, T, S)`; each row sums to 1."""
        return self._attend(x, context, mask)
