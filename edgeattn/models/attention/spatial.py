"""Which positions of a feature map matter; and channels first, then positions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgeattn.models.attention.channel import SqueezeExcite


class SpatialAttention(nn.Module):
    """`x * sigmoid(conv([mean_c(x); max_c(x)]))`: two maps over the channels, one k x k convolution, a gate.

    Woo et al., "CBAM: Convolutional Block Attention Module", 2018, arXiv:1807.06521, equation 3; k = 7 there.

    Shapes: `(N, C, H, W)` in and out. Raises ValueError unless `kernel` is odd.
    """

    def __init__(self, kernel: int = 7) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, so that the map keeps its size, got {kernel}")
        self.judge = nn.Conv2d(2, 1, kernel, padding=kernel // 2)

    def gate(self, x: Tensor) -> Tensor:
        """The factors `(N, 1, H, W)`, in 0..1."""
        summary = torch.cat((x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)), dim=1)
        return torch.sigmoid(self.judge(summary))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class ChannelSpatialAttention(nn.Module):
    """Channels first, then positions: `y = x * channel(x)`, `y * spatial(y)`.

    Woo et al., "CBAM", 2018, arXiv:1807.06521, equation 1; the order that did best there (table 3).

    Shapes: `(N, C, H, W)` in and out.
    """

    def __init__(self, channels: int, reduction: int = 16, kernel: int = 7) -> None:
        super().__init__()
        self.channel = SqueezeExcite(channels, reduction, peaks=True)
        self.spatial = SpatialAttention(kernel)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.spatial(self.channel(x))
        return out
