"""Region attention: the image as a grid of regions, a network scores each, the class is read from their weighted sum.

    z_r = mean of the CNN's map in region r,  e_r = v^T tanh(W z_r + b),  a = softmax(e),  y = W_c sum_r a_r z_r + b_c

One CNN with shared weights sees every region. It runs over the image once, so a region's features also know what lies
beyond its rim, and further grids cost next to nothing. The weights `a` (Ilse et al., "Attention-based Deep Multiple
Instance Learning", 2018, arXiv:1802.04712, equations 7 and 8) say which regions the class was read from. With several
grids each one gives an answer of its own, and a second attention weighs the answers (Yang et al., "Hierarchical
Attention Networks for Document Classification", 2016, section 2.2): large regions for what is large in the image, small
ones for what is small.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from edgeattn.models.attention.region import MultiScaleRegionAttention, RegionAttention, paint

TASK = "classify"


@dataclass(frozen=True)
class Settings:
    """`stages` lists the channels of the CNN's stages, of `convolutions` each, the first of which halves the sides.

    `grids` are the regions per side, one number for each scale; each must divide the sides of the CNN's map (the
    image's over `2^stages`: 8 for 64 pixels and three stages, 12 for 96) and the largest grid. `hidden` is the width of
    the score network. `attention_output` adds the output `attention`.
    """

    stages: tuple[int, ...] = (32, 64, 128)
    convolutions: int = 2
    grids: tuple[int, ...] = (4,)
    hidden: int = 64
    attention_output: bool = False

    def __post_init__(self) -> None:
        if not self.stages or not self.grids or min(*self.stages, *self.grids, self.convolutions, self.hidden) < 1:
            got = f"{list(self.stages)}, {self.convolutions}, {list(self.grids)} and {self.hidden}"
            raise ValueError(f"stages, convolutions, grids and hidden must be positive, got {got}")
        if any(max(self.grids) % grid for grid in self.grids):
            raise ValueError(f"each of the grids must divide the largest, got {', '.join(map(str, self.grids))}")


def outputs(settings: Settings) -> tuple[str, ...]:
    """The names of what the network returns, in order."""
    return ("logits", "attention") if settings.attention_output else ("logits",)


def _convolution(channels_in: int, channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
    )


class Network(nn.Module):
    """`(N, 3, H, W)` normalised float -> logits `(N, classes)` and, if asked for, attention `(N, 1, g, g)`.

    The attention is on the largest grid, in 0..1: a region's weight, which sum to 1 on one grid; with several, the sum
    of the weights of the regions around it, each times its grid's weight. Raises ValueError when a grid does not divide
    the map.
    """

    def __init__(self, settings: Settings, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in settings.stages:
            layers += [_convolution(channels, width, stride=2)]
            layers += [_convolution(width, width, stride=1) for _ in range(settings.convolutions - 1)]
            channels = width
        self.stages = nn.Sequential(*layers)
        grids = [(grid, grid) for grid in settings.grids]
        # One answer needs no second attention, whose weight would always be 1.
        self.regions: RegionAttention | MultiScaleRegionAttention = (
            MultiScaleRegionAttention(channels, grids, settings.hidden)
            if len(grids) > 1
            else RegionAttention(channels, grids[0], settings.hidden)
        )
        self.head = nn.Linear(channels, classes)
        self.finest = max(settings.grids)
        self.attention_output = settings.attention_output

    def _attend(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """`(N, C, h, w)` -> the weighted sum `(N, C)` and the attention `(N, 1, g, g)`."""
        if isinstance(self.regions, RegionAttention):
            vector, weights = self.regions(features)
            return vector, paint(weights, self.regions.grid, self.finest, self.finest)
        vector, regions, scales = self.regions(features)
        return vector, self.regions.paint(regions, scales, self.finest, self.finest)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        vector, attention = self._attend(self.stages(x))
        logits: Tensor = self.head(vector)
        return (logits, attention) if self.attention_output else logits

    def loss(self, outputs: Tensor | tuple[Tensor, Tensor], targets: Tensor, label_smoothing: float) -> Tensor:
        """Mean cross-entropy against class ids `(N,)` int64; nothing tells the attention where to look."""
        logits = outputs if isinstance(outputs, Tensor) else outputs[0]
        return functional.cross_entropy(logits.float(), targets, label_smoothing=label_smoothing)
