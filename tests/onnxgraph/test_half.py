"""The forms that FP16 spoils, on graphs of a few lines."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

from edgeattn.onnxgraph import half
from edgeattn.onnxgraph.view import Graph


def graph(body, constants=""):
    head = '<ir_version: 10, opset_import: ["" : 20]> g (float[2, 4, 6, 6] x, bool[6, 6] hidden) => (float y)'
    return Graph(onnx.parser.parse_model(f"{head} <{constants}> {{ {body} }}"))


@pytest.mark.parametrize(
    ("body", "length"),
    [
        ("y = GlobalAveragePool(x)", 36),
        ("y = AveragePool <kernel_shape = [3, 2]> (x)", 6),
        ("y = LpPool <kernel_shape = [2, 2]> (x)", 4),
        ("y = ReduceMean (x)", 288),
        ("y = ReduceMean <noop_with_empty_axes = 1> (x)", 1),
        ("y = ReduceSum (x, last)", 6),
        ("y = LpNormalization <axis = 1> (x)", 4),
        ("y = ReduceSum (x, computed)", None),
    ],
)
def test_how_many_values_become_one(body, length):
    found = graph(body, "int64[1] last = {-1}")
    assert half.length(found, found.nodes[-1]) == length


@pytest.mark.parametrize(
    ("body", "square"),
    [
        ("s = Mul (x, x) y = ReduceMean (s)", "s"),
        ("s = Pow (x, two) y = ReduceSum (s)", "s"),
        ("s = Mul (x, x) c = Cast <to = 1> (s) y = ReduceMean (c)", "s"),
        ("s = Mul (x, two) y = ReduceMean (s)", None),
        ("s = Mul (x, x) y = ReduceMax (s)", None),
    ],
)
def test_summed_squares(body, square):
    found = graph(body, "float two = {2}")
    maker = half.summed_squares(found, found.nodes[-1])
    assert (maker.output if maker else None) == square


@pytest.mark.parametrize(
    ("values", "vanishes"), [([1e-12], True), ([0, 1e-9], True), ([0], False), ([1e-12, 1], False), ([6e-8], False)]
)
def test_what_vanishes(values, vanishes):
    assert half.vanishes(np.array(values)) == vanishes


def test_the_way_to_a_division():
    found = graph("a = Abs (x) b = Max (a, e) c = Sqrt (b) d = Div (x, c) y = Neg (d)", "float e = {1e-12}")
    assert [node.output for node in half.to_the_division(found, found.nodes[1])] == ["b", "c", "d"]
    other = graph("a = Abs (x) b = Max (a, e) y = Div (b, x)", "float e = {1e-12}")
    assert half.to_the_division(other, other.nodes[1]) == []


@pytest.mark.parametrize("operator", ["Mul", "Div"])
def test_a_long_way_to_a_division(operator):
    """Neither the depth of a recursion nor two ways at every step may matter."""
    rows = " ".join(f"t{i + 1} = Mul (t{i}, t{i})" for i in range(600))
    found = graph(f"t0 = Max (x, e) {rows} y = {operator} (x, t600)", "float e = {1e-12}")
    path = half.to_the_division(found, found.nodes[0])
    assert [node.output for node in path] == ([] if operator == "Mul" else [*(f"t{i}" for i in range(601)), "y"])


def test_a_way_that_ends_in_two_divisions():
    found = graph("a = Max (x, e) b = Sqrt (a) c = Neg (b) d = Div (x, b) y = Div (d, a)", "float e = {1e-12}")
    assert {node.output for node in half.to_the_division(found, found.nodes[0])} == {"a", "b", "d", "y"}


def test_a_long_chain_of_masks():
    rows = " ".join(f"t{i + 1} = Add (t{i}, m)" for i in range(600))
    masks = half.Masks(graph(f"t0 = Add (x, m) {rows} y = Softmax (t600)", "float m = {-1e9}"))
    assert masks.constants == {"m"} and len(masks.tensors) == 601
    assert masks.reach("t600", reached) == 5.0
    assert masks.reach("t600", lambda name: 3.0) == 3.0
    masks = half.Masks(graph(f"t0 = Add (x, m) {rows} y = Relu (t600)", "float m = {-1e9}"))
    assert masks.tensors == set()


def reached(name):
    return {"x": 5.0, "f": 1.0}.get(name)


@pytest.mark.parametrize(
    ("body", "reach"),
    [
        ("t = Add (x, m) y = Softmax (t)", {"t": 5.0}),
        ("t = Where (hidden, m, x) y = Softmax (t)", {"t": 5.0}),
        ("t = Add (x, m) u = Div (t, small) y = Softmax (u)", {"t": 5.0, "u": 20.0}),
        ("f = Cast <to = 1> (hidden) t = Mul (f, m) u = Add (x, t) y = Softmax (u)", {"t": 0.0, "u": 5.0}),
        ("t = Mul (x, m) y = Softmax (t)", {}),
        ("t = Add (x, m) y = Relu (t)", {}),
        ("t = Add (x, m) u = Softmax (t) y = Add (u, t)", {}),
        ("t = Add (x, small) y = Softmax (t)", {}),
    ],
    ids=["added", "put in", "divided", "times flags", "a factor", "no softmax", "read elsewhere", "no mask"],
)
def test_masks_and_how_far_scores_reach_without_them(body, reach):
    masks = half.Masks(graph(body, "float m = {-1e9}, float small = {0.25}"))
    assert masks.tensors == reach.keys()
    assert masks.constants == ({"m"} if reach else set())
    assert {name: masks.reach(name, reached) for name in masks.tensors} == reach
