from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

HALF = TensorProto.FLOAT16
TO_FLOAT, TO_HALF = {"to": TensorProto.FLOAT}, {"to": HALF}
ONES = np.ones(8, np.float16)


def half(make, *rows, shape=(1, 8), constants=None):
    """x in FP16 -> rows -> y in FP16."""
    return make(*rows, inputs={"x": (HALF, list(shape))}, outputs={"y": HALF}, constants=constants)


def island(*rows):
    """The same between casts, in FP32; the first row reads `f` and the last gives `g`."""
    return [("Cast", "x", "f", TO_FLOAT), *rows, ("Cast", "g", "y", TO_HALF)]


@pytest.mark.parametrize(
    ("largest", "found"), [(5e4, False), (6.1e4, True), (1e9, True), (np.inf, True), (np.nan, True)]
)
def test_a_tensor_beyond_fp16(make, said, largest, found):
    model = half(make, ("Mul", "x x", "y_fp16"), ("Relu", "y_fp16", "y"))
    items = said(model, "overflow.tensor", ranges={"y": largest, "x": 1e9})
    # Both FP16 tensors called y: quantize.fp16 appends _fp16 to the FP32 graph's names. An input is the camera's.
    assert [item.node for item in items] == (["y_fp16", "y"] if found else [])
    if found:
        assert items[0].what == f"Its result 'y_fp16' reaches {float(largest):.4g} in calibration."
    assert said(model, "overflow.tensor") == []
    mended = make(*island(("Mul", "f f", "g")), inputs={"x": (HALF, [1, 8])}, outputs={"y": HALF})
    assert said(mended, "overflow.tensor", ranges={"g": largest}) == []


def axes(*values):
    return {"a": np.array(values, np.int64)}


@pytest.mark.parametrize(
    ("row", "shape", "constants", "length"),
    [
        (("ReduceMean", "x a", "y"), (1, 8, 20, 20), axes(2, 3), 400),
        (("ReduceSum", "x a", "y"), (1, 8, 20, 20), axes(-1), 20),
        (("ReduceSum", "x", "y"), (1, 8, 20, 20), {}, 3200),
        (("GlobalAveragePool", "x", "y"), (1, 8, 20, 20), {}, 400),
        (("CumSum", "x a", "y"), (1, 8), {"a": np.int64(1)}, 8),
    ],
)
def test_sums_by_their_length(make, said, row, shape, constants, length):
    model = half(make, row, shape=shape, constants=constants)
    (item,) = said(model, "overflow.", ranges={"x": 1 + 6e4 / length})
    assert (item.rule, item.node) == ("overflow.sum", "y")
    assert item.what.startswith(f"It adds {length} values of up to")
    left = said(model, "overflow.", ranges={"x": 6e4 / length})
    assert [item.rule for item in left] == (["overflow.reduction"] if length >= 1000 else [])
    kind, names, _ = row
    mended = island((kind, names.replace("x", "f"), "g"))
    mended = make(*mended, inputs={"x": (HALF, list(shape))}, outputs={"y": HALF}, constants=constants)
    assert said(mended, "overflow.", ranges={"x": 6e4, "f": 6e4}) == []


def test_a_long_sum(make, proves):
    def model(side):
        return half(make, ("ReduceMean", "x a", "y"), shape=(1, 8, side, 40), constants=axes(2, 3))

    assert proves("overflow.reduction", model(25), model(24), node="y").what == "It adds 1000 values in FP16."


def decomposed(square):
    """The deviation of a LayerNorm as an old exporter writes it."""
    rows = [("ReduceMean", "{0} a", "mean"), ("Sub", "{0} mean", "d"), square]
    rows += [("ReduceMean", "s a", "v"), ("Sqrt", "v", "{1}")]
    return lambda x, y: [(kind, names.format(x, y), out.format(x, y)) for kind, names, out in rows]


@pytest.mark.parametrize("square", [("Pow", "d two", "s"), ("Mul", "d d", "s")])
def test_a_layer_norm_written_out(make, proves, said, square):
    constants = {**axes(1), "two": np.float16(2)}
    broken = half(make, *decomposed(square)("x", "y"), constants=constants)
    inside = {**axes(1), "two": np.float32(2)}
    mended = island(*decomposed(square)("f", "g"))
    mended = make(*mended, inputs={"x": (HALF, [1, 8])}, outputs={"y": HALF}, constants=inside)
    assert proves("overflow.square", broken, mended, node="s").what == "It squares 'd' in FP16."
    assert said(broken, "overflow.", ranges={"d": 240}) == []
    (item,) = said(broken, "overflow.", ranges={"d": 260})
    assert item.what == "It squares 'd' in FP16, which reaches 260 in calibration."


def test_a_sum_of_squares(make, said):
    model = half(make, ("ReduceL2", "x a", "y"), constants=axes(1))
    assert [item.rule for item in said(model, "overflow.")] == ["overflow.square"]
    assert said(model, "overflow.", ranges={"x": 80}) == []  # 8 times 80 squared is 51,200
    assert [item.rule for item in said(model, "overflow.", ranges={"x": 90})] == ["overflow.square"]


def test_normalisation_belongs_into_fp32(make, proves):
    broken = half(make, ("LayerNormalization", "x w w", "y"), constants={"w": ONES})
    mended = island(("LayerNormalization", "f w w", "g"))
    mended = make(*mended, inputs={"x": (HALF, [1, 8])}, outputs={"y": HALF}, constants={"w": ONES.astype(np.float32)})
    proves("overflow.norm", broken, mended, node="y")


