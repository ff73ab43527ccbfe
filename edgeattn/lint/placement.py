"""Q/DQ nodes where they split what TensorRT would fuse, or where INT8 is known to be slower than FP16.

Source: NVIDIA's TensorFlow quantization toolkit (residual adds), and the placement of nvidia-modelopt 0.47
(`build_non_residual_input_map`, unified scales of Concat, its exclusions of small products).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import TensorProto

from edgeattn.lint._patterns import attentions, branch_product, cast_operands, product_is_int8
from edgeattn.lint.base import Finding, Ranges, Rule, Rules, Severity, number
from edgeattn.onnxgraph.view import PRODUCTS, Graph, Node

BRANCH = Rule(
    "placement.residual-branch",
    Severity.WARNING,
    "TensorRT adds inside the kernel of the convolution or product before it; Q/DQ in between make two kernels of it.",
    "Quantize the skip input alone.",
)
BOTH = Rule(
    "placement.residual-both",
    Severity.WARNING,
    "The Add is no longer computed inside the kernel before it, and what it adds was rounded twice, not once.",
    "Remove the Q/DQ on the branch that ends in a convolution or product; quantize the skip input alone.",
)
CONCAT = Rule(
    "placement.concat",
    Severity.WARNING,
    "INT8 concatenates without arithmetic only where all scales are equal; each other input is quantized anew.",
    "Give all inputs and the output the largest of the scales.",
)
KEEP_FLOAT = Rule(
    "placement.keep-float",
    Severity.NOTE,
    "It computes in float whatever it is given: the Q/DQ cost time and accuracy and win nothing.",
    "Remove the Q/DQ in front of it.",
)
SMALL = Rule(
    "placement.small-product",
    Severity.NOTE,
    "So small a product is not faster in INT8 than in FP16, and it loses accuracy.",
    "Leave it in float.",
)

ONE_SIDE = Rule(
    "placement.one-side",
    Severity.WARNING,
    "TensorRT multiplies in INT8 only where both sides are quantized: it dequantizes this one and computes in float, "
    "with the accuracy of INT8 and not its speed.",
    "Quantize the other side too, or neither.",
)
CONCAT_PART = Rule(
    "placement.concat-part",
    Severity.WARNING,
    "INT8 does not pass it: what is quantized is dequantized before, and whatever reads the result reads float.",
    "Quantize all its inputs with one scale, or none.",
)
CAST = Rule(
    "placement.cast",
    Severity.WARNING,
    "TensorRT multiplies in INT8 only what comes from DequantizeLinear itself: here it computes in float, and the "
    "accuracy that quantizing cost buys nothing.",
    "Store the scale in the type that the product computes in, and remove the Cast.",
)

_FOUR_BITS = {TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1}
_FLOAT = {
    "Softmax", "LogSoftmax", "LayerNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization",
    "Gelu", "Erf", "Sigmoid", "HardSigmoid", "Tanh", "ReduceMean", "ReduceSum",
}  # fmt: skip


def check(graph: Graph, rules: Rules, ranges: Ranges) -> Iterator[Finding]:
    """Adds, concatenations, what stays in float anyway, and products that are too small."""
    fused = {product for found in attentions(graph) for product in (found.scores, found.mix)}  # `attention` judges them
    for node in graph.nodes:
        if node.operator == "Add":
            yield from _residual(graph, node)
        elif node.operator == "Concat":
            yield from _concat(graph, node)
        elif product_is_int8(graph, node):
            yield from (SMALL.at(node, what) for what in _small(graph, node))
        elif cast := cast_operands(graph, node):
            yield CAST.at(node, f"Its input '{cast[0]}' is dequantized and then cast.")
        elif node not in fused:
            yield from _one_side(graph, node)
        yield from _float(graph, node)


def _one_side(graph: Graph, node: Node) -> Iterator[Finding]:
    """A product of which one operand is INT8; four bits are for weights alone, which are dequantized in any case."""
    if node.operator not in PRODUCTS:
        return
    for one, other in ((0, 1), (1, 0)):
        found = graph.quantized(node.input(one))
        if (
            found is not None
            and graph.type(found.input(0)) not in _FOUR_BITS
            and not graph.quantized(node.input(other))
        ):
            yield ONE_SIDE.at(node, f"Its input '{node.input(one)}' is quantized, '{node.input(other)}' is not.")


def _residual(graph: Graph, node: Node) -> Iterator[Finding]:
    inputs = graph.activations(node)
    if len(inputs) != 2:
        return
    quantized = [graph.quantized(name) is not None for name in inputs]
    products = [branch_product(graph, name) for name in inputs]
    ends = [(name, p) for name, p, q in zip(inputs, products, quantized, strict=True) if p and q]
    if not ends:
        return
    name, product = ends[0]
    if all(quantized):
        yield BOTH.at(node, f"Both its inputs are quantized, and '{name}' is what {_called(product)} gives.")
    elif not all(products):
        yield BRANCH.at(node, f"Its input '{name}', which {_called(product)} gives, is quantized; the skip is not.")


def _called(node: Node) -> str:
    return f"{node.operator} '{node.label}'"


def _concat(graph: Graph, node: Node) -> Iterator[Finding]:
    sources = [graph.quantized(name) for name in node.inputs if name]
    after = [reader for reader, _ in graph.readers.get(node.output, []) if reader.operator == "QuantizeLinear"]
    if not any(sources):
        return
    if not all(sources):
        names = list(filter(None, node.inputs))
        taken, left = (
            next(name for name in names if bool(graph.quantized(name)) is wanted) for wanted in (True, False)
        )
        yield CONCAT_PART.at(node, f"Its input '{taken}' is quantized, '{left}' is not.")
    scales = [graph.value(found.input(1)) for found in (*sources, *after) if found is not None]
    known = sorted({float(scale.item()) for scale in scales if scale is not None and scale.size == 1})
    if len(known) > 1 and not np.isclose(known[0], known[-1], rtol=1e-3):
        yield CONCAT.at(node, f"Its quantized inputs and output have scales from {number(known[0])} to "
                              f"{number(known[-1])}.")  # fmt: skip


def _float(graph: Graph, node: Node) -> Iterator[Finding]:
    gate = node.operator == "Mul" and len(graph.activations(node)) == 2
    linear = node.operator == "Resize" and node.get("mode", "nearest") != "nearest"
    if node.operator in _FLOAT or gate or linear:
        quantized = [name for name in graph.activations(node) if graph.quantized(name)]
        if quantized:
            yield KEEP_FLOAT.at(node, f"Its input '{quantized[0]}' is quantized.")


def _small(graph: Graph, node: Node) -> Iterator[str]:
    left, right = graph.shape(node.input(0)), graph.shape(node.input(1))
    if not left or not right:
        return
    if node.operator in ("MatMul", "Gemm") and min(len(left), len(right)) > 1:
        a = left[::-1] if node.get("transA", 0) else left
        b = right[::-1] if node.get("transB", 0) else right
        rows, depth, columns = a[-2], b[-2], b[-1]
        if 1 in (rows, columns):
            yield f"It is a product with a vector ({rows} x {depth} by {depth} x {columns})."
        elif any(size is not None and size < 16 for size in (depth, columns)):
            yield f"It multiplies {rows} x {depth} by {depth} x {columns}: fewer than 16 on one side."
    elif node.operator == "Conv" and len(right) > 2 and (channels := right[1]) is not None:
        groups = node.get("group", 1)
        wide = (right[0] or 0) % 8 == 0 and all(size is None or size >= 3 for size in right[2:])
        if groups > 1 and not wide:
            yield f"It has {groups} groups, {right[0]} output channels and a kernel of {list(right[2:])}."
        elif groups == 1 and channels < 16 and channels % 8:
            yield f"It has {channels} input channels."
