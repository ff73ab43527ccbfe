from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edgeattn.metrics.tensors import sqnr_db

HALF = TensorProto.FLOAT16
BFLOAT16 = helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16)
ROWS = np.float32([0.1, 0.2, 0.3, 0.4])
IMAGE = {"x": [1, 3, 8, 8]}


def zeros(count):
    return np.zeros(count, np.int8)


def activation(**settings):
    """x -> Q -> DQ -> Relu."""
    return [("QDQ", "x", "d", settings), ("Relu", "d", "y")]


def weight(kind, shape, count, axis=None, inputs=None, **attributes):
    """x and an int8 weight behind DQ with `count` scales -> `kind`."""
    settings = {"scale": np.full(count, 0.1, np.float32), **({} if axis is None else {"axis": axis})}
    rows = [("DQ", "w", "d", settings), (kind, "x d", "y", attributes)]
    return {"rows": rows, "constants": {"w": np.ones(shape, np.int8)}, "inputs": inputs or IMAGE}


def answer(model, x):
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, {"x": x}
    )[0]


CASES = {
    "qdq.unsigned": (activation(zero=np.uint8(0)), activation(), "It has a uint8 zero point."),
    "qdq.zero-point": (activation(zero=np.int8(3)), activation(), "Its zero point is 3, not 0."),
    "qdq.type": (activation(zero=np.int16(0)), activation(), "It quantizes to int16."),
    "qdq.count": (activation(zero=zeros(2)), activation(zero=zeros(1)), "It has 1 scales and 2 zero points."),
    "qdq.scale": (activation(scale=0.0), activation(scale=1e-3), "Its scale is 0."),
    "qdq.scale-range": (activation(scale=2e-8), activation(scale=7e-5), "Its scale is 2e-08."),
    "qdq.scale-small": (activation(scale=6e-5), activation(scale=6.2e-5), "Its scale is 6e-05."),
}


@pytest.mark.parametrize("rule", CASES)
def test_activations(make, said, rule):
    broken, mended, words = CASES[rule]
    found = said(make(*broken), "qdq.")
    assert [(item.rule, item.node) for item in found] == [(rule, "d_quantize"), (rule, "d")]
    assert found[0].what == words
    assert said(make(*mended), "qdq.") == []


FLOAT8 = helper.tensor_dtype_to_np_dtype(TensorProto.FLOAT8E4M3FN)
FLOAT4 = helper.tensor_dtype_to_np_dtype(TensorProto.FLOAT4E2M1)


@pytest.mark.parametrize(
    ("kind", "tensorrt", "capability", "rule", "words"),
    [
        (FLOAT8, (10, 3), (8, 7), "qdq.hardware", "which needs compute capability 8.9; the target has 8.7."),
        (FLOAT8, (10, 3), (8, 9), None, ""),
        (FLOAT8, (11, 4), (11, 0), None, ""),
        (FLOAT8, (10, 3), None, "qdq.some-hardware", "It uses float8e4m3fn, which needs compute capability 8.9."),
        (FLOAT4, (10, 7), (11, 0), "qdq.hardware", "It uses float4e2m1, which came with TensorRT 10.8."),
        (FLOAT4, (10, 8), (8, 9), "qdq.hardware", "which needs compute capability 10.0; the target has 8.9."),
        (FLOAT4, (10, 13), (11, 0), None, ""),
    ],
)
def test_types_that_not_every_board_has(make, said, kind, tensorrt, capability, rule, words):
    model = make(*activation(zero=np.array(0, kind)), opset=23)
    found = said(model, "qdq.", tensorrt=tensorrt, compute_capability=capability)
    assert [item.rule for item in found] == ([rule] * 2 if rule else [])
    assert all(words in item.what for item in found)
    assert said(make(*activation()), "qdq.", tensorrt=tensorrt, compute_capability=capability) == []


@pytest.mark.parametrize("scale", [2e-8, 7e4])
def test_what_fp16_could_not_hold_is_no_error_in_fp32(make, said, scale):
    found = said(make(*activation(scale=scale)), "qdq.")
    assert {(item.rule, item.severity.value) for item in found} == {("qdq.scale-range", "warning")}
    bfloat = make(*activation(scale=scale, type=BFLOAT16), inputs={"x": (TensorProto.BFLOAT16, [1, 8])})
    assert said(bfloat, "qdq.") == []  # it reaches as far as FP32
    half = make(*activation(scale=scale, type=np.float16), inputs={"x": (HALF, [1, 8])}, outputs={"y": HALF})
    assert {(item.rule, item.severity.value) for item in said(half, "qdq.")} == {("qdq.scale", "error")}


@pytest.mark.parametrize("scale", [-0.1, np.inf, np.nan])
def test_scales_that_are_no_scales(make, said, scale):
    assert {item.rule for item in said(make(*activation(scale=scale)), "qdq.")} == {"qdq.scale"}


