"""U-Net with channel attention that restores images: noise, lost resolution, holes.

The shape is that of DRUNet (Zhang et al., 2021, arXiv:2008.13751, figure 1): an encoder of residual blocks and strided
convolutions, a decoder that adds the encoder's map of the same size, no normalisation over batches, whose statistics
would tie an image's contrast to that of others. Each block ends in channel attention (RCAN, Zhang et al., 2018,
arXiv:1807.02758, figure 4). The last map may attend to itself, position by position, in transformer blocks.

The network gives what is added to the frame (residual learning: DnCNN, Zhang et al., 2017, arXiv:1608.03981, section
III.A), or to the frame enlarged bilinearly. It does so at half the frame's resolution by default, where the same work
buys four times the channels (FFDNet, Zhang et al., 2018, arXiv:1710.04026, section III.B). Enlarging is a convolution
and a pixel shuffle (ESPCN, Shi et al., 2016, arXiv:1609.05158, equation 4), which is DepthToSpace in the graph.

Loss: Charbonnier, `mean(sqrt(d^2 + eps^2))` (LapSRN, Lai et al., 2017, arXiv:1704.03915, equation 4, eps 1e-3), on
request with the mean absolute difference of the spectra (MIMO-UNet, Cho et al., 2021, arXiv:2108.05054, equation 7).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeattn.errors import ModelError
from edgeattn.models.attention.channel import SqueezeExcite
from edgeattn.models.attention.feature_map import to_map, to_tokens
from edgeattn.models.attention.transformer import TransformerBlock

TASK = "restore"
# The output is frame plus correction, so the frame must come on the output's scale, 0..1.
NORMALISED = False

_EPSILON = 1e-3


@dataclass(frozen=True)
class Settings:
    """`widths`: channels of each level, finest first; `blocks`: residual blocks of each, in encoder and decoder alike.

    The finest level has the frame's sides divided by `stem`. The sides must divide by `stem` and by 2 for each level
    but one (`multiple`). `scale`: how many times larger the output is. `attention_heads`: heads of the transformer
    block in the coarsest level, 0 for none. `attention_output` adds the output `attention`: the share of all heads'
    attention that each place of the coarsest level gets. `frequency_weight`: of the spectra in the loss.
    """

    widths: tuple[int, ...] = (48, 96, 128)
    blocks: tuple[int, ...] = (2, 2, 2)
    stem: Literal[1, 2] = 2
    scale: Literal[1, 2, 4] = 1
    reduction: int = 8
    attention_heads: int = 0
    attention_output: bool = False
    frequency_weight: float = 0.0

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1 or len(self.widths) != len(self.blocks) or min(self.blocks) < 1:
            got = f"{list(self.widths)} and {list(self.blocks)}"
            raise ValueError(f"widths and blocks must be equally many numbers of at least 1, got {got}")
        if self.stem not in (1, 2) or self.scale not in (1, 2, 4):
            raise ValueError(f"stem must be 1 or 2 and scale 1, 2 or 4, got {self.stem} and {self.scale}")
        if self.reduction < 1 or self.attention_heads < 0 or not self.frequency_weight >= 0.0:
            got = f"{self.reduction}, {self.attention_heads} and {self.frequency_weight:g}"
            raise ValueError(
                f"reduction must be at least 1, attention_heads and frequency_weight not negative, got {got}"
            )
        if self.attention_heads and self.widths[-1] % self.attention_heads:
            got = f"{self.widths[-1]} and {self.attention_heads}"
            raise ValueError(f"the last width must be a multiple of attention_heads, got {got}")
        if self.attention_output and not self.attention_heads:
            raise ValueError("attention_output is the map of the transformer block; it needs attention_heads")

    @property
    def multiple(self) -> int:
        """What the sides of a frame must divide by."""
        return self.stem << (len(self.widths) - 1)


def outputs(settings: Settings) -> tuple[str, ...]:
    """Names of what `Network.forward` returns."""
    return ("restored", "attention") if settings.attention_output else ("restored",)


class Block(nn.Module):
    """`x + attention(conv(relu(conv(x))))`, channels and sides as they were."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.attention = SqueezeExcite(channels, reduction)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.attention(self.conv2(torch.relu(self.conv1(x))))
        return out


