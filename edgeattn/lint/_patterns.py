"""Shapes of graph that several families look for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgeattn.onnxgraph.half import before_casts
from edgeattn.onnxgraph.view import PRODUCTS, Graph, Node

_BESIDE_A_PRODUCT = ("QuantizeLinear", "DequantizeLinear", "BatchNormalization", "Cast")


@dataclass(frozen=True)
class Attention:
    """Scores, softmax, values: `scaled` is the node that scales the scores, where one does."""

    scores: Node
    softmax: Node
    mix: Node
    scaled: Node | None


def attentions(graph: Graph) -> Iterator[Attention]:
    """MatMul of two activations, at most a scaling, a mask and casts, Softmax, and MatMul with a third."""
    for softmax in graph.nodes:
        if softmax.operator != "Softmax":
            continue
        scores, scaled = _back_to_scores(graph, softmax.input(0))
        mix = _on_to_mix(graph, softmax.output)
        if scores is not None and mix is not None:
            yield Attention(scores, softmax, mix, scaled)


def _back_to_scores(graph: Graph, name: str) -> tuple[Node | None, Node | None]:
    scaled = None
    for _ in range(8):  # scaling, mask, casts, Q, DQ and what rearranges
        node = graph.makers.get(graph.origin(name))
        if node is None:
            return None, None
        if node.operator == "MatMul":
            return (node, scaled) if len(graph.activations(node)) == 2 else (None, None)
        if node.operator in ("Mul", "Div") and len(graph.activations(node)) == 1:
            scaled = node
        elif node.operator not in ("Add", "Cast", "Where", "QuantizeLinear", "DequantizeLinear", "Clip"):
            return None, None
        inputs = graph.activations(node)
        # The mask of an Add or Where is the side that no product makes.
        name = next((i for i in inputs if graph.maker(i, "MatMul", "Mul", "Div", "Cast")), inputs[0] if inputs else "")
    return None, None


def _on_to_mix(graph: Graph, name: str) -> Node | None:
    for _ in range(6):
        readers = [reader for reader, _ in graph.readers.get(name, [])]
        if not readers:
            return None
        if mix := next((reader for reader in readers if reader.operator == "MatMul"), None):
            return mix if len(graph.activations(mix)) == 2 else None
        name = readers[0].output
        if readers[0].operator not in ("QuantizeLinear", "DequantizeLinear", "Cast", "Dropout", "Reshape", "Transpose"):
            return None
    return None


def branch_product(graph: Graph, name: str) -> Node | None:
    """The product whose result, with nothing but a constant bias and Q/DQ behind it, is `name`, and which it alone
    uses: an Add that reads `name` could be computed inside that product's kernel."""
    for _ in graph.nodes:
        node = graph.makers.get(name)
        if node is None or graph.sole_reader(name) is None:
            return None
        if node.operator in PRODUCTS:
            return node
        inputs = graph.activations(node)
        bias = node.operator == "Add" and len(inputs) == 1
        if not inputs or not (bias or node.operator in _BESIDE_A_PRODUCT):
            return None
        name = inputs[0]
    return None


def product_is_int8(graph: Graph, node: Node) -> bool:
    """Whether both operands of a convolution or matrix product are dequantized: TensorRT then multiplies in INT8."""
    return node.operator in PRODUCTS and all(graph.quantized(node.input(place)) for place in (0, 1))


def cast_operands(graph: Graph, node: Node) -> list[str]:
    """The operands of a product that a Cast parts from their DequantizeLinear, where INT8 is meant: both come from one.

    TensorRT multiplies in INT8 where it finds both right in front of the product; a Cast in between makes it float.
    """
    if node.operator not in PRODUCTS:
        return []
    cast = [name for name in node.inputs[:2] if not graph.quantized(name)]
    return cast if all(_dequantized_before_casts(graph, name) for name in cast) else []


def _dequantized_before_casts(graph: Graph, name: str) -> bool:
    for _ in graph.nodes:  # casts and what rearranges, in any order
        if graph.quantized(name):
            return True
        source = before_casts(graph, graph.origin(name))
        if source == name:
            return False
        name = source
    return False