def test_a_scale_that_fp16_stored_as_zero(make, said):
    """2e-8 in FP16 is 0: what an FP16 pass makes of it when it does not clamp."""
    rows = [("QDQ", "x", "d", {"scale": 2e-8, "type": np.float16}), ("Relu", "d", "y")]
    model = make(*rows, inputs={"x": (HALF, [1, 8])}, outputs={"y": HALF})
    assert {item.rule for item in said(model, "qdq.")} == {"qdq.scale"}
    rows[0][3]["scale"] = 6.2e-5
    assert said(make(*rows, inputs={"x": (HALF, [1, 8])}, outputs={"y": HALF}), "qdq.") == []


def test_of_many_scales_one_is_shown(make, said):
    settings = weight("MatMul", (4, 4), 4, 1, {"x": [2, 4]})
    settings["rows"][0][3]["scale"] = np.float32([0.1, 3e-8, 2e-8, 0.1])
    (item,) = said(make(*settings.pop("rows"), **settings), "qdq.scale-range")
    assert item.what == "1 of its 4 scales are such as 2e-08."  # 3e-8 is nearer to FP16's least number than to 0


def test_no_zero_point_means_uint8(make, said):
    """ONNX takes uint8 where nothing says otherwise, TensorRT int8: the same file, two meanings."""
    model = make(("Q", "x", "q", {"zero": None}), ("DQ", "q", "d", {"zero": None}), ("Relu", "d", "y"))
    assert answer(model, np.float32([[0, 25.5, 30, -1, 1, 2, 3, 4]])).max() == np.float32(25.5)  # 255 scales of 0.1
    found = said(model, "qdq.")
    assert [(item.rule, item.node) for item in found] == [("qdq.unsigned", "q"), ("qdq.unsigned", "d")]
    assert found[0].what == "It has no zero point, which means uint8."
    signed = {"zero": None, "output_dtype": TensorProto.INT8}
    model = make(("Q", "x", "q", signed), ("DQ", "q", "d", {"zero": None}), ("Relu", "d", "y"), opset=21)
    assert said(model, "qdq.") == []


@pytest.mark.parametrize("which", ["scale", "zero"])
def test_computed_scales_and_zero_points(make, said, which):
    rows = [("Abs", "s", "scale"), ("Identity", "z", "zero")]
    rows += [("QuantizeLinear", "x scale zero", "q"), ("DequantizeLinear", "q scale zero", "d"), ("Relu", "d", "y")]
    values = {"s": np.float32(0.1), "z": np.int8(0)}
    computed = {"scale": ("s", {"s": []}), "zero": ("z", {"z": (TensorProto.INT8, [])})}[which]
    constants = {name: value for name, value in values.items() if name != computed[0]}
    if which == "zero":
        rows[0] = ("Identity", "s", "scale")
    found = said(make(*rows, inputs={"x": [1, 8], **computed[1]}, constants=constants), "qdq.")
    assert {item.rule for item in found} == {"qdq.computed"}
    rows[0] = ("Identity", "s", "scale")
    assert said(make(*rows, constants=values), "qdq.") == []


AXES = [
    ("Conv", (4, 3, 3, 3), 4, 0, 1, {}, IMAGE),
    ("ConvTranspose", (3, 4, 3, 3), 4, 1, 0, {}, IMAGE),
    ("MatMul", (8, 8), 8, 1, 0, {}, None),
    ("Gemm", (8, 8), 8, 1, 0, {}, None),
    ("Gemm", (8, 8), 8, 0, 1, {"transB": 1}, None),
]


@pytest.mark.parametrize(("kind", "shape", "count", "right", "wrong", "attributes", "inputs"), AXES)
def test_the_axis_of_weights(make, said, kind, shape, count, right, wrong, attributes, inputs):
    def found(axis, count=count):
        settings = weight(kind, shape, count, axis, inputs or {"x": [2, 8]}, **attributes)
        return said(make(*settings.pop("rows"), **settings), "qdq.")

    assert found(right) == []
    (item,) = found(wrong, shape[wrong])
    assert (item.rule, item.node) == ("qdq.axis", "d")
    assert item.what == f"Its `axis` is {wrong}, the {kind} 'y' needs {right}."
    (item,) = found(right - len(shape))
    assert (item.rule, item.severity.value) == ("qdq.axis-negative", "warning")
    (item,) = found(None)
    assert item.rule == "qdq.axis-missing"
    (item,) = found(right, count + 1)
    assert item.rule == "qdq.axis-length"
    assert item.what == f"It has {count + 1} scales for axis {right}, which is {shape[right]} long."


