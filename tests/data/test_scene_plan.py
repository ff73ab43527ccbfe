import math

import numpy as np
import pytest

from edgeattn.data.scene_plan import homography_between, make_plan, make_second_view
from edgeattn.data.scene_source import SPLITS, source


def plans(split: str, count: int, **changes: int):
    return [make_plan(source(), split, i, **{"seed": 0, "size": 64, "digits": 1, **changes}) for i in range(count)]


def test_a_plan_depends_on_seed_split_and_index_alone() -> None:
    first = make_plan(source(), "train", 7, seed=3, size=64, digits=1)
    assert first == make_plan(source(), "train", 7, seed=3, size=64, digits=1)
    others = [("train", 8, 3), ("train", 7, 4), ("evaluation", 7, 3)]
    assert all(first != make_plan(source(), split, i, seed=seed, size=64, digits=1) for split, i, seed in others)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("size", [32, 64, 224])
def test_every_choice_stays_in_its_range(split: str, size: int) -> None:
    material = source()
    for plan in plans(split, 150, size=size):
        (digit,) = plan.digits
        assert digit.glyph in material.digits[split][digit.label]
        assert plan.region in material.regions[split]
        assert 0 <= plan.crop_left <= plan.region.width - plan.crop_side
        assert 0 <= plan.crop_top <= plan.region.height - plan.crop_side
        left, top, right, bottom = material.inks[digit.glyph]
        share = digit.scale * max(right - left, bottom - top) / size
        assert 0.40 <= share <= 0.75
        assert abs(digit.angle_deg) <= 20
        assert 0.8 <= plan.camera.gain <= 1.0
        assert 0 <= plan.camera.noise <= 8
        assert 0 <= plan.camera.blur_px <= 1


def test_labels_are_about_balanced() -> None:
    counts = np.bincount([plan.digits[0].label for plan in plans("train", 2000)], minlength=10)
    # 200 expected, standard deviation sqrt(2000 x 0.1 x 0.9) = 13.4; five of them.
    assert np.abs(counts - 200).max() < 67


@pytest.mark.parametrize("digits", [2, 4, 5, 9])
def test_several_digits_lie_in_cells_of_their_own(digits: int) -> None:
    grid = math.ceil(math.sqrt(digits))
    for plan in plans("train", 30, digits=digits, size=192):
        cells = {(int((d.x + 0.5) * grid / 192), int((d.y + 0.5) * grid / 192)) for d in plan.digits}
        assert len(cells) == digits


def test_homography_by_hand() -> None:
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    # Twice as wide, moved by (3, 5).
    expected = [[2, 0, 3], [0, 1, 5], [0, 0, 1]]
    np.testing.assert_allclose(homography_between(square, square * [2, 1] + [3, 5]), expected, atol=1e-12)
    # x' = x / (1 + y), y' = y / (1 + y): the far side halves.
    trapezium = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 0.5], [0.0, 0.5]])
    np.testing.assert_allclose(homography_between(square, trapezium), [[1, 0, 0], [0, 1, 0], [0, 1, 1]], atol=1e-12)


def test_second_view_moves_each_corner_by_at_most_an_eighth() -> None:
    corners = np.array([[0, 0, 1], [63, 0, 1], [63, 63, 1], [0, 63, 1]], float).T
    for plan in plans("train", 50):
        moved = make_second_view(plan, seed=1).homography @ corners
        shift = np.abs(moved[:2] / moved[2] - corners[:2])
        assert 0.1 < shift.max() <= 0.12 * 64 + 1e-9
    assert np.array_equal(make_second_view(plan, seed=1).homography, make_second_view(plan, seed=1).homography)
    assert not np.array_equal(make_second_view(plan, seed=1).homography, make_second_view(plan, seed=2).homography)
