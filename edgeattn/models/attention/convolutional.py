"""A gate from a large convolution, taken apart into three small ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LargeKernelAttention(nn.Module):
    """`x * sigmoid(pointwise(dilated(local(x))))`: each position and channel is gated by what surrounds it.

    Guo et al., "Visual Attention Network", 2022, arXiv:2202.09741, section 3.1: a K x K convolution becomes a depthwise
    `(2d - 1) x (2d - 1)`, a depthwise `ceil(K / d) x ceil(K / d)` of dilation d, and a 1x1 convolution. K = 21 and
    d = 3, the paper's, need 74 weights per channel and C^2 for the mix instead of 441 C^2.

    Chosen among the convolutional ones because nothing but convolutions with fixed weights and one product remain: all
    arithmetic can be INT8, cost grows with the number of positions and not its square, and there is no softmax, no
    reduction and no resize. The paper leaves out the sigmoid; `bounded=False` does too. With it the result never
    exceeds x, so that the next layer keeps x's range and scale instead of that of a product of two activations.

    Shapes: `(N, C, H, W)` in and out. Raises ValueError unless `ceil(kernel / dilation)` is odd.
    """

    def __init__(self, channels: int, kernel: int = 21, dilation: int = 3, *, bounded: bool = True) -> None:
        super().__init__()
        if dilation < 1 or kernel < dilation:
            raise ValueError(f"dilation must be between 1 and the kernel, got {dilation} and {kernel}")
        near, far = 2 * dilation - 1, -(-kernel // dilation)
        if far % 2 == 0:
            raise ValueError(f"kernel / dilation, rounded up, must be odd, got {kernel} / {dilation}")
        self.bounded = bounded
        self.local = nn.Conv2d(channels, channels, near, padding=near // 2, groups=channels)
        self.dilated = nn.Conv2d(
            channels, channels, far, padding=far // 2 * dilation, dilation=dilation, groups=channels
        )
        self.pointwise = nn.Conv2d(channels, channels, kernel_size=1)

    def gate(self, x: Tensor) -> Tensor:
        """The factors `(N, C, H, W)`, in 0..1 when bounded."""
        verdict: Tensor = self.pointwise(self.dilated(self.local(x)))
        return torch.sigmoid(verdict) if self.bounded else verdict

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)
