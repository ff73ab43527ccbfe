"""Restoration: an image `(1, 3, h * s, w * s)`, 0..1 BGR -> a clean frame, s times as large; PSNR and SSIM.

A data set's figure is the mean over its images of each image's own, as published for Set12.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeattn.errors import DataError, ModelError
from edgeattn.imaging import Frame, View
from edgeattn.metrics.restoration import WINDOW, grey, luma, psnr_db, psnr_db_max, ssim, to_uint8
from edgeattn.opencv import cv2
from edgeattn.tasks.base import MetricSpec, Outputs, Views, attention_map

OUTPUT = "restored"
_BAND = 28


@dataclass(frozen=True, eq=False)
class Restoration:
    """`image`: uint8 BGR `(H * s, W * s, 3)` of a frame `(H, W, 3)`."""

    image: Frame
    latency_ms: float
    attention: NDArray[np.float32] | None = None

    def __str__(self) -> str:
        return f"restored to {self.image.shape[1]} x {self.image.shape[0]} pixels"

    def to_dict(self) -> dict[str, Any]:
        """The size only: the picture itself is too large for JSON."""
        return {
            "height": self.image.shape[0],
            "width": self.image.shape[1],
            "latency_ms": round(self.latency_ms, 4),
        }

    def draw(self, frame: Frame) -> Frame:
        """Left half the frame, enlarged to the result's size, right half the result; a band below says which is which.

        Results under 320 pixels wide are enlarged first, so that the text can be read.
        """
        high, wide = self.image.shape[:2]
        before = frame if frame.shape == self.image.shape else _resized(frame, (wide, high))
        middle = wide // 2
        canvas = np.concatenate((before[:, :middle], self.image[:, middle:]), axis=1)
        factor = max(1, min(-(-320 // wide), 1280 // high))  # never more than a screen high
        canvas = np.repeat(np.repeat(canvas, factor, axis=0), factor, axis=1)
        cut = middle * factor
        cv2.line(canvas, (cut, 0), (cut, canvas.shape[0] - 1), (255, 255, 255), 1)
        band = np.full((_BAND, canvas.shape[1], 3), 32, np.uint8)
        for left, text in ((8, "before"), (cut + 8, "after")):
            cv2.putText(band, text, (left, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 1, cv2.LINE_AA)
        return np.concatenate((canvas, band))


class Restore:
    name = "restore"
    target = "image"
    inputs = ("frame",)
    tiles = True
    metrics = (
        MetricSpec(name="psnr", unit="dB", higher_is_better=True, binary=False),
        MetricSpec(name="ssim", unit="", higher_is_better=True, binary=False),
        MetricSpec(name="psnr_y", unit="dB", higher_is_better=True, binary=False),
    )

    @property
    def decoding(self) -> dict[str, Any]:
        return {"output": OUTPUT, "colour": "BGR", "range": [0, 1], "layout": "NCHW"}

    def score(self, outputs: Outputs, target: Any, views: Views) -> NDArray[np.float64]:
        """PSNR over all channels, SSIM, PSNR of luma (Y) of the restored uint8 frame against the clean `target`.

        SSIM is that of the grey image, or of luma where the frame was enlarged, as the papers of either field have it;
        unlike theirs, an enlarged image's border counts. Equal images score the PSNR of a single value that is off
        by one, so that means stay finite.

        Raises ModelError for outputs that are no image, DataError for a target of another size or below 11 pixels.
        """
        restored, scale = _in_the_frame(outputs, views[0])
        clean = np.asarray(target)
        if clean.shape != restored.shape or min(clean.shape[:2]) < WINDOW:
            raise DataError(
                f"The clean image has the shape {clean.shape}, the restored one {restored.shape}; both must be equal "
                f"and at least {WINDOW} pixels high and wide. Correct the data or the scale of model and data."
            )
        clean_y, restored_y = luma(clean), luma(restored)
        planes = (clean_y, restored_y) if scale > 1 else (grey(clean), grey(restored))
        return np.array(
            [
                min(psnr_db(clean, restored), psnr_db_max(clean.size)),
                ssim(*planes),
                min(psnr_db(clean_y, restored_y), psnr_db_max(clean.size)),
            ]
        )

    def summarize(self, scores: NDArray[np.float64], metric: str) -> float:
        """The mean over the images. 29 and 31 dB: 30 dB, whatever the sizes of the two."""
        column = [spec.name for spec in self.metrics].index(metric)
        return float(scores[:, column].mean())

    def agreement(self, outputs: Outputs, reference: Outputs) -> float:
        """1 - the mean absolute difference of the two images on 0..1, clipped and rounded as a frame is; 1 when equal.

        An image that is 51 levels (a fifth) darker everywhere agrees to 0.8.
        """
        ours, theirs = (to_uint8(_checked(each)).astype(np.float64) for each in (outputs, reference))
        return float(1.0 - np.abs(ours - theirs).mean() / 255.0)

    def comparable(self, outputs: Outputs, reference: Outputs) -> tuple[Outputs, Outputs]:
        return outputs, reference

    def per_label(self, scores: NDArray[np.float64], labels: int) -> list[float | None] | None:
        return None

    def describe(self, outputs: Outputs, target: Any, labels: tuple[str, ...], views: Views) -> dict[str, str]:
        restored, clean = _picture(outputs), np.asarray(target)
        high, wide = restored.shape[:2]
        size = f"{wide} x {high} pixels"
        if clean.shape != restored.shape:  # the network saw a resized frame
            return {"predicted": size, "truth": f"{clean.shape[1]} x {clean.shape[0]} pixels"}
        return {"predicted": f"{psnr_db(clean, restored):.2f} dB", "truth": size}

    def decode(self, outputs: Outputs, views: Views, labels: tuple[str, ...], latency_ms: float) -> Restoration:
        """Where a frame was resized for the network, the result is resampled to the frame's own pixels; what the
        network did not see (the rim that `crop` cuts off) is the frame as it was. Raises ModelError.
        """
        image, _ = _in_the_frame(outputs, views[0])
        return Restoration(image, latency_ms, attention_map(outputs))


def _checked(outputs: Outputs) -> NDArray[Any]:
    value = outputs.get(OUTPUT)
    if value is None or value.ndim != 4 or value.shape[:2] != (1, 3) or 0 in value.shape:
        raise ModelError(
            f"A restoring network must give '{OUTPUT}' of shape (1, 3, height, width); got "
            f"{ {name: each.shape for name, each in outputs.items()} }."
        )
    return value


def _picture(outputs: Outputs) -> Frame:
    return np.ascontiguousarray(to_uint8(_checked(outputs)[0]).transpose(1, 2, 0))


def _in_the_frame(outputs: Outputs, view: View) -> tuple[Frame, int]:
    """The restored frame, uint8 BGR `(H * s, W * s, 3)`, and s."""
    picture = _picture(outputs)
    high, wide = view.frame.shape[:2]
    direct = bool(np.array_equal(view.matrix, np.eye(3)))
    scale = _scale(picture, view, direct)
    if direct:
        return picture, scale
    # Pixel centres: x of the frame lies at s x + (s - 1) / 2 of an image that is s times as large.
    enlarged = np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2], [0, 0, 1]])
    matrix = (enlarged @ view.matrix @ np.linalg.inv(enlarged))[:2]
    size = (wide * scale, high * scale)
    # What `letterbox` padded must not bleed into the rim.
    first = matrix @ np.array([-0.5, -0.5, 1.0]) + 0.5
    last = matrix @ np.array([size[0] - 0.5, size[1] - 0.5, 1.0]) + 0.5
    left, top = np.rint(np.maximum(first, 0.0)).astype(int)
    right, bottom = np.rint(last).astype(int)
    picture = np.ascontiguousarray(picture[top:bottom, left:right])
    matrix[:, 2] -= (left, top)
    back = cv2.warpAffine(
        picture, matrix, size, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    everywhere = np.full(picture.shape[:2], 255, np.uint8)
    seen = cv2.warpAffine(everywhere, matrix, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    plain = view.frame if scale == 1 else _resized(view.frame, size)
    return np.where(seen[..., None] > 0, back, plain).astype(np.uint8), scale


def _scale(picture: Frame, view: View, direct: bool) -> int:
    """How many times larger the output is than what the network saw. Raises ModelError when that is no whole number.

    A resized frame's middle is the middle of what the network saw, give or take a pixel's rounding.
    """
    high, wide = view.frame.shape[:2]
    middle = view.matrix @ np.array([(wide - 1) / 2, (high - 1) / 2, 1.0])
    ratios = picture.shape[1] / (2 * middle[0] + 1), picture.shape[0] / (2 * middle[1] + 1)
    scale = int(np.rint(ratios[0]))
    exact = picture.shape[:2] == (high * scale, wide * scale)
    near = scale >= 1 and max(abs(ratio - scale) for ratio in ratios) < 0.25 * scale
    if not (exact if direct else near):
        raise ModelError(
            f"The output '{OUTPUT}' is {picture.shape[1]} x {picture.shape[0]} pixels, no whole multiple of the "
            f"network's frame (about {2 * middle[0] + 1:.0f} x {2 * middle[1] + 1:.0f}); another model's output?"
        )
    return scale


def _resized(frame: Frame, size: tuple[int, int]) -> Frame:
    """`size` is width and height."""
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC), np.uint8)


TASK = Restore()
