"""A sample's target in the network's own frame, as an array of fixed shape: what is stored for the epochs.

One function per kind of target (see `data.base.Sample`); a new kind is a new function here.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeattn.errors import DataError
from edgeattn.imaging import PADDING, View, resize

BOXES_MAX = 100
IGNORED = 255
IGNORED_BOX = -2
BOX_SIDE_MIN = 2.0  # pixels of the network's frame; what is smaller can hardly be seen


def fit(kind: str, target: Any, views: tuple[View, ...], height: int, width: int) -> NDArray[Any]:
    """`target`, in the pixels of the first view's frame, for a network frame of `height` x `width` pixels.

    | kind | result |
    |---|---|
    | label | int64 `()` |
    | mask | uint8 `(h, w)`, 255 where the frame does not reach |
    | boxes | float32 `(100, 5)`, class -1 for unused rows, -2 for what is neither taught nor background |
    | homography | float32 `(3, 3)` between the two network frames |
    | image | uint8 `(h * s, w * s, 3)` |

    Boxes of which the frame shows a side of less than 2 pixels are neither: something of the object may be seen. Those
    that lie outside of it are left out. Raises DataError for more than 100 boxes or a clean image that is no multiple
    of its frame.
    """
    return np.asarray(_FITTED[kind](target, views, height, width))


def _label(target: Any, views: tuple[View, ...], height: int, width: int) -> NDArray[np.int64]:
    return np.array(int(target), np.int64)


def _mask(target: Any, views: tuple[View, ...], height: int, width: int) -> NDArray[np.uint8]:
    mask = np.asarray(target, np.uint8)
    if _is_identity(views[0]) and mask.shape == (height, width):
        return mask
    # Nearest: class ids have no middle.
    warped = cv2.warpAffine(mask, views[0].matrix[:2], (width, height), flags=cv2.INTER_NEAREST, borderValue=(IGNORED,))
    return np.asarray(warped, np.uint8)


def _boxes(target: Any, views: tuple[View, ...], height: int, width: int) -> NDArray[np.float32]:
    boxes = np.asarray(target, np.float64).reshape(-1, 5)
    if len(boxes) > BOXES_MAX:
        raise DataError(f"An image has {len(boxes)} boxes; at most {BOXES_MAX} are trained on: cut the image.")
    sx, sy, tx, ty = views[0].matrix[0, 0], views[0].matrix[1, 1], views[0].matrix[0, 2], views[0].matrix[1, 2]
    # Edges lie half a pixel before the centres that the matrix is about.
    x = np.clip((boxes[:, [0, 2]] - 0.5) * sx + tx + 0.5, 0, width)
    y = np.clip((boxes[:, [1, 3]] - 0.5) * sy + ty + 0.5, 0, height)
    sides = np.minimum(x[:, 1] - x[:, 0], y[:, 1] - y[:, 0])
    seen = sides > 0
    classes = np.where((boxes[:, 4] >= 0) & (sides >= BOX_SIDE_MIN), boxes[:, 4], IGNORED_BOX)
    fitted = np.full((BOXES_MAX, 5), -1, np.float32)
    fitted[: seen.sum()] = np.stack((x[:, 0], y[:, 0], x[:, 1], y[:, 1], classes), axis=1)[seen]
    return fitted


def _homography(target: Any, views: tuple[View, ...], height: int, width: int) -> NDArray[np.float32]:
    matrix = views[1].matrix @ np.asarray(target, np.float64) @ np.linalg.inv(views[0].matrix)
    return np.asarray(matrix / matrix[2, 2], np.float32)


def _image(target: Any, views: tuple[View, ...], height: int, width: int) -> NDArray[np.uint8]:
    clean = np.asarray(target, np.uint8)
    frame = views[0].frame
    scale = max(1, clean.shape[0] // frame.shape[0])
    if clean.shape[:2] != (frame.shape[0] * scale, frame.shape[1] * scale):
        raise DataError(
            f"A clean image of {clean.shape[0]} x {clean.shape[1]} pixels is no multiple of its frame of "
            f"{frame.shape[0]} x {frame.shape[1]}; cut it."
        )
    size = (width * scale, height * scale)
    if _is_identity(views[0]) and clean.shape[:2] == (size[1], size[0]):
        return clean
    half = (scale - 1) / 2  # the centre of the first frame pixel, in clean pixels
    up = np.array([[scale, 0.0, half], [0.0, scale, half], [0.0, 0.0, 1.0]])
    shrunk, matrix = _shrunk(clean, up @ views[0].matrix @ np.linalg.inv(up))
    warped = cv2.warpAffine(shrunk, matrix[:2], size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    # Where the image does not reach the letterbox is grey, as around the frame, to the pixel.
    left, top, right, bottom = (max(0, edge) for edge in _edges(matrix, shrunk.shape[1], shrunk.shape[0]))
    warped[:top], warped[bottom:], warped[:, :left], warped[:, right:] = (PADDING,) * 4
    return np.asarray(warped, np.uint8)


def _shrunk(image: NDArray[np.uint8], matrix: NDArray[np.float64]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The image resized as its frame was where `matrix` makes it smaller, and the rest of the matrix: a shift."""
    sx, sy = float(matrix[0, 0]), float(matrix[1, 1])
    if sx * sy >= 1:
        return image, matrix
    high, wide = image.shape[:2]
    resized = resize(image, (max(1, round(wide * sx)), max(1, round(high * sy))))
    sx, sy = resized.shape[1] / wide, resized.shape[0] / high
    # Pixel i of the image lies at s (i + 1/2) - 1/2 of the resized one.
    done = np.array([[sx, 0.0, (sx - 1) / 2], [0.0, sy, (sy - 1) / 2], [0.0, 0.0, 1.0]])
    return resized, matrix @ np.linalg.inv(done)


def _edges(matrix: NDArray[np.float64], wide: int, high: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom edge of an image of this size after `matrix`: the first pixel in, the first out."""
    corners = matrix @ np.array([[-0.5, wide - 0.5], [-0.5, high - 0.5], [1.0, 1.0]]) + 0.5
    (left, right), (top, bottom) = corners[:2].tolist()
    return round(left), round(top), round(right), round(bottom)


def _is_identity(view: View) -> bool:
    return bool(np.array_equal(view.matrix, np.eye(3)))


_FITTED = {"label": _label, "mask": _mask, "boxes": _boxes, "homography": _homography, "image": _image}
