from __future__ import annotations

import numpy as np
import pytest

from edgeattn.errors import DataError
from edgeattn.imaging import Preprocess, View
from edgeattn.train.targets import BOXES_MAX, fit


def view(fit_, size, height, width):
    """How a frame of `size` is seen by a network of that height and width."""
    frame = np.zeros((*size, 3), np.uint8)
    return View(frame, Preprocess(height, width, fit_).apply_with_matrix(frame)[1])


def test_labels():
    found = fit("label", np.int32(7), (view("crop", (8, 8), 4, 4),), 4, 4)
    assert (found.dtype, found.shape, int(found)) == (np.int64, (), 7)


def test_boxes_through_a_letterbox():
    """20 x 40 to 20 x 20 is half the size, 5 rows lower: x 4 to 12 become 2 to 6, y 2 to 10 become 6 to 10."""
    boxes = np.array([[4, 2, 12, 10, 3], [0, 0, 40, 20, 1], [1, 3, 8, 8, 0]], np.float32)
    found = fit("boxes", boxes, (view("letterbox", (20, 40), 20, 20),), 20, 20)
    assert (found.shape, found.dtype) == ((BOXES_MAX, 5), np.float32)
    assert found[:3].tolist() == [[2, 6, 6, 10, 3], [0, 5, 20, 15, 1], [0.5, 6.5, 4, 9, 0]]
    assert (found[3:] == -1).all()


def test_a_box_covers_in_the_fitted_frame_what_it_covered():
    """A white rectangle and its box, through every way to fit, land on the same pixels."""
    frame = np.zeros((24, 40, 3), np.uint8)
    frame[8:16, 12:24] = 255
    for fit_ in ("stretch", "crop", "letterbox"):
        fitted, matrix = Preprocess(12, 20, fit_).apply_with_matrix(frame)
        (x1, y1, x2, y2, _), *_ = fit("boxes", [[12, 8, 24, 16, 0]], (View(frame, matrix),), 12, 20)
        rows, columns = np.nonzero(fitted[..., 0] == 255)
        assert (x1, y1, x2, y2) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_boxes_cut_at_the_rim_too_small_ones_ignored_and_those_outside_dropped():
    """8 x 16 cropped to 8 x 8 loses 4 columns on each side; what keeps less than 2 pixels is no background either."""
    boxes = np.array(
        [
            [0, 0, 6, 8, 0],  # 2 columns are left
            [0, 0, 5, 8, 1],  # 1 column
            [0, 0, 3, 8, 2],  # none
            [12, 3, 16, 6, 3],  # none, on the other side
            [5, 2, 9, 3.9, 4],  # 1.9 rows
            [5, 2, 9, 4, 5],
            [10, -3, 30, 4, 6],
        ],
        np.float32,
    )
    found = fit("boxes", boxes, (view("crop", (8, 16), 8, 8),), 8, 8)
    wanted = [[0, 0, 2, 8, 0], [0, 0, 1, 8, -2], [1, 2, 5, 3.9, -2], [1, 2, 5, 4, 5], [6, 0, 8, 4, 6]]
    assert found[:5] == pytest.approx(np.array(wanted))
    assert (found[5:] == -1).all()


@pytest.mark.parametrize("boxes", [np.zeros((0, 5), np.float32), []])
def test_no_boxes(boxes):
    assert (fit("boxes", boxes, (view("crop", (8, 8), 8, 8),), 8, 8) == -1).all()


def test_ignored_boxes_are_told_from_unused_rows_whatever_their_class():
    boxes = np.array([[0, 0, 8, 8, -1.0], [1, 1, 7, 7, 0], [2, 2, 6, 6, -4]])
    found = fit("boxes", boxes, (view("crop", (8, 8), 8, 8),), 8, 8)
    assert found[:, 4].tolist() == [-2, 0, -2] + [-1] * (BOXES_MAX - 3)


def test_more_boxes_than_rows():
    boxes = np.tile(np.float32([0, 0, 8, 8, 0]), (BOXES_MAX + 1, 1))
    fitted = fit("boxes", boxes[:-1], (view("crop", (8, 8), 8, 8),), 8, 8)
    assert (fitted[:, 4] == 0).all()
    with pytest.raises(DataError) as caught:
        fit("boxes", boxes, (view("crop", (8, 8), 8, 8),), 8, 8)
    assert str(caught.value) == "An image has 101 boxes; at most 100 are trained on: cut the image."


def test_a_mask_is_ignored_where_the_frame_does_not_reach():
    """4 x 8 to 8 x 8: two rows above and below are not the frame's."""
    mask = np.random.default_rng(0).integers(0, 5, (4, 8)).astype(np.uint8)
    found = fit("mask", mask, (view("letterbox", (4, 8), 8, 8),), 8, 8)
    assert (found.dtype, found.shape) == (np.uint8, (8, 8))
    assert (found[2:6] == mask).all()
    assert (found[[0, 1, 6, 7]] == 255).all()


def test_a_mask_keeps_its_ids_whatever_the_size():
    """Blocks of 2 x 2 become one pixel, pixels become blocks; ids have no middle, and 255 stays itself."""
    small = np.array([[0, 7], [255, 3]], np.uint8)
    large = small.repeat(2, axis=0).repeat(2, axis=1)
    assert (fit("mask", large, (view("crop", (4, 4), 2, 2),), 2, 2) == small).all()
    assert (fit("mask", small, (view("crop", (2, 2), 4, 4),), 4, 4) == large).all()
    assert (fit("mask", small, (view("crop", (2, 2), 2, 2),), 2, 2) == small).all()
    cropped = np.arange(32, dtype=np.uint8).reshape(4, 8)
    assert (fit("mask", cropped, (view("crop", (4, 8), 4, 4),), 4, 4) == cropped[:, 2:6]).all()


