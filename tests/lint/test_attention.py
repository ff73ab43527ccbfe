from __future__ import annotations

import numpy as np
import pytest

PARTS = ("q", "k", "p", "v")


def attention(*quantized, length=64, scale="", mask="", dtype=None):
    """MatMul, Softmax, MatMul; `quantized` of its four operands, `scale` one of "", "q", "scores"."""
    rows, name = [], {part: part for part in PARTS}
    if scale == "q":
        rows.append(("Mul", "q s", "qs"))
        name["q"] = "qs"

    def take(part):
        if part in quantized:
            rows.append(("QDQ", name[part], f"{part}d"))
            return f"{part}d"
        return name[part]

    rows.append(("MatMul", f"{take('q')} {take('k')}", "scores"))
    last = "scores"
    if scale == "scores":
        rows.append(("Div", "scores s", "scaled"))
        last = "scaled"
    if mask:
        rows.append(("Add", f"{mask} {last}", "masked"))
        last = "masked"
    rows.append(("Softmax", last, "p"))
    rows.append(("MatMul", f"{take('p')} {take('v')}", "y"))
    inputs = {"q": [1, 2, length, 32], "k": [1, 2, 32, length], "v": [1, 2, length, 32], "m": [1, 1, length, length]}
    constants = {"s": np.float32(5.657), "c": np.zeros((length, length), np.float32)}
    return {"rows": rows, "inputs": inputs, "constants": constants}


def model(make, *quantized, **settings):
    case = attention(*quantized, **settings)
    return make(*case.pop("rows"), **case)


@pytest.mark.parametrize("quantized", [("q", "k"), ("p", "v"), ("q",), ("q", "k", "v"), ("q", "k", "p")])
def test_half_quantized(make, proves, quantized):
    names = {"q": "Q", "k": "K", "p": "softmax output", "v": "V"}
    for mended in ((), PARTS):
        item = proves("attention.half-quantized", model(make, *quantized), model(make, *mended), node="p")
    first, _, second = item.what.removeprefix("Quantized: ").removesuffix(".").partition("; in float: ")
    assert set(first.replace(" and ", ", ").split(", ")) == {names[part] for part in quantized}
    assert set(second.replace(" and ", ", ").split(", ")) == {names[p] for p in PARTS if p not in quantized}


def test_int8_of_a_long_sequence(make, proves, said):
    item = proves("attention.int8-long", model(make, *PARTS, length=513), model(make, *PARTS, length=512), node="p")
    assert item.what == "It is quantized and 513 long; 512 is the most for INT8."
    assert said(model(make, length=513), "attention.") == []
    assert said(model(make, *PARTS, length=513), "attention.", seq_len_int8_max=1024) == []


@pytest.mark.parametrize("mask", ["", "m", "c"])
def test_the_scale_belongs_to_q(make, proves, mask):
    broken, mended = (model(make, scale=where, mask=mask) for where in ("scores", "q"))
    assert proves("attention.scale", broken, mended, node="scaled").what == "It scales the scores of 'scores', not Q."


def test_a_softmax_of_classes_is_no_attention(make, said):
    weights = {"w": np.ones((8, 8), np.float32)}
    rows = [("MatMul", "x w", "z"), ("Mul", "z s", "t"), ("Softmax", "t", "p"), ("MatMul", "p w", "y")]
    assert said(make(*rows, constants={**weights, "s": np.float32(2)}), "attention.") == []
