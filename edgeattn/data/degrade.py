"""From a clean image to the frame a poor camera or channel would have delivered: smaller, noisy, with holes.

Frames are uint8, as every camera's and engine's are, so noise is rounded and clipped to 0..255. The protocol of
published denoising figures (Set12, BSD68) adds it in floating point and clips nothing: clipping brings a frame nearer
to the clean image but shifts the mean of what is almost black or white. Measured on Set12 with a plain denoiser that
knows nothing of clipping (hard threshold of overlapping 8 x 8 DCTs at 2.7 sigma), the same noise both ways:

| sigma | values outside 0..255 | the frame's own PSNR | denoised, unclipped | denoised, clipped | worst image |
|---|---|---|---|---|---|
| 15 | 1.0 % | +0.06 dB | 31.26 dB | 31.25 dB | -0.07 dB |
| 25 | 2.5 % | +0.17 dB | 28.63 dB | 28.56 dB | -0.31 dB |
| 50 | 8.8 % | +0.61 dB | 25.26 dB | 24.82 dB | -1.10 dB |

A network trained on such frames can learn to undo the shift, so its distance is smaller than this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeattn.imaging import Frame

# What a hole is painted in, BGR: pure magenta, which no grey image and hardly any photograph holds.
HOLE = (255, 0, 255)
# A single shape covers at most this share of the frame, so that the share asked for is not exceeded by more: in a frame
# of less than four times `hole_px` a side, shapes are smaller.
LARGEST_HOLE = 1 / 16


@dataclass(frozen=True)
class Degradation:
    """Down-sampling by `scale`, then noise, then holes.

    `noise`: standard deviation of white Gaussian noise on 0..255, or (low, high), from which each frame draws its own.
    `grey`: all three channels get the same noise; independent noise in three equal channels would be three
    measurements of one pixel, whose mean has 4.8 dB less noise. `scale`: the bicubic filter with antialiasing of
    super-resolution papers (MATLAB's `imresize`: Keys' kernel with a = -0.5, stretched by the scale, mirrored borders).
    `holes`: at least this share of the frame (and at most a sixteenth more) is painted over with rectangles and
    strokes in the colour `HOLE`, so that one uint8 frame carries image and mask. `hole_px`: the largest side of one of
    them, in pixels of the frame, so that tiles are trained on holes of the size that whole images have.
    """

    noise: float | tuple[float, float] = 0.0
    grey: bool = False
    scale: Literal[1, 2, 4] = 1
    holes: float = 0.0
    hole_px: int = 24

    def __post_init__(self) -> None:
        low, high = self.noise_range
        if not 0.0 <= low <= high <= 255.0:
            raise ValueError(f"noise must lie in 0..255, a range as low, high; got {self.noise}")
        if self.scale not in (1, 2, 4):
            raise ValueError(f"scale must be 1, 2 or 4, got {self.scale}")
        if not 0.0 <= self.holes <= 0.9:
            raise ValueError(f"holes must be a share of the frame in 0..0.9, got {self.holes}")
        if self.hole_px < 1:
            raise ValueError(f"hole_px must be at least 1, got {self.hole_px}")

    @property
    def noise_range(self) -> tuple[float, float]:
        return self.noise if isinstance(self.noise, tuple) else (self.noise, self.noise)

    def apply(self, clean: Frame, rng: np.random.Generator) -> Frame:
        """uint8 BGR `(H, W, 3)` -> a new frame, uint8 `(H / scale, W / scale, 3)`, rounded and clipped once.

        Raises ValueError when a side does not divide by the scale.
        """
        if clean.shape[0] % self.scale or clean.shape[1] % self.scale:
            raise ValueError(f"sides must divide by the scale {self.scale}, got {clean.shape[0]} x {clean.shape[1]}")
        low, high = self.noise_range
        frame = clean.copy()
        if self.scale > 1 or high > 0.0:
            values = down_sample(clean, self.scale) if self.scale > 1 else clean.astype(np.float32)
            if high > 0.0:
                channels = 1 if self.grey else 3
                noise = rng.standard_normal((*values.shape[:2], channels), np.float32)
                values += noise * np.float32(rng.uniform(low, high) if low < high else high)
            frame = np.clip(np.rint(values, out=values), 0.0, 255.0, out=values).astype(np.uint8)
        if self.holes > 0.0:
            frame[_holes(frame.shape[:2], self.holes, self.hole_px, rng)] = HOLE
        return frame


def down_sample(image: Frame, scale: int) -> NDArray[np.float32]:
    """uint8 `(H, W, 3)` -> float32 `(H / scale, W / scale, 3)`, not rounded; see `Degradation`. `scale` is even.

    Output pixel i lies at `scale i + (scale - 1) / 2`; its 4 scale taps are symmetric about that.
    """
    taps = np.arange(4 * scale)
    kernel = _keys((taps - (4 * scale - 1) / 2) / scale)
    kernel /= kernel.sum()
    # The first tap lies 2 scale - scale / 2 pixels before pixel `scale i`.
    anchor = 2 * scale - scale // 2
    border = cv2.BORDER_REFLECT
    # One axis after the other, so that the second only works on the rows that are kept.
    one = np.ones(1)
    rows = cv2.sepFilter2D(image, cv2.CV_32F, one, kernel, anchor=(0, anchor), borderType=border)[::scale]
    both = cv2.sepFilter2D(rows, cv2.CV_32F, kernel, one, anchor=(anchor, 0), borderType=border)[:, ::scale]
    return np.array(both, np.float32)


def _keys(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The cubic kernel of Keys, 1981, with a = -0.5."""
    d = np.abs(x)
    near = (1.5 * d - 2.5) * d * d + 1.0
    far = ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
    return np.asarray(np.where(d <= 1.0, near, np.where(d < 2.0, far, 0.0)))


def _holes(shape: tuple[int, ...], share: float, hole_px: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """True where a rectangle or stroke of at most `hole_px` a side lies; shapes are added until `share` is covered."""
    high, wide = shape
    mask = np.zeros((high, wide), np.uint8)
    needed = share * high * wide
    # At most a quarter of the frame's sides, of which LARGEST_HOLE is the product.
    tallest, widest = max(1, min(hole_px, high // 4)), max(1, min(hole_px, wide // 4))
    longest = min(tallest, widest)
    while cv2.countNonZero(mask) < needed:
        x, y, across, down, kind = rng.random(5).tolist()
        left, top = int(x * wide), int(y * high)
        if kind < 0.5:
            # Partly outside the frame near its rim.
            size = (1 + int(across * widest), 1 + int(down * tallest))
            left, top = left - size[0] // 2, top - size[1] // 2
            mask[max(0, top) : top + size[1], max(0, left) : left + size[0]] = 1
        else:
            thick = max(1, longest // 4)
            reach = 2 * max(0, longest - thick - 1)  # its ends are round
            end = (left + int((across - 0.5) * reach), top + int((down - 0.5) * reach))
            cv2.line(mask, (left, top), end, 1, thickness=thick)
    return mask.astype(bool)