@pytest.mark.parametrize(
    ("rule", "broken", "mended"),
    [
        ("overflow.constant", np.float16(np.inf), np.float16(65504)),
        ("overflow.constant", np.float16(np.nan), np.float16(0)),
        ("overflow.mask", np.float16(-np.inf), np.float16(-6e4)),
    ],
)
def test_constants_in_fp16(make, proves, rule, broken, mended):
    models = [half(make, ("Add", "x c", "y"), constants={"c": value}) for value in (broken, mended)]
    proves(rule, *models, node="y")


@pytest.mark.parametrize(
    "rows",
    [
        [("Constant", "", "c", {"value": helper.make_tensor("v", HALF, [1], [np.inf])})],
        [("Constant", "", "b", {"value": helper.make_tensor("v", HALF, [1], [np.inf])}), ("Identity", "b", "c")],
        [("Constant", "", "b", {"value_float": 7e4}), ("Cast", "b", "c", TO_HALF)],
        [("ConstantOfShape", "s", "c", {"value": helper.make_tensor("v", HALF, [1], [np.nan])})],
    ],
    ids=["Constant", "Identity", "Cast", "ConstantOfShape"],
)
def test_constants_of_nodes_too(make, said, rows):
    model = half(make, *rows, ("Mul", "x c", "y"), constants={"s": np.int64([1])})
    assert [(item.rule, item.node) for item in said(model, "overflow.")] == [("overflow.constant", "y")]


PRODUCTS = {
    "MatMul": (("MatMul", "x w", "y"), np.ones((64, 8)), (1, 64), 64),
    "Gemm": (("Gemm", "x w", "y", {"transB": 1}), np.ones((8, 64)), (1, 64), 64),
    "Conv": (("Conv", "x w", "y"), np.ones((4, 8, 3, 3)), (1, 8, 6, 6), 72),
    "ConvTranspose": (("ConvTranspose", "x w", "y", {"group": 2}), np.ones((8, 2, 2, 2)), (1, 8, 6, 6), 16),
}


@pytest.mark.parametrize("kind", PRODUCTS)
def test_products_by_their_weights(make, said, kind):
    row, weights, shape, length = PRODUCTS[kind]
    model = half(make, row, shape=shape, constants={"w": weights.astype(np.float16)})
    (item,) = said(model, "overflow.", ranges={"x": 7e4 / length})
    assert (item.rule, item.node, item.severity.value) == ("overflow.product", "y", "note")
    assert item.what.startswith(f"Its sum can be 7e+04 in FP16: its weights add up to {length}, its input reaches")
    assert said(model, "overflow.", ranges={"x": 6e4 / length}) == said(model, "overflow.") == []


def test_a_product_that_overflows_in_calibration_is_said_once(make, said):
    model = half(make, ("MatMul", "x w", "y"), shape=(1, 64), constants={"w": np.ones((64, 8), np.float16)})
    found = said(model, "overflow.", ranges={"x": 2e3, "y": 7e4})
    assert [item.rule for item in found] == ["overflow.tensor"]


@pytest.mark.parametrize("least", [-np.inf, -65504, -3e4])
def test_how_far_a_mask_reaches_does_not_count(make, said, least):
    """overflow.tensor and overflow.mask must not say two things of one mask."""
    rows = [("Mul", "x x", "s"), ("Add", "s m", "t"), ("Softmax", "t", "y")]
    model = half(make, *rows, constants={"m": np.float16(least)})
    found = [item.rule for item in said(model, "overflow.", ranges={"x": 9, "s": 81, "t": 1e9})]
    assert found == (["overflow.mask"] if np.isinf(least) else [])
    found = [item.rule for item in said(model, "overflow.tensor", ranges={"x": 300, "s": 9e4, "t": 1e9})]
    assert found == ["overflow.tensor"] * 2
    other = half(make, *rows[:2], ("Relu", "t", "y"), constants={"m": np.float16(least)})
    assert [item.node for item in said(other, "overflow.tensor", ranges={"t": 1e9})] == ["t"]


def test_a_pooling_is_a_sum(make, said):
    row = ("AveragePool", "x", "y", {"kernel_shape": [4, 4]})
    model = half(make, row, shape=(1, 8, 20, 20))
    assert [item.rule for item in said(model, "overflow.", ranges={"x": 4e3})] == ["overflow.sum"]
    assert said(model, "overflow.", ranges={"x": 3e3}) == []


def test_an_infinite_bound_is_none(make, said):
    constants = {"low": np.float16(0), "high": np.float16(np.inf)}
    assert said(half(make, ("Clip", "x low high", "y"), constants=constants), "overflow.") == []
    assert [item.rule for item in said(half(make, ("Max", "x high", "y"), constants=constants), "overflow.")] == [
        "overflow.constant"
    ]


def test_nothing_is_said_of_fp32(make, said):
    rows = [("Pow", "x two", "s"), ("ReduceMean", "s a", "m"), ("LayerNormalization", "m w w", "y")]
    constants = {**axes(1), "two": np.float32(2), "w": np.ones(1, np.float32)}
    assert said(make(*rows, constants=constants), "overflow.", ranges=dict.fromkeys("xsmy", 1e9)) == []
