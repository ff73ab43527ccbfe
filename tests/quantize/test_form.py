"""What TensorRT's INT8 graph is other than the CPU's."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeattn.backends import openvino
from edgeattn.errors import RecipeError
from edgeattn.lint import lint
from edgeattn.lint._patterns import product_is_int8
from edgeattn.lint.base import Rules, Severity
from edgeattn.metrics.tensors import sqnr_db
from edgeattn.onnxgraph.view import Graph
from edgeattn.quantize import emulate, form, int8, policy

MINMAX = int8.CANDIDATES[0]


def run(model, calls, folder, load=emulate.load):
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    runner = load(folder, threads=1)
    outputs = np.concatenate([next(iter(runner.infer(call).values())) for call in calls])
    runner.close()
    return outputs


def test_the_form_follows_from_the_backend():
    assert (form.of_backend("tensorrt"), form.of_backend("openvino")) == (form.TENSORRT, form.CPU)
    assert form.find("tensorrt") is form.TENSORRT
    with pytest.raises(RecipeError, match="There is no form of INT8 graph 'npu'; known: cpu, tensorrt"):
        form.find("npu")


def test_both_forms_of_a_network_compute_the_same_and_the_file_loads_everywhere(network, calls, tmp_path):
    """NVIDIA's form loses at most the bit of non-negative tensors, and ONNX Runtime and OpenVINO agree on it."""
    cpu, gpu = (
        int8.quantize(network, calls(16), MINMAX, form=which, spare_bit=False) for which in (form.CPU, form.TENSORRT)
    )
    judged = calls(8, 1)
    want, ours, theirs = (run(model, judged, tmp_path) for model in (network, cpu, gpu))
    assert sqnr_db(want, theirs) > sqnr_db(want, ours) - 7
    # OpenVINO runs the float parts in BF16 where the processor has it, whose 8 bits leave about 35 dB.
    assert sqnr_db(theirs, run(gpu, judged, tmp_path, openvino.load)) > 28


def test_transformers_have_no_zero_points_either(attention_network, calls):
    (setting,) = (c for c in int8.CANDIDATES if c.name == "minmax+transformer")
    model = int8.quantize(attention_network, calls(4), setting, form=form.TENSORRT, spare_bit=False)
    points = [numpy_helper.to_array(t) for t in model.graph.initializer if t.name.startswith("zero_point")]
    assert points and not any(point.any() for point in points)


def test_smoothing_is_not_tried(attention_network):
    names = [c.name for c in int8.candidates(None, attention_network.graph, form.TENSORRT)]
    assert "minmax+smooth-quant" not in names and "minmax+transformer" in names


