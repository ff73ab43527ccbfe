"""Compact convolutional transformer (CCT): a convolutional tokenizer, pre-norm encoder blocks, sequence pooling.

Hassani et al., "Escaping the Big Data Paradigm with Compact Transformers", 2021, arXiv:2104.05704: each step of the
tokenizer is `maxpool(relu(conv(x)))` (section 3.4, equation 3), the class is read from `softmax(x w)^T x`, a weighted
mean of all tokens (section 3.3). CCT-L/KxC has L blocks and C convolutions of K x K:

| paper | settings | parameters, 10 classes, sines |
|---|---|---|
| CCT-2/3x2 | the defaults | 0.28 M |
| CCT-4/3x2 | `layers: 4` | 0.48 M |
| CCT-6/3x1 | `layers: 6, heads: 4, channels: 256, mlp_ratio: 2, convolutions: 1` | 3.17 M |
| CCT-7/3x1 | `layers: 7` and the rest as CCT-6/3x1 | 3.70 M |

Published figures on lossless CIFAR-10 after 200 epochs: CCT-2/3x2 89.17 %, CCT-4/3x2 91.45 %, CCT-6/3x1 94.81 %
(recalled). Each convolution halves the sides: 64-pixel frames want one more than the 32-pixel ones of the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeattn.models.attention.feature_map import to_tokens
from edgeattn.models.attention.pooling import sequence_pool
from edgeattn.models.attention.positions import LearnedPositions, sine_positions
from edgeattn.models.attention.transformer import TransformerBlock

TASK = "classify"
OUTPUTS = ("logits",)
_PLANES = 64  # channels between two convolutions of the tokenizer


@dataclass(frozen=True)
class Settings:
    """`convolutions` halve the sides once each; `kernel` is their side.

    `positions`: fixed sines, or learned ones for the rows and columns of a map of `map_side` tokens (8 is 32 pixels
    halved twice), which other sizes interpolate. `stochastic_depth` is how often the last block's branches are left out
    in training; the first block's always stay, and the rate grows evenly in between.
    """

    layers: int = 2
    heads: int = 2
    channels: int = 128
    mlp_ratio: float = 1.0
    kernel: Literal[3, 5, 7] = 3
    convolutions: int = 2
    positions: Literal["sine", "learned"] = "sine"
    map_side: int = 8
    stochastic_depth: float = 0.1

    def __post_init__(self) -> None:
        if min(self.layers, self.heads, self.convolutions, self.map_side) < 1 or self.channels * self.mlp_ratio < 1:
            got = f"{self.layers}, {self.heads}, {self.channels}, {self.mlp_ratio:g}, {self.convolutions}"
            raise ValueError(
                "layers, heads, channels, mlp_ratio, convolutions and map_side must be positive, got "
                f"{got} and {self.map_side}"
            )
        if self.channels % 4 or self.channels % self.heads:
            raise ValueError(f"channels must divide by 4 and by heads, got {self.channels} and {self.heads} heads")
        if not 0 <= self.stochastic_depth < 1:
            raise ValueError(f"stochastic_depth must be at least 0 and below 1, got {self.stochastic_depth:g}")


class StochasticDepth(nn.Module):
    """In training a sample's branch is dropped with probability `rate`, else divided by `1 - rate`.

    Huang et al., "Deep Networks with Stochastic Depth", 2016, arXiv:1603.09382, equation 2, with the division moved to
    the training, so that nothing remains of it afterwards. Shapes: `(N, T, C)` in and out.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return branch
        kept = torch.rand(branch.shape[0], 1, 1, device=branch.device) >= self.rate
        return branch * kept / (1 - self.rate)


class Block(TransformerBlock):
    """The encoder block, both of whose residual branches may be left out."""

    def __init__(self, settings: Settings, rate: float) -> None:
        super().__init__(settings.channels, settings.heads, settings.mlp_ratio)
        self.drop = StochasticDepth(rate)

    def attend(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`forward` and the weights `(N, heads, T, T)`, also those of a branch that is left out."""
        mixed, weights = self.attention.attend(self.norm_attention(x), mask)
        x = x + self.drop(mixed)
        return x + self.drop(self.mlp(self.norm_mlp(x))), weights


def _tokenizer(settings: Settings) -> nn.Sequential:
    steps: list[nn.Module] = []
    channels = 3
    for step in range(settings.convolutions):
        width = settings.channels if step == settings.convolutions - 1 else _PLANES
        convolution = nn.Conv2d(channels, width, settings.kernel, padding=settings.kernel // 2, bias=False)
        nn.init.kaiming_normal_(convolution.weight)
        steps += [convolution, nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)]
        channels = width
    return nn.Sequential(*steps)


class Network(nn.Module):
    """`(N, 3, H, W)` normalised float -> logits `(N, classes)`."""

    def __init__(self, settings: Settings, classes: int) -> None:
        super().__init__()
        self.settings = settings
        channels, last = settings.channels, max(settings.layers - 1, 1)
        self.tokenizer = _tokenizer(settings)
        self.positions: LearnedPositions | None = None
        if settings.positions == "learned":
            self.positions = LearnedPositions(settings.map_side, settings.map_side, channels)
        rates = (settings.stochastic_depth * layer / last for layer in range(settings.layers))
        self.blocks = nn.Sequential(*(Block(settings, rate) for rate in rates))
        self.norm = nn.LayerNorm(channels)
        self.pool = nn.Linear(channels, 1)
        self.head = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def _positions(self, height: int, width: int, channels: int) -> Tensor:
        if self.positions is None:
            return sine_positions(height, width, channels)
        table: Tensor = self.positions(height, width)
        return table

    def forward(self, x: Tensor) -> Tensor:
        features = self.tokenizer(x)
        channels, height, width = features.shape[1:]
        tokens = to_tokens(features)
        tokens = tokens + self._positions(height, width, channels).to(tokens)
        tokens = self.norm(self.blocks(tokens))
        logits: Tensor = self.head(sequence_pool(tokens, self.pool(tokens))[0])
        return logits

    def loss(self, logits: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        """Mean cross-entropy against class ids `(N,)` int64."""
        return functional.cross_entropy(logits.float(), targets, label_smoothing=label_smoothing)
