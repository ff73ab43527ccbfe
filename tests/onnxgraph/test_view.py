"""Where a tensor comes from: rearranged, dequantized, constant; also in files with a circle of nodes."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest
from onnx import helper

from edgeattn.onnxgraph.view import Graph

HEAD = """<ir_version: 10, opset_import: ["" : 20]> g (int8[1, 8, 4, 4] a, int8[1, 8, 4, 4] b, float[1, 8, 4, 4] x)
=> (float y) <float s = {0.1}, int64[2] flat = {1, -1}>"""


def graph(body):
    return Graph(onnx.parser.parse_model(f"{HEAD} {{ {body} }}"))


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("y = DequantizeLinear (a, s)", "y"),
        ("d = DequantizeLinear (a, s) y = Reshape (d, flat)", "d"),
        ("d = DequantizeLinear (a, s) r = Relu (d) y = MaxPool <kernel_shape = [2, 2]> (r)", "d"),
        ("d = DequantizeLinear (a, s) e = DequantizeLinear (b, s) y = Concat <axis = 1> (d, e)", "d"),
        ("d = DequantizeLinear (a, s) e = Relu (d) y = Concat <axis = 1> (e, d, d)", "d"),
        ("d = DequantizeLinear (a, s) y = Concat <axis = 1> (d, x)", None),
        ("d = DequantizeLinear (a, s) y = AveragePool <kernel_shape = [2, 2]> (d)", None),
        ("d = DequantizeLinear (a, s) y = Sigmoid (d)", None),
        ("y = Relu (x)", None),
    ],
)
def test_what_is_quantized(body, found):
    """TensorRT moves Q and DQ over MaxPool, ReLU and Concat; an average or a sigmoid is computed in float."""
    view = graph(body)
    maker = view.quantized("y")
    assert (maker and maker.output) == found


def test_a_circle_is_not_quantized():
    nodes = [helper.make_node("Relu", ["b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    model = helper.make_model(helper.make_graph(nodes, "g", [], []), opset_imports=[helper.make_opsetid("", 20)])
    view = Graph(model)
    assert view.quantized("a") is None and view.origin("a") == "a"


def test_rearranged():
    view = graph("t = Transpose <perm = [0, 2, 3, 1]> (x) y = Reshape (t, flat)")
    assert view.origin("y") == "x"
    assert view.maker("y", "Relu") is None and view.makers["y"].input(1) == "flat"


def test_constants_through_casts():
    view = graph("h = Cast <to = 10> (s) k = Identity (h) w = Cast <to = 1> (k) y = Mul (x, w)")
    assert view.value("w") == np.float32(np.float16(0.1)) and view.value("y") is None
    assert view.constants == {"s", "flat", "h", "k", "w"} and view.activations(view.makers["y"]) == ["x"]
