from typing import Any

import numpy as np
import pytest

from edgeattn.errors import DataError
from edgeattn.tiling import Tiling, frames_of


def _random(*shape: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("length", "tile", "overlap", "starts"),
    [
        (300, 128, 32, (0, 86, 172)),  # 268 / 96 = 2.8: three tiles, 172 apart in two steps of 86
        (128, 128, 32, (0,)),
        (100, 128, 32, (0,)),  # smaller than a tile
        (129, 128, 32, (0, 1)),
        (224, 128, 32, (0, 96)),  # exactly two
        (225, 128, 32, (0, 48, 97)),  # 48.5 is rounded to even
        (256, 128, 0, (0, 128)),
        (9, 8, 7, (0, 1)),
        (1, 8, 7, (0,)),
    ],
)
def test_where_tiles_start(length: int, tile: int, overlap: int, starts: tuple[int, ...]) -> None:
    across = Tiling.plan(tile, length, (tile, tile), overlap)
    assert (across.tops, across.lefts) == ((0,), starts)
    turned = Tiling.plan(length, tile, (tile, tile), overlap)
    assert (turned.tops, turned.lefts) == (starts, (0,))


@pytest.mark.parametrize("length", [*range(20, 200, 7), 1000, 1001])
@pytest.mark.parametrize("overlap", [0, 1, 7, 8, 19])
def test_neighbours_share_enough_and_everything_is_covered(length: int, overlap: int) -> None:
    starts = Tiling.plan(20, length, (20, 20), overlap).lefts
    assert starts[0] == 0 and starts[-1] == length - 20
    steps = np.diff(starts)
    assert (steps >= 1).all() and (steps <= 20 - overlap).all()
    if len(starts) > 2:  # as few as that: one tile less could not cover it with the overlap asked for
        assert length > (len(starts) - 1) * (20 - overlap) + overlap


@pytest.mark.parametrize(("tile", "overlap"), [((8, 8), 8), ((8, 8), -1), ((32, 8), 8), ((8, 32), 100)])
def test_an_overlap_that_leaves_nothing_new(tile: tuple[int, int], overlap: int) -> None:
    with pytest.raises(DataError, match=rf"Tiles of {tile[0]} x {tile[1]} pixels cannot share {overlap}; lower"):
        Tiling.plan(100, 100, tile, overlap)


def test_tiles_are_cut_row_by_row() -> None:
    frame = _random(10, 14, 3)
    tiling, tiles = frames_of(frame, (8, 8), 2)
    assert (tiling.height, tiling.width, tiling.tops, tiling.lefts) == (10, 14, (0, 2), (0, 6))
    places = [(0, 0), (0, 6), (2, 0), (2, 6)]
    assert len(tiles) == 4
    for tile, (top, left) in zip(tiles, places, strict=True):
        assert tile.flags.c_contiguous and tile.dtype == np.uint8
        assert (tile == frame[top : top + 8, left : left + 8]).all()
    tiles[0][:] = 0
    assert frame.any(), "tiles are copies"


def test_a_frame_smaller_than_a_tile_is_mirrored() -> None:
    """Rows 0 1 2 continue as 2 1 0, columns 0 1 as 1 0 0 1."""
    frame = np.arange(6, dtype=np.uint8).reshape(3, 2, 1).repeat(3, axis=2)
    (tile,) = Tiling.plan(3, 2, (6, 6), 0).cut(frame)
    rows, columns = [0, 1, 2, 2, 1, 0], [0, 1, 1, 0, 0, 1]
    assert (tile == frame[rows][:, columns]).all()


