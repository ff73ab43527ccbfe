"""U-Net whose skip connections are gated by attention, optionally with self-attention in its deepest map.

U-Net (Ronneberger et al., 2015, arXiv:1505.04597, figure 1): an encoder that halves the map at every level, a decoder
that doubles it again and takes the encoder's map of the same size, the skip, beside its own. Attention U-Net (Oktay et
al., 2018, arXiv:1804.03999, figure 1) lets the decoder's signal weigh each position of the skip first. Three
differences: convolutions are padded and batch-normalised; the signal is enlarged before the gate, not the gate's map
after it, so that the finest map is sharp to the pixel, which thin vessels need; and enlarging is nearest-neighbour,
followed by the convolutions that join it with the skip. Nearest repeats values: INT8 codes pass it without being
rounded again, every engine gives the same bits, and there is no checkerboard as transposed convolutions make.

Loss: Dice (after Milletari et al., "V-Net", 2016, arXiv:1606.04797, section 3, whose denominator sums squares, where
ours has plain sums) and cross-entropy together, which between them follow rare classes and give every pixel a gradient;
or the focal loss (Lin et al., 2017, arXiv:1708.02002, equation 4, gamma 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeattn.errors import ModelError
from edgeattn.models.attention.feature_map import FeatureMapAttention
from edgeattn.models.attention.gate import AttentionGate

TASK = "segment"
OUTPUTS = ("logits",)

_REDUCTION = 2  # of the channels in the bottleneck's self-attention
_GAMMA = 2.0
_OPEN = 2.0  # sigmoid(2) = 0.88: the gates begin nearly open, so that the skips carry gradients from the first step


@dataclass(frozen=True)
class Settings:
    """`widths`: channels of each level, finest first; the sides of a frame must divide by 2 for each level but one.

    `bottleneck_heads`: heads of the self-attention in the deepest map, 0 for none. `attention_output`: the finest
    gate's map as a second output, `attention` `(N, 1, h, w)` in 0..1.
    """

    widths: tuple[int, ...] = (16, 32, 64, 128)
    gates: bool = True
    bottleneck_heads: int = 0
    attention_output: bool = False
    loss: Literal["dice_ce", "focal"] = "dice_ce"

    def __post_init__(self) -> None:
        if len(self.widths) < 2 or min(self.widths) < 2 or self.bottleneck_heads < 0:
            got = f"{list(self.widths)} and {self.bottleneck_heads}"
            raise ValueError(
                f"widths must be two or more numbers of at least 2, bottleneck_heads not negative, got {got}"
            )
        if self.bottleneck_heads and self.widths[-1] % (_REDUCTION * self.bottleneck_heads):
            got = f"{self.widths[-1]} channels and {self.bottleneck_heads} heads"
            raise ValueError(f"the last width must be a multiple of {_REDUCTION} * bottleneck_heads, got {got}")
        if self.attention_output and not self.gates:
            raise ValueError("attention_output is the map of a gate; it needs gates: true")


def outputs(settings: Settings) -> tuple[str, ...]:
    """The names of what the network gives, in order."""
    return (*OUTPUTS, "attention") if settings.attention_output else OUTPUTS


class Network(nn.Module):
    """`(N, 3, h, w)` normalised float -> logits `(N, classes, h, w)`, or these and the map `(N, 1, h, w)`.

    Raises ModelError when the sides do not divide.
    """

    def __init__(self, settings: Settings, classes: int) -> None:
        super().__init__()
        self.settings = settings
        widths = settings.widths
        self.encoder = nn.ModuleList(_Pair(before, width) for before, width in pairwise((3, *widths)))
        heads = settings.bottleneck_heads
        self.bottleneck: nn.Module = (
            FeatureMapAttention(widths[-1], heads, reduction=_REDUCTION) if heads else nn.Identity()
        )
        # Coarse to fine: (skip channels, channels of the decoder's signal).
        levels = [(fine, coarse) for fine, coarse in pairwise(widths)][::-1]
        self.gates = nn.ModuleList(AttentionGate(*level, level[0] // 2) for level in levels if settings.gates)
        self.decoder = nn.ModuleList(_Pair(skip + signal, skip) for skip, signal in levels)
        self.head = nn.Conv2d(widths[0], classes, kernel_size=1)
        for module in self.modules():
            if isinstance(module, _Pair):
                nn.init.kaiming_normal_(module.conv1.weight, nonlinearity="relu")
                nn.init.kaiming_normal_(module.conv2.weight, nonlinearity="relu")
            elif isinstance(module, AttentionGate):
                nn.init.constant_(cast(Tensor, module.judge.bias), _OPEN)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        multiple = 2 ** (len(self.settings.widths) - 1)
        if x.shape[2] % multiple or x.shape[3] % multiple:
            raise ModelError(
                f"attention_unet with {len(self.settings.widths)} widths needs sides that are multiples of {multiple}, "
                f"got {x.shape[2]} x {x.shape[3]}; change input.height and input.width."
            )
        skips = []
        for level, convolutions in enumerate(self.encoder):
            x = convolutions(functional.max_pool2d(x, 2) if level else x)
            skips.append(x)
        x = self.bottleneck(skips.pop())
        attention = None
        for level, convolutions in enumerate(self.decoder):
            signal = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            skip = skips.pop()
            if self.settings.gates:
                skip, attention = self.gates[level](skip, signal)
            x = convolutions(torch.cat((skip, signal), dim=1))
        logits: Tensor = self.head(x)
        if self.settings.attention_output and attention is not None:
            return logits, attention
        return logits

    def loss(self, outputs: Tensor | tuple[Tensor, ...], targets: Tensor, label_smoothing: float) -> Tensor:
        """Against class ids `(N, h, w)`; pixels of id 255 count nowhere, and a batch of nothing else has loss 0."""
        logits = (outputs[0] if isinstance(outputs, tuple) else outputs).float()
        classes = torch.arange(logits.shape[1], device=logits.device).reshape(1, -1, 1, 1)
        truth = (targets[:, None] == classes).float()  # all 0 where ignored
        if self.settings.loss == "focal":
            return pixel_loss(logits, truth, label_smoothing, _GAMMA)
        return pixel_loss(logits, truth, label_smoothing) + dice_loss(logits, truth)


def pixel_loss(logits: Tensor, truth: Tensor, label_smoothing: float, gamma: float = 0.0) -> Tensor:
    """Mean over labelled pixels of `-sum_c q_c (1 - p_c)^gamma ln p_c`: cross-entropy, focal where `gamma` is above 0.

    `truth` `(N, C, h, w)`: 1 at the pixel's class, all 0 where it is ignored. With the share s of smoothing,
    `q = (1 - s) truth + s / C`. Written with products rather than indices: on a GPU those would not be deterministic.
    """
    log_p = functional.log_softmax(logits, dim=1)
    labelled = truth.sum(dim=1, keepdim=True)
    wanted = (1 - label_smoothing) * truth + label_smoothing / truth.shape[1] * labelled
    if gamma:
        wanted = wanted * (1 - log_p.exp()) ** gamma
    return -(wanted * log_p).sum() / labelled.sum().clamp(min=1)


def dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """`1 - mean_c (2 sum p_c t_c + 1) / (sum p_c + sum t_c + 1)`, sums over the labelled pixels of the whole batch.

    The mean is over the classes that the batch holds: one that is absent has no overlap to gain.
    """
    p = logits.softmax(dim=1) * truth.sum(dim=1, keepdim=True)
    there = truth.sum(dim=(0, 2, 3))
    overlap = (2 * (p * truth).sum(dim=(0, 2, 3)) + 1) / (p.sum(dim=(0, 2, 3)) + there + 1)
    present = (there > 0).float()
    return (present * (1 - overlap)).sum() / present.sum().clamp(min=1)


class _Pair(nn.Module):
    """Two padded 3x3 convolutions, each batch-normalised and rectified."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(x)))
