"""Each pass shows the trap that it takes away: failing before, right after, with figures where numbers change."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeattn.errors import ModelError
from edgeattn.metrics.tensors import sqnr_db
from edgeattn.quantize.qdq import explicit_axes, for_tensorrt, signed, skips_only, tidy, unsigned


def pair(name, source, scale, point):
    """Q and DQ of `source`; constants named after `name`."""
    nodes = [
        helper.make_node("QuantizeLinear", [source, f"{name}_s", f"{name}_z"], [f"{name}_q"], name=f"{name}_Q"),
        helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_s", f"{name}_z"], [name], name=f"{name}_DQ"),
    ]
    return nodes, {f"{name}_s": np.float32(scale), f"{name}_z": point}


@pytest.fixture
def rectified(hand_made):
    """`y = W relu(x)`, the activation quantized to unsigned numbers, as NNCF does."""
    quantizers, constants = pair("r8", "r", 4.0 / 255, np.uint8(0))
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="relu"),
        *quantizers,
        helper.make_node("MatMul", ["r8", "W"], ["y"], name="product"),
    ]
    weights = np.random.default_rng(0).standard_normal((16, 16), np.float32)
    return hand_made(nodes, {"x": [8, 16]}, {"y": [8, 16]}, {**constants, "W": weights})


def frames(shape=(8, 16)):
    return {"x": np.clip(np.random.default_rng(1).standard_normal(shape, np.float32) * 1.5, -4, 4)}


def exact(model, answer, inputs):
    """What the graph without its activations' quantizers computes."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    renamed = {}
    kept = []
    for node in plain.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            renamed[node.output[0]] = renamed.get(node.input[0], node.input[0])
            continue
        node.input[:] = [renamed.get(name, name) for name in node.input]
        kept.append(node)
    del plain.graph.node[:]
    plain.graph.node.extend(kept)
    return answer(plain, inputs)


