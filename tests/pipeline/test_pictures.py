"""Where the attention map lies in the picture: on what the network saw."""

from __future__ import annotations

import weakref
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from edgeattn.data.base import Sample, Splits
from edgeattn.imaging import Preprocess
from edgeattn.pipeline import checks, pictures

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


class Images(list):
    def name(self, index):
        return f"{index}.png"


@pytest.fixture
def checked(tmp_path):
    """`checked(task, target, row=outputs, …)`: a context and the checks of those rows; the first is the reference."""

    def make(task, target, **rows):
        stored = {}
        for name, outputs in rows.items():
            (tmp_path / name).mkdir()
            checks._save_outputs(outputs, tmp_path / name / "outputs.npz")
            row = checks.REFERENCE if not stored else f"compile/{name}"
            stored[row] = SimpleNamespace(path=tmp_path / name)
        samples = Images(Sample(BLACK, target) for _ in next(iter(rows.values())))
        context = SimpleNamespace(
            preprocess=Preprocess(8, 16, "stretch"),
            recipe=SimpleNamespace(task=task),
            splits=Splits([], [], samples, ("left", "right"), "f", "t"),
        )
        return context, stored

    return make


def logits(*classes):
    """Of a classifier: that class of two."""
    return [{"logits": np.eye(2, dtype=np.float32)[[c]]} for c in classes]


def maps(*rights):
    """Of a segmenter, 8 x 16: that many columns are class 1."""
    made = [np.zeros((1, 2, 8, 16), np.float32) for _ in rights]
    for values, right in zip(made, rights, strict=True):
        values[:, 1, :, : int(right)] = 9.0
    return [{"logits": values} for values in made]


def test_labels_that_changed_in_most_rows_come_first(checked):
    context, stored = checked("classify", 1, fp32=logits(0, 0, 0, 0), a=logits(0, 1, 1, 0), b=logits(0, 0, 1, 1))
    found = pictures.examples(context, stored)
    assert [entry["name"] for entry in found] == ["2.png", "1.png", "3.png"]
    assert list(found[0]["changed"]) == ["compile/a", "compile/b"] and list(found[1]["changed"]) == ["compile/a"]
    assert found[0]["reference"].startswith("left") and found[0]["changed"]["compile/a"].startswith("right")
    assert "pictures" not in found[0]


def test_maps_that_agree_least_come_first_however_many_rows_they_differ_in(checked):
    """Sample 0 differs a little in both rows, sample 2 by half in one: that is the one that differs most."""
    truth = np.zeros((8, 16), np.uint8)
    context, stored = checked("segment", truth, fp32=maps(0, 0, 0), a=maps(1, 0, 0), b=maps(2, 0, 8))
    found = pictures.examples(context, stored)
    assert [entry["name"] for entry in found] == ["2.png", "0.png"]
    assert list(found[0]["pictures"]) == [checks.REFERENCE, "compile/b"]
    assert list(found[1]["pictures"]) == [checks.REFERENCE, "compile/b"]
    assert list(found[1]["changed"]) == ["compile/a", "compile/b"]


def test_eight_examples_at_most(checked):
    truth = np.zeros((8, 16), np.uint8)
    context, stored = checked("segment", truth, fp32=maps(*[0] * 12), a=maps(*range(1, 13)))
    assert [entry["name"] for entry in pictures.examples(context, stored)] == [f"{i}.png" for i in range(11, 3, -1)]


def test_no_example_where_all_agree(checked):
    context, stored = checked("classify", 1, fp32=logits(0, 1), a=logits(0, 1))
    assert pictures.examples(context, stored) == []


def test_one_row_beside_the_reference_is_in_memory_at_a_time(checked, monkeypatch):
    truth = np.zeros((8, 16), np.uint8)
    context, stored = checked("segment", truth, fp32=maps(0, 0), a=maps(1, 1), b=maps(2, 2), c=maps(3, 3))
    alive, most = weakref.WeakSet(), []

    class Row(list):
        __hash__ = object.__hash__

    def load(check, only=None):
        values = Row(checks.load_outputs(check, only))
        if only is None:
            alive.add(values)
            most.append(len(alive))
        return values

    monkeypatch.setattr(pictures, "load_outputs", load)
    assert len(pictures.examples(context, stored)) == 2
    assert most == [1, 2, 2, 2] and not alive