def test_a_homography_between_the_networks_frames():
    """A halves, B doubles x and y and moves by (1, 3); the frames are (10, -4) apart: (x, y) -> (4x + 21, 4y - 5)."""
    frame = np.zeros((8, 8, 3), np.uint8)
    first = View(frame, np.diag([0.5, 0.5, 1.0]))
    second = View(frame, np.array([[2.0, 0, 1], [0, 2, 3], [0, 0, 1]]))
    shift = np.array([[1.0, 0, 10], [0, 1, -4], [0, 0, 1]])
    found = fit("homography", 5 * shift, (first, second), 8, 8)
    assert found.dtype == np.float32
    assert found.tolist() == [[4, 0, 21], [0, 4, -5], [0, 0, 1]]


def test_a_homography_with_perspective_takes_a_point_along():
    views = view("letterbox", (20, 40), 16, 16), view("crop", (30, 20), 16, 16)
    target = np.array([[0.9, 0.1, 3], [-0.05, 1.1, 2], [0.001, 0.002, 1]])
    found = fit("homography", target, views, 16, 16).astype(float)
    assert found[2, 2] == 1
    for point in ([0, 0, 1], [39, 5, 1], [12, 19, 1]):
        there = views[1].matrix @ (target @ point)
        seen = found @ (views[0].matrix @ point)
        assert seen[:2] / seen[2] == pytest.approx(there[:2] / there[2], abs=1e-3)


def test_an_image_of_the_same_size():
    clean = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert (fit("image", clean, (view("crop", (8, 8), 8, 8),), 8, 8) == clean).all()
    wide = np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    assert (fit("image", wide, (view("crop", (8, 16), 8, 8),), 8, 8) == wide[:, 4:12]).all()


@pytest.mark.parametrize("fit_", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize("size", [(64, 96), (97, 64), (16, 24), (13, 11), (8, 100)])
def test_a_clean_image_is_fitted_as_its_frame_is(fit_, size):
    """The same picture as both: a frame is averaged where it shrinks, and so must be what it is compared with."""
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    fitted, matrix = Preprocess(16, 24, fit_).apply_with_matrix(frame)
    found = fit("image", frame, (View(frame, matrix),), 16, 24)
    assert np.abs(found.astype(int) - fitted).max() <= 1  # rounding, where it was enlarged


def test_a_clean_image_of_twice_the_size_is_averaged_where_it_shrinks():
    """A frame of 24 x 36 becomes 6 x 9, its clean image of 48 x 72 becomes 12 x 18: means of blocks of 4 x 4."""
    clean = np.random.default_rng(0).integers(0, 256, (48, 72, 3), dtype=np.uint8)
    means = clean.reshape(12, 4, 18, 4, 3).mean(axis=(1, 3))
    found = fit("image", clean, (view("stretch", (24, 36), 6, 9),), 6, 9)
    assert np.abs(found - means).max() <= 0.5
    # Cut in the middle, 6 x 9 to 6 x 6: columns 1 to 6 of the small frame are 2 to 13 of the small clean image.
    cut = fit("image", clean, (view("crop", (24, 36), 6, 6),), 6, 6)
    assert cut.shape == (12, 12, 3)
    assert np.abs(cut - means[:, 2:14]).max() <= 0.5


def test_an_image_of_twice_the_size():
    """A frame of 4 x 4 becomes 2 x 2, its clean image of 8 x 8 becomes 4 x 4: means of blocks of 2 x 2."""
    clean = np.zeros((8, 8, 3), np.uint8)
    clean[..., 0], clean[..., 1] = 10 * np.arange(8), 20 * np.arange(8)[:, None]
    found = fit("image", clean, (view("crop", (4, 4), 2, 2),), 2, 2)
    assert (found.dtype, found.shape) == (np.uint8, (4, 4, 3))
    assert found[0, :, 0].tolist() == [5, 25, 45, 65]
    assert found[:, 0, 1].tolist() == [10, 50, 90, 130]
    # No scaling, cut in the middle: columns 2 to 5 of the frame are columns 4 to 11 of the clean image.
    wide = np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    assert (fit("image", wide, (view("crop", (4, 8), 4, 4),), 4, 4) == wide[:, 4:12]).all()


def test_an_image_of_twice_the_size_in_a_letterbox():
    """Around it the grey that the frame has there: nothing is to be restored."""
    clean = np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    found = fit("image", clean, (view("letterbox", (4, 8), 8, 8),), 8, 8)
    assert found.shape == (16, 16, 3)
    assert (found[4:12] == clean).all()
    assert (found[:4] == 114).all() and (found[12:] == 114).all()


@pytest.mark.parametrize("size", [(8, 9), (12, 8), (7, 8), (4, 4)])
def test_an_image_that_is_no_multiple_of_its_frame(size):
    clean = np.zeros((*size, 3), np.uint8)
    with pytest.raises(DataError, match=rf"clean image of {size[0]} x {size[1]} pixels is no multiple of its frame of"):
        fit("image", clean, (view("crop", (8, 8), 8, 8),), 8, 8)
