from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeattn.data.base import Sample
from edgeattn.imaging import Preprocess
from edgeattn.recipe import Augment
from edgeattn.train import tiles
from edgeattn.train.augment import Augmentation
from edgeattn.train.frames import training_fitting

# Length, tile, window, its starts.
PLANS = [
    (584, 192, 392, (0, 192)),  # DRIVE's height
    (565, 192, 373, (0, 192)),  # and its width
    (512, 256, 512, (0,)),
    (180, 128, 180, (0,)),
    (100, 128, 128, (0,)),  # mirrored up to a tile
    (16, 16, 16, (0,)),
    (160, 16, 32, tuple(range(0, 129, 16))),
    (41, 17, 41, (0,)),  # 2.41 tiles
    (43, 17, 26, (0, 17)),  # 2.53 tiles
]


@pytest.mark.parametrize(("length", "tile", "window", "starts"), PLANS)
def test_windows_a_tile_apart_fill_an_image_exactly(length, tile, window, starts):
    assert tiles.window_side(length, tile) == window
    assert tiles.window_starts(length, window, tile) == starts


@pytest.mark.parametrize("tile", [7, 16])
def test_windows_fit_images_of_every_length(tile):
    for length in range(1, 12 * tile):
        window = tiles.window_side(length, tile)
        starts = tiles.window_starts(length, window, tile)
        assert set(np.diff(starts)) <= {tile}
        assert starts[-1] + window == max(length, tile)
        assert 1.5 * tile <= window < 2.5 * tile or window == max(length, tile)


def test_in_a_longer_image_windows_are_at_most_a_tile_apart():
    assert tiles.window_starts(100, 32, 16) == (0, 14, 27, 41, 54, 68)


def seen(length, tile, epochs=20_000):
    """How many tiles show each pixel in an epoch, on the average."""
    window = tiles.window_side(length, tile)
    torch.manual_seed(0)
    count = np.zeros(length + 1)
    for start in tiles.window_starts(length, window, tile):
        first = start + tiles.draw(epochs, window, tile).numpy()
        assert start <= first.min() and first.max() + tile <= start + window
        count += np.bincount(first, minlength=length + 1) - np.bincount(first + tile, minlength=length + 1)
    return np.cumsum(count)[:length] / epochs


@pytest.mark.parametrize(("length", "tile"), [(584, 192), (565, 192), (512, 256), (180, 128), (160, 16), (103, 17)])
def test_an_images_outermost_pixels_are_seen_a_fifth_as_often_as_its_middle_or_more(length, tile):
    share = seen(length, tile)
    middle = share[length // 2]
    # t / 2w, to half a pixel
    expected = tile / 2 / tiles.window_side(length, tile)
    assert share[[0, -1]] == pytest.approx(expected, abs=0.6 / tile + 0.01)
    assert min(share[0], share[-1]) >= 0.2 * middle
    assert share.min() == min(share[0], share[-1])


@pytest.mark.parametrize(("length", "tile"), [(584, 192), (565, 192), (160, 16), (103, 17), (96, 16)])
def test_what_lies_a_tile_inside_is_seen_once_an_epoch(length, tile):
    """Where the outermost windows and their neighbours overlap, whatever the windows' sides."""
    rim = max(tile, tiles.window_side(length, tile) - tile)
    inside = seen(length, tile)[rim : length - rim]
    assert len(inside) >= 0.3 * length
    assert inside == pytest.approx(1.0, abs=0.02)


def test_pixels_are_shown_as_often_as_tiles_are_drawn():
    """The whole way, from an image to the tiles of many epochs, read from numbered pixels; 2-D: corners a sixteenth."""
    shape = (64, 70)
    fitting = training_fitting(Preprocess(16, 16, "tile", 4), ("frame",), "mask", [shape], None)
    numbered = np.arange(shape[0] * shape[1]).reshape(shape)
    frame = np.stack([numbered % 256, numbered // 256, numbered * 0], axis=-1).astype(np.uint8)
    windows = [item[0] for item in fitting.items(Sample(frame, np.zeros(shape, np.uint8)))]
    x = torch.from_numpy(np.stack(windows))
    module = Augmentation(Augment(), "label", 16, 16)
    torch.manual_seed(0)
    epochs = 1000
    count = np.zeros(numbered.size)
    for _ in range(epochs):
        out, _ = module(x, torch.zeros(len(x)))
        found = (out[:, 0] * 255).round().numpy().astype(int)
        count += np.bincount((found[:, 0] + 256 * found[:, 1]).ravel(), minlength=numbered.size)
    share = (count / epochs).reshape(shape)
    assert fitting.window == (32, 38)
    assert share[16:-16, 22:-22] == pytest.approx(1.0, abs=0.15)
    assert share[[0, 0, -1, -1], [0, -1, 0, -1]] == pytest.approx(1 / 16, abs=0.03)
    assert share.min() > 0.03


def test_draws_depend_on_torchs_seed_only():
    first, again, other = (tiles.draw(50, 40, 16) for seed in (0, 0, 1) if torch.manual_seed(seed))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.dtype == torch.int64


def test_a_window_of_one_tile_has_one():
    assert tiles.draw(20, 16, 16).tolist() == [0] * 20


def test_each_part_is_cut_from_its_own_place():
    images = torch.arange(2 * 3 * 5 * 6).reshape(2, 3, 5, 6)
    parts = tiles.cut(images, torch.tensor([0, 2]), torch.tensor([3, 1]), (3, 2), mirror=True)
    assert torch.equal(parts[0], images[0, :, 0:3, 3:5]) and torch.equal(parts[1], images[1, :, 2:5, 1:3])


@pytest.mark.parametrize(("mirror", "row"), [(True, [2, 1, 0, 1, 2, 3, 2, 1]), (False, [0, 0, 0, 1, 2, 3, 3, 3])])
def test_beyond_the_rim(mirror, row):
    image = torch.arange(4.0).expand(1, 1, 4, 4)
    zero = torch.tensor([0])
    assert tiles.cut(image, zero, zero - 2, (1, 8), mirror=mirror)[0, 0].tolist() == [row]
    turned = tiles.cut(image.mT, zero - 2, zero, (8, 1), mirror=mirror)
    assert turned[0, 0, :, 0].tolist() == row
