"""Where the attention map lies in the picture: on what the network saw."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from edgeattn.data.base import Sample
from edgeattn.imaging import Preprocess
from edgeattn.pipeline import pictures

BLACK = np.zeros((8, 16, 3), np.uint8)
COLDEST, HOTTEST = (cv2.applyColorMap(np.full((1, 1), v, np.uint8), cv2.COLORMAP_VIRIDIS)[0, 0] // 2 for v in (0, 255))


def picture(fit: Any, attention: list[list[float]], frame=BLACK, **size: int) -> Any:
    preprocess = Preprocess(**{"height": 8, "width": 8, "overlap": 0, **size}, fit=fit)
    context = SimpleNamespace(preprocess=preprocess, recipe=SimpleNamespace(task="segment"))
    return pictures._attention(context, Sample(frame, None), np.array([[attention]], np.float32))


def is_colour(pixels, colour):
    return np.abs(pixels.astype(int) - colour).max() <= 1


def test_of_a_cropped_frame_only_the_middle_is_coloured():
    """16 x 8 to 8 x 8: columns 4 to 11 are seen, of which the map's left half is hot."""
    found = picture("crop", [[1, 0], [1, 0]])
    assert (found[:, :4] == 0).all() and (found[:, 12:] == 0).all()
    assert is_colour(found[:, 4:6], HOTTEST) and is_colour(found[:, 10:12], COLDEST)


def test_of_a_letterboxed_frame_heat_in_the_bars_is_in_no_picture():
    """16 x 8 becomes 8 x 4 in rows 2 to 5 of 8; rows 0 and 1 of a map of 8 x 8 are the bar above it.

    Row 0 of the frame lies a quarter of a pixel above row 2 of the map, so it gets a little of the bar's last row.
    """
    heat = np.zeros((8, 8))
    heat[:2] = 1
    found = picture("letterbox", heat.tolist())
    assert is_colour(found[1:], COLDEST)
    heat = np.zeros((8, 8))
    heat[2:4] = 1  # the upper half of the frame
    found = picture("letterbox", heat.tolist())
    assert is_colour(found[1:3], HOTTEST) and is_colour(found[5:], COLDEST)


@pytest.mark.parametrize(("fit", "size"), [("stretch", {}), ("tile", {}), ("crop", {"width": 16})])
def test_what_is_seen_whole_is_coloured_whole(fit, size):
    """The left half hot, the right half cold, wherever the map has its pixels; tiles are joined in the frame's own."""
    found = picture(fit, [[1.0] * 8 + [0.0] * 8] * 8, **size)
    assert is_colour(found[:, :6], HOTTEST) and is_colour(found[:, 10:], COLDEST)


def test_the_frame_shows_through():
    found = picture("crop", [[0.0]], frame=np.full((8, 16, 3), 200, np.uint8))
    assert (found[:, :4] == 200).all()
    assert is_colour(found[:, 4:12], COLDEST + 100)
