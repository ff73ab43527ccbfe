from __future__ import annotations

import pytest

from edgeattn.lint.base import Rules

RELU = ("Relu", "x", "y")


@pytest.mark.parametrize(
    ("tensorrt", "most"),
    [((10, 0), 20), ((10, 3), 20), ((10, 3, 0, 26), 20), ((10, 8), 20), ((10, 9), 22), ((10, 12), 22),
     ((10, 13, 3, 9), 24), ((10, 16, 2, 10), 24), ((11, 0), 24), ((11, 4, 1), 24)],
)  # fmt: skip
def test_the_ceiling_of_each_version(make, proves, tensorrt, most):
    assert Rules(tensorrt).opset_max == most
    item = proves("opset.ceiling", make(RELU, opset=most + 1), make(RELU, opset=most), tensorrt=tensorrt)
    # In the same words for every version, so that a target's range does not count it twice.
    assert item.what == f"The file has opset {most + 1}; TensorRT 10.0 reads 20, 10.9 reads 22, 10.13 reads 24."
    assert (item.node, item.operator) == ("", "")


def test_the_floor(make, proves):
    proves("opset.floor", make(RELU, opset=8), make(RELU, opset=9))
