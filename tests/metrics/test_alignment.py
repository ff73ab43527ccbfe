from __future__ import annotations

import numpy as np
import pytest

from edgeattn.metrics.alignment import (
    corner_error_px,
    corners,
    fit_homography,
    photometric_error,
    project,
    within_percent,
)

TRUTH = np.array([[1.1, 0.1, 4.0], [-0.05, 0.95, -3.0], [8e-4, -5e-4, 1.0]])


def shift(x, y):
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def grid(step=8):
    y, x = np.mgrid[0:128:step, 0:128:step] + (step - 1) / 2
    return np.stack((x, y), axis=-1).reshape(-1, 2)


def test_projection_divides_by_the_depth():
    assert project(np.array([[2, 0, 1], [0, 2, 0], [0, 0, 2]]), np.array([[3, 4]])).tolist() == [[3.5, 4.0]]
    assert not np.isfinite(project(np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0]]), np.array([[0, 4]]))).any()


def test_corner_error():
    assert corners(3, 5).tolist() == [[0, 0], [4, 0], [4, 2], [0, 2]]
    assert corner_error_px(shift(3, 4), np.eye(3), 128, 128) == pytest.approx(5)
    assert corner_error_px(TRUTH, TRUTH, 128, 128) == 0
    # One corner of a 3 x 5 frame moves by 8 px, three stay: 8 / 4.
    moved = corners(3, 5)
    moved[2, 1] += 8
    exact = fit_homography(corners(3, 5), moved, np.ones(4))
    assert corner_error_px(exact, np.eye(3), 3, 5) == pytest.approx(2, abs=1e-5)


def test_a_corner_without_a_place_is_infinitely_wrong():
    vanishing = np.array([[1.0, 0, 0], [0, 1.0, 0], [-1 / 127, 0, 1.0]])
    assert corner_error_px(vanishing, np.eye(3), 128, 128) == np.inf
    assert corner_error_px(np.full((3, 3), np.nan), np.eye(3), 128, 128) == np.inf


def test_within():
    assert within_percent(np.array([0.5, 1.0, 2.0, 9.0]), 1.0) == 50.0
    assert within_percent(np.array([np.inf, 5.0]), 5.0) == 50.0


def test_photometric_error():
    first, second = np.array([[10, 20, 30]], np.uint8), np.array([[12, 20, 90]], np.uint8)
    assert photometric_error(first, second, np.array([[True, True, False]])) == 1.0
    assert photometric_error(second, first, np.array([[True, True, False]])) == 1.0  # no wrap-around of uint8
    assert photometric_error(first, second, np.zeros((1, 3), bool)) == 255.0


@pytest.mark.parametrize("count", [4, 5, 256])
def test_exact_matches_give_the_exact_homography(count):
    chosen = np.array([0, 15, 255, 240, *range(16, 240), *range(1, 15), *range(241, 255)])[:count]
    points = grid()[chosen]
    found = fit_homography(points, project(TRUTH, points), np.ones(count))
    assert corner_error_px(found, TRUTH, 128, 128) < 1e-5
    assert found[2, 2] == 1.0


@pytest.mark.parametrize("share", [0.1, 0.3, 0.4])
@pytest.mark.parametrize("seed", range(5))
def test_outliers_do_not_count(share, seed):
    """Wrong places anywhere in the image; the right ones are off by 0.5 px: over 256 points that is far below 1 px."""
    rng = np.random.default_rng(seed)
    points = grid()
    places = project(TRUTH, points) + rng.normal(0, 0.5, points.shape)
    wrong = rng.permutation(len(points))[: int(share * len(points))]
    places[wrong] = rng.uniform(0, 128, (len(wrong), 2))
    assert corner_error_px(fit_homography(points, places, np.ones(len(points))), TRUTH, 128, 128) < 0.8


def test_the_plain_solve_would_not_do():
    """What the robust rounds are for: without them 30 % of wrong matches cost many pixels."""
    rng = np.random.default_rng(0)
    points = grid()
    places = project(TRUTH, points)
    places[:76] = rng.uniform(0, 128, (76, 2))
    plain = fit_homography(points, places, np.ones(256), noise_px=1e9)
    assert corner_error_px(plain, TRUTH, 128, 128) > 8
    assert corner_error_px(fit_homography(points, places, np.ones(256)), TRUTH, 128, 128) < 0.1


def test_a_weight_of_zero_removes_a_match():
    points = grid()
    places, weights = project(TRUTH, points), np.ones(256)
    places[:200] += 30  # a majority that agrees on something else
    weights[:200] = 0
    assert corner_error_px(fit_homography(points, places, weights), TRUTH, 128, 128) < 1e-3


@pytest.mark.parametrize(
    ("points", "places", "weights"),
    [
        (grid()[:3], grid()[:3], np.ones(3)),
        (grid(), grid() + np.nan, np.ones(256)),
        (grid(), grid() + 5, np.zeros(256)),
        (grid(), grid() + 5, np.full(256, np.inf)),
    ],
    ids=["three", "nan", "no-weight", "infinite-weight"],
)
def test_no_answer_is_the_identity(points, places, weights):
    assert (fit_homography(points, places, weights) == np.eye(3)).all()


@pytest.mark.parametrize(
    "places", [np.full((256, 2), 64.0), grid() * [1, 0] + [0, 64], np.random.default_rng(3).uniform(0, 128, (256, 2))]
)
def test_senseless_matches_still_give_numbers(places):
    """All in one place, all on one line, anywhere."""
    found = fit_homography(grid(), places, np.ones(256))
    assert np.isfinite(found).all()
    depth = found[2, :2] @ corners(128, 128).T + 1
    assert (depth > 0).all(), "no corner of the image may come to lie behind the camera"
