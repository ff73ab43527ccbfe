"""Every FP16 tensor is rounded, whoever makes it, and ONNX Runtime's optimizations leave the roundings in place."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeattn.errors import ModelError
from edgeattn.metrics.tensors import sqnr_db
from edgeattn.quantize import emulate
from edgeattn.quantize.fp16 import to_fp16

HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT
TO_HALF = {"to": HALF}
FINE = np.float32([0.1, 1 / 3, 2049.0, 7e4])  # none of them is a number of FP16, the last is none of its size
WEIGHTS = np.random.default_rng(0).normal(0, 0.3, (8, 8)).astype(np.float32)


def half(values):
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float16).astype(np.float32)


def node(kind, inputs, outputs, **attributes):
    return helper.make_node(kind, inputs.split(), outputs.split(), name=outputs.split()[0], **attributes)


def build(nodes, inputs, outputs, constants=None):
    """inputs, outputs: name -> (type, shape)."""
    graph = helper.make_graph(
        nodes,
        "mixed",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.fixture
def computed(tmp_path):
    def run(model, inputs, **options):
        (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
        runner = emulate.load(tmp_path, threads=1, **options)
        try:
            return runner.infer(inputs)
        finally:
            runner.close()

    return run


CAST = node("Cast", "x", "h", **TO_HALF)
BACK = node("Cast", "r", "y", to=FLOAT)
ONE = np.float16(1)
MIXED = {
    "Cast": ([CAST, node("Identity", "h", "r")], {}, half(FINE)),
    "CastLike": ([node("CastLike", "x like", "r")], {"like": ONE}, half(FINE)),
    "arithmetic": ([CAST, node("Mul", "h third", "r")], {"third": np.float16(1 / 3)}, half(half(FINE) * half(1 / 3))),
    "DequantizeLinear": (
        [
            node("QuantizeLinear", "x wide zero", "q"),
            node("DequantizeLinear", "q narrow zero", "r"),
        ],
        {"wide": np.float32(1), "narrow": np.float16(1 / 3), "zero": np.int8(0)},
        half(np.float32([0, 0, 127, 127]) * half(1 / 3)),
    ),
    "Constant": (
        [CAST, node("Constant", "", "k", value=numpy_helper.from_array(np.float16([1 / 3] * 4))),
         node("Mul", "h k", "r")],
        {},
        half(half(FINE) * half(1 / 3)),
    ),
    "ConstantOfShape": (
        [CAST, node("Shape", "x", "s"),
         node("ConstantOfShape", "s", "k", value=numpy_helper.from_array(np.float16([1 / 3]))),
         node("Mul", "h k", "r")],
        {},
        half(half(FINE) * half(1 / 3)),
    ),
    "Split": (
        [CAST, node("Split", "h", "a b", num_outputs=2, axis=0), node("Concat", "a b", "c", axis=0),
         node("Sqrt", "c", "r")],
        {},
        half(np.sqrt(half(FINE))),
    ),
    "two of one node": (
        [CAST, node("TopK", "h four", "r indices", axis=0)], {"four": np.int64([4])}, half(FINE[::-1])
    ),
}  # fmt: skip


@pytest.mark.parametrize("optimized", [False, True])
@pytest.mark.parametrize("case", MIXED)
def test_every_tensor_of_fp16_is_rounded(case, optimized, computed):
    nodes, constants, want = MIXED[case]
    model = build([*nodes, BACK], {"x": (FLOAT, [4])}, {"y": (FLOAT, [4])}, constants)
    got = computed(model, {"x": FINE}, as_written=not optimized)["y"]
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("optimized", [False, True])
def test_inputs_and_outputs_of_fp16_keep_their_type(optimized, computed):
    """And an output that other nodes read is rounded for them as well."""
    nodes = [node("Mul", "x third", "y"), node("Mul", "y third", "z")]
    model = build(nodes, {"x": (HALF, [4])}, {"y": (HALF, [4]), "z": (HALF, [4])}, {"third": np.float16(1 / 3)})
    with np.errstate(over="ignore"):
        x = FINE.astype(np.float16)
    found = computed(model, {"x": x}, as_written=not optimized)
    assert {value.dtype for value in found.values()} == {np.dtype(np.float16)}
    first = half(half(FINE) * half(1 / 3))
    np.testing.assert_array_equal(found["y"].astype(np.float32), first)
    np.testing.assert_array_equal(found["z"].astype(np.float32), half(first * half(1 / 3)))


def test_a_graph_without_fp16_is_left_as_it_is():
    model = build([node("Relu", "x", "y")], {"x": (FLOAT, [4])}, {"y": (FLOAT, [4])})
    assert emulate.rounded(model) is model


def network(hand_made):
    """A convolution, and attention over its four places."""
    nodes = [
        node("Conv", "x kernel", "c", pads=[1, 1, 1, 1]),
        node("Relu", "c", "r"),
        node("Reshape", "r flat", "t"),
        node("MatMul", "t wq", "q"),
        node("Transpose", "t", "k", perm=[0, 2, 1]),
        node("MatMul", "q k", "scores"),
        node("Softmax", "scores", "weights"),
        node("MatMul", "weights t", "y"),
    ]
    kernel = np.random.default_rng(1).normal(0, 0.3, (8, 8, 3, 3)).astype(np.float32)
    constants = {"kernel": kernel, "wq": WEIGHTS, "flat": np.int64([1, 4, 8])}
    return hand_made(nodes, {"x": [1, 8, 2, 2]}, {"y": [1, 4, 8]}, constants)


def quantized(hand_made):
    nodes = []
    for name in ("x", "w"):
        nodes.append(node("QuantizeLinear", f"{name} s_{name} zero", f"q_{name}"))
        nodes.append(node("DequantizeLinear", f"q_{name} s_{name} zero", f"d_{name}"))
    nodes += [node("MatMul", "d_x d_w", "m"), node("Relu", "m", "y")]
    constants = {"w": WEIGHTS, "s_x": np.float32(0.03), "s_w": np.float32(0.01), "zero": np.int8(0)}
    return hand_made(nodes, {"x": [4, 8]}, {"y": [4, 8]}, constants)


@pytest.mark.parametrize("make", [network, quantized])
def test_optimizations_leave_the_roundings(make, hand_made, computed):
    """They round a little elsewhere, by far less than FP16 does: their roundings are still there."""
    model = make(hand_made)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    x = {"x": np.random.default_rng(2).normal(0, 1, shape).astype(np.float32)}
    made = to_fp16(model)
    want, first, second = (
        computed(graph, x, as_written=plain)["y"] for graph, plain in ((model, True), (made, True), (made, False))
    )
    np.testing.assert_array_equal(half(second), second)  # the last rounding is there
    rounding = sqnr_db(want, first)
    assert 45 < rounding < 80
    assert sqnr_db(want, second) == pytest.approx(rounding, abs=3)


@pytest.mark.parametrize("optimized", [False, True])
def test_optimizations_hide_no_overflow(optimized, hand_made, computed):
    nodes = [node("Mul", "x up", "z"), node("Mul", "z down", "y")]
    model = hand_made(nodes, {"x": [1, 4]}, {"y": [1, 4]}, {"up": np.float32(3e4), "down": np.float32(1e-4)})
    assert np.isinf(
        computed(to_fp16(model), {"x": np.full((1, 4), 3, np.float32)}, as_written=not optimized)["y"]
    ).all()


def test_a_body_of_fp16_is_refused():
    def branch(name):
        made = [helper.make_node("Mul", ["h", "h"], [name], name=name)]
        return helper.make_graph(made, name, [], [helper.make_tensor_value_info(name, HALF, [4])])

    nodes = [CAST, node("If", "c", "r", then_branch=branch("a"), else_branch=branch("b")), BACK]
    model = build(nodes, {"x": (FLOAT, [4]), "c": (TensorProto.BOOL, [])}, {"y": (FLOAT, [4])})
    with pytest.raises(ModelError, match=r"If 'r' has a body that computes in float, which has no emulated form here"):
        emulate.rounded(model)
