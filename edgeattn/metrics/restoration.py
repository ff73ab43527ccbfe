"""How close a restored image is to the clean one: PSNR and SSIM of uint8 images.

Published figures differ in what they compare, so that is the caller's choice: all channels, `grey` (denoising papers'
images are grey, which it leaves as they are) or `luma` (super-resolution papers).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeattn.opencv import cv2

# Wang et al., 2004, section III.B and C: the window, and the two constants for 8-bit images.
WINDOW = 11
_SIGMA = 1.5
_C1 = (0.01 * 255) ** 2
_C2 = (0.03 * 255) ** 2


def to_uint8(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Values meant to lie in 0..1 -> rounded and clipped to 0..255, half to even; NaN becomes 0.

    -0.1, 0.5, 0.6, 1.2: 0, 128, 153, 255.
    """
    wide = np.nan_to_num(image.astype(np.float64), nan=0.0, posinf=1.0, neginf=0.0)
    return np.asarray(np.rint(np.clip(wide, 0.0, 1.0) * 255.0), np.uint8)


def luma(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Y of ITU-R BT.601 in studio range, of BGR `(H, W, 3)`: float64 `(H, W)` in 16..235, not rounded.

    `Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255`: black 16, white 235, pure green 144.553. Since a grey step of
    255 becomes 219, the PSNR of `luma` is 20 log10(255 / 219) = 1.322 dB above that of the same grey images.
    """
    weights = np.array([24.966, 128.553, 65.481]) / 255.0
    return np.asarray(16.0 + image.astype(np.float64) @ weights)


def grey(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """`0.299 R + 0.587 G + 0.114 B` of BGR `(H, W, 3)`: float64 `(H, W)` in 0..255; three equal channels stay."""
    return np.asarray(image.astype(np.float64) @ np.array([0.114, 0.587, 0.299]))


def psnr_db(clean: NDArray[Any], image: NDArray[Any]) -> float:
    """`10 log10(255^2 / mean((clean - image)^2))` over all values on the scale 0..255; infinite when equal.

    An error of 5 everywhere: 34.1514 dB. Raises ValueError when the shapes differ.
    """
    _check_shapes(clean, image)
    error = clean.astype(np.float64) - image.astype(np.float64)
    mean = float(np.mean(error * error))
    return 10.0 * math.log10(255.0**2 / mean) if mean > 0.0 else math.inf


def psnr_db_max(values: int) -> float:
    """The highest PSNR that a different uint8 image of so many values can have: one of them is off by one.

    Stands for the infinity of equal images where means are taken. 256 x 256 grey: 96.2956 dB.
    """
    return 10.0 * math.log10(255.0**2 * values)


def ssim(clean: NDArray[Any], image: NDArray[Any]) -> float:
    """Mean structural similarity of two planes `(H, W)` on the scale 0..255: at most 1, and 1 when equal.

    Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004, equation 13, with
    their Gaussian window of 11 x 11 and sigma 1.5, averaged over the windows that lie inside the image; variances are
    those of the window, not of a sample. Constant planes of 100 and 110: 0.995477 (their structure terms are 1).
    Raises ValueError when the shapes differ or a side is below 11.
    """
    _check_shapes(clean, image)
    if clean.ndim != 2 or min(clean.shape) < WINDOW:
        raise ValueError(f"SSIM needs planes of at least {WINDOW} x {WINDOW}, got {clean.shape}")
    x, y = clean.astype(np.float64), image.astype(np.float64)
    mean_x, mean_y = _windowed(x), _windowed(y)
    variance_x = _windowed(x * x) - mean_x**2
    variance_y = _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    structure = (2 * covariance + _C2) / (variance_x + variance_y + _C2)
    return float(np.mean(luminance * structure))


def _windowed(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted means over the windows inside the plane: `(H, W)` -> `(H - 10, W - 10)`."""
    kernel = cv2.getGaussianKernel(WINDOW, _SIGMA, cv2.CV_64F)
    rim = WINDOW // 2
    return np.asarray(cv2.sepFilter2D(plane, cv2.CV_64F, kernel, kernel)[rim:-rim, rim:-rim], np.float64)


def _check_shapes(first: NDArray[Any], second: NDArray[Any]) -> None:
    if first.shape != second.shape:
        raise ValueError(f"images of one shape are compared, got {first.shape} and {second.shape}")
