"""A skip connection gated by the decoder's signal."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class AttentionGate(nn.Module):
    """`a = sigmoid(psi(relu(W_x x + W_g g)))`, `x * a`: the decoder says where the skip is let through.

    Oktay et al., "Attention U-Net", 2018, arXiv:1804.03999, section 2.1, equations 1 and 2. The signal `g` may be
    `scale` times smaller than the skip `x`: `W_x` then has that stride, and the map is enlarged bilinearly (half-pixel
    centres), as in the paper.

    Shapes: `skip` `(N, C, H, W)`, `signal` `(N, G, H / scale, W / scale)` -> the gated skip `(N, C, H, W)` and the map
    `(N, 1, H, W)` in 0..1. Raises ValueError when the sizes do not fit.
    """

    def __init__(self, skip_channels: int, signal_channels: int, hidden: int | None = None, scale: int = 1) -> None:
        super().__init__()
        hidden = max(skip_channels // 2, 1) if hidden is None else hidden
        if min(hidden, scale) < 1:
            raise ValueError(f"hidden and scale must be at least 1, got {hidden} and {scale}")
        self.scale = scale
        self.from_skip = nn.Conv2d(skip_channels, hidden, kernel_size=scale, stride=scale, bias=False)
        self.from_signal = nn.Conv2d(signal_channels, hidden, kernel_size=1)
        self.judge = nn.Conv2d(hidden, 1, kernel_size=1)

    def forward(self, skip: Tensor, signal: Tensor) -> tuple[Tensor, Tensor]:
        expected = [side * self.scale for side in signal.shape[2:]]
        if list(skip.shape[2:]) != expected:
            (height, width), (rows, columns) = skip.shape[2:], expected
            raise ValueError(f"the skip must have {rows} x {columns} positions, got {height} x {width}")
        verdict = self.judge(torch.relu(self.from_skip(skip) + self.from_signal(signal)))
        attention = torch.sigmoid(verdict)
        if self.scale > 1:
            attention = functional.interpolate(
                attention, scale_factor=float(self.scale), mode="bilinear", align_corners=False
            )
        return skip * attention, attention
