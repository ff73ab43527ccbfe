"""The random choices of a digit scene, apart from drawing it: a plan is plain numbers and says everything.

Scene `index` of a split depends on (seed, split, index) alone, so loader processes make scenes in any order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeattn.data.scene_source import SPLITS, Region, Source

Matrix = NDArray[np.float64]
_MAX_TILT_DEG = 20.0
NOISE = 8.0  # largest standard deviation of the sensor's noise in grey levels, unless asked otherwise


@dataclass(frozen=True)
class DigitPlan:
    """One digit: `glyph` indexes `Source.glyphs`; its ink's centre `x`, `y` and `scale` are in frame pixels.

    `colour` is BGR 0..1 before its brightness is fitted to the background; `polarity` below 0.5 prefers ink darker than
    the background; `brightness` 0..1 is the place inside the range of brightness that keeps enough contrast.
    """

    glyph: int
    label: int
    x: float
    y: float
    scale: float
    angle_deg: float
    colour: tuple[float, float, float]
    polarity: float
    brightness: float


@dataclass(frozen=True)
class Camera:
    """Lighting and sensor. Light at a pixel is `gain` at most, falling by up to `fall` across the frame in
    `direction_deg`; `tint` multiplies B, G, R; `blur_px` and `noise` (grey levels) are standard deviations.
    The default changes nothing.
    """

    gain: float = 1.0
    fall: float = 0.0
    direction_deg: float = 0.0
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    blur_px: float = 0.0
    noise: float = 0.0
    noise_seed: int = 0


@dataclass(frozen=True)
class ScenePlan:
    """A square scene of `size` pixels: the square of side `crop_side` at `crop_left`, `crop_top` of `region`
    (mirrored when `mirror`) as background, then the digits, seen by `camera`.
    """

    size: int
    region: Region
    crop_left: float
    crop_top: float
    crop_side: float
    mirror: bool
    digits: tuple[DigitPlan, ...]
    camera: Camera


@dataclass(frozen=True, eq=False)
class SecondView:
    """`homography` `(3, 3)` maps pixels of the first view to pixels of the second, which `camera` sees."""

    homography: Matrix
    camera: Camera


def make_plan(
    material: Source, split: str, index: int, *, seed: int, size: int, digits: int, noise: float = NOISE
) -> ScenePlan:
    """Draw every random choice of scene `index`. Digits lie in cells of a grid, so they never overlap.

    `noise` is the largest standard deviation of the sensor's noise; the same scene has the same share of it.
    """
    rng = np.random.default_rng((seed, SPLITS.index(split), index))
    regions = material.regions[split]
    region = regions[int(rng.integers(len(regions)))]
    # 0.75 to 1.5 photograph pixels per frame pixel where the region allows; larger frames enlarge the photograph.
    side = min(size * rng.uniform(0.75, 1.5), min(region.width, region.height) - 1.0)
    across, down, mirror = rng.random(3)
    grid = math.ceil(math.sqrt(digits))
    cells = rng.permutation(grid * grid)[:digits]
    return ScenePlan(
        size=size,
        region=region,
        crop_left=float(across * (region.width - side)),
        crop_top=float(down * (region.height - side)),
        crop_side=float(side),
        mirror=bool(mirror < 0.5),
        digits=tuple(_digit(material, split, rng, cell=int(cell), grid=grid, size=size) for cell in cells),
        camera=_camera(rng, noise),
    )


def make_second_view(plan: ScenePlan, *, seed: int, noise: float = NOISE) -> SecondView:
    """A second camera for the same scene: each corner moves by up to 12 % of the side, light and noise are new."""
    rng = np.random.default_rng((seed, plan.camera.noise_seed))
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * (plan.size - 1.0)
    moved = corners + rng.uniform(-0.12, 0.12, (4, 2)) * plan.size
    return SecondView(homography=homography_between(corners, moved), camera=_camera(rng, noise))


def homography_between(points: Matrix, images: Matrix) -> Matrix:
    """The 3x3 matrix, last element 1, that takes four points `(4, 2)` to their images `(4, 2)`."""
    rows = []
    for (x, y), (u, v) in zip(points, images, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    solution = np.linalg.solve(np.array(rows), np.asarray(images, np.float64).reshape(-1))
    return np.append(solution, 1.0).reshape(3, 3)


def _digit(material: Source, split: str, rng: np.random.Generator, *, cell: int, grid: int, size: int) -> DigitPlan:
    label = int(rng.integers(len(material.digits[split])))
    choices = material.digits[split][label]
    glyph = int(choices[rng.integers(len(choices))])
    left, top, right, bottom = material.inks[glyph]
    span = size / grid
    # The longer side of the ink takes 40 to 75 % of the frame; of its cell when several share the frame.
    scale = span * rng.uniform(0.40 if grid == 1 else 0.55, 0.75) / max(right - left, bottom - top)
    angle = rng.uniform(-_MAX_TILT_DEG, _MAX_TILT_DEG)
    cosine, sine = math.cos(math.radians(angle)), abs(math.sin(math.radians(angle)))
    free_x = span - scale * ((right - left) * cosine + (bottom - top) * sine)
    free_y = span - scale * ((right - left) * sine + (bottom - top) * cosine)
    across, down, polarity, brightness, blue, green, red = rng.random(7).tolist()
    return DigitPlan(
        glyph=glyph,
        label=label,
        x=float((cell % grid + 0.5) * span - 0.5 + (across - 0.5) * max(free_x, 0.0)),
        y=float((cell // grid + 0.5) * span - 0.5 + (down - 0.5) * max(free_y, 0.0)),
        scale=float(scale),
        angle_deg=float(angle),
        colour=(blue, green, red),
        polarity=polarity,
        brightness=brightness,
    )


def _camera(rng: np.random.Generator, noise_max: float) -> Camera:
    """Light never exceeds 1, so that nothing saturates and the digit's contrast survives it."""
    gain, fall, direction, blue, red, blur, noise = rng.random(7).tolist()
    return Camera(
        gain=0.8 + 0.2 * gain,
        fall=0.35 * fall,
        direction_deg=360.0 * direction,
        tint=(1.0 - 0.12 * blue, 1.0, 1.0 - 0.12 * red),
        blur_px=blur,
        noise=noise_max * noise,
        noise_seed=int(rng.integers(1 << 62)),
    )