def as_written(model, inputs):
    """Node by node. ONNX Runtime's optimizations quantize `x` too before a product with weights of int8 (55 dB)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def points(model):
    return [
        numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.name in {n.input[2] for n in model.graph.node if n.op_type == "QuantizeLinear" and len(n.input) > 2}
    ]


def test_unsigned_becomes_signed_of_the_same_range(rectified, answer):
    """Read as signed with the old scale, as TensorRT does, half of the range is cut off: 15 dB instead of 42."""
    inputs = frames()
    want = exact(rectified, answer, inputs)
    naive = onnx.ModelProto()
    naive.CopyFrom(rectified)
    for tensor in naive.graph.initializer:
        if tensor.name == "r8_z":
            tensor.CopyFrom(numpy_helper.from_array(np.int8(0), "r8_z"))
    mended = signed(rectified)
    assert [p.dtype for p in points(mended)] == [np.dtype(np.int8)]
    unsigned_db, naive_db, signed_db = (sqnr_db(want, answer(m, inputs)) for m in (rectified, naive, mended))
    assert naive_db < 18
    assert 38 < signed_db < unsigned_db < signed_db + 8  # one bit is 6 dB


@pytest.mark.parametrize(
    ("point", "message"),
    [(np.uint8(128), "has the zero point 128; TensorRT takes 0 alone"), (np.int16(0), "of type int16")],
)
def test_what_has_no_signed_form_is_refused(hand_made, point, message):
    quantizers, constants = pair("y", "x", 0.1, np.uint8(0))
    model = hand_made(quantizers, {"x": [4]}, {"y": [4]}, constants)
    for tensor in model.graph.initializer:
        if tensor.name == "y_z":
            tensor.CopyFrom(numpy_helper.from_array(point, "y_z"))
    with pytest.raises(ModelError, match=message):
        signed(model)


def test_a_scale_shared_with_a_signed_quantizer_is_refused(hand_made):
    first, constants = pair("a", "x", 0.1, np.uint8(0))
    second, others = pair("b", "a", 0.1, np.int8(0))
    for node in second:
        node.input[1] = "a_s"
    model = hand_made([*first, *second], {"x": [4]}, {"b": [4]}, {**constants, **others})
    with pytest.raises(ModelError, match="'b_Q' shares its scale or zero point with an unsigned quantizer"):
        signed(model)


@pytest.fixture
def residual(hand_made):
    """`y = conv(x) + x`, both inputs of the addition quantized, as NNCF does for CNNs."""
    branch, constants = pair("b8", "b", 8 / 127, np.int8(0))
    skip, others = pair("x8", "x", 4 / 127, np.int8(0))
    nodes = [
        helper.make_node("Conv", ["x", "K", "bias"], ["b"], name="conv", pads=[1, 1, 1, 1]),
        *branch,
        *skip,
        helper.make_node("Add", ["b8", "x8"], ["y"], name="add"),
    ]
    rng = np.random.default_rng(0)
    weights = {"K": rng.standard_normal((4, 4, 3, 3), np.float32) / 4, "bias": rng.standard_normal(4, np.float32)}
    return hand_made(nodes, {"x": [1, 4, 8, 8]}, {"y": [1, 4, 8, 8]}, {**constants, **others, **weights})


def test_int8_activations_become_the_same_steps_of_uint8(hand_made):
    moved, constants = pair("a8", "x", 0.02, np.int8(-5))
    symmetric, others = pair("y", "a8", 0.05, np.int8(0))
    weights = {"W": np.array([-3, 7], np.int8), "w_s": np.float32(0.1), "w_z": np.int8(2)}
    product = helper.make_node("DequantizeLinear", ["W", "w_s", "w_z"], ["w"], name="weights")
    model = hand_made([*moved, *symmetric, product], {"x": [64]}, {"y": [64]}, {**constants, **others, **weights})
    mended = unsigned(model)
    found = {t.name: numpy_helper.to_array(t) for t in mended.graph.initializer if t.name.endswith("_z")}
    assert {name: (value.dtype.name, int(value)) for name, value in found.items()} == {
        "a8_z": ("uint8", 123),
        "y_z": ("uint8", 128),
        "w_z": ("int8", 2),  # the weights' own steps would have to move with it
    }
    inputs = {"x": np.linspace(-4, 4, 64, dtype=np.float32)}
    assert (as_written(mended, inputs) == as_written(model, inputs)).all()


def test_weights_that_the_graph_quantizes_itself_stay_int8(hand_made):
    quantized, constants = pair("w8", "W", 0.1, np.int8(0))
    activation, others = pair("x8", "x", 0.02, np.int8(0))
    product = helper.make_node("MatMul", ["x8", "w8"], ["y"], name="product")
    weights = {"W": np.random.default_rng(0).standard_normal((8, 4), np.float32)}
    every = {**constants, **others, **weights}
    model = hand_made([*quantized, *activation, product], {"x": [2, 8]}, {"y": [2, 4]}, every)
    mended = unsigned(model)
    points = {t.name: numpy_helper.to_array(t).dtype.name for t in mended.graph.initializer if t.name.endswith("_z")}
    assert points == {"w8_z": "int8", "x8_z": "uint8"}
    inputs = frames((2, 8))
    assert (as_written(mended, inputs) == as_written(model, inputs)).all()


def test_a_graph_without_int8_activations_stays_as_it_is(rectified):
    assert unsigned(rectified) == rectified


def test_only_the_skip_of_a_residual_addition_stays_quantized(residual, answer):
    """The branch's sum reaches the addition unrounded: the error halves and more (here 43 to 50 dB)."""
    inputs = frames((1, 4, 8, 8))
    want = exact(residual, answer, inputs)
    mended = skips_only(residual)
    add = next(node for node in mended.graph.node if node.name == "add")
    assert list(add.input) == ["b", "x8"]
    assert [n.name for n in mended.graph.node] == ["conv", "x8_Q", "x8_DQ", "add"]
    before, after = (sqnr_db(want, answer(model, inputs)) for model in (residual, mended))
    assert after > before + 3


