"""Multiply-adds and bytes of small graphs, worked by hand; never more than an engine needs."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeattn.lint.work import Work, work
from edgeattn.onnxgraph.view import Graph

FLOAT, HALF, UINT8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def counts(model):
    found = work(model)
    assert found.uncounted == ()
    return found.macs, found.least_macs


def direct(sparse, dense, kernel, stride, dilation, before):
    """Multiplications along one axis that meet no padding, one by one."""
    places = itertools.product(range(dense), range(kernel))
    return sum(0 <= place * stride + tap * dilation - before < sparse for place, tap in places)


def test_a_convolution(make):
    # 16 results of 8 x 8, each of 3 x 3 pixels in 4 channels: 16*64*36 = 36864. Without padding 22 of 24 products are
    # left along an axis; Winograd needs 8 * (3 + 3) / 4 = 12: 16*4*12*12 = 9216.
    model = make(
        ("Conv", "x w b", "y", {"pads": [1] * 4}), inputs={"x": [1, 4, 8, 8]},
        constants={"w": ones(16, 4, 3, 3), "b": ones(16)},
    )  # fmt: skip
    found = work(model)
    assert (found.macs, found.least_macs) == ({"fp32": 36864}, {"fp32": 9216})
    assert found.weights_bytes == 16 * 36 * 4 + 16 * 4
    assert (found.input_bytes, found.output_bytes, found.io_bytes) == (1024, 4096, 5120)


@pytest.mark.parametrize(
    ("attributes", "weights", "macs", "least"),
    [
        ({}, (2, 4, 1, 1), 2 * 64 * 4, 2 * 64 * 4),  # nothing to save where a kernel is one pixel
        ({"group": 4}, (4, 1, 1, 1), 4 * 64, 4 * 64),
        ({"group": 4, "pads": [1] * 4}, (4, 1, 3, 3), 4 * 64 * 9, 4 * 12 * 12),
        ({}, (2, 4, 3, 3), 2 * 36 * 36, 2 * 4 * 9 * 9),  # 6 results, 6 * 6 / 4 = 9
        ({"strides": [2, 2]}, (2, 4, 2, 2), 2 * 16 * 16, 2 * 16 * 16),  # kernel = stride: each pixel is used once
        ({"strides": [2, 2], "pads": [1] * 4}, (2, 4, 3, 3), 2 * 16 * 36, 2 * 4 * 9 * 9),  # 4 * (3 + 6) / 4 = 9
        ({"dilations": [2, 2], "pads": [2] * 4}, (2, 4, 3, 3), 2 * 64 * 36, 2 * 4 * 12 * 12),
        # Stride and dilation of 2 meet every second pixel alone: one convolution without either, 4 * (3 + 3) / 4 = 6.
        ({"strides": [2, 2], "dilations": [2, 2], "pads": [2] * 4}, (2, 4, 3, 3), 2 * 16 * 36, 2 * 4 * 6 * 6),
        # A kernel far larger than the map: of 8 taps at 9 apart one alone meets it at each place.
        ({"dilations": [9, 9], "pads": [9] * 4}, (2, 4, 3, 3), 2 * 64 * 36, 2 * 4 * 8 * 8),
        ({"auto_pad": "SAME_UPPER"}, (2, 4, 3, 3), 2 * 64 * 36, 2 * 4 * 12 * 12),
        ({"auto_pad": "SAME_LOWER", "strides": [2, 2]}, (2, 4, 3, 3), 2 * 16 * 36, 2 * 4 * 9 * 9),
        ({"auto_pad": "VALID"}, (2, 4, 3, 3), 2 * 36 * 36, 2 * 4 * 9 * 9),
    ],
)
def test_convolutions(make, attributes, weights, macs, least):
    model = make(("Conv", "x w", "y", attributes), inputs={"x": [1, 4, 8, 8]}, constants={"w": ones(*weights)})
    assert counts(model) == ({"fp32": macs}, {"fp32": least})


@pytest.mark.parametrize(
    ("attributes", "weights", "macs", "least"),
    [
        ({"strides": [2, 2]}, (4, 2, 2, 2), 4 * 64 * 8, 4 * 64 * 8),
        ({"strides": [2, 2], "pads": [1] * 4}, (4, 2, 4, 4), 4 * 64 * 32, 4 * 2 * 20 * 20),  # 16 * (2 + 3) / 4 = 20
        ({"group": 2}, (4, 3, 1, 1), 4 * 64 * 3, 4 * 64 * 3),
        ({}, (4, 2, 3, 3), 4 * 64 * 18, 4 * 2 * 12 * 12),
    ],
)
def test_transposed_convolutions(make, attributes, weights, macs, least):
    model = make(("ConvTranspose", "x w", "y", attributes), inputs={"x": [1, 4, 8, 8]}, constants={"w": ones(*weights)})
    assert counts(model) == ({"fp32": macs}, {"fp32": least})


@pytest.mark.parametrize("kernel", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("before", [0, 1, 3])
def test_the_least_is_never_more_than_the_products_without_padding(make, kernel, stride, dilation, before):
    attributes = {"kernel_shape": [kernel], "strides": [stride], "dilations": [dilation], "pads": [before, before]}
    model = make(("Conv", "x w", "y", attributes), inputs={"x": [1, 1, 20]}, constants={"w": ones(1, 1, kernel)})
    dense = Graph(model).shape("y")[2]
    macs, least = counts(model)
    met = direct(20, dense, kernel, stride, dilation, before)
    assert macs["fp32"] == dense * kernel
    assert 0 < least["fp32"] <= met <= macs["fp32"]
    if kernel == 1:
        assert least["fp32"] == met


@pytest.mark.parametrize(
    ("operator", "attributes", "shape", "weights", "macs"),
    [
        ("MatMul", {}, [1, 5, 8], (8, 3), 5 * 3 * 8),
        ("MatMul", {}, [2, 4, 5, 8], (8, 3), 2 * 4 * 5 * 3 * 8),
        ("MatMul", {}, [8], (8, 3), 3 * 8),
        ("MatMul", {}, [5, 8], (8,), 5 * 8),
        ("Gemm", {}, [1, 8], (8, 3), 3 * 8),
        ("Gemm", {"transB": 1}, [2, 8], (3, 8), 2 * 3 * 8),
        ("Gemm", {"transA": 1}, [8, 2], (8, 3), 2 * 3 * 8),
        ("Einsum", {"equation": "bij,jk->bik"}, [2, 5, 8], (8, 3), 2 * 5 * 3 * 8),
        ("Einsum", {"equation": "...j,jk->...k"}, [5, 8], (8, 3), None),
    ],
)
def test_products(make, operator, attributes, shape, weights, macs):
    model = make((operator, "x w", "y", attributes), inputs={"x": shape}, constants={"w": ones(*weights)})
    expected = {} if macs is None else {"fp32": macs}
    assert counts(model) == (expected, expected)


def test_a_sum_that_can_be_taken_before_the_product_costs_nothing_at_least(make):
    model = make(
        ("Einsum", "x w", "y", {"equation": "ij,jk->k"}), inputs={"x": [5, 8]}, constants={"w": ones(8, 3)}
    )  # fmt: skip
    assert counts(model) == ({"fp32": 120}, {"fp32": 0})


def test_attention_multiplies_two_activations(make):
    model = make(
        ("MatMul", "x wq", "q"), ("MatMul", "x wk", "k"), ("Transpose", "k", "t", {"perm": [0, 2, 1]}),
        ("MatMul", "q t", "scores"), ("Softmax", "scores", "p"), ("MatMul", "p x", "y"),
        inputs={"x": [1, 5, 8]}, constants={"wq": ones(8, 8), "wk": ones(8, 8)},
    )  # fmt: skip
    found = work(model)
    assert found.macs == found.least_macs == {"fp32": 2 * 5 * 8 * 8 + 5 * 5 * 8 + 5 * 8 * 5}
    assert found.weights_bytes == 2 * 64 * 4


# Precision and stored weights.


def test_int8_needs_both_sides_and_its_weights_are_bytes(make):
    rows = [
        ("QDQ", "x", "d", {}), ("DQ", "w", "v", {}), ("MatMul", "d v", "both"),
        ("QDQ", "f", "g", {}), ("MatMul", "both g", "one"), ("QDQ", "one", "e", {}), ("MatMul", "e g", "y"),
    ]  # fmt: skip
    constants = {"w": ones(8, 8, dtype=np.int8), "f": ones(8, 8)}
    found = work(make(*rows, inputs={"x": [1, 8]}, constants=constants))
    assert found.macs == {"fp32": 64, "int8": 128}
    # The float weight `f` is behind a quantizer and read twice: 64 bytes, once.
    assert found.weights_bytes == 64 + 64


def test_fp16(make):
    model = make(
        ("Cast", "x", "h", {"to": HALF}), ("Cast", "w", "v", {"to": HALF}), ("MatMul", "h v", "m"),
        ("MatMul", "m u", "n"), ("Cast", "n", "y", {"to": FLOAT}),
        inputs={"x": (UINT8, [1, 8])}, constants={"w": ones(8, 8), "u": ones(8, 8, dtype=np.float16)},
    )  # fmt: skip
    found = work(model)
    assert found.macs == {"fp16": 128}
    assert (found.weights_bytes, found.input_bytes, found.output_bytes) == (128 + 128, 8, 32)


def test_a_weight_that_is_made_of_a_smaller_one_counts_as_the_smaller(make):
    model = make(
        ("Expand", "w size", "v"), ("MatMul", "x v", "y"),
        inputs={"x": [1, 8]}, constants={"w": ones(1, 8), "size": np.array([8, 8])},
    )  # fmt: skip
    found = work(model)
    assert found.macs == {"fp32": 64} and found.weights_bytes == 32


# What need not be done is not counted.


def test_what_leads_to_no_output_is_not_counted(make):
    model = make(
        ("MatMul", "x w", "y"), ("MatMul", "x v", "unused"), ("MatMul", "v u", "unused_constant"),
        inputs={"x": [1, 8], "z": [1, 1000]}, outputs={"y": FLOAT},
        constants={"w": ones(8, 8), "v": ones(8, 8), "u": ones(8, 8)},
    )  # fmt: skip
    assert work(model) == Work({"fp32": 64}, {"fp32": 64}, 256, 32, 32)


def test_what_is_computed_while_building_is_not_counted(make):
    model = make(
        ("MatMul", "w v", "u"), ("MatMul", "x u", "y"),
        inputs={"x": [1, 8]}, constants={"w": ones(8, 8), "v": ones(8, 8)},
    )  # fmt: skip
    found = work(model)
    assert found.macs == {"fp32": 64} and found.weights_bytes == 256


def test_other_operators_cost_nothing(make):
    model = make(
        ("Add", "x b", "a"), ("Softmax", "a", "s"), ("LayerNormalization", "s g", "y"),
        inputs={"x": [1, 8]}, constants={"b": ones(1, 8), "g": ones(8)},
    )  # fmt: skip
    assert work(model) == Work({}, {}, 0, 32, 32)


def test_a_body_may_not_run():
    def body(name, operator, *inputs):
        out = helper.make_tensor_value_info(name, FLOAT, [1, 8])
        inner = [
            helper.make_node(operator, list(inputs), [f"{name}_0"]),
            helper.make_node("Relu", [f"{name}_0"], [name]),
        ]
        return helper.make_graph(inner, name, [], [out])

    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node(
            "If", ["flag"], ["y"], then_branch=body("t", "MatMul", "a", "v"), else_branch=body("e", "Abs", "a")
        ),
    ]
    square = onnx.numpy_helper.from_array
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g",
        [info("x", FLOAT, [1, 8]), info("flag", TensorProto.BOOL, [])], [info("y", FLOAT, [1, 8])],
        [square(ones(8, 8), "w"), square(ones(8, 8), "v")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    # `a` is read by the bodies alone, and is needed; the product inside is not counted.
    assert work(model) == Work({"fp32": 64}, {"fp32": 64}, 256, 33, 32)


# What is not known.


def test_a_dynamic_size_counts_as_one(make):
    model = make(("MatMul", "x w", "y"), inputs={"x": ["batch", 8]}, constants={"w": ones(8, 8)})
    assert work(model) == Work({"fp32": 64}, {"fp32": 64}, 256, 32, 32)


def test_a_product_of_unknown_shape_is_named(make):
    rows = [("Mystery", "x", "m", {"domain": "ours"}), ("MatMul", "m w", "y")]
    found = work(make(*rows, inputs={"x": [1, 8]}, constants={"w": ones(8, 8)}))
    assert (found.macs, found.uncounted) == ({}, ("y",))
    assert found.weights_bytes == 256
    assert found.to_dict()["uncounted"] == ["y"]


@pytest.mark.parametrize(
    ("attributes", "weights"),
    [
        ({"strides": [0, 1]}, (2, 4, 3, 3)),
        ({"dilations": [1]}, (2, 4, 3, 3)),
        ({"strides": "two"}, (2, 4)),
        ({}, (2,)),
    ],
)
def test_a_broken_convolution_is_named_and_stops_nothing(make, attributes, weights):
    model = make(("Conv", "x w", "y", attributes), inputs={"x": [1, 4, 8, 8]}, constants={"w": ones(*weights)})
    assert work(model).uncounted == ("y",)
    # Its result's shape may be stated all the same.
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", FLOAT, [1, 2, 8, 8]))
    assert work(model).uncounted == ("y",)


def test_a_circle_among_constants_ends(make):
    model = make(
        ("Identity", "w", "v"), ("Identity", "v", "w2"), ("MatMul", "x w2", "y"),
        inputs={"x": [1, 8]}, constants={"w": ones(8, 8)},
    )  # fmt: skip
    model.graph.node.append(helper.make_node("Identity", ["w2"], ["v"]))
    assert work(model).macs == {"fp32": 64}


def test_the_model_stays_as_it_is(make):
    model = make(("MatMul", "x w", "y"), inputs={"x": [1, 8]}, constants={"w": ones(8, 8)})
    before = model.SerializeToString()
    assert work(model) == work(Graph(model))
    assert model.SerializeToString() == before
