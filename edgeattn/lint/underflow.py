"""What FP16 cannot tell from 0: below 6e-8 it has no number, below 3e-8 everything is 0."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import TensorProto

from edgeattn.lint.base import Finding, Ranges, Rule, Rules, Severity, number
from edgeattn.onnxgraph import half
from edgeattn.onnxgraph.view import Graph, Node

CONSTANT = Rule(
    "underflow.constant",
    Severity.ERROR,
    "Where all else is 0 it divides by 0: the result is infinite or NaN.",
    "Keep everything from this node to the division in FP32 between casts, or take a constant of 1e-4 and more.",
)

_ADDS = frozenset({"Add", "Sub", "Sum", "Max", "Clip"})


def check(graph: Graph, rules: Rules, ranges: Ranges) -> Iterator[Finding]:
    """Every constant that is to keep a divisor from 0: the epsilon of `x / max(|x|, epsilon)`."""
    for node in graph.nodes:
        for place, name in enumerate(node.inputs if node.operator in _ADDS else ()):
            value = half.constant(graph, name)
            if value is None or not value.size or (node.operator == "Clip" and place != 1):
                continue
            path = half.to_the_division(graph, node)
            if graph.type(name) == TensorProto.FLOAT16:
                if path and not value.any():
                    yield CONSTANT.at(node, f"Its FP16 constant '{name}' is 0, and what it gives is a divisor.")
            elif half.vanishes(value) and (lost := _first_in_half(graph, path)):
                what = f"Its constant '{name}', {number(value.reshape(-1)[0])}, is 0 in FP16, in which '{lost}' is."
                yield CONSTANT.at(node, what)


def _first_in_half(graph: Graph, path: list[Node]) -> str:
    """The first tensor of FP16 on the way to the division; empty where there is none."""
    names = (name for node in path[:-1] for name in node.outputs)
    return next((name for name in names if graph.type(name) == TensorProto.FLOAT16), "")
