from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT


@pytest.mark.parametrize(
    "rows",
    [
        [("Max", "n e", "d"), ("Div", "x d", "y")],
        [("Clip", "n e", "c"), ("Expand", "c s", "d"), ("Div", "x d", "y")],
        [("Add", "n e", "c"), ("Sqrt", "c", "d"), ("Reciprocal", "d", "y")],
        [("Add", "e n", "d"), ("Log", "d", "y")],
    ],
)
def test_an_epsilon_of_0(make, proves, rows):
    models = [
        make(
            ("Abs", "x", "n"), *rows,
            inputs={"x": (HALF, [1, 8])}, outputs={"y": HALF}, constants={"e": np.float16(e), "s": np.int64([1, 8])},
        )
        for e in (1e-12, 1e-4)
    ]  # fmt: skip
    item = proves("underflow.constant", *models, node=rows[0][2])
    assert item.what == "Its FP16 constant 'e' is 0, and what it gives is a divisor."


def test_an_epsilon_that_is_lost_before_the_division(make, proves):
    def model(kind):
        rows = [
            ("Abs", "x", "n"),
            ("Max", "n e", "d"),
            ("Cast", "d", "h", {"to": kind}),
            ("Cast", "x", "g", {"to": kind}),
        ]
        return make(*rows, ("Div", "g h", "y"), outputs={"y": kind}, constants={"e": np.float32(1e-12)})

    item = proves("underflow.constant", model(HALF), model(FLOAT), node="d")
    assert item.what == "Its constant 'e', 1e-12, is 0 in FP16, in which 'h' is."


@pytest.mark.parametrize(
    "rows",
    [
        [("Max", "x e", "d"), ("Div", "d x", "y")],
        [("Clip", "x e six", "c"), ("Mul", "x c", "m"), ("Div", "m six", "y")],
        [("Max", "x e", "c"), ("Add", "c six", "d"), ("Div", "x d", "y")],
        [("Add", "x e", "y")],
    ],
    ids=["not the divisor", "hard swish", "another epsilon", "no division"],
)
def test_a_zero_that_guards_nothing(make, said, rows):
    constants = {"e": np.float16(0), "six": np.float16(6)}
    model = make(*rows, inputs={"x": (HALF, [1, 8])}, outputs={"y": HALF}, constants=constants)
    assert said(model, "underflow.") == []
