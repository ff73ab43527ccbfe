"""Random changes of whole batches of training frames with their targets, by kornia, from torch's seeded generator."""

from __future__ import annotations

import math
from typing import Any

import kornia.augmentation as ka
import numpy as np
import torch
from kornia.constants import DataKey
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeattn.data.base import Degradation
from edgeattn.errors import DataError
from edgeattn.recipe import Augment
from edgeattn.train import changes, tiles
from edgeattn.train.targets import BOX_SIDE_MIN, IGNORED_BOX

# What kornia calls the targets whose place in the frame a geometric change moves.
_KEYS = {"mask": "mask", "boxes": "bbox_xyxy", "image": "input"}
Size = tuple[int, int]

_BOX_SHARE_MIN = 0.25  # of a box's area that must stay in the frame, or it is no longer a target


class Augmentation(nn.Module):
    """uint8 frames `(N, F, H, W, 3)` and fitted targets -> float frames 0..1 `(N, F, 3, height, width)`, loss targets.

    `kind` is that of the targets. What a geometric change brings in is mirrored from inside the frame: black borders
    would be a cue that cameras never give. With boxes the frame's rim is drawn out instead, since objects seen in the
    mirror would have none. Frames larger than `height` x `width` are windows, of which a random tile is taken, with so
    much around it that what is turned or shifted into it is the window's. A clean image changes its light and contrast
    with its frame, which alone gets noise and blanks. With a `degradation` frames are clean images: changed in light
    too, they become the targets, and are degraded anew. Raises RecipeError as `changes.check` does.
    """

    def __init__(
        self, settings: Augment, kind: str, height: int, width: int, degradation: Degradation | None = None
    ) -> None:
        super().__init__()
        changes.check(settings, kind, degraded=degradation is not None)
        self.kind = kind
        self.degradation = degradation
        scale = degradation.scale if degradation is not None else 1
        self.height, self.width = height * scale, width * scale
        self.settings = settings
        self.mirror = kind != "boxes"
        size = (self.height, self.width)
        self.geometry = _geometry(settings, size, size, mirror=self.mirror)
        self.margin = _margin(settings, size)
        around = (size[0] + 2 * self.margin[0], size[1] + 2 * self.margin[1])
        self.geometry_around = _geometry(settings, size, around, mirror=self.mirror)
        self.geometry_around.append(ka.CenterCrop(size, cropping_mode="slice"))
        self.light, self.spoiling = nn.Sequential(*_light(settings)), nn.Sequential(*_spoiling(settings))

    def forward(self, frames: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        # In BF16 the matrices of a shift or rotation would be rounded to a good part of a pixel.
        with torch.autocast(frames.device.type, enabled=False):
            return self._changed(frames.permute(0, 1, 4, 2, 3).float() / 255.0, targets)

    def _changed(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        count, of_each = x.shape[:2]
        if self.degradation is not None:
            clean = self.light(self._moved(x[:, 0], None)[0])
            return self._degraded(clean)[:, None], clean
        if self.kind == "homography":  # each photograph has its own light; moving one would change the target
            x = self.spoiling(self.light(x.flatten(0, 1))).unflatten(0, (count, of_each))
            return x, targets
        moved, fitted = self._moved(x[:, 0], targets)
        assert fitted is not None, "there are targets where nothing is degraded anew"
        if self.kind == "image":
            moved, fitted = self._relit(moved, fitted)
        else:
            moved = self.light(moved)
        return self.spoiling(moved)[:, None], fitted

    def _relit(self, x: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Both under the same light: a network that restores is not to learn to undo a change it cannot see."""
        for step in self.light:
            x = step(x)
            clean = step(clean, params=step._params)
        return x, clean

    def _moved(self, x: Tensor, targets: Tensor | None) -> tuple[Tensor, Tensor | None]:
        larger = x.shape[-2:] != (self.height, self.width)
        if targets is not None:
            targets = _as_loss_target(self.kind, targets)
            self._check_sizes(x, targets, larger=larger)
        steps = self.geometry
        # A box that a shift moves out of the frame and a smaller scale back in has its pixels in the margin.
        if larger or (self.kind == "boxes" and self.settings.shift and self.settings.scale):
            x, targets = self._with_margin(x, targets)
            steps = self.geometry_around
        key = _KEYS.get(self.kind)
        if targets is None or key is None or not steps:
            return nn.Sequential(*steps)(x), targets
        extra: dict[Any, Any] = {DataKey.MASK: {"resample": "nearest", "align_corners": None}}
        sequence = ka.AugmentationSequential(*steps, data_keys=["input", key], extra_args=extra)
        if self.kind == "mask":
            moved, mask = sequence(x, targets[:, None].float())
            return moved, mask[:, 0].round().to(torch.uint8)
        if self.kind == "boxes":  # edges lie half a pixel before the centres that kornia's matrices are about
            moved, corners = sequence(x, targets[..., :4].float() - 0.5)
            return moved, _kept(corners + 0.5, targets, self.height, self.width)
        moved, clean = sequence(x, targets)
        return moved, clean

    def _with_margin(self, x: Tensor, targets: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """A random tile out of each window with `margin` around it, from frames and from targets that have places."""
        top, left = (
            tiles.draw(len(x), x.shape[2 + axis], side) - self.margin[axis]
            for axis, side in enumerate((self.height, self.width))
        )
        around = (self.height + 2 * self.margin[0], self.width + 2 * self.margin[1])
        cut = tiles.cut(x, top, left, around, mirror=self.mirror)
        if targets is None or self.kind not in _KEYS:
            return cut, targets
        if self.kind == "boxes":
            corner = torch.stack((left, top, left, top, torch.zeros_like(top)), dim=1).to(targets)
            return cut, targets - corner[:, None]
        maps = targets if targets.ndim == 4 else targets[:, None]
        part = tiles.cut(maps, top, left, around, mirror=self.mirror)
        return cut, part if targets.ndim == 4 else part[:, 0]

    def _check_sizes(self, x: Tensor, targets: Tensor, *, larger: bool) -> None:
        moves = larger or self.settings.shift or self.settings.scale or self.settings.rotate
        if self.kind == "image" and targets.shape[-2:] != x.shape[-2:] and moves:
            raise DataError(
                "Pairs of images of two sizes can only be flipped; set train.augment.shift, scale and rotate to 0."
            )

    def _degraded(self, clean: Tensor) -> Tensor:
        """By NumPy, whose generator is seeded from torch's: one copy of the degradation for training and evaluation."""
        assert self.degradation is not None
        rng = np.random.default_rng(int(torch.randint(2**62, ())))
        whole = (clean * 255.0).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
        images: NDArray[np.uint8] = whole.cpu().numpy()
        frames = np.stack([self.degradation.apply(np.ascontiguousarray(image), rng) for image in images])
        return torch.from_numpy(frames).to(clean.device).permute(0, 3, 1, 2).float() / 255.0


def _as_loss_target(kind: str, targets: Tensor) -> Tensor:
    """uint8 images `(N, H, W, 3)` -> float `(N, 3, H, W)` 0..1; every other kind as it is."""
    return targets.permute(0, 3, 1, 2).float() / 255.0 if kind == "image" else targets


def _kept(corners: Tensor, before: Tensor, height: int, width: int) -> Tensor:
    """Moved boxes cut at the frame; those of which nothing is left, and unused rows, have class -1.

    Those of which too little is left to be a target are ignored (class -2), as are those that were: what is still seen
    of an object is no background.
    """
    limits = corners.new_tensor([width, height, width, height])
    cut = corners.clamp(min=0).minimum(limits)
    sides, whole = cut[..., 2:] - cut[..., :2], corners[..., 2:] - corners[..., :2]
    little = (sides.prod(dim=-1) < _BOX_SHARE_MIN * whole.prod(dim=-1)) | (sides.amin(dim=-1) < BOX_SIDE_MIN)
    gone = (before[..., 4] == -1) | (sides.amin(dim=-1) <= 0)
    classes = before[..., 4].masked_fill(little, IGNORED_BOX).masked_fill(gone, -1)
    return torch.cat((cut, classes[..., None]), dim=-1)


def _geometry(settings: Augment, size: Size, around: Size, *, mirror: bool) -> list[Any]:
    """What moves frames of `around`, whose middle of `size` (h, w) is what the settings' shares are of.

    `mirror`: what is brought in is mirrored; otherwise the rim's pixels are repeated.
    """
    steps: list[Any] = []
    if settings.flip:
        steps.append(ka.RandomHorizontalFlip(p=0.5))
    if settings.vertical_flip:
        steps.append(ka.RandomVerticalFlip(p=0.5))
    if settings.shift:
        # By whole pixels, in every frame: that leaves the grain as it is.
        y, x = _shifts(settings, size)
        padding = "reflect" if mirror else "replicate"
        steps.append(ka.RandomCrop(around, padding=(x, y), padding_mode=padding, cropping_mode="slice"))
    if settings.scale or settings.rotate:
        steps.append(
            ka.RandomAffine(
                degrees=settings.rotate,
                scale=(1 - settings.scale, 1 + settings.scale) if settings.scale else None,
                padding_mode="reflection" if mirror else "border",
                # Interpolation smooths: of noise of sigma 20 it leaves 13.5. Frames are judged as the camera gives
                # them, so half of those that are trained on keep their grain.
                p=0.5,
            )
        )
    return steps


def _shifts(settings: Augment, size: Size) -> Size:
    """The most that a frame of `size` is shifted, down and across. Mirroring reaches to the opposite border at most."""
    return min(round(settings.shift * size[0]), size[0] - 1), min(round(settings.shift * size[1]), size[1] - 1)


def _margin(settings: Augment, size: Size) -> Size:
    """Rows above and below a tile of `size`, and columns beside it, of which a change brings something into it.

    A tile of 192 x 192 that is turned by up to 20 degrees needs 28. Less than its side, since no more can be mirrored;
    what still lacks where frames shrink to less than half is mirrored by the change itself.
    """
    down, across = _shifts(settings, size)
    if not (settings.scale or settings.rotate):
        return down, across
    shrunk = max(1 - settings.scale, 0.5)
    margins = []
    for side, other, shift in ((*size, down), (*size[::-1], across)):
        # Half the height of a rectangle that is turned, which grows until its diagonal stands upright.
        angle = min(math.radians(settings.rotate), math.atan2(other, side))
        half = (side * math.cos(angle) + other * math.sin(angle)) / 2 / shrunk
        margins.append(min(math.ceil(half - side / 2) + shift, side - 1))
    return margins[0], margins[1]


def _light(settings: Augment) -> list[Any]:
    """What changes a clean image as much as its frame."""
    steps: list[Any] = []
    if settings.light:
        steps.append(ka.RandomBrightness((1 - settings.light, 1 + settings.light), p=0.8))
    if settings.contrast:
        steps.append(ka.RandomContrast((1 - settings.contrast, 1 + settings.contrast), p=0.8))
    return steps


def _spoiling(settings: Augment) -> list[nn.Module]:
    """What a network that restores is to undo."""
    steps: list[nn.Module] = []
    if settings.noise:
        steps.append(ka.RandomGaussianNoise(std=settings.noise / 255.0, p=0.5))
    if settings.erase:
        steps.append(ka.RandomErasing(scale=(0.02, 0.2), p=settings.erase))
    return steps
