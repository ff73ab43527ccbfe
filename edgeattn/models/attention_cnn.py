"""Convolutional network with multi-head self-attention over its feature map.

Convolutional stages shrink the image to a small feature map, position encoding is added, pre-norm transformer blocks
attend over all its positions, and sequence pooling (attention weights from one linear map) reads out the class. It
differs from the compact convolutional transformer (`compact_transformer`), from which it takes sequence pooling, in its
convolutions: two batch-normalised ones per stage, so that it learns in minutes.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from edgeattn.models.attention.feature_map import to_tokens
from edgeattn.models.attention.pooling import sequence_pool
from edgeattn.models.attention.positions import sine_positions
from edgeattn.models.attention.transformer import TransformerBlock

TASK = "classify"
OUTPUTS = ("logits",)


@dataclass(frozen=True)
class Settings:
    """`stages` lists the channels of the convolutional stages; each halves the sides: three turn 64 pixels into 8."""

    stages: tuple[int, ...] = (24, 48, 96)
    blocks: int = 2
    heads: int = 4
    mlp_ratio: float = 2.0

    def __post_init__(self) -> None:
        if not self.stages or min(self.stages) < 1 or self.heads < 1 or self.blocks < 0 or self.mlp_ratio <= 0:
            got = f"{list(self.stages)}, {self.heads}, {self.mlp_ratio:g} and {self.blocks}"
            raise ValueError(f"stages, heads and mlp_ratio must be positive, blocks not negative, got {got}")
        if self.stages[-1] % 4 or self.stages[-1] % self.heads:
            got = f"{self.stages[-1]} channels and {self.heads} heads"
            raise ValueError(f"the last stage's channels must divide by 4 and by heads, got {got}")


def _convolution(channels_in: int, channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
    )


class Network(nn.Module):
    """`(N, 3, H, W)` normalised float -> logits `(N, classes)`."""

    def __init__(self, settings: Settings, classes: int) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        channels = 3
        for width in settings.stages:
            stages += [_convolution(channels, width, stride=2), _convolution(width, width, stride=1)]
            channels = width
        self.stages = nn.Sequential(*stages)
        self.blocks = nn.Sequential(
            *(TransformerBlock(channels, settings.heads, settings.mlp_ratio) for _ in range(settings.blocks))
        )
        self.norm = nn.LayerNorm(channels)
        self.pool = nn.Linear(channels, 1)
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        features = self.stages(x)
        channels, height, width = features.shape[1:]
        tokens = to_tokens(features)
        tokens = tokens + sine_positions(height, width, channels).to(tokens)
        tokens = self.norm(self.blocks(tokens))
        logits: Tensor = self.head(sequence_pool(tokens, self.pool(tokens))[0])
        return logits

    def loss(self, logits: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        """Mean cross-entropy against class ids `(N,)` int64."""
        return functional.cross_entropy(logits.float(), targets, label_smoothing=label_smoothing)