def test_of_two_products_the_later_is_the_branch(hand_made):
    nodes, constants = [], {}
    for name in ("shortcut", "branch"):
        nodes.append(helper.make_node("Conv", ["x", "K"], [name], name=name))
        quantizers, values = pair(f"{name}8", name, 0.1, np.int8(0))
        nodes += quantizers
        constants |= values
    nodes.append(helper.make_node("Add", ["shortcut8", "branch8"], ["y"], name="add"))
    weights = {"K": np.ones((4, 4, 1, 1), np.float32)}
    model = hand_made(nodes, {"x": [1, 4, 2, 2]}, {"y": [1, 4, 2, 2]}, {**constants, **weights})
    assert list(skips_only(model).graph.node[-1].input) == ["shortcut8", "branch"]


def test_a_quantizer_that_others_read_stays(residual):
    model = onnx.ModelProto()
    model.CopyFrom(residual)
    model.graph.node.append(helper.make_node("Relu", ["b8"], ["z"], name="relu"))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 4, 8, 8]))
    names = [node.name for node in skips_only(model).graph.node]
    assert "b8_Q" in names and "b8_DQ" in names


def test_additions_of_other_things_are_left_alone(hand_made):
    first, constants = pair("a8", "a", 0.1, np.int8(0))
    second, others = pair("b8", "b", 0.1, np.int8(0))
    add = helper.make_node("Add", ["a8", "b8"], ["y"], name="add")
    model = hand_made([*first, *second, add], {"a": [4], "b": [4]}, {"y": [4]}, {**constants, **others})
    assert skips_only(model) == model


@pytest.mark.parametrize(("axis", "expected"), [(-1, 1), (1, 1), (-2, 0)])
def test_axes_count_from_the_front(hand_made, axis, expected):
    weights = np.random.default_rng(0).integers(-127, 128, (6, 6)).astype(np.int8)
    constants = {"W": weights, "s": np.linspace(0.1, 1, 6, dtype=np.float32), "z": np.zeros(6, np.int8)}
    nodes = [
        helper.make_node("DequantizeLinear", ["W", "s", "z"], ["w"], name="weights", axis=axis),
        helper.make_node("MatMul", ["x", "w"], ["y"], name="product"),
    ]
    model = hand_made(nodes, {"x": [3, 6]}, {"y": [3, 6]}, constants)
    mended = explicit_axes(model)
    assert [(a.name, a.i) for a in mended.graph.node[0].attribute] == [("axis", expected)]
    assert (as_written(model, frames((3, 6))) == as_written(mended, frames((3, 6)))).all()


def test_a_missing_axis_is_written_down(hand_made):
    """ONNX takes it for 1, TensorRT's older parsers for 0: rows of a square matrix would get the scales of columns."""
    weights = np.random.default_rng(0).integers(-127, 128, (6, 6)).astype(np.int8)
    constants = {"W": weights, "s": np.linspace(0.1, 1, 6, dtype=np.float32), "z": np.zeros(6, np.int8)}
    nodes = [
        helper.make_node("DequantizeLinear", ["W", "s", "z"], ["w"], name="weights"),
        helper.make_node("MatMul", ["x", "w"], ["y"], name="product"),
    ]
    model = hand_made(nodes, {"x": [3, 6]}, {"y": [3, 6]}, constants)
    misread = onnx.ModelProto()
    misread.CopyFrom(model)
    misread.graph.node[0].attribute.append(helper.make_attribute("axis", 0))
    meant, calls = as_written(model, frames((3, 6))), frames((3, 6))
    assert sqnr_db(meant, as_written(misread, calls)) < 10
    mended = explicit_axes(model)
    assert [(a.name, a.i) for a in mended.graph.node[0].attribute] == [("axis", 1)]
    assert (meant == as_written(mended, calls)).all()