def test_masks_are_cut_as_frames_are() -> None:
    mask = _random(9, 5)
    tiling = Tiling.plan(9, 5, (8, 8), 3)
    tiles = tiling.cut(mask)
    assert [tile.shape for tile in tiles] == [(8, 8)] * 2
    assert (tiles[1][:, :5] == mask[1:9]).all()


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (3, 20), (20, 3), (16, 24), (17, 25), (40, 31), (64, 100)])
def test_cut_and_joined_it_is_the_same(size: tuple[int, int], scale: int) -> None:
    """Whatever the size: tiles of 16 x 24 that share 5, outputs twice as large as well."""
    frame = _random(*size, 3)
    tiling, tiles = frames_of(frame, (16, 24), 5)
    outputs = [tile.repeat(scale, axis=0).repeat(scale, axis=1).transpose(2, 0, 1)[None] / 255.0 for tile in tiles]
    joined = tiling.join(outputs)
    expected = frame.repeat(scale, axis=0).repeat(scale, axis=1).transpose(2, 0, 1)[None] / 255.0
    assert joined.shape == expected.shape and joined.dtype == np.float32 and joined.flags.c_contiguous
    np.testing.assert_allclose(joined, expected, atol=1e-6)


@pytest.mark.parametrize("scale", [1, 2])
def test_tiles_that_disagree_join_without_a_step(scale: int) -> None:
    """Every tile sees a gentle slope and its own brightness: the change is spread over what neighbours share."""
    size, tile, overlap = (60, 110), (32, 32), 8
    tiling = Tiling.plan(*size, tile, overlap)
    down, across = np.mgrid[0 : tile[0] * scale, 0 : tile[1] * scale]
    offsets = np.random.default_rng(1).uniform(-1, 1, len(tiling.tops) * len(tiling.lefts))
    places = [(top, left) for top in tiling.tops for left in tiling.lefts]
    parts = [
        (0.003 * (down + top * scale) + 0.002 * (across + left * scale) + offset)[None, None].astype(np.float32)
        for (top, left), offset in zip(places, offsets, strict=True)
    ]
    joined = tiling.join(parts)[0, 0]
    seams = {edge * scale for left in tiling.lefts for edge in (left, left + tile[1])} - {0, size[1] * scale}
    steps = np.abs(np.diff(joined, axis=1)).max(axis=0)
    at_seams = np.array([index + 1 in seams for index in range(len(steps))])
    assert at_seams.sum() == len(seams) >= 4
    assert steps[at_seams].max() <= steps[~at_seams].max() * 1.001
    # A hard cut would jump by as much as two tiles differ.
    assert steps.max() < 0.5 * np.abs(np.diff(offsets.reshape(len(tiling.tops), -1), axis=1)).max()


def test_the_rim_of_a_tile_counts_less_than_its_middle() -> None:
    """Two tiles of 4 that share 2, weights 1 2 2 1: in column 2 the first has 2 of 3, in column 3 the second."""
    tiling = Tiling.plan(4, 6, (4, 4), 2)
    parts = [np.zeros((1, 1, 4, 4), np.float32), np.ones((1, 1, 4, 4), np.float32)]
    assert tiling.join(parts)[0, 0, 0].tolist() == pytest.approx([0, 0, 1 / 3, 2 / 3, 1, 1])


def test_a_coarser_map_is_enlarged_before_it_is_joined() -> None:
    tiling = Tiling.plan(8, 14, (8, 8), 2)
    coarse = [np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2) + 4 * i for i in range(2)]
    fine = [part.repeat(4, axis=2).repeat(4, axis=3) for part in coarse]
    assert np.array_equal(tiling.join(coarse), tiling.join(fine))
    assert tiling.join(coarse)[0, 0, [0, 7], 0].tolist() == [0, 2]


@pytest.mark.parametrize(
    "shape",
    [
        (1, 10),
        (1, 3, 8, 9),
        (1, 3, 12, 12),
        (1, 3, 16, 8),
        (2, 3, 8, 8),
        (1, 3, 4, 5),
        (1, 3, 3, 3),
        (3, 8, 8),
        (1, 3, 0, 0),
    ],
)
def test_an_output_that_is_no_map_of_its_tile(shape: tuple[int, ...]) -> None:
    tiling = Tiling.plan(10, 10, (8, 8), 2)
    with pytest.raises(DataError) as caught:
        tiling.join([np.zeros(shape, np.float32)] * 4)
    assert str(caught.value) == (
        f"An output of shape {shape} is no map of a tile of 8 x 8 pixels, so tiles cannot be joined; use another "
        "input.fit with this model."
    )
