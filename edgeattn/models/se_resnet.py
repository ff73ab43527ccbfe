"""SE-ResNet: residual networks with channel attention, for small images and for 224 pixels.

ResNet (He et al., 2016, arXiv:1512.03385): section 4.2 gives the small-image form (depth 6n + 2: three stages of n
blocks and 16, 32, 64 channels), table 1 the large ones (depths 18 and 50: four stages of 64..512 channels, four
times as many out of each bottleneck of depth 50). `width` widens or narrows them: few wide blocks learn faster than
many narrow ones of the same work (Zagoruyko and Komodakis, "Wide Residual Networks", 2016, arXiv:1605.07146). Channel
attention sits at the end of the residual branch, before the addition (Hu et al., 2018, arXiv:1709.01507, figure 3;
`reduction` is 16 there). Published figures: ResNet-20 91.25 % on lossless CIFAR-10 (recalled); SE-ResNet improves each
ResNet it was tried on (recalled).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeattn.models.attention.channel import SqueezeExcite

TASK = "classify"
OUTPUTS = ("logits",)

SMALL_DEPTHS = (14, 20, 32, 44, 56)
_SMALL_WIDTH, _LARGE_WIDTH = 16, 64
_LARGE_BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


@dataclass(frozen=True)
class Settings:
    """Depths 14, 20, 32, 44 and 56 expect images of about 32 to 96 pixels, 18 and 50 about 224.

    `width`: channels of the first stage, doubled from stage to stage; by default 16 in the small ones and 64 in the
    large ones. `stem_stride` is for the small ones; the large ones begin by dividing the sides by 4.
    """

    depth: Literal[14, 18, 20, 32, 44, 50, 56] = 20
    width: int | None = None
    reduction: int = 8
    stem_stride: Literal[1, 2] = 1

    def __post_init__(self) -> None:
        if self.reduction < 1:
            raise ValueError(f"reduction must be at least 1, got {self.reduction}")
        if self.width is not None and self.width < 1:
            raise ValueError(f"width must be at least 1, got {self.width}")


def _shortcut(channels_in: int, channels: int, stride: int) -> nn.Module:
    """The identity, or a 1x1 convolution where the branch changes the shape (option B of He et al.)."""
    if stride == 1 and channels_in == channels:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))


class Block(nn.Module):
    """Two 3x3 convolutions, channel attention, then the shortcut: `relu(x + se(conv(conv(x))))`."""

    expansion = 1

    def __init__(self, channels_in: int, channels: int, stride: int, reduction: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.attention = SqueezeExcite(channels, reduction)
        self.shortcut = _shortcut(channels_in, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        branch = torch.relu(self.norm1(self.conv1(x)))
        branch = self.attention(self.norm2(self.conv2(branch)))
        return torch.relu(self.shortcut(x) + branch)


class Bottleneck(nn.Module):
    """1x1 to `channels`, 3x3, 1x1 to four times as many, channel attention, then the shortcut.

    The 3x3 convolution has the stride, not the first 1x1, which would skip three of four positions (as in Goyal et al.,
    "Accurate, Large Minibatch SGD", 2017, arXiv:1706.02677, section 5.1).
    """

    expansion = 4

    def __init__(self, channels_in: int, channels: int, stride: int, reduction: int) -> None:
        super().__init__()
        wide = channels * self.expansion
        self.conv1 = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, wide, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(wide)
        self.attention = SqueezeExcite(wide, reduction)
        self.shortcut = _shortcut(channels_in, wide, stride)

    def forward(self, x: Tensor) -> Tensor:
        branch = torch.relu(self.norm1(self.conv1(x)))
        branch = torch.relu(self.norm2(self.conv2(branch)))
        branch = self.attention(self.norm3(self.conv3(branch)))
        return torch.relu(self.shortcut(x) + branch)


class Network(nn.Module):
    """`(N, 3, H, W)` normalised float -> logits `(N, classes)`."""

    def __init__(self, settings: Settings, classes: int) -> None:
        super().__init__()
        if settings.depth in SMALL_DEPTHS:
            first = settings.width or _SMALL_WIDTH
            counts: tuple[int, ...] = ((settings.depth - 2) // 6,) * 3
            self.stem = nn.Sequential(
                nn.Conv2d(3, first, 3, settings.stem_stride, padding=1, bias=False),
                nn.BatchNorm2d(first),
                nn.ReLU(),
            )
        else:
            first = settings.width or _LARGE_WIDTH
            counts = _LARGE_BLOCKS[settings.depth]
            self.stem = nn.Sequential(
                nn.Conv2d(3, first, 7, stride=2, padding=3, bias=False),
                nn.BatchNorm2d(first),
                nn.ReLU(),
                nn.MaxPool2d(3, stride=2, padding=1),
            )
        kind = Bottleneck if settings.depth == 50 else Block
        layers: list[nn.Module] = []
        channels = first
        for stage, count in enumerate(counts):
            width = first * 2**stage
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(kind(channels, width, stride, settings.reduction))
                channels = width * kind.expansion
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
