"""Camera frame -> network frame: the single copy used by training, calibration, checks and the device.

Frames are uint8 `(H, W, 3)` in BGR, as cameras and OpenCV deliver them. What happens here is geometry only;
colour order, layout and normalisation are inside the exported graph.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeattn.errors import DataError
from edgeattn.opencv import cv2

Frame = NDArray[np.uint8]

# What counts as an image in a folder, for training and on the device alike.
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
PADDING = 114  # the grey around a letterboxed frame
# A frame that would grow beyond this many times the network's is cut before it is enlarged.
_ENLARGED_MAX = 8


@dataclass(frozen=True, eq=False)
class View:
    """A frame as the camera delivered it, uint8 BGR `(H, W, 3)`, and how the network sees it.

    `matrix` `(3, 3)` takes frame pixels to network pixels; it is the identity where a frame was cut into tiles, since
    the joined outputs are in the frame's own pixels.
    """

    frame: Frame
    matrix: NDArray[np.float64]


@dataclass(frozen=True)
class Preprocess:
    """How a frame of any size becomes `(height, width, 3)`.

    `fit`: `stretch` ignores the aspect ratio; `crop` scales until both sides cover the target and cuts the middle;
    `letterbox` scales until both sides fit and pads with grey 114; `tile` does not scale: `tiling.py` cuts the frame
    into tiles of this size that share `overlap` pixels, and the outputs are joined again.
    """

    height: int
    width: int
    fit: Literal["stretch", "crop", "letterbox", "tile"] = "crop"
    overlap: int = 32

    def apply(self, frame: Frame) -> Frame:
        """uint8 BGR `(H, W, 3)` of any size -> a contiguous uint8 `(height, width, 3)`. Raises DataError.

        Not for `tile`, where one frame becomes several.
        """
        return self.apply_with_matrix(frame)[0]

    def apply_with_matrix(self, frame: Frame) -> tuple[Frame, NDArray[np.float64]]:
        """As `apply`, with the 3x3 matrix that takes frame pixels to network pixels.

        Pixel coordinates have their origin at the centre of the first pixel, as OpenCV's do.
        """
        check_frame(frame)
        if frame.shape[:2] == (self.height, self.width):
            return np.ascontiguousarray(frame), np.eye(3)
        high, wide = frame.shape[:2]
        scale_y, scale_x = self.height / high, self.width / wide
        if self.fit != "stretch":
            scale_y = scale_x = max(scale_y, scale_x) if self.fit == "crop" else min(scale_y, scale_x)
        x, y = 0, 0
        grown = (wide * scale_x) * (high * scale_y)
        # Only a crop grows beyond the network's frame; one that shrinks takes less memory than the frame itself.
        if grown > max(wide * high, _ENLARGED_MAX * self.width * self.height):
            x, wide = _middle(wide, self.width / scale_x)
            y, high = _middle(high, self.height / scale_y)
        size = (max(1, round(wide * scale_x)), max(1, round(high * scale_y)))
        resized = resize(frame[y : y + high, x : x + wide], size)
        left, top = (size[0] - self.width) // 2, (size[1] - self.height) // 2
        if self.fit == "crop":
            fitted = resized[top : top + self.height, left : left + self.width]
        elif self.fit == "letterbox":
            fitted = np.full((self.height, self.width, 3), PADDING, np.uint8)
            fitted[-top : -top + size[1], -left : -left + size[0]] = resized
        else:
            fitted = resized
        sx, sy = size[0] / wide, size[1] / high
        across, down = (0.5 - x) * sx - 0.5 - left, (0.5 - y) * sy - 0.5 - top
        matrix = np.array([[sx, 0.0, across], [0.0, sy, down], [0.0, 0.0, 1.0]])
        return np.ascontiguousarray(fitted), matrix

    def to_dict(self) -> dict[str, Any]:
        """Without `overlap` where nothing is tiled."""
        values = asdict(self)
        if self.fit != "tile":
            del values["overlap"]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocess:
        return cls(**values)


def _middle(length: int, needed: float) -> tuple[int, int]:
    """Start and length of the middle of `length` pixels that holds `needed` of them and a margin to interpolate from.

    As many pixels are left out before it as after it, so that the middle stays the middle.
    """
    kept = math.ceil(needed) + 2
    kept = min(length, kept + (length - kept) % 2)
    return (length - kept) // 2, kept


def resize(frame: Frame, size: tuple[int, int]) -> Frame:
    """`size` is width and height. Raises DataError."""
    high, wide = frame.shape[:2]
    # AREA averages when shrinking (no aliasing); it degenerates to nearest when enlarging, where LINEAR is meant.
    shrinking = size[0] * size[1] < wide * high
    try:
        resized = cv2.resize(frame, size, interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)
    except cv2.error as error:
        raise DataError(
            f"OpenCV cannot resize a frame of {high} x {wide} pixels to {size[1]} x {size[0]} ({error}); "
            "give a smaller frame."
        ) from error
    return np.asarray(resized, np.uint8)


def check_frame(frame: object) -> None:
    """Raise DataError unless `frame` is a non-empty uint8 `(H, W, 3)` array."""
    if not isinstance(frame, np.ndarray):
        raise DataError(f"A frame must be a NumPy array, got {type(frame).__name__}; read the image with OpenCV first.")
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise DataError(
            f"A frame must be uint8 (H, W, 3) in BGR, got {frame.dtype} {frame.shape}; "
            "convert grey or four-channel images with cv2.cvtColor first."
        )


def read_image(path: Path) -> Frame:
    """An image file as uint8 BGR `(H, W, 3)`, EXIF rotation applied. Raises DataError when missing or corrupt."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"The image {path} cannot be read ({error.strerror}); check the path.") from error
    return decode_image(data, str(path))


def decode_image(data: bytes, name: str) -> Frame:
    """JPEG, PNG, … bytes as uint8 BGR `(H, W, 3)`; `name` is what an error calls them. Raises DataError."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error:  # a header that promises more pixels than OpenCV allows
        image = None
    if image is None:
        raise DataError(f"{name} is not an image OpenCV can decode ({len(data)} bytes); replace or remove it.")
    return np.asarray(image, np.uint8)


def encode_png(frame: Frame) -> bytes:
    """A frame as PNG, without loss. Raises DataError."""
    try:
        ok, data = cv2.imencode(".png", frame)
    except cv2.error as error:
        raise DataError(f"A frame of shape {frame.shape} could not be encoded as PNG ({error}).") from error
    if not ok:
        raise DataError(f"A frame of shape {frame.shape} could not be encoded as PNG.")
    return data.tobytes()


def printable(name: str) -> str:
    r"""A file's name that any output takes: bytes in it that are not UTF-8 are written as `\xff`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
