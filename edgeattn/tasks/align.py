"""Alignment of two images: weighted matches -> homography and warped image; mean corner error in pixels.

The network gives where a grid of points of image a lies in image b, and how sure it is of each; the homography is
solved here from those, so that the graph stays plain.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeattn.errors import ModelError
from edgeattn.imaging import Frame
from edgeattn.metrics.alignment import corner_error_px, corners, fit_homography, photometric_error, project
from edgeattn.metrics.alignment import within_percent as within
from edgeattn.opencv import cv2
from edgeattn.tasks.base import MetricSpec, Outputs, Views, attention_map

MATCHES = "matches"
WEIGHTS = "weights"
_AGREES_PX = 3.0  # of the network's frame: a match this near the homography supports it
_SAME_PX = 1.0  # two answers whose corners are this near lead to the same picture
# An answer that places corners at infinity is as wrong as this many pixels: a mean must stay a number.
_ERROR_MAX_PX = 1000.0
_SQUARES = 8


@dataclass(frozen=True, eq=False)
class Alignment:
    """`homography` `(3, 3)` float64, last element 1: from pixels of a to pixels of b.

    `warped` uint8 `(H_b, W_b, 3)`: a as seen from b, black where `covered` `(H_b, W_b)` is False. `confidence` 0..1:
    the mean weight of the matches that agree with the homography within three pixels, over all matches; points of a
    that b does not show lower it too. `outline` `(4, 2)`: the corners of a in b.
    """

    homography: NDArray[np.float64]
    warped: Frame
    confidence: float
    latency_ms: float
    covered: NDArray[np.bool_]
    outline: NDArray[np.float64]
    attention: NDArray[np.float32] | None = field(default=None)

    def __str__(self) -> str:
        x, y = self.outline.mean(axis=0)
        return f"centre at ({x:.1f}, {y:.1f}), covers {self.covered.mean():.0%}, confidence {self.confidence:.0%}"

    def to_dict(self) -> dict[str, Any]:
        high, wide = self.warped.shape[:2]
        return {
            "homography": [[round(float(v), 9) for v in row] for row in self.homography],
            "corners": [[round(float(v), 3) for v in row] for row in self.outline],
            "confidence": round(self.confidence, 6),
            "warped": {"height": high, "width": wide, "covered": round(float(self.covered.mean()), 6)},
            "latency_ms": round(self.latency_ms, 4),
        }

    def draw(self, frame: Frame) -> Frame:
        """A copy of `frame`, image b, with every other square of a chessboard taken from the warped a.

        Lines that run across squares break where the two do not fit. The outline of a is drawn in yellow.
        """
        high, wide = frame.shape[:2]
        warped, covered, outline = self.warped, self.covered, self.outline
        if warped.shape != frame.shape:
            outline = outline * (wide / warped.shape[1], high / warped.shape[0])
            covered = cv2.resize(covered.astype(np.uint8), (wide, high), interpolation=cv2.INTER_NEAREST) > 0
            warped = np.asarray(cv2.resize(warped, (wide, high), interpolation=cv2.INTER_AREA), np.uint8)
        side = max(1, min(high, wide) // _SQUARES)
        rows, columns = np.indices((high, wide)) // side
        canvas = np.where((covered & ((rows + columns) % 2 == 0))[..., None], warped, frame).astype(np.uint8)
        if np.isfinite(outline).all():
            corner = np.clip(np.round(outline), -16_000, 16_000).astype(np.int32)
            cv2.polylines(canvas, [corner], True, (0, 220, 255), max(1, min(high, wide) // 240), cv2.LINE_AA)
        return canvas


class Align:
    name = "align"
    target = "homography"
    inputs = ("frame_a", "frame_b")
    tiles = False
    metrics = (
        MetricSpec("corner_error", "px", higher_is_better=False, binary=False),
        MetricSpec("median_corner_error", "px", higher_is_better=False, binary=False),
        MetricSpec("within_1px", "%", higher_is_better=True, binary=False),
        MetricSpec("within_3px", "%", higher_is_better=True, binary=False),
        MetricSpec("within_5px", "%", higher_is_better=True, binary=False),
        MetricSpec("photometric_error", "", higher_is_better=False, binary=False),
    )

    @property
    def decoding(self) -> dict[str, Any]:
        return {
            "output": MATCHES,
            "columns": ["x_a", "y_a", "x_b", "y_b"],
            "weights": WEIGHTS,
            "solve": "homography by weighted least squares, robust (edgeattn.metrics.alignment.fit_homography)",
        }

    def score(self, outputs: Outputs, target: Any, views: Views) -> NDArray[np.float64]:
        """Corner error in pixels of the first frame's corners placed in the second, and the photometric error."""
        estimate = _in_frames(_solved(outputs), views)
        first, second = views[0].frame, views[1].frame
        error = min(corner_error_px(estimate, np.asarray(target), *first.shape[:2]), _ERROR_MAX_PX)
        warped, covered = _warp(first, estimate, second)
        return np.array([error, photometric_error(_grey(warped), _grey(second), covered)])

    def summarize(self, scores: NDArray[np.float64], metric: str) -> float:
        """Raises KeyError for a metric this task does not have."""
        errors = scores[:, 0]
        if metric == "median_corner_error":
            return float(np.median(errors))
        limits = {"within_1px": 1.0, "within_3px": 3.0, "within_5px": 5.0}
        if metric in limits:
            return within(errors, limits[metric])
        return float(scores[:, {"corner_error": 0, "photometric_error": 1}[metric]].mean())

    def agreement(self, outputs: Outputs, reference: Outputs) -> float:
        """1 where both place the corners of the network's frame within a pixel of each other in the mean."""
        return float(corner_error_px(_solved(outputs), _solved(reference), *_size(outputs)) <= _SAME_PX)

    def comparable(self, outputs: Outputs, reference: Outputs) -> tuple[Outputs, Outputs]:
        """Movements weighted by the reference's trust: where a point that b does not show lies is anyone's guess."""
        trust = reference[WEIGHTS][..., None]

        def weighted(side: Outputs) -> Outputs:
            return {"movement": (side[MATCHES][..., 2:] - side[MATCHES][..., :2]) * trust, WEIGHTS: side[WEIGHTS]}

        return weighted(outputs), weighted(reference)

    def per_label(self, scores: NDArray[np.float64], labels: int) -> list[float | None] | None:
        return None

    def describe(self, outputs: Outputs, target: Any, labels: tuple[str, ...], views: Views) -> dict[str, str]:
        truth, size = np.asarray(target, np.float64), views[0].frame.shape[:2]
        estimate = _in_frames(_solved(outputs), views)
        error = corner_error_px(estimate, truth, *size)
        moved = corner_error_px(truth, np.eye(3), *size)
        return {"predicted": f"corner error {error:.1f} px", "truth": f"corners moved by {moved:.1f} px"}

    def decode(self, outputs: Outputs, views: Views, labels: tuple[str, ...], latency_ms: float) -> Alignment:
        """Raises ModelError unless there are matches `(1, P, 4)`, P at least 4, and a weight for each."""
        _check(outputs)
        matches, weights = outputs[MATCHES][0].astype(np.float64), outputs[WEIGHTS][0]
        found = _solved(outputs)
        with np.errstate(invalid="ignore"):
            supports = np.linalg.norm(project(found, matches[:, :2]) - matches[:, 2:], axis=1) <= _AGREES_PX
        homography = _in_frames(found, views)
        warped, covered = _warp(views[0].frame, homography, views[1].frame)
        return Alignment(
            homography=homography,
            warped=warped,
            confidence=float((weights * supports).mean()),
            latency_ms=latency_ms,
            covered=covered,
            outline=project(homography, corners(*views[0].frame.shape[:2])),
            attention=attention_map(outputs),
        )


