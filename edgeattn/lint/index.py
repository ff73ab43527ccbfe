"""Indices and counts that are computed in FP16, which knows whole numbers to 2048 alone.

Exporters write an integer division as Cast, Div, Floor, Cast: 3519 // 80 is 43, in FP16 it is 44.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import TensorProto

from edgeattn.lint.base import Finding, Ranges, Rule, Rules, Severity
from edgeattn.onnxgraph import half
from edgeattn.onnxgraph.view import Graph

HALF = Rule(
    "index.half",
    Severity.WARNING,
    "FP16 knows whole numbers to 2048 alone, and a quotient just below one becomes it: the index is then another, or "
    "out of range.",
    "Keep what leads to the Cast in FP32, from the integers or the product that it comes from.",
)


def check(graph: Graph, rules: Rules, ranges: Ranges) -> Iterator[Finding]:
    """Every Cast of FP16 to an integer of more than 8 bits: those of 8 are pixels, and exact."""
    for node in graph.nodes:
        name = node.input(0)
        if (
            node.operator == "Cast"
            and graph.type(name) == TensorProto.FLOAT16
            and graph.type(node.output) in half.WIDE_INTEGERS
            and name not in graph.constants
        ):
            yield HALF.at(node, f"It makes {graph.type_name(node.output)} of '{name}', which is FP16.")
