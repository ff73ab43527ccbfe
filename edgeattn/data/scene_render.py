"""A plan -> pixels, without any randomness of its own: frame, boxes, mask, second view, clean and degraded.

Pixel coordinates have their origin at the centre of the first pixel, as OpenCV's do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeattn.data.scene_plan import Camera, DigitPlan, Matrix, ScenePlan, SecondView
from edgeattn.data.scene_source import INK, Source
from edgeattn.imaging import Frame

Floats = NDArray[np.float32]
CONTRAST = 90.0  # least difference in luminance, in grey levels, between ink and its mean background before lighting
_BACKGROUND_SPREAD = 32.0  # largest standard deviation of the background's luminance: busier crops are flattened
_LUMINANCE = np.array([0.114, 0.587, 0.299], np.float32)  # B, G, R weights of ITU-R BT.601
# Glyph value -> coverage by ink: an edge one or two frame pixels wide, half-way at INK.
_EDGE: Floats = np.clip((np.arange(256) - (INK - 30)) / 60, 0, 1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Appearance:
    """What the first view decides for all views: the background's flattening and the ink colours, BGR 0..255."""

    centre: float
    flatten: float
    inks: tuple[Floats, ...]


def degraded(material: Source, plan: ScenePlan) -> Frame:
    """The scene as the sensor delivers it: `clean`, blurred, with noise. uint8 BGR `(size, size, 3)`."""
    return add_sensor(clean(material, plan), plan.camera)


def clean(material: Source, plan: ScenePlan) -> Frame:
    """The scene under its lighting, before blur and noise. uint8 BGR `(size, size, 3)`."""
    background, coverages, appearance = _first_view(material, plan)
    return _compose(background, coverages, appearance, plan.camera)


def second_view(material: Source, plan: ScenePlan, second: SecondView) -> Frame:
    """The same scene from elsewhere, blur and noise included; drawn from the photograph, not from the first view."""
    _, _, appearance = _first_view(material, plan)
    coverages = [_coverage(material, digit, plan.size, second.homography) for digit in plan.digits]
    scene = _compose(_background(material, plan, second.homography), coverages, appearance, second.camera)
    return add_sensor(scene, second.camera)


def class_mask(material: Source, plan: ScenePlan) -> NDArray[np.uint8]:
    """uint8 `(size, size)`: label + 1 where ink covers at least half of the pixel, 0 elsewhere."""
    mask = np.zeros((plan.size, plan.size), np.uint8)
    for digit in plan.digits:
        mask[_coverage(material, digit, plan.size, np.eye(3)) >= 0.5] = digit.label + 1
    return mask


def labelled_boxes(material: Source, plan: ScenePlan) -> NDArray[np.float32]:
    """float32 `(digits, 5)`: `boxes`, then the digit's label."""
    labels = np.array([digit.label for digit in plan.digits], np.float32)
    return np.column_stack((boxes(material, plan), labels))


def boxes(material: Source, plan: ScenePlan) -> NDArray[np.float32]:
    """float32 `(digits, 4)` x1, y1, x2, y2: first ink column and row, one past the last, so `mask[y1:y2, x1:x2]`."""
    rows = []
    for digit in plan.digits:
        ink = _coverage(material, digit, plan.size, np.eye(3)) >= 0.5
        left, top, width, height = cv2.boundingRect(ink.astype(np.uint8))
        rows.append((left, top, left + width, top + height))
    return np.array(rows, np.float32).reshape(-1, 4)


def add_sensor(frame: Frame, camera: Camera) -> Frame:
    """Blur, then Gaussian noise, independent per pixel and channel."""
    values = frame.astype(np.float32)
    if camera.blur_px > 0.2:  # below a fifth of a pixel the kernel is a single tap
        values = cv2.GaussianBlur(values, (7, 7), camera.blur_px).astype(np.float32)
    if camera.noise > 0:
        rng = np.random.default_rng(camera.noise_seed)
        values += rng.standard_normal(values.shape, np.float32) * np.float32(camera.noise)
    return _to_uint8(values)


def _background(material: Source, plan: ScenePlan, view: Matrix) -> Floats:
    """The photograph seen through `view`, never leaving the plan's region (its rim is mirrored)."""
    step = plan.crop_side / plan.size
    # View pixel -> first view -> region pixel.
    to_region = np.array(
        [
            [-step if plan.mirror else step, 0.0, plan.crop_left + plan.crop_side / 2 - 0.5],
            [0.0, step, plan.crop_top + plan.crop_side / 2 - 0.5],
            [0.0, 0.0, 1.0],
        ]
    )
    middle = (plan.size - 1) / 2
    centred = np.array([[1.0, 0.0, -middle], [0.0, 1.0, -middle], [0.0, 0.0, 1.0]])
    matrix = to_region @ centred @ np.linalg.inv(view)
    pixels = material.pixels(plan.region)
    return _warp(pixels, matrix, plan.size, cv2.BORDER_REFLECT_101).astype(np.float32)


