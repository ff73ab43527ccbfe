from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from edgeattn.lint.base import Rules
from edgeattn.lint.listing import Listed, computing, listing

HALF, INT64 = TensorProto.FLOAT16, TensorProto.INT64
WEIGHTS = {"w": np.ones((8, 8), np.int8), "f": np.ones((8, 8), np.float32)}
SQUARE = {"x": [8, 8]}


def precisions(model):
    return {item.node: item.precision for item in listing(model)}


def test_a_product_is_int8_when_both_sides_are(make):
    rows = [
        ("QDQ", "x", "d", {}),
        ("DQ", "w", "v", {}),
        ("MatMul", "d v", "both"),
        ("MatMul", "d f", "one"),
        ("Transpose", "v", "t"),
        ("MatMul", "d t", "moved"),
        ("Add", "both one", "s"),
        ("Add", "s moved", "y"),
    ]
    found = precisions(make(*rows, inputs=SQUARE, constants=WEIGHTS))
    expected = {"d_quantize": "int8", "d": "fp32", "both": "int8", "one": "fp32", "moved": "int8", "s": "fp32"}
    assert expected.items() <= found.items()


def test_what_stands_between_quantizers_is_int8(make):
    rows = [
        ("QDQ", "x", "d", {}),
        ("Relu", "d", "r"),
        ("QDQ", "r", "e", {}),
        ("Relu", "e", "y"),
        ("Sigmoid", "d", "z"),
        ("QDQ", "z", "o", {}),
    ]
    found = precisions(make(*rows, outputs={"y": 1, "o": 1}))
    assert (found["r"], found["y"], found["z"]) == ("int8", "fp32", "fp32")


@pytest.mark.parametrize(
    ("row", "inputs", "out", "expected"),
    [
        (("Relu", "x", "y"), {"x": (HALF, [4])}, HALF, "fp16"),
        (("Cast", "x", "y", {"to": HALF}), {"x": [4]}, HALF, "fp16"),
        (("Cast", "x", "y", {"to": INT64}), {"x": [4]}, INT64, "int64"),
        (("ArgMax", "x", "y"), {"x": (HALF, [4])}, INT64, "fp16"),
        (("Greater", "x x", "y"), {"x": [4]}, TensorProto.BOOL, "fp32"),
        (("Shape", "x", "y"), {"x": [4]}, INT64, "int64"),
        (("Not", "x", "y"), {"x": (TensorProto.BOOL, [4])}, TensorProto.BOOL, "bool"),
        (("Ours", "x", "y", {"domain": "ours"}), {"x": [4]}, 1, "fp32"),
    ],
)
def test_other_precisions(make, row, inputs, out, expected):
    assert precisions(make(row, inputs=inputs, outputs={"y": out})) == {"y": expected}


def test_opset_and_placement(make):
    rows = [("Exp", "c", "e"), ("Mul", "x e", "m"), ("Gelu", "m", "g"), ("Ours", "g", "y", {"domain": "ours"})]
    model = make(*rows, inputs={"x": (HALF, [8])}, outputs={"y": HALF}, constants={"c": np.float16(1)})
    assert [(item.opset, item.placement) for item in listing(model)] == [
        (13, "build"),
        (14, "gpu"),
        (20, "gpu"),
        (None, "gpu"),
    ]
    placed = [item.placement for item in listing(model, Rules((10, 3), dla=True))]
    assert placed == ["build", "dla", "gpu", "gpu"]
    assert [item.placement for item in listing(model, Rules((10, 3)))] == ["build", "gpu", "gpu", "gpu"]


def test_the_count_of_what_computes(make):
    rows = [
        ("Identity", "f", "k"),
        ("QDQ", "x", "d", {}),
        ("DQ", "w", "v", {}),
        ("MatMul", "d v", "m"),
        ("Reshape", "m s", "r"),
        ("Relu", "r", "o"),
        ("Sigmoid", "o", "y"),
    ]
    model = make(*rows, inputs=SQUARE, constants={**WEIGHTS, "s": np.int64([64])})
    assert computing(listing(model)) == {"fp32": 2, "int8": 1}


def test_as_json():
    item = Listed("a", "Relu", "fp32", 14, "gpu")
    assert item.to_dict() == {"node": "a", "operator": "Relu", "precision": "fp32", "opset": 14, "placement": "gpu"}
