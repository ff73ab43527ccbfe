from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeattn.errors import ModelError
from edgeattn.metrics.tensors import sqnr_db
from edgeattn.quantize import fp16
from edgeattn.quantize.fp16 import kept, to_fp16


def types(model):
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True, check_type=True).graph
    found = {t.name: t.data_type for t in graph.initializer}
    found |= {v.name: v.type.tensor_type.elem_type for v in [*graph.value_info, *graph.input, *graph.output]}
    return found


def test_islands_stay_fp32_and_the_rest_is_fp16(network):
    model = to_fp16(network)
    onnx.checker.check_model(model, full_check=True)
    kinds = types(model)
    islands, found = kept(model), 0
    for node in model.graph.node:
        if node.op_type == "Cast":
            continue
        floats = {
            kinds[name]
            for name in [*node.input, *node.output]
            if kinds.get(name) in (TensorProto.FLOAT, TensorProto.FLOAT16)
        }
        if node.name in islands:
            assert floats == {TensorProto.FLOAT}, node.name
            found += 1
        else:
            assert floats <= {TensorProto.FLOAT16}, node.name
    assert found == len(islands)
    assert bool(islands) == any(node.op_type == "LayerNormalization" for node in network.graph.node)


def test_inputs_and_outputs_keep_their_names_and_types(network):
    model = to_fp16(network)
    for part in ("input", "output"):
        before, after = (list(getattr(m.graph, part)) for m in (network, model))
        assert before == after
    assert model.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT


def test_it_answers_as_the_fp32_graph_does(network, calls, computed):
    model = to_fp16(network)
    want, got = (np.concatenate([computed(m, f) for f in calls(4)]) for m in (network, model))
    assert got.dtype == np.float32
    assert 50 < sqnr_db(want, got) < 90  # better than 50 dB, and not the FP32 graph over again


def test_it_is_a_pure_function(network):
    before = network.SerializeToString(deterministic=True)
    first, second = (to_fp16(network).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
    assert network.SerializeToString(deterministic=True) == before
    assert len(first) < 0.65 * len(before)


def constant(**value):
    return helper.make_node("Constant", [], ["k"], name="k", **value)


FAR = np.full(4, -7e4, np.float32)


@pytest.mark.parametrize(
    ("maker", "constants"),
    [
        ([], {"k": FAR}),
        ([constant(value=numpy_helper.from_array(FAR))], {}),
        ([constant(value_float=-7e4)], {}),
        ([constant(value_floats=[0.0, 0.0, 0.0, -1e9])], {}),
        ([], {"k": np.float32([0, 0, 0, -np.finfo(np.float32).max])}),
    ],
    ids=["weight", "tensor", "number", "numbers", "mask"],
)
def test_who_reads_a_constant_beyond_fp16_stays_fp32(maker, constants, hand_made, computed):
    nodes = [
        *maker,
        helper.make_node("Relu", ["x"], ["r"], name="relu"),
        helper.make_node("Add", ["r", "k"], ["s"], name="add"),
        helper.make_node("Atan", ["s"], ["y"], name="atan"),
    ]
    model = hand_made(nodes, {"x": [1, 4]}, {"y": [1, 4]}, constants)
    made = to_fp16(model, {"s": 7e4})
    assert set(kept(made)) == {"add", "atan"}
    assert kept(to_fp16(model))["add"].endswith("(constant), FP16 ends at 65504")
    assert {types(made)[name] for name in ("s", "y")} == {TensorProto.FLOAT}
    assert types(made)["r_fp16"] == TensorProto.FLOAT16
    x = {"x": np.float32([[1, 2, 3, 4]])}
    np.testing.assert_allclose(computed(made, x), computed(model, x), atol=1e-3)


def test_minus_infinity_is_a_mask_in_fp16_too(hand_made, computed):
    nodes = [
        helper.make_node("Add", ["x", "k"], ["s"], name="add"),
        helper.make_node("Softmax", ["s"], ["y"], name="softmax"),
    ]
    model = hand_made(nodes, {"x": [1, 4]}, {"y": [1, 4]}, {"k": np.float32([0, 0, 0, -np.inf])})
    assert kept(to_fp16(model)) == {}
    x = {"x": np.float32([[1, 2, 3, 4]])}
    np.testing.assert_allclose(computed(to_fp16(model), x), computed(model, x), atol=1e-3)


def test_a_weight_that_is_no_number_is_refused(hand_made):
    nodes = [helper.make_node("Mul", ["x", "W"], ["y"], name="n")]
    with pytest.raises(ModelError, match=r"The weight 'W' holds NaN; train again"):
        to_fp16(hand_made(nodes, {"x": [1, 4]}, {"y": [1, 4]}, {"W": np.float32([1, np.nan, 1, 1])}))


def test_layer_norm_of_large_values(hand_made, computed, monkeypatch):
    """Values around 400: their squares, 160,000, overflow FP16; in an FP32 island nothing does.

    The emulation computes a LayerNormalization in FP32 whatever its type is, so that the type is looked at; written out
    it shows in the numbers (test_islands.py).
    """
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["doubled"], name="double"),
        helper.make_node("LayerNormalization", ["doubled", "scale", "bias"], ["y"], name="norm"),
    ]
    ones = np.ones(8, np.float32)
    model = hand_made(nodes, {"x": [1, 8]}, {"y": [1, 8]}, {"two": 2 * ones, "scale": ones, "bias": 0 * ones})
    x = {"x": np.float32([[-200, 200, -180, 180, -150, 150, 210, -210]])}
    made = to_fp16(model)
    assert types(made)["doubled_fp16"] == TensorProto.FLOAT16
    assert types(made)["doubled"] == types(made)["y"] == TensorProto.FLOAT
    np.testing.assert_allclose(computed(made, x), computed(model, x), atol=2e-3)
    monkeypatch.setattr(fp16, "islands", lambda graph, ranges: {})
    assert types(to_fp16(model))["y_fp16"] == TensorProto.FLOAT16


