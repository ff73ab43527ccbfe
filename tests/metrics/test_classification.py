import math

import numpy as np
import pytest

from edgeattn.metrics.classification import per_class_percent, softmax, top1_percent


def test_softmax():
    assert softmax(np.array([0.0, math.log(3)])) == pytest.approx([0.25, 0.75])
    assert softmax(np.array([[1000.0, 1000.0], [-1000.0, 1000.0]], np.float32)) == pytest.approx(
        np.array([[0.5, 0.5], [0, 1]])
    )
    # The difference of these two does not fit float16.
    assert softmax(np.array([-60000, 60000], np.float16)) == pytest.approx([0, 1])


def test_top1():
    assert top1_percent(np.array([[1.0], [1.0], [0.0], [1.0]])) == 75.0


def test_per_class():
    percent = per_class_percent(np.array([[1.0], [0.0], [1.0]]), np.array([0, 0, 2]), 3)
    assert percent == pytest.approx([50, math.nan, 100], nan_ok=True)