def _coverage(material: Source, digit: DigitPlan, size: int, view: Matrix) -> Floats:
    """float32 `(size, size)`: the share of each pixel that the digit's ink covers, 0..1."""
    left, top, right, bottom = material.inks[digit.glyph]
    cosine = math.cos(math.radians(digit.angle_deg)) / digit.scale
    sine = math.sin(math.radians(digit.angle_deg)) / digit.scale
    middle_x, middle_y = (left + right - 1) / 2, (top + bottom - 1) / 2
    to_glyph = np.array(
        [
            [cosine, sine, middle_x - cosine * digit.x - sine * digit.y],
            [-sine, cosine, middle_y + sine * digit.x - cosine * digit.y],
            [0.0, 0.0, 1.0],
        ]
    )
    seen = _warp(material.glyphs[digit.glyph], to_glyph @ np.linalg.inv(view), size, cv2.BORDER_CONSTANT)
    covered: Floats = _EDGE[seen]
    return covered


def _warp(image: NDArray[np.uint8], matrix: Matrix, size: int, border: int) -> NDArray[np.uint8]:
    """`matrix` maps pixels of the result to pixels of `image`."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    if matrix[2, 0] == 0.0 and matrix[2, 1] == 0.0:
        warped = cv2.warpAffine(image, matrix[:2] / matrix[2, 2], (size, size), flags=flags, borderMode=border)
    else:
        warped = cv2.warpPerspective(image, matrix, (size, size), flags=flags, borderMode=border)
    return np.asarray(warped, np.uint8)


def _first_view(material: Source, plan: ScenePlan) -> tuple[Floats, list[Floats], Appearance]:
    background = _background(material, plan, np.eye(3))
    coverages = [_coverage(material, digit, plan.size, np.eye(3)) for digit in plan.digits]
    return background, coverages, _appearance(plan, background, coverages)


def _appearance(plan: ScenePlan, background: Floats, coverages: list[Floats]) -> Appearance:
    luminance = background @ _LUMINANCE
    centre, spread = (float(value[0, 0]) for value in cv2.meanStdDev(luminance))
    flatten = min(1.0, _BACKGROUND_SPREAD / max(spread, 1e-6))
    inks = []
    for digit, coverage in zip(plan.digits, coverages, strict=True):
        left, top, width, height = cv2.boundingRect((coverage > 0).astype(np.uint8))
        local = float(luminance[top : top + height, left : left + width].mean())
        inks.append(_ink_colour(digit, centre + flatten * (local - centre)))
    return Appearance(centre=centre, flatten=flatten, inks=tuple(inks))


def _ink_colour(digit: DigitPlan, local: float) -> Floats:
    """BGR 0..255 whose luminance differs from `local` by at least CONTRAST: the digit can always be read."""
    darker, lighter = (8.0, local - CONTRAST), (local + CONTRAST, 250.0)
    dark = lighter[1] < lighter[0] or (digit.polarity < 0.5 and darker[0] <= darker[1])
    low, high = darker if dark else lighter
    target = (low + digit.brightness * (high - low)) / 255
    colour = np.array(digit.colour, np.float32)
    own = float(colour @ _LUMINANCE)
    # Darken towards black or lighten towards white, which keeps the hue and meets the luminance exactly.
    fitted = colour * (target / own) if own > target else 1 - (1 - colour) * ((1 - target) / (1 - own))
    return (fitted * 255).astype(np.float32)


def _compose(background: Floats, coverages: list[Floats], appearance: Appearance, camera: Camera) -> Frame:
    values = background * np.float32(appearance.flatten) + np.float32(appearance.centre * (1 - appearance.flatten))
    for coverage, ink in zip(coverages, appearance.inks, strict=True):
        values += coverage[:, :, None] * (ink - values)
    return _to_uint8(values * _light(camera, values.shape[0]))


def _light(camera: Camera, size: int) -> Floats:
    """float32 `(size, size, 3)` or broadcastable to it, 0..1."""
    ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    across = np.float32(math.cos(math.radians(camera.direction_deg))) * ramp
    down = np.float32(math.sin(math.radians(camera.direction_deg))) * ramp
    # Both ramps together run from -0.71 to 0.71 at most: light stays between gain x (1 - 1.21 fall) and gain.
    level = np.minimum(1 - camera.fall * (0.5 + across[None, :] + down[:, None]), 1.0) * camera.gain
    return np.asarray(level[:, :, None] * np.array(camera.tint, np.float32), np.float32)


def _to_uint8(values: Floats) -> Frame:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
