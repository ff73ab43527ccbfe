from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

IMAGE = {"x": [1, 16, 8, 8]}
CONV = np.ones((16, 16, 3, 3), np.float32)
PADS = {"pads": [1, 1, 1, 1]}


def image(*rows, **settings):
    return {"rows": rows, "inputs": IMAGE, "constants": {"k": CONV, "b": CONV[:, :1, :1, 0]}, **settings}


CONVOLVED = ("Conv", "r k", "c", PADS)
RELU = ("Relu", "x", "r")
CASES = {
    "placement.residual-branch": (
        image(RELU, CONVOLVED, ("QDQ", "c", "cq"), ("Add", "cq r", "y")),
        image(RELU, CONVOLVED, ("QDQ", "r", "rq"), ("Add", "c rq", "y")),
        "Its input 'cq', which Conv 'c' gives, is quantized; the skip is not.",
    ),
    "placement.residual-both": (
        image(RELU, CONVOLVED, ("QDQ", "c", "cq"), ("QDQ", "r", "rq"), ("Add", "rq cq", "y")),
        image(RELU, CONVOLVED, ("QDQ", "r", "rq"), ("Add", "rq c", "y")),
        "Both its inputs are quantized, and 'cq' is what Conv 'c' gives.",
    ),
    "placement.concat": (
        image(
            RELU,
            ("QDQ", "x", "a", {"scale": 0.1}),
            ("QDQ", "r", "d", {"scale": 0.2}),
            ("Concat", "a d", "y", {"axis": 1}),
        ),
        image(
            RELU,
            ("QDQ", "x", "a", {"scale": 0.2}),
            ("QDQ", "r", "d", {"scale": 0.2}),
            ("Concat", "a d", "y", {"axis": 1}),
        ),
        "Its quantized inputs and output have scales from 0.1 to 0.2.",
    ),
    "placement.concat-part": (
        image(RELU, ("QDQ", "x", "a"), ("Concat", "a r", "y", {"axis": 1})),
        image(RELU, ("QDQ", "x", "a"), ("QDQ", "r", "d"), ("Concat", "a d", "y", {"axis": 1})),
        "Its input 'a' is quantized, 'r' is not.",
    ),
    "placement.one-side": (
        image(("QDQ", "x", "a"), ("Conv", "a k", "y", PADS)),
        image(("QDQ", "x", "a"), ("QDQ", "k", "v"), ("Conv", "a v", "y", PADS)),
        "Its input 'a' is quantized, 'k' is not.",
    ),
    "placement.keep-float": (
        image(("QDQ", "x", "d"), ("Sigmoid", "d", "y")),
        image(("Sigmoid", "x", "y")),
        "Its input 'd' is quantized.",
    ),
    "placement.small-product": (
        {
            "rows": [("QDQ", "x", "d"), ("DQ", "w", "v"), ("Gemm", "d v", "y")],
            "inputs": {"x": [1, 64]},
            "constants": {"w": np.ones((64, 32), np.int8)},
        },
        {
            "rows": [("QDQ", "x", "d"), ("DQ", "w", "v"), ("Gemm", "d v", "y")],
            "inputs": {"x": [4, 64]},
            "constants": {"w": np.ones((64, 32), np.int8)},
        },
        "It is a product with a vector (1 x 64 by 64 x 32).",
    ),
}


@pytest.mark.parametrize("rule", CASES)
def test_each_rule(make, proves, rule):
    broken, mended, words = CASES[rule]
    models = [make(*case["rows"], **{k: v for k, v in case.items() if k != "rows"}) for case in (broken, mended)]
    assert proves(rule, *models, node="y").what == words


@pytest.mark.parametrize("row", [("MatMul", "x v", "y"), ("Gemm", "x v", "y"), ("MatMul", "v x", "y")])
def test_weights_alone_are_quantized_for_nothing(make, said, row):
    def rules(kind):
        rows = [("DQ", "w", "v", {"zero": np.array(0, kind)}), row]
        model = make(*rows, inputs={"x": [32, 32]}, constants={"w": np.ones((32, 32), kind)}, opset=21)
        return [(item.rule, item.node) for item in said(model, "placement.")]

    assert rules(np.int8) == [("placement.one-side", "y")]
    assert rules(helper.tensor_dtype_to_np_dtype(TensorProto.INT4)) == []  # four bits are for weights alone
    plain = make(row, inputs={"x": [32, 32]}, constants={"v": np.ones((32, 32), np.float32)})
    assert said(plain, "placement.") == []


def test_one_side_of_attention_is_said_once(make, said):
    """By attention.half-quantized."""
    rows = [("QDQ", "q", "d"), ("MatMul", "d k", "s"), ("Softmax", "s", "p"), ("MatMul", "p v", "y")]
    model = make(*rows, inputs={name: [1, 32, 32] for name in "qkv"})
    assert {item.rule for item in said(model) if item.severity.value == "warning"} == {"attention.half-quantized"}


def found(make, said, *rows, **settings):
    case = image(*rows, **settings)
    return {item.rule for item in said(make(*case.pop("rows"), **case), "placement.")}


