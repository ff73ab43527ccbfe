"""A sequence read out as the weighted mean of its tokens."""

from __future__ import annotations

import torch
from torch import Tensor


def sequence_pool(tokens: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """`a = softmax(s)`, `sum_i a_i x_i`: every token is weighed by its one score, which no query asks for.

    Hassani et al., "Escaping the Big Data Paradigm with Compact Transformers", 2021, arXiv:2104.05704, section 3.3
    (sequence pooling), where the scores are one linear map of the tokens, `s_i = w^T x_i + b`, instead of the answers
    of a class token.

    Shapes: `tokens` `(N, T, C)`, `scores` `(N, T, 1)` -> the sum `(N, C)` and the weights `(N, T)`, which sum to 1.
    Raises ValueError when there is not one score for each token.
    """
    if scores.ndim != 3 or scores.shape[1:] != (tokens.shape[1], 1):
        got = f"(N, {', '.join(str(side) for side in scores.shape[1:])})"
        raise ValueError(
            f"sequence pooling of {tokens.shape[1]} tokens needs scores (N, {tokens.shape[1]}, 1), got {got}"
        )
    weights = torch.softmax(scores, dim=1)
    return (tokens * weights).sum(dim=1), weights.squeeze(2)