def test_one_scale_for_a_tensor_has_no_axis(residual):
    model = onnx.ModelProto()
    model.CopyFrom(residual)
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            node.attribute.append(helper.make_attribute("axis", 0))
    assert not any(node.attribute for node in explicit_axes(model).graph.node if node.op_type == "QuantizeLinear")


def test_stale_types_and_unread_initializers_go(rectified):
    model = onnx.ModelProto()
    model.CopyFrom(signed(rectified))
    model.graph.value_info.append(helper.make_tensor_value_info("r8_q", TensorProto.UINT8, [8, 16]))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(9, np.float32), "unread"))
    with pytest.raises(onnx.shape_inference.InferenceError):  # what NNCF's file becomes when it is only retyped
        onnx.checker.check_model(model, full_check=True)
    mended = tidy(model)
    onnx.checker.check_model(mended, full_check=True)
    assert "unread" not in {tensor.name for tensor in mended.graph.initializer} and not mended.graph.value_info


@pytest.mark.slow
def test_what_nncf_writes_for_our_networks_becomes_what_tensorrt_reads(network, calls, answer):
    """Real networks, quantized everywhere: all zero points int8 and 0, and at most two bits from the unsigned form."""
    import nncf

    data = nncf.Dataset(calls(12))
    written = nncf.quantize(network, data, subset_size=12)
    assert np.uint8 in {point.dtype.type for point in points(written)}
    mended = for_tensorrt(written)
    onnx.checker.check_model(mended, full_check=True)
    onnx.shape_inference.infer_shapes(mended, strict_mode=True, check_type=True, data_prop=True)
    assert {point.dtype.type for point in points(mended)} == {np.int8} and not any(p.any() for p in points(mended))
    for node in mended.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert all(a.i >= 0 for a in node.attribute if a.name == "axis")
    want, before, after = (np.concatenate([answer(m, f) for f in calls(8, 1)]) for m in (network, written, mended))
    assert sqnr_db(want, after) > sqnr_db(want, before) - 13


def test_they_are_pure_functions(residual):
    before = residual.SerializeToString(deterministic=True)
    first, second = (for_tensorrt(residual).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
    assert residual.SerializeToString(deterministic=True) == before


def test_what_bodies_read_stays(answer):
    """The branches of an If read a quantized tensor and a weight of the graph around them."""

    def branch(name, kind, inputs):
        made = [helper.make_node(kind, inputs, [name], name=name)]
        return helper.make_graph(made, name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4])])

    quantizers, scales = pair("d", "x", 0.1, np.uint8(0))
    nodes = [
        *quantizers,
        helper.make_node("ReduceMax", ["x"], ["m"], name="m", keepdims=0),
        helper.make_node("Greater", ["m", "zero"], ["c"], name="c"),
        helper.make_node(
            "If", ["c"], ["y"], name="y",
            then_branch=branch("a", "Mul", ["d", "w"]), else_branch=branch("b", "Neg", ["d"]),
        ),
    ]  # fmt: skip
    constants = {**scales, "zero": np.float32(0), "w": np.float32(3)}
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    done = for_tensorrt(model)
    onnx.checker.check_model(done, full_check=True)
    inputs = {"x": np.float32([0.12, 1.0, 2.0, 5.0])}
    assert np.abs(answer(done, inputs) - 3 * inputs["x"]).max() < 0.4


def test_a_quantizer_without_a_zero_point_gives_uint8_and_is_refused(hand_made):
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "s"], ["y"], name="y"),
    ]
    model = hand_made(nodes, {"x": [4]}, {"y": [4]}, {"s": np.float32(0.1)})
    with pytest.raises(ModelError, match="'q' has no zero point, so that it gives uint8; give it one of int8 zeros"):
        for_tensorrt(model)