def test_several_outputs_keep_their_order_and_an_inner_one_its_readers(hand_made, computed):
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["b"], name="first"),
        helper.make_node("Softmax", ["b"], ["a"], name="second"),
        helper.make_node("Relu", ["b"], ["c"], name="third"),
    ]
    model = hand_made(nodes, {"x": [1, 4]}, {"c": [1, 4], "b": [1, 4], "a": [1, 4]}, {"w": np.ones(4, np.float32)})
    result = to_fp16(model)
    assert [value.name for value in result.graph.output] == ["c", "b", "a"]
    last = [node.output[0] for node in result.graph.node if node.output[0] in ("b", "c")]
    assert last == ["c", "b"]  # cast back in the order of the outputs, whatever Python's hash seed
    np.testing.assert_allclose(computed(result, {"x": np.float32([[1, -2, 3, 0]])}), [[1, 0, 3, 0]])


def test_a_constant_node_is_converted_as_a_weight_is(hand_made, computed):
    value = numpy_helper.from_array(np.float32([1, 2, 3, 4]))
    nodes = [
        helper.make_node("Constant", [], ["k"], name="k", value=value),
        helper.make_node("Add", ["x", "k"], ["s"], name="s"),
        helper.make_node("Softmax", ["s"], ["y"], name="y"),
    ]
    model = hand_made(nodes, {"x": [1, 4]}, {"y": [1, 4]}, {})
    x = np.float32([[1, 1, 0, 0]])
    np.testing.assert_allclose(computed(to_fp16(model), {"x": x}), computed(model, {"x": x}), atol=1e-3)


@pytest.mark.parametrize(("attribute", "value"), [("value_float", 3.0), ("value_floats", [1.0, 2.0, 3.0, 4.0])])
def test_a_constant_node_of_plain_numbers(attribute, value, hand_made, computed):
    """Beside one of whole numbers, which stays as it is."""
    nodes = [
        helper.make_node("Constant", [], ["k"], name="k", **{attribute: value}),
        helper.make_node("Constant", [], ["shape"], name="shape", value_ints=[1, -1]),
        helper.make_node("Reshape", ["k", "shape"], ["row"], name="row"),
        helper.make_node("Add", ["x", "row"], ["y"], name="y"),
    ]
    model = hand_made(nodes, {"x": [1, 4]}, {"y": [1, 4]}, {})
    made = to_fp16(model)
    assert types(made)["row_fp16"] == TensorProto.FLOAT16
    x = np.float32([[1, 1, 0, 0]])
    np.testing.assert_allclose(computed(made, {"x": x}), computed(model, {"x": x}), atol=1e-3)


@pytest.mark.parametrize("scale", [1e-9, 0.01])
def test_scales_of_quantizers_become_fp16_and_never_zero(hand_made, computed, scale):
    """Below 3e-8 a scale would round to 0, and all of the tensor with it."""
    nodes = [
        helper.make_node("Mul", ["x", "small"], ["t"], name="t"),
        helper.make_node("QuantizeLinear", ["t", "s", "z"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], name="y"),
    ]
    constants = {"small": np.float32(100 * scale), "s": np.float32(scale), "z": np.int8(0)}
    model = to_fp16(hand_made(nodes, {"x": [1, 4]}, {"y": [1, 4]}, constants))
    onnx.checker.check_model(model, full_check=True)
    assert types(model)["s_fp16"] == TensorProto.FLOAT16
    narrow, wide = (
        {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}[name] for name in ("s_fp16", "s")
    )
    assert wide == narrow > 0  # the output is FP32, by the scale that it was quantized with
    got = computed(model, {"x": np.array([[-1, 0, 0.5, 1]], np.float32)})
    assert got[0, 3] > 0 > got[0, 0]
    assert got == pytest.approx(100 * scale * np.array([[-1, 0, 0.5, 1]]), abs=2e-7, rel=0.02)


