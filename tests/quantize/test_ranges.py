"""How large tensors become on the calibration samples."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from edgeattn.progress import silent
from edgeattn.quantize.ranges import largest


@pytest.fixture
def steep(hand_made):
    nodes = [
        helper.make_node("Mul", ["x", "large"], ["z"], name="mul"),
        helper.make_node("Mul", ["z", "small"], ["y"], name="back"),
    ]
    return hand_made(nodes, {"x": [1, 4]}, {"y": [1, 4]}, {"large": np.float32(3e4), "small": np.float32(1e-4)})


def measured(model, calls, folder):
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return largest(folder / "model.onnx", calls, silent)


def test_the_largest_of_every_tensor_over_all_samples(steep, tmp_path):
    calls = [{"x": np.array([[1, -3, 2, 0]], np.float32)}, {"x": np.array([[0, 0, -2, 1]], np.float32)}]
    found = measured(steep, calls, tmp_path)
    assert found == {"x": 3.0, "y": pytest.approx(9.0, rel=1e-5), "z": pytest.approx(9e4)}


@pytest.mark.parametrize(
    ("kind", "x", "reached"),
    [
        ("Reciprocal", [0.0, 1.0], float(np.finfo(np.float32).max)),
        ("Sqrt", [-1.0, 4.0], float(np.finfo(np.float32).max)),
        ("Log", [0.0, 1.0], 0.0),
        ("Log", [0.0, np.exp(2)], 2.0),
    ],
    ids=["infinity", "NaN", "minus infinity", "beside minus infinity"],
)
def test_what_is_not_finite_counts_as_the_largest_number_but_a_mask(kind, x, reached, hand_made, tmp_path):
    model = hand_made([helper.make_node(kind, ["x"], ["y"], name="n")], {"x": [1, 2]}, {"y": [1, 2]}, {})
    assert measured(model, [{"x": np.float32([x])}], tmp_path)["y"] == pytest.approx(reached)


def test_real_networks_stay_within_half_precision(network, calls, tmp_path):
    found = measured(network, calls(4), tmp_path)
    assert len(found) > 20 and max(found.values()) < 65504