class _Enlarge(nn.Sequential):
    """A convolution to `factor^2` times the channels, then each group of them becomes `factor x factor` pixels."""

    def __init__(self, channels_in: int, channels: int, factor: int, kernel: int) -> None:
        convolution = nn.Conv2d(channels_in, channels * factor**2, kernel, padding=kernel // 2)
        super().__init__(convolution, nn.PixelShuffle(factor))


class Network(nn.Module):
    """`(N, 3, h, w)` float in 0..1 -> `(N, 3, h * scale, w * scale)`, meant to lie in 0..1 but not clipped.

    If asked for, also attention `(N, 1, h / multiple, w / multiple)`, whose sum is 1.
    Raises ModelError when the sides do not divide by `Settings.multiple`. `classes` plays no part.
    """

    def __init__(self, settings: Settings, classes: int = 0) -> None:
        super().__init__()
        self.settings = settings
        widths = settings.widths

        def blocks(level: int) -> nn.Sequential:
            return nn.Sequential(*(Block(widths[level], settings.reduction) for _ in range(settings.blocks[level])))

        # The stem's windows overlap, so that neighbouring cells of a noisy frame share what they see.
        self.stem = nn.Conv2d(3, widths[0], settings.stem + 2, settings.stem, padding=1)
        last = len(widths) - 1
        self.encoder = nn.ModuleList(blocks(level) for level in range(last))
        self.shrink = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(widths))
        self.bottom = blocks(last)
        heads = settings.attention_heads
        self.attention = TransformerBlock(widths[-1], heads) if heads else None
        self.enlarge = nn.ModuleList(_Enlarge(coarse, fine, 2, kernel=1) for fine, coarse in pairwise(widths))
        self.decoder = nn.ModuleList(blocks(level) for level in range(last))
        self.head = _Enlarge(widths[0], 3, settings.stem * settings.scale, kernel=3)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, Block):
                nn.init.kaiming_normal_(module.conv1.weight, nonlinearity="relu")
                # Without norms the residual branches add up: they begin small, and the output near the frame.
                nn.init.kaiming_normal_(module.conv2.weight, nonlinearity="linear")
                with torch.no_grad():
                    module.conv2.weight.mul_(0.5)
        with torch.no_grad():
            next(self.head.parameters()).mul_(0.1)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        self._check_sides(x.shape[2], x.shape[3])
        scale = self.settings.scale
        frame = x
        if scale > 1:
            frame = functional.interpolate(x, scale_factor=float(scale), mode="bilinear", align_corners=False)
        x = self.stem(x)
        skips = []
        for blocks, shrink in zip(self.encoder, self.shrink, strict=True):
            x = blocks(x)
            skips.append(x)
            x = shrink(x)
        x = self.bottom(x)
        attention = None
        if self.attention is not None:
            rows, columns = x.shape[2:]
            tokens, weights = self.attention.attend(to_tokens(x))
            x = to_map(tokens, rows, columns)
            attention = weights.mean(dim=(1, 2)).reshape(-1, 1, rows, columns)
        for level in reversed(range(len(skips))):
            x = self.decoder[level](self.enlarge[level](x) + skips[level])
        restored: Tensor = frame + self.head(x)
        return restored if attention is None or not self.settings.attention_output else (restored, attention)

    def _check_sides(self, height: int, width: int) -> None:
        multiple = self.settings.multiple
        if height % multiple or width % multiple:
            raise ModelError(
                f"restore_unet with {len(self.settings.widths)} widths and stem {self.settings.stem} needs sides that "
                f"are multiples of {multiple}, got {height} x {width}; change input.height and input.width."
            )

    def loss(self, outputs: Tensor | tuple[Tensor, Tensor], targets: Tensor, label_smoothing: float) -> Tensor:
        """Against clean images `(N, 3, h * scale, w * scale)` in 0..1; `label_smoothing` means nothing here."""
        restored, targets = (outputs if isinstance(outputs, Tensor) else outputs[0]).float(), targets.float()
        loss = charbonnier(restored, targets)
        if self.settings.frequency_weight:
            loss = loss + self.settings.frequency_weight * spectral(restored, targets)
        return loss


def charbonnier(restored: Tensor, clean: Tensor, epsilon: float = _EPSILON) -> Tensor:
    """`mean(sqrt(d^2 + epsilon^2))`: the absolute difference, rounded off at 0. Equal images: epsilon."""
    return torch.sqrt((restored - clean) ** 2 + epsilon**2).mean()


def spectral(restored: Tensor, clean: Tensor) -> Tensor:
    """Mean absolute difference of real and imaginary parts of the 2-D spectra, which are divided by `sqrt(h w)`.

    Half a spectrum is enough for real images. A difference of 0.1 everywhere in 8 x 8 pixels is 0.8 at one of 8 x 5
    frequencies, whose imaginary part is 0: 0.01.
    """
    spectrum = torch.view_as_real(torch.fft.rfft2(restored - clean, norm="ortho"))
    return spectrum.abs().mean()
