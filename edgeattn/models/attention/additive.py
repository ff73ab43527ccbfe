"""One query vector asks a sequence: additive scores, softmax, weighted sum."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgeattn.models.attention.scores import softmax


class AdditiveAttention(nn.Module):
    """`e_i = v^T tanh(W x_i + U h)`, `a = softmax(e)`, `sum_i a_i x_i`.

    Bahdanau et al., "Neural Machine Translation by Jointly Learning to Align and Translate", 2015, arXiv:1409.0473,
    section 3.1 and appendix A.1.2. With `query_channels` the query `h` is given; without, it is learned, and since
    `U h` is then one vector of `hidden` numbers, that vector is what is kept (as in Ilse et al., "Attention-based Deep
    Multiple Instance Learning", 2018, arXiv:1802.04712, equation 8).

    Shapes: `x` `(N, T, C)`, `query` `(N, query_channels)`, `mask` `(N, T)` boolean, True where an item counts ->
    the sum `(N, C)` and the weights `(N, T)`. Raises ValueError when a query is missing or not wanted.
    """

    def __init__(self, channels: int, hidden: int, query_channels: int | None = None) -> None:
        super().__init__()
        if hidden < 1:
            raise ValueError(f"hidden must be at least 1, got {hidden}")
        self.item = nn.Linear(channels, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)  # a bias would shift all scores alike, which softmax ignores
        self.query = None if query_channels is None else nn.Linear(query_channels, hidden)
        self.learned = nn.Parameter(torch.zeros(hidden)) if query_channels is None else None

    def _asked(self, query: Tensor | None) -> Tensor:
        """`U h`, to be added to every item."""
        if self.query is None and self.learned is not None and query is None:
            return self.learned
        if self.query is not None and query is not None:
            asked: Tensor = self.query(query)
            return asked[:, None, :]
        problem = "has no query given" if query is None else "has a learned query and takes no other"
        raise ValueError(f"this additive attention {problem}; query_channels decides when it is built")

    def forward(self, x: Tensor, query: Tensor | None = None, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        scores = self.score(torch.tanh(self.item(x) + self._asked(query))).squeeze(2)
        weights = softmax(scores, mask)
        return (weights[:, None, :] @ x).squeeze(1), weights
