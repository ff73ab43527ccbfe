"""Random changes of whole batches of training frames, by kornia, from torch's seeded generator."""

from __future__ import annotations

import kornia.augmentation as ka
import torch
from torch import Tensor, nn

from edgeattn.recipe import Augment


def augmentation(settings: Augment, height: int, width: int) -> nn.Module:
    """A module on float `(N, 3, height, width)` in 0..1; the identity when every setting is off.

    Pixels that a shift or rotation brings in are mirrored from inside the frame: black borders would be a cue that
    cameras never give. A shift alone is by whole pixels: interpolation blurs small images, which evaluation's are not.
    """
    steps: list[nn.Module] = []
    if settings.flip:
        steps.append(ka.RandomHorizontalFlip(p=0.5))
    if settings.shift and not (settings.scale or settings.rotate):
        # Mirroring reaches at most to the opposite border.
        x, y = (min(round(settings.shift * side), side - 1) for side in (width, height))
        steps.append(ka.RandomCrop((height, width), padding=(x, y), padding_mode="reflect", cropping_mode="slice"))
    elif settings.scale or settings.rotate:
        steps.append(
            ka.RandomAffine(
                degrees=settings.rotate,
                translate=(settings.shift, settings.shift),
                scale=(1 - settings.scale, 1 + settings.scale) if settings.scale else None,
                padding_mode="reflection",
                p=1.0,
            )
        )
    if settings.light:
        steps.append(ka.RandomBrightness((1 - settings.light, 1 + settings.light), p=0.8))
    if settings.contrast:
        steps.append(ka.RandomContrast((1 - settings.contrast, 1 + settings.contrast), p=0.8))
    if settings.erase:
        steps.append(ka.RandomErasing(scale=(0.02, 0.2), p=settings.erase))
    return nn.Sequential(*steps)


def apply(module: nn.Module, frames: Tensor) -> Tensor:
    """uint8 `(N, H, W, 3)` -> augmented float `(N, 3, H, W)` in 0..255."""
    scaled = frames.permute(0, 3, 1, 2).float() / 255.0
    # In BF16 the matrices of a shift or rotation would be rounded to a good part of a pixel.
    with torch.autocast(frames.device.type, enabled=False):
        out: Tensor = module(scaled) * 255.0
    return out