BRANCH = {"placement.residual-branch"}
SHORT = ("Conv", "r k", "s", PADS)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # A bias that is added, or a batch normalisation, belongs to the convolution.
        ((CONVOLVED, ("Add", "c b", "e"), ("QDQ", "e", "cq"), ("Add", "cq r", "y")), BRANCH),
        # Behind a ReLU there is nothing to add inside the convolution's kernel.
        ((CONVOLVED, ("Relu", "c", "e"), ("QDQ", "e", "cq"), ("Add", "cq r", "y")), set()),
        # What somebody else reads as well cannot be swallowed.
        ((CONVOLVED, ("QDQ", "c", "cq"), ("Add", "cq c", "e"), ("Add", "e r", "y")), set()),
        # Both sides end in a convolution: one of them is the skip.
        ((CONVOLVED, SHORT, ("QDQ", "s", "sq"), ("Add", "c sq", "y")), set()),
        (
            (CONVOLVED, SHORT, ("QDQ", "s", "sq"), ("QDQ", "c", "cq"), ("Add", "cq sq", "y")),
            {"placement.residual-both"},
        ),
        # Two quantized inputs of which none is a product's lose nothing.
        ((("QDQ", "x", "a"), ("Relu", "r", "e"), ("QDQ", "e", "d"), ("Add", "a d", "y")), set()),
    ],
)
def test_what_counts_as_a_branch(make, said, rows, expected):
    assert found(make, said, RELU, *rows) == expected


def test_the_quantizer_behind_a_concat_counts_too(make, said):
    rows = [("QDQ", "x", "a", {"scale": 0.2}), ("Concat", "a a", "c", {"axis": 1})]
    assert found(make, said, *rows, ("QDQ", "c", "y", {"scale": 0.2})) == set()
    assert found(make, said, *rows, ("QDQ", "c", "y", {"scale": 0.3})) == {"placement.concat"}


@pytest.mark.parametrize(
    ("rows", "keeps"),
    [
        ([("QDQ", "x", "d"), ("Softmax", "d", "y")], True),
        ([("QDQ", "x", "d"), ("Mul", "d x", "y")], True),
        ([("QDQ", "x", "d"), ("Mul", "d b", "y")], False),
        ([("QDQ", "x", "d"), ("Resize", "d _ s", "y", {"mode": "linear"})], True),
        ([("QDQ", "x", "d"), ("Resize", "d _ s", "y")], False),
        ([("QDQ", "x", "d"), ("MaxPool", "d", "y", {"kernel_shape": [2, 2]})], False),
    ],
)
def test_what_computes_in_float_anyway(make, said, rows, keeps):
    constants = {"b": CONV[:, :1, :1, 0], "s": np.float32([1, 1, 2, 2])}
    assert found(make, said, *rows, constants=constants) == ({"placement.keep-float"} if keeps else set())


@pytest.mark.parametrize(
    ("shape", "channels", "attributes", "small"),
    [
        ((32, 16, 3, 3), 16, {}, False),
        ((32, 3, 3, 3), 3, {}, True),
        ((32, 8, 3, 3), 8, {}, False),
        ((16, 1, 3, 3), 16, {"group": 16}, False),
        ((12, 1, 3, 3), 12, {"group": 12}, True),
    ],
)
def test_small_convolutions(make, said, shape, channels, attributes, small):
    rows = [("QDQ", "x", "d"), ("DQ", "w", "v"), ("Conv", "d v", "y", attributes)]
    model = make(*rows, inputs={"x": [1, channels, 8, 8]}, constants={"w": np.ones(shape, np.int8)})
    assert {item.rule for item in said(model, "placement.")} == ({"placement.small-product"} if small else set())


def test_a_product_that_is_narrow(make, said):
    rows = [("QDQ", "x", "d"), ("DQ", "w", "v"), ("MatMul", "d v", "y")]
    for columns, expected in ((8, ["It multiplies 4 x 64 by 64 x 8: fewer than 16 on one side."]), (16, [])):
        model = make(*rows, inputs={"x": [4, 64]}, constants={"w": np.ones((64, columns), np.int8)})
        assert [item.what for item in said(model, "placement.")] == expected


def test_a_cast_between_dequantizer_and_product(make, proves, said):
    def model(*rows, kind=np.float16):
        before = [("DQ", "w", "d", {"scale": 0.1, "type": kind}), ("QDQ", "x", "f", {"scale": 0.1})]
        constants = {"w": np.ones((32, 32), np.int8), "s": np.int64([32, 32])}
        return make(*before, *rows, inputs={"x": [32, 32]}, constants=constants)

    wide = {"to": 1}
    broken = model(("Reshape", "d s", "r"), ("Cast", "r", "c", wide), ("MatMul", "f c", "y"))
    mended = model(("Reshape", "d s", "r"), ("MatMul", "f r", "y"), kind=np.float32)
    item = proves("placement.cast", broken, mended, node="y")
    assert item.what == "Its input 'c' is dequantized and then cast."
    assert said(model(("Cast", "d", "c", wide), ("MatMul", "x c", "y")), "placement.cast") == []  # no INT8 is meant
