"""Sequence pooling, additive and region attention against the loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attention_loops import additive, array, linear, pooled, random, spread
from torch import nn

from edgeattn.models.attention import AdditiveAttention, MultiScaleRegionAttention, RegionAttention, sequence_pool
from edgeattn.models.attention.region import paint, split_regions

MASK = torch.tensor([[True, False, True, True], [False, False, True, False]])


def same(found, wanted):
    np.testing.assert_allclose(array(found), np.asarray(wanted), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
@pytest.mark.parametrize("given", [False, True])
def test_additive_attention(given, mask):
    block = spread(AdditiveAttention(5, 3, query_channels=2 if given else None))
    x, query = random(2, 4, 5), random(2, 2, seed=1) if given else None
    wanted = [
        additive(one, block, None if query is None else array(query)[n], None if mask is None else mask[n])
        for n, one in enumerate(array(x))
    ]
    summed, weights = block(x, query, mask)
    same(summed, [one for one, _ in wanted])
    same(weights, [one for _, one in wanted])
    if mask is not None:
        assert (weights == 0).equal(~mask)


@pytest.mark.parametrize("tokens", [1, 5])
def test_sequence_pooling(tokens):
    layer, x = spread(nn.Linear(4, 1)), random(2, tokens, 4)
    wanted = [pooled(one, [linear(token, layer)[0] for token in one]) for one in array(x)]
    summed, weights = sequence_pool(x, layer(x))
    same(summed, [one for one, _ in wanted])
    same(weights, [one for _, one in wanted])


def test_another_query_gives_other_weights():
    block, x = spread(AdditiveAttention(5, 3, query_channels=2)), random(1, 4, 5)
    assert not torch.allclose(block(x, random(1, 2))[1], block(x, random(1, 2, seed=1))[1])


@pytest.mark.parametrize(
    ("given", "problem"), [(False, "has a learned query and takes no other"), (True, "has no query given")]
)
def test_a_query_too_many_or_too_few(given, problem):
    block = AdditiveAttention(5, 3, query_channels=2 if given else None)
    with pytest.raises(ValueError, match=f"^this additive attention {problem}; query_channels decides"):
        block(torch.zeros(1, 4, 5), None if given else torch.zeros(1, 2))


def region_means(x, rows, columns):
    """`(C, H, W)` -> `(rows * columns, C)`."""
    tall, wide = x.shape[1] // rows, x.shape[2] // columns
    return np.array(
        [
            [sum(c[r * tall + i, k * wide + j] for i in range(tall) for j in range(wide)) / (tall * wide) for c in x]
            for r in range(rows)
            for k in range(columns)
        ]
    )


@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (4, 6)])
def test_region_attention(grid):
    block, x = spread(RegionAttention(3, grid, 4)), random(2, 3, 4, 6)
    wanted = [additive(region_means(one, *grid), block.pool) for one in array(x)]
    vector, weights = block(x)
    assert weights.shape == (2, grid[0] * grid[1])
    same(vector, [one for one, _ in wanted])
    same(weights, [one for _, one in wanted])


def test_a_network_may_look_at_each_region():
    """An encoder that sees where in its region a pixel is, which a mean cannot."""
    encode = nn.Sequential(nn.Flatten(), nn.Linear(3 * 2 * 2, 5))
    block, x = spread(RegionAttention(5, (2, 3), 4, encode)), random(2, 3, 4, 6)
    w, b = array(encode[1].weight), array(encode[1].bias)
    vectors, maps = [], []
    for one in array(x):
        parts = [one[:, r * 2 : r * 2 + 2, k * 2 : k * 2 + 2].ravel() for r in range(2) for k in range(3)]
        summed, weights = additive(np.array([w @ part + b for part in parts]), block.pool)
        vectors.append(summed)
        maps.append(weights)
    vector, weights = block(x)
    same(vector, vectors)
    same(weights, maps)


def test_regions_are_cut_row_by_row():
    x = torch.arange(24.0).reshape(1, 1, 4, 6)
    parts = split_regions(x, (2, 3))
    assert parts.shape == (1, 6, 1, 2, 2)
    assert parts[0, 1].flatten().tolist() == [2, 3, 8, 9]
    assert parts[0, 3].flatten().tolist() == [12, 13, 18, 19]


def test_the_painted_map_of_two_by_two_regions():
    weights = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    wanted = [[0.1, 0.1, 0.2, 0.2], [0.3, 0.3, 0.4, 0.4]]
    assert torch.equal(paint(weights, (2, 2), 2, 4)[0, 0], torch.tensor(wanted))


def test_multi_scale_region_attention():
    grids = ((1, 1), (2, 2), (2, 3))
    block, x = spread(MultiScaleRegionAttention(3, grids, 4)), random(2, 3, 4, 6)
    vector, regions, scales = block(x)
    for n, one in enumerate(array(x)):
        found = [additive(region_means(one, *g), s.pool) for g, s in zip(grids, block.scales, strict=True)]
        wanted, weights = additive(np.array([answer for answer, _ in found]), block.pool)
        same(vector[n], wanted)
        same(scales[n], weights)
        painted = np.zeros((4, 6))
        for (rows, columns), (_, by_region), own, weight in zip(grids, found, regions, weights, strict=True):
            same(own[n], by_region)
            for y, z in np.ndindex(4, 6):
                painted[y, z] += weight * by_region[y // (4 // rows) * columns + z // (6 // columns)]
        same(block.paint(regions, scales, 4, 6)[n, 0], painted)
    assert block.paint(regions, scales, 4, 6).max() <= 1
