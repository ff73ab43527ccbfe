"""The view of a graph: what it refuses, what it knows, how far it follows."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx.shape_inference
import pytest
from onnx import helper, numpy_helper

from edgeattn.errors import ModelError
from edgeattn.onnxgraph.view import Graph, type_name


def model(body, constants="", more=""):
    head = '<ir_version: 10, opset_import: ["" : 20, "ours" : 1]> g (float[4] x) => (float[4] y)'
    return onnx.parser.parse_model(f"{head} <{constants}> {{ {body} }} {more}")


def test_a_function_that_calls_itself():
    itself = '<domain: "ours", opset_import: ["ours" : 1]> F (a) => (b) { b = ours.F (a) }'
    with pytest.raises(ModelError, match=r"local functions cannot be written out where they are called .*; export the"):
        Graph(model("y = ours.F (x)", more=itself))


@pytest.mark.parametrize("operator", ["Identity", "Cast"])
def test_the_value_behind_a_long_chain(operator):
    rows = [helper.make_node(operator, [f"c{i}"], [f"c{i + 1}"], **({"to": 1} if operator == "Cast" else {}))
            for i in range(2000)]  # fmt: skip
    long = model("y = Add (x, x)")
    long.graph.node.extend(rows)
    long.graph.initializer.append(numpy_helper.from_array(np.float32(7), "c0"))
    assert Graph(long).value("c2000") == 7


def test_shapes_are_inferred_without_large_weights(monkeypatch):
    """ONNX's own functions take 2 GB and no more; sizes, axes and places stay, for shapes depend on them."""
    large = model("s = Reshape (w, sizes) y = Relu (x)", "int64[2] sizes = {-1, 4}")
    large.graph.initializer.append(numpy_helper.from_array(np.zeros((512, 512), np.float32), "w"))
    large.functions.append(helper.make_function("ours", "F", ["a"], ["b"], [], [helper.make_opsetid("", 20)]))
    infer, seen = onnx.shape_inference.infer_shapes, []

    def watched(given, **settings):
        seen.append(given.ByteSize())
        return infer(given, **settings)

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", watched)
    before = large.SerializeToString(deterministic=True)
    graph = Graph(large)
    assert seen and max(seen) < 1000 and graph.inference_error is None
    assert graph.shape("s") == (65536, 4) and graph.type("w") == 1
    assert graph.value("w").shape == (512, 512)
    assert large.SerializeToString(deterministic=True) == before


def test_remarks_that_are_no_text():
    data = model("y = Relu (x)")
    data.producer_name, data.graph.doc_string = "remark", "remark"
    odd = onnx.ModelProto()
    odd.ParseFromString(data.SerializeToString().replace(b"remark", b"rem\xffrk"))
    assert [node.operator for node in Graph(odd).nodes] == ["Relu"]


def test_the_value_behind_a_circle_is_not_known():
    assert Graph(model("a = Identity (b) b = Identity (a) y = Add (x, a)")).value("a") is None


def test_the_name_of_a_type():
    assert [type_name(kind) for kind in (1, 11, 3, 99)] == ["float32", "float64", "int8", "type 99"]
