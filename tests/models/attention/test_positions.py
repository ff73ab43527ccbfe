from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from edgeattn.models.attention import LearnedPositions, sine_positions


def test_sine_positions():
    height, width, channels = 3, 4, 8
    found = sine_positions(height, width, channels).numpy()
    assert found.shape == (12, 8)
    for y in range(height):
        for x in range(width):
            for half, position in ((0, y), (1, x)):
                for i in range(channels // 4):
                    angle = position / 10_000 ** (2 * i / (channels // 2))
                    place = half * channels // 2 + 2 * i
                    assert found[y * width + x, place] == pytest.approx(math.sin(angle), abs=1e-6)
                    assert found[y * width + x, place + 1] == pytest.approx(math.cos(angle), abs=1e-6)


def test_every_position_is_another():
    found = sine_positions(8, 8, 96).numpy()
    apart = np.linalg.norm(found[:, None] - found[None], axis=-1) + np.eye(64)
    assert apart.min() > 0.3


def test_learned_positions_are_row_plus_column():
    positions = LearnedPositions(2, 3, 4)
    found = positions(2, 3)
    assert found.shape == (6, 4)
    for y in range(2):
        for x in range(3):
            assert torch.equal(found[y * 3 + x], positions.row[y] + positions.column[x])


def test_another_size_by_hand():
    """Two rows 0 and 1 stretched to four: centres at -0.25, 0.25, 0.75, 1.25 of the old ones, the edges held."""
    positions = LearnedPositions(2, 1, 1)
    with torch.no_grad():
        positions.row.copy_(torch.tensor([[0.0], [1.0]]))
        positions.column.fill_(10.0)
    assert positions(4, 3).reshape(4, 3)[:, 0].tolist() == pytest.approx([10.0, 10.25, 10.75, 11.0])
    assert positions(1, 1).flatten().tolist() == pytest.approx([10.5])
    positions(4, 3).sum().backward()
    assert positions.row.grad.flatten().tolist() == pytest.approx([6.0, 6.0])
    assert positions.column.grad.flatten().tolist() == pytest.approx([12.0])


@pytest.mark.parametrize("size", [(5, 9), (3, 4), (7, 2), (1, 1), (6, 13)])
def test_another_size_is_linear_interpolation(size):
    positions = LearnedPositions(5, 4, 6)

    def stretched(table, length):
        return functional.interpolate(table.T[None], size=length, mode="linear", align_corners=False)[0].T

    wanted = stretched(positions.row, size[0])[:, None] + stretched(positions.column, size[1])[None]
    torch.testing.assert_close(positions(*size), wanted.reshape(-1, 6))
