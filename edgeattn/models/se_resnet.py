"""SE-ResNet: residual networks with channel attention, for small images and for 224 pixels.

ResNet (He et al., 2016, arXiv:1512.03385): section 4.2 gives the small-image form (depths 20, 32, 44, 56:
three stages of 16, 32, 64 channels), table 1 the large one (depth 18: four stages of 64..512). Channel
attention sits at the end of the residual branch, before the addition (Hu et al., 2018, arXiv:1709.01507,
figure 3). Published figures: ResNet-20 91.25 % on lossless CIFAR-10; SE-ResNet improves each ResNet it was tried on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeattn.models.attention import SqueezeExcite

TASK = "classify"
OUTPUTS = ("logits",)

SMALL_DEPTHS = (20, 32, 44, 56)


@dataclass(frozen=True)
class Settings:
    """`depth` 20..56 expects images of about 32 to 96 pixels, depth 18 about 224."""

    depth: Literal[18, 20, 32, 44, 56] = 20
    reduction: int = 8
    stem_stride: Literal[1, 2] = 1

    def __post_init__(self) -> None:
        if self.reduction < 1:
            raise ValueError(f"reduction must be at least 1, got {self.reduction}")


class Block(nn.Module):
    """Two 3x3 convolutions, channel attention, then the shortcut: `relu(x + se(conv(conv(x))))`."""

    def __init__(self, channels_in: int, channels: int, stride: int, reduction: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.attention = SqueezeExcite(channels, reduction)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        branch = torch.relu(self.norm1(self.conv1(x)))
        branch = self.attention(self.norm2(self.conv2(branch)))
        return torch.relu(self.shortcut(x) + branch)


class Network(nn.Module):
    """`(N, 3, H, W)` normalised float -> logits `(N, classes)`."""

    def __init__(self, settings: Settings, classes: int) -> None:
        super().__init__()
        if settings.depth in SMALL_DEPTHS:
            widths: tuple[int, ...] = (16, 32, 64)
            blocks = (settings.depth - 2) // 6
            self.stem = nn.Sequential(
                nn.Conv2d(3, 16, 3, settings.stem_stride, padding=1, bias=False),
                nn.BatchNorm2d(16),
                nn.ReLU(),
            )
        else:
            widths = (64, 128, 256, 512)
            blocks = 2
            self.stem = nn.Sequential(
                nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
                nn.BatchNorm2d(64),
                nn.ReLU(),
                nn.MaxPool2d(3, stride=2, padding=1),
            )
        layers: list[nn.Module] = []
        channels = widths[0]
        for stage, width in enumerate(widths):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(Block(channels, width, stride, settings.reduction))
                channels = width
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        features = self.blocks(self.stem(x))
        logits: Tensor = self.head(features.mean(dim=(2, 3)))
        return logits

    def loss(self, logits: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        """Mean cross-entropy against class ids `(N,)` int64."""
        return functional.cross_entropy(logits.float(), targets, label_smoothing=label_smoothing)
