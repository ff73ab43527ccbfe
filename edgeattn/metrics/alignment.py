"""How well two images are aligned, and the homography that a set of weighted matches supports.

Points are `(P, 2)`: x, y in pixels, origin at the centre of the first pixel. A homography `(3, 3)` takes points of
image a to points of image b. NumPy alone: what ships to the device solves with this copy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

_ROUNDS = 10
_SHRINK = 0.6  # of the residual that still counts, from one round of the robust solve to the next
_SETTLED = 1e-4  # in conditioned units, in which the points' mean distance from their centre is the root of 2
_RIDGE = 1e-9  # of the normal matrix's mean diagonal: matches on one line have an answer, though not a good one
_DIAGONAL = np.diag_indices(8)


def corners(height: int, width: int) -> Matrix:
    """The centres of a frame's corner pixels `(4, 2)`, clockwise from the top left; 128 x 128: 0 and 127."""
    right, bottom = width - 1.0, height - 1.0
    return np.array([[0.0, 0.0], [right, 0.0], [right, bottom], [0.0, bottom]])


def project(homography: NDArray[Any], points: NDArray[Any]) -> Matrix:
    """Points `(P, 2)` through `homography`. [[2, 0, 1], [0, 2, 0], [0, 0, 2]] takes (3, 4) to (3.5, 4).

    A point on the vanishing line lands at infinity or is NaN; one beyond it comes back mirrored.
    """
    moved = points @ homography[:, :2].T + homography[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(moved[:, :2] / moved[:, 2:], np.float64)


def corner_error_px(estimate: NDArray[Any], truth: NDArray[Any], height: int, width: int) -> float:
    """Mean distance of the four corners of image a, `height` x `width`, as the two homographies place them in b.

    DeTone et al., "Deep Image Homography Estimation", 2016, arXiv:1606.03798, section 4. A shift that is wrong by
    (3, 4) is an error of 5 px; one corner wrong by 8 px and three right, 2 px. Infinite where a corner has no place.
    """
    places = corners(height, width)
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.linalg.norm(project(estimate, places) - project(truth, places), axis=1).mean()
    return float(apart) if np.isfinite(apart) else float("inf")


def within_percent(errors_px: NDArray[np.float64], limit_px: float) -> float:
    """Percent of errors that are at most `limit_px`. 0.5, 1, 2 and 9 within 1 px: 50."""
    return float(100.0 * (errors_px <= limit_px).mean())


def photometric_error(warped: NDArray[np.uint8], second: NDArray[np.uint8], covered: NDArray[np.bool_]) -> float:
    """Mean absolute difference in grey levels, 0..255, where `covered`; all `(H, W)`. 255 where nothing is covered.

    Grey levels 10, 20, 30 against 12, 20, 90 of which the first two are covered: 1.
    """
    if not covered.any():
        return 255.0
    return float(np.abs(warped.astype(np.float64) - second)[covered].mean())


def fit_homography(
    points_a: NDArray[Any], points_b: NDArray[Any], weights: NDArray[Any], *, noise_px: float = 1.5
) -> Matrix:
    """The homography `(3, 3)`, last element 1, that takes `points_a` to `points_b` `(P, 2)`; `weights` `(P,)` >= 0.

    Weighted least squares of the distance in image b, solved again and again with the weights
    `w_i (c^2 / (c^2 + r_i^2))^2` (Geman and McClure) of the last residuals r. The scale c begins at three times the
    median residual and shrinks to `noise_px`, so that all matches have a say first and only those that agree do in the
    end (graduated non-convexity: Yang et al., 2020, arXiv:1909.08605). It needs no random samples, and ends after ten
    rounds or as soon as one moves nothing. Where the matches do not support a homography that keeps the points in front
    of the camera, the answer is the best affine map, and the identity where not even that exists.
    """
    a, b, w = (np.asarray(values, np.float64) for values in (points_a, points_b, weights))
    if len(a) < 4 or not (np.isfinite(b).all() and np.isfinite(w).all()) or (w > 0).sum() < 4:
        return np.eye(3)
    to_a, to_b = _conditioning(a), _conditioning(b)
    x, u = project(to_a, a), project(to_b, b)
    noise = noise_px * to_b[0, 0]
    places, equations = np.column_stack((x, np.ones(len(x)))), _equations(x, u)
    depth, robust = np.ones(len(x)), np.ones(len(x))
    scale, solution = np.inf, np.eye(3)
    for _ in range(_ROUNDS):
        before, found = solution, _solve(equations, w * robust / depth**2)
        if found is None or (places @ found[2] <= 0.1).any():
            found = _affine(x, u, w * robust)
        solution = found
        moved = places @ solution.T
        depth = np.maximum(moved[:, 2], 0.1)
        apart = moved[:, :2] / moved[:, 2:] - u
        squares = np.einsum("ij,ij->i", apart, apart)
        scale = max(noise, min(scale * _SHRINK, 3.0 * float(np.sqrt(_weighted_median(squares, w)))))
        robust = (scale**2 / (scale**2 + squares)) ** 2
        if scale == noise and np.abs(solution - before).max() < _SETTLED:
            break
    matrix = np.linalg.inv(to_b) @ solution @ to_a
    return np.asarray(matrix / matrix[2, 2])


def _conditioning(points: Matrix) -> Matrix:
    """Moves the points' centre to 0 and their mean distance to the root of 2 (Hartley, 1997): solvable in doubles."""
    centre = points.mean(axis=0)
    spread = float(np.linalg.norm(points - centre, axis=1).mean())
    scale = np.sqrt(2.0) / max(spread, 1e-9)
    return np.array([[scale, 0.0, -scale * centre[0]], [0.0, scale, -scale * centre[1]], [0.0, 0.0, 1.0]])


def _equations(x: Matrix, u: Matrix) -> Matrix:
    """The two equations of each match in the eight unknowns, the right side last: `(2, P, 9)`."""
    rows = np.zeros((2, len(x), 9))
    for axis in range(2):
        rows[axis, :, 3 * axis : 3 * axis + 2] = x
        rows[axis, :, 3 * axis + 2] = 1.0
        np.multiply(x, -u[:, axis : axis + 1], out=rows[axis, :, 6:8])
        rows[axis, :, 8] = u[:, axis]
    return rows


def _solve(equations: Matrix, weights: Matrix) -> Matrix | None:
    """Weighted least squares by the normal equations; None where they have no finite solution."""
    system = (equations * weights[:, None]).reshape(-1, 9).T @ equations.reshape(-1, 9)
    normal, right = system[:8, :8], system[:8, 8]
    normal[_DIAGONAL] += _RIDGE * normal.trace() / 8.0
    try:
        found = np.linalg.solve(normal, right)
    except np.linalg.LinAlgError:
        return None
    return np.append(found, 1.0).reshape(3, 3) if np.isfinite(found).all() else None


def _affine(x: Matrix, u: Matrix, weights: Matrix) -> Matrix:
    """The weighted affine map; the identity (of conditioned points: move and scale alone) where there is none."""
    basis = np.column_stack((x, np.ones(len(x))))
    normal = (basis * weights[:, None]).T @ basis
    normal[np.diag_indices(3)] += _RIDGE * np.trace(normal) / 3.0
    try:
        found = np.linalg.solve(normal, (basis * weights[:, None]).T @ u)
    except np.linalg.LinAlgError:
        return np.eye(3)
    return np.vstack((found.T, [0.0, 0.0, 1.0])) if np.isfinite(found).all() else np.eye(3)


def _weighted_median(values: Matrix, weights: Matrix) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, 0.5 * total[-1])])