def _check(outputs: Outputs) -> None:
    matches, weights = outputs.get(MATCHES), outputs.get(WEIGHTS)
    fits = matches is not None and matches.ndim == 3 and matches.shape[0] == 1 and matches.shape[2] == 4
    if matches is None or weights is None or not fits or matches.shape[1] < 4 or weights.shape != matches.shape[:2]:
        raise ModelError(
            f"An alignment network must give '{MATCHES}' of shape (1, P, 4) with at least 4 points and '{WEIGHTS}' of "
            f"shape (1, P); got { {name: value.shape for name, value in outputs.items()} }."
        )


def _solved(outputs: Outputs) -> NDArray[np.float64]:
    """From network pixels of a to network pixels of b."""
    matches = outputs[MATCHES][0].astype(np.float64)
    # Squared: a weight is the chance that the match is right, and two doubtful matches should not outvote a sure one.
    return fit_homography(matches[:, :2], matches[:, 2:], outputs[WEIGHTS][0].astype(np.float64) ** 2)


def _size(outputs: Outputs) -> tuple[int, int]:
    """Height and width of the network's frame: its grid of points leaves the same margin on all sides."""
    points = outputs[MATCHES][0, :, :2]
    wide, high = points.min(axis=0) + points.max(axis=0) + 1.0
    return round(float(high)), round(float(wide))


def _in_frames(homography: NDArray[np.float64], views: Views) -> NDArray[np.float64]:
    """From network pixels to those of the camera's frames."""
    matrix = np.linalg.inv(views[1].matrix) @ homography @ views[0].matrix
    return np.asarray(matrix / matrix[2, 2])


def _grey(frame: Frame) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8)


def _warp(frame: Frame, homography: NDArray[np.float64], second: Frame) -> tuple[Frame, NDArray[np.bool_]]:
    """`frame` as seen from `second`, and where it reaches: pixels whose four neighbours all are in `frame`."""
    high, wide = second.shape[:2]
    warped = cv2.warpPerspective(frame, homography, (wide, high), flags=cv2.INTER_LINEAR)
    whole = np.full(frame.shape[:2], 255, np.uint8)
    covered = cv2.warpPerspective(whole, homography, (wide, high), flags=cv2.INTER_LINEAR) == 255
    return np.asarray(warped, np.uint8), np.asarray(covered)


TASK = Align()
