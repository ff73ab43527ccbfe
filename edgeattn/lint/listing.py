"""Every node of a graph with what it computes in and where it would run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import onnx
from onnx import TensorProto

from edgeattn.lint import dla
from edgeattn.lint._patterns import product_is_int8
from edgeattn.lint.base import Rules
from edgeattn.onnxgraph.view import MOVING, PRODUCTS, Graph, Node, as_graph, type_name

_NAMES = {
    TensorProto.FLOAT: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.BFLOAT16: "bf16",
    TensorProto.UNDEFINED: "unknown",
}
# INT8 in and INT8 out, where Q/DQ stand on all sides: Q and DQ move over them, or they are computed in INT8.
_BETWEEN = frozenset({"Add", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool", "Relu", "Clip"}) | MOVING
_MOVES_DATA = MOVING | {"Concat", "Gather", "Expand", "Tile", "Pad", "DepthToSpace", "SpaceToDepth", "Shape"}


@dataclass(frozen=True)
class Listed:
    """One node. `precision` is that of its arithmetic; `opset` the one in which its operator took this form, None for
    an operator that is not ONNX's. `placement`: `build` for what is computed while the engine is built, else `gpu` or
    `dla`."""

    node: str
    operator: str
    precision: str
    opset: int | None
    placement: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def listing(model: onnx.ModelProto | Graph, rules: Rules | None = None) -> list[Listed]:
    """The nodes in the graph's order; without `rules` none is placed on a DLA."""
    graph = as_graph(model)
    return [
        Listed(node.label, node.operator, precision(graph, node), _since(graph, node), _placement(graph, node, rules))
        for node in graph.nodes
    ]


def computing(listed: Iterable[Listed]) -> dict[str, int]:
    """How many nodes compute in each precision: without constants, integers, conversions and pure movement of data."""
    skipped = _MOVES_DATA | {"QuantizeLinear", "DequantizeLinear", "Cast"}
    floats = {"fp32", "fp16", "bf16", "int8"}
    counts = Counter(
        item.precision
        for item in listed
        if item.placement != "build" and item.operator not in skipped and item.precision in floats
    )
    return dict(sorted(counts.items()))


def precision(graph: Graph, node: Node) -> str:
    """What `node` computes in; integers and truth values by their ONNX names.

    A convolution or matrix product is INT8 when both operands are dequantized. What only moves, joins, pools or adds
    values is when all its inputs are and only quantizers read the result, or, where TensorRT moves Q and DQ over it,
    INT8 products. A QuantizeLinear is INT8.
    """
    if node.operator == "QuantizeLinear" or product_is_int8(graph, node):
        return "int8"
    if node.operator in _BETWEEN and node.operator not in PRODUCTS:
        inputs = graph.activations(node)
        readers = [reader for name in node.outputs for reader, _ in graph.readers.get(name, [])]
        moved = bool(graph.moved(node))
        requantized = bool(readers) and all(
            reader.operator == "QuantizeLinear" or (moved and product_is_int8(graph, reader)) for reader in readers
        )
        if inputs and requantized and all(map(graph.quantized, inputs)):
            return "int8"
    kind = graph.type(node.output)
    # What compares or seeks gives integers, yet computes in the type of what it reads.
    if node.operator not in ("Cast", "Shape", "Size") and node.inputs:
        read = [graph.type(name) for name in node.inputs if graph.type(name) in _NAMES and graph.type(name)]
        kind = kind if kind in _NAMES and kind else read[0] if read else kind
    return _NAMES.get(kind) or type_name(kind)


def _since(graph: Graph, node: Node) -> int | None:
    try:
        return int(onnx.defs.get_schema(node.operator, graph.opset, node.domain).since_version)
    except onnx.defs.SchemaError:
        return None


def _placement(graph: Graph, node: Node, rules: Rules | None) -> str:
    if all(name in graph.constants for name in node.outputs if name):
        return "build"
    return "dla" if rules is not None and rules.dla and dla.gpu_only(graph, node, rules) is None else "gpu"
