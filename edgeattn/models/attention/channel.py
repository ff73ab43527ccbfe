"""Which channels of a feature map matter."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    """Channel attention: `x * sigmoid(W2 relu(W1 mean_hw(x)))`.

    Hu et al., "Squeeze-and-Excitation Networks", 2018, arXiv:1709.01507, section 3. With `peaks` the largest value of
    every channel is judged by the same two layers and both verdicts add up inside the sigmoid: the channel half of
    Woo et al., "CBAM", 2018, arXiv:1807.06521, equation 2.

    Shapes: `(N, C, H, W)` in and out. `W1` maps C to `max(C // reduction, 4)` channels; the floor
    keeps the bottleneck of 16-channel layers from shrinking to a single number.
    """

    def __init__(self, channels: int, reduction: int = 16, *, peaks: bool = False) -> None:
        super().__init__()
        if reduction < 1:
            raise ValueError(f"reduction must be at least 1, got {reduction}")
        hidden = max(channels // reduction, 4)
        self.peaks = peaks
        self.reduce = nn.Conv2d(channels, hidden, kernel_size=1)
        self.expand = nn.Conv2d(hidden, channels, kernel_size=1)

    def _judge(self, squeezed: Tensor) -> Tensor:
        verdict: Tensor = self.expand(torch.relu(self.reduce(squeezed)))
        return verdict

    def gate(self, x: Tensor) -> Tensor:
        """The factors `(N, C, 1, 1)`, in 0..1."""
        verdict = self._judge(x.mean(dim=(2, 3), keepdim=True))
        if self.peaks:
            verdict = verdict + self._judge(x.amax(dim=(2, 3), keepdim=True))
        return torch.sigmoid(verdict)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)
