import numpy as np
import pytest

from edgeattn.report import canvas, placing


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0.3, 6, [0.5, 1, 2, 5]), (1, 10, [1, 2, 5, 10]), (0.5, 900, [1, 10, 100])],
)
def test_log_ticks(low, high, ticks):
    assert placing.log_ticks(low, high) == ticks


def test_names_of_crowded_lines_do_not_touch():
    with canvas.style():
        axes = canvas.place(canvas.figure(200), 40, 40, 100, 10)
        axes.set_xlim(1, 10)
        axes.set_ylim(0, 1)
        placing.name_lines(axes, [0.5, 0.5, 0.51], ["a", "b", "c"], [canvas.INK] * 3)
    heights = sorted(axes.transData.transform(text.get_position())[1] for text in axes.texts)
    assert min(np.diff(heights)) >= canvas.FONT