def test_the_axis_of_a_weight_that_is_transposed_or_on_the_left(make, said):
    def found(axis, *rows, **kwargs):
        first = ("DQ", "w", "d", {"scale": np.full(8, 0.1, np.float32), "axis": axis})
        return said(make(first, *rows, constants={"w": np.ones((8, 8), np.int8)}, **kwargs), "qdq.")

    turned = [("Transpose", "d", "t", {"perm": [1, 0]}), ("MatMul", "x t", "y")]
    assert found(0, *turned) == []
    assert [item.rule for item in found(1, *turned)] == ["qdq.axis"]
    left = ("MatMul", "d x", "y")
    assert found(0, left, inputs={"x": [8, 2]}) == []
    assert [item.rule for item in found(1, left, inputs={"x": [8, 2]})] == ["qdq.axis"]


def test_weights_may_be_float_behind_q_and_dq(make, said):
    settings = {"scale": ROWS, "axis": 0}
    model = make(
        ("QDQ", "w", "d", settings),
        ("Conv", "x d", "y"),
        inputs=IMAGE,
        constants={"w": np.ones((4, 3, 3, 3), np.float32)},
    )
    assert said(model, "qdq.") == []


def test_scales_for_each_channel_of_an_activation(make, said):
    settings = {"scale": np.float32([0.1, 0.2, 0.3]), "axis": 1}
    found = said(make(("QDQ", "x", "d", settings), ("Relu", "d", "y"), inputs=IMAGE), "qdq.")
    assert [item.rule for item in found] == ["qdq.per-channel-activation"] * 2
    assert found[0].what == "It has 3 scales for the activation 'x'."
    assert said(make(*activation(), inputs=IMAGE), "qdq.") == []


def test_biases_stay_float(make, said):
    """What ONNX Runtime's quantize_static writes unless told otherwise: INT32 with scale x times scale w."""

    def model(bias, *before):
        rows = [*before, ("Conv", "x w b" if not before else "x w d", "y")]
        return make(*rows, inputs=IMAGE, constants={"w": np.ones((4, 3, 3, 3), np.float32), "b": bias})

    broken = model(np.ones(4, np.int32), ("DQ", "b", "d", {"scale": ROWS, "axis": 0, "zero": np.zeros(4, np.int32)}))
    assert answer(broken, np.zeros((1, 3, 8, 8), np.float32)).shape == (1, 4, 6, 6)  # ONNX has nothing against it
    (item,) = said(broken, "qdq.")
    assert (item.rule, item.what) == ("qdq.bias", "It dequantizes the INT32 tensor 'b'.")
    (item,) = said(model(np.ones(4, np.int8), ("DQ", "b", "d", {"scale": ROWS, "axis": 0})), "qdq.")
    assert (item.rule, item.what) == ("qdq.bias", "It gives the bias of Conv 'y'.")
    assert said(model(np.ones(4, np.float32)), "qdq.") == []


def test_what_the_unsigned_trap_costs(make, said):
    """Values from 0 to 1 as uint8 with scale 1/255; read as int8 with the same scale, all above 127/255 are clipped."""
    x = np.random.default_rng(0).random((1, 4096), np.float32)
    inputs = {"x": [1, 4096]}
    meant = make(*activation(scale=1 / 255, zero=np.uint8(0)), inputs=inputs)
    retyped = make(*activation(scale=1 / 255), inputs=inputs)
    mended = make(*activation(scale=1 / 127), inputs=inputs)
    figures = [sqnr_db(x, answer(model, x)) for model in (meant, retyped, mended)]
    assert figures == pytest.approx([54.2, 8.9, 48.1], abs=0.5)
    # The retyped file looks clean: only the unsigned one can be caught, before anything has touched it.
    assert [bool(said(model, "qdq.")) for model in (meant, retyped, mended)] == [True, False, False]


def test_what_the_missing_axis_costs(make, said):
    """A square weight fits its scales either way: without `axis` ONNX takes columns, TensorRT rows."""
    rng = np.random.default_rng(0)
    scales = np.exp(rng.normal(0, 1, 64)).astype(np.float32) / 100
    weights = rng.integers(-127, 128, (64, 64)).astype(np.int8)
    x = rng.normal(0, 1, (1, 64)).astype(np.float32)

    def model(**axis):
        rows = [("DQ", "w", "d", {"scale": scales, **axis}), ("MatMul", "x d", "y")]
        return make(*rows, inputs={"x": [1, 64]}, constants={"w": weights})

    (item,) = said(model(), "qdq.")
    assert item.rule == "qdq.axis-missing"
    as_onnx_reads, as_tensorrt_reads = answer(model(), x), answer(model(axis=0), x)
    np.testing.assert_allclose(as_onnx_reads, answer(model(axis=1), x))
    assert sqnr_db(as_onnx_reads, as_tensorrt_reads) < 1