def node(kind, inputs, output, **attributes):
    return helper.make_node(kind, inputs.split(), [output], name=f"the {output}", **attributes)


def test_what_states_its_own_type(hand_made, computed):
    nodes = [
        node("Shape", "x", "shape"),
        node("ConstantOfShape", "shape", "thirds", value=numpy_helper.from_array(np.float32([1 / 3]))),
        node("ConstantOfShape", "shape", "zeros"),
        node("EyeLike", "x", "one", dtype=TensorProto.FLOAT),
        node("EyeLike", "x", "other"),
        node("RandomUniformLike", "x", "noise", dtype=TensorProto.FLOAT),
        node("RandomNormal", "", "more", shape=[4, 4]),
        node("Sum", "x thirds zeros one other noise more", "sum"),
        node("Sub", "sum noise", "less"),
        node("Sub", "less more", "y"),
    ]
    model = hand_made(nodes, {"x": [4, 4]}, {"y": [4, 4]}, {})
    made = to_fp16(model)
    assert kept(made) == {}
    floats = [name for name, kind in types(made).items() if kind == TensorProto.FLOAT]
    assert sorted(floats) == ["x", "y"]
    x = {"x": np.eye(4, dtype=np.float32)}
    np.testing.assert_allclose(computed(made, x), 3 * x["x"] + 1 / 3, atol=0.02)


def branch(name):
    made = [helper.make_node("Neg", ["r"], [name], name=name)]
    return helper.make_graph(made, name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4])])


def test_a_body_that_computes_in_float_is_refused(hand_made):
    nodes = [
        node("Relu", "x", "r"),
        node("ReduceSum", "r", "total", keepdims=0),
        node("Cast", "total", "yes", to=TensorProto.BOOL),
        node("If", "yes", "y", then_branch=branch("a"), else_branch=branch("b")),
    ]
    model = hand_made(nodes, {"x": [4]}, {"y": [4]}, {})
    with pytest.raises(
        ModelError, match=r"^If 'the y' has a body that computes in float, which has no FP16 form here;"
    ):
        to_fp16(model)


def test_a_function_is_written_out(hand_made, computed):
    model = hand_made([node("Relu", "x", "r"), node("Neg", "r", "y")], {"x": [4]}, {"y": [4]}, {})
    body = [helper.make_node("Mul", ["a", "a"], ["b"], name="square")]
    opsets = [helper.make_opsetid("", 20)]
    model.functions.append(helper.make_function("own", "Square", ["a"], ["b"], body, opsets))
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node[0].CopyFrom(helper.make_node("Square", ["x"], ["r"], domain="own", name="call"))
    made = to_fp16(model)
    assert [n.op_type for n in made.graph.node] == ["Cast", "Mul", "Neg", "Cast"] and not made.functions
    np.testing.assert_array_equal(computed(made, {"x": np.float32([1, 2, 3, 300])}), [-1, -4, -9, -np.inf])


def test_nodes_without_names_are_told_apart(hand_made):
    nodes = [
        helper.make_node("Constant", [], ["k"], value_float=7e4),
        helper.make_node("Exp", ["x"], ["e"]),
        helper.make_node("Exp", ["e"], ["f"]),
        helper.make_node("Mul", ["f", "k"], ["y"]),
    ]
    made = kept(to_fp16(hand_made(nodes, {"x": [4]}, {"y": [4]}, {})))
    assert set(made) == {"e", "f", "y"}  # and not the constant, which computes nothing


def test_an_output_that_an_island_reads_too_is_cast_once(hand_made):
    nodes = [node("Relu", "x", "r"), node("Exp", "r", "y")]
    made = to_fp16(hand_made(nodes, {"x": [4]}, {"r": [4], "y": [4]}, {}))
    assert [n.op_type for n in made.graph.node] == ["Cast", "Relu", "Cast", "Exp"]


def test_a_range_of_floats_stays_fp32_and_whole_numbers_do_not_count(hand_made, computed):
    nodes = [
        node("Range", "zero four half", "steps"),
        node("Shape", "x", "shape"),
        node("Pow", "shape two", "squared"),
        node("Cast", "squared", "number", to=TensorProto.FLOAT),
        node("Sum", "x steps number", "y"),
    ]
    constants = {"zero": np.float32(0), "four": np.float32(4), "half": np.float32(0.5), "two": np.int64(2)}
    model = hand_made(nodes, {"x": [8]}, {"y": [8]}, constants)
    made = to_fp16(model)
    assert kept(made) == {"the steps": "Range in FP32"}
    x = {"x": np.ones(8, np.float32)}
    np.testing.assert_array_equal(computed(made, x), computed(model, x))