@pytest.fixture
def residual(hand_made):
    """`relu(conv(q) + x)`, where `q = conv(x)`: 16 channels."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "K"], ["q"], pads=[1] * 4, name="first"),
        helper.make_node("Relu", ["q"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "K"], ["branch"], pads=[1] * 4, name="second"),
        helper.make_node("Add", ["branch", "r"], ["sum"], name="add"),
        helper.make_node("Relu", ["sum"], ["out"], name="last"),
        helper.make_node("Conv", ["out", "K"], ["y"], pads=[1] * 4, name="third"),
    ]
    weights = {"K": rng.standard_normal((16, 16, 3, 3), np.float32) / 12}
    return hand_made(nodes, {"x": [1, 16, 8, 8]}, {"y": [1, 16, 8, 8]}, weights)


def test_of_a_residual_addition_the_skip_alone_is_quantized(residual):
    calls = [{"x": np.random.default_rng(i).standard_normal((1, 16, 8, 8), np.float32)} for i in range(4)]
    model = int8.quantize(residual, calls, MINMAX, form=form.TENSORRT, spare_bit=False)
    makers = {output: node for node in model.graph.node for output in node.output}
    (add,) = (node for node in model.graph.node if node.name == "add")
    assert sorted(makers[name].op_type for name in add.input) == ["Conv", "DequantizeLinear"]


def test_an_addition_behind_a_gate_or_a_product_of_attention_stays_in_float(attention_network):
    assert policy.additions_to_convolutions(attention_network.graph) == set()


@pytest.mark.parametrize(
    ("kind", "rows", "weights", "group", "reason"),
    [
        ("Conv", (1, 3, 8, 8), (16, 3, 3, 3), 1, "few channels"),
        ("Conv", (1, 8, 8, 8), (16, 8, 3, 3), 1, None),
        ("Conv", (1, 16, 8, 8), (16, 16, 3, 3), 1, None),
        ("Conv", (1, 16, 8, 8), (16, 1, 3, 3), 16, None),
        ("Conv", (1, 16, 8, 8), (16, 1, 1, 1), 16, "in groups"),
        ("Conv", (1, 12, 8, 8), (12, 1, 3, 3), 12, "in groups"),
        ("MatMul", (1, 20, 16), (16, 16), 1, None),
        ("MatMul", (1, 20, 16), (16, 8), 1, "fewer than 16 channels"),
        ("MatMul", (1, 16), (16, 32), 1, "a single row"),
        ("Gemm", (4, 16), (16, 32), 1, None),
    ],
)
def test_what_tensor_cores_are_no_help_to(hand_made, kind, rows, weights, group, reason):
    attributes = {"group": group, "pads": [weights[-1] // 2] * 4} if kind == "Conv" else {}
    out = [*rows[:-1], weights[-1]] if kind != "Conv" else [rows[0], weights[0], *rows[2:]]
    node = helper.make_node(kind, ["x", "W"], ["y"], name="product", **attributes)
    model = hand_made([node], {"x": list(rows)}, {"y": out}, {"W": np.ones(weights, np.float32)})
    found = policy.slow_on_tensor_cores(model.graph)
    assert (reason is None) == (found == {})
    assert reason is None or reason in found["product"]


def test_all_floats_are_half_precision_but_for_the_ends(attention_network, calls):
    model = int8.quantize(attention_network, calls(4), MINMAX, form=form.TENSORRT, spare_bit=False)
    scales = {node.input[1] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert scales and {kinds[name] for name in scales} == {TensorProto.FLOAT16}
    assert [value.type.tensor_type.elem_type for value in model.graph.output] == [TensorProto.FLOAT]


@pytest.mark.parametrize(("channels", "released"), [(16, {"sum"}), (12, set())])
def test_no_skip_is_quantized_beside_a_convolution_that_stays_in_float(hand_made, channels, released):
    """Twelve channels are no use to tensor cores, so that the convolution stays in FP16, and its sum with it."""
    nodes = [
        helper.make_node("Conv", ["x", "W"], ["c"], name="conv", pads=[1] * 4),
        helper.make_node("Add", ["x", "c"], ["y"], name="sum"),
    ]
    shape, weights = [1, channels, 8, 8], np.ones((channels, channels, 3, 3), np.float32)
    graph = hand_made(nodes, {"x": shape}, {"y": shape}, {"W": weights}).graph
    assert bool(policy.slow_on_tensor_cores(graph)) is not bool(released)
    assert policy.additions_to_convolutions(graph) == released


def test_depthwise_convolutions_have_one_scale_for_their_input(hand_made):
    """Left alone NNCF gives each channel its own, which TensorRT refuses of activations."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "K"], ["stem"], name="stem", pads=[1] * 4),
        helper.make_node("Relu", ["stem"], ["relu"], name="relu"),
        helper.make_node("Conv", ["relu", "D"], ["y"], name="depthwise", pads=[1] * 4, group=32),
    ]
    constants = {
        "K": rng.standard_normal((32, 16, 3, 3)).astype(np.float32),
        "D": rng.standard_normal((32, 1, 3, 3)).astype(np.float32),
    }
    model = hand_made(nodes, {"x": [1, 16, 8, 8]}, {"y": [1, 32, 8, 8]}, constants)
    inputs = [{"x": rng.standard_normal((1, 16, 8, 8), np.float32)} for _ in range(2)]
    quantized = int8.quantize(model, inputs, int8.CANDIDATES[0], form=form.TENSORRT, spare_bit=False)
    view = Graph(quantized)
    scales = {n.output: view.value(n.input(1)) for n in view.nodes if n.operator == "QuantizeLinear"}
    assert len(scales) == 2 and all(scale.size == 1 for scale in scales.values())
    assert product_is_int8(view, next(n for n in view.nodes if n.operator == "Conv" and n.get("group") == 32))
    assert not [item for item in lint(quantized, Rules((10, 3))) if item.severity is not Severity.NOTE]


def test_no_product_is_quantized_on_one_side_alone(hand_made):
    """NNCF moves the quantizer over ReduceMax, TensorRT does not: the product is float there, and is left so."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("ReduceMax", ["x", "axis"], ["largest"], name="largest", keepdims=1),
        helper.make_node("Concat", ["x", "largest"], ["both"], name="both", axis=1),
        helper.make_node("MatMul", ["both", "W"], ["one"], name="one"),
        helper.make_node("MatMul", ["x", "V"], ["y"], name="other"),
    ]
    constants = {"axis": np.int64([1])}
    constants |= {name: rng.standard_normal((32, 32)).astype(np.float32) for name in "WV"}
    model = hand_made(nodes, {"x": [1, 16, 32]}, {"one": [1, 17, 32], "y": [1, 16, 32]}, constants)
    inputs = [{"x": rng.standard_normal((1, 16, 32), np.float32)} for _ in range(2)]
    both = {
        which: int8.quantize(model, inputs, MINMAX, form=which, spare_bit=False) for which in (form.CPU, form.TENSORRT)
    }
    assert policy.half_quantized(both[form.CPU]) == ["one"], "NNCF is changed: half_quantized can go"
    assert policy.half_quantized(both[form.TENSORRT]) == []
    view = Graph(both[form.TENSORRT])
    assert {n.label: product_is_int8(view, n) for n in view.nodes if n.operator == "MatMul"} == {
        "one": False,
        "other": True,
    }
    assert [item.rule for item in lint(both[form.TENSORRT], Rules((10, 3))) if item.severity is Severity.WARNING] == []
