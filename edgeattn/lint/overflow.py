"""What FP16 cannot hold: its largest number is 65504, and it adds with 11 bits.

With calibrated ranges of the FP32 graph every tensor is judged, and every sum by its length; without, only the forms
that are known to overflow. Source of the trap: onnxsim scripts/nvidia (ViT-B/16 on an Orin Nano: 18.96 % top-1 in FP16
with LayerNorm written out, 85.27 % with it whole, 85.22 % in FP32).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from edgeattn.lint.base import Finding, Ranges, Rule, Rules, Severity, known, number
from edgeattn.onnxgraph import half
from edgeattn.onnxgraph.view import PRODUCTS, Graph, Node

TENSOR = Rule(
    "overflow.tensor",
    Severity.ERROR,
    "FP16 ends at 65504: it becomes infinite, and soon everything behind it NaN.",
    "Keep the node and its readers in FP32 between casts, or scale the values down before it.",
)
SUM = Rule(
    "overflow.sum",
    Severity.WARNING,
    "A kernel that adds in FP16 overflows; which kernel is taken is decided by timing, on the device.",
    "Put it into an FP32 island: Cast, the reduction, Cast.",
)
SQUARE = Rule(
    "overflow.square",
    Severity.ERROR,
    "Whatever is larger than 256 overflows FP16 when it is squared, and the sum of the squares overflows sooner.",
    "Export LayerNormalization as one operator and keep it in FP32 between casts; else put the square, its sum and the "
    "root of it into an FP32 island.",
)
NORM = Rule(
    "overflow.norm",
    Severity.WARNING,
    "A strongly typed network normalises in the type it is given: its variance is summed from squares in FP16.",
    "Put it into an FP32 island: Cast, the normalisation, Cast.",
)
REDUCTION = Rule(
    "overflow.reduction",
    Severity.WARNING,
    "FP16 has 11 bits: in a sum that long small terms are lost beside what is summed already.",
    "Put it into an FP32 island: Cast, the reduction, Cast.",
)
CONSTANT = Rule(
    "overflow.constant",
    Severity.ERROR,
    "It was beyond FP16's 65504, or not a number, before it was stored: whatever it meets becomes infinite or NaN.",
    "Keep its readers in FP32 between casts; of a mask -3e4 does as well.",
)
PRODUCT = Rule(
    "overflow.product",
    Severity.NOTE,
    "A kernel that adds in FP16 overflows where all terms have one sign; which kernel is taken is decided by timing.",
    "Nothing, unless the engine gives infinities: then keep it in FP32 between casts.",
)
MASK = Rule(
    "overflow.mask",
    Severity.WARNING,
    "As a mask it works, but a row that is masked as a whole becomes NaN, and a factor of 0 does too.",
    "Use -3e4 instead.",
)

_SUMS = half.SUMS | {"ReduceLogSumExp", "ReduceLogSum"}
_SQUARES = half.SQUARE_SUMS | {"LpNormalization"}
_NORMS = half.NORMALISATIONS - {"LpNormalization"}


def check(graph: Graph, rules: Rules, ranges: Ranges) -> Iterator[Finding]:
    """Every FP16 tensor and every node that computes in FP16."""
    masks, reached = half.Masks(graph), partial(known, ranges)
    for node in graph.nodes:
        yield from _tensors(graph, node, masks, reached)
        yield from _constants(graph, node)
        if graph.type(node.input(0)) == TensorProto.FLOAT16:
            yield from _half(graph, node, ranges)
        elif node.operator == "Cast" and graph.type(node.output) == TensorProto.FLOAT16:
            yield from _variance_back_in_half(graph, node, ranges)


def _tensors(graph: Graph, node: Node, masks: half.Masks, reached: Callable[[str], float | None]) -> Iterator[Finding]:
    for name in filter(None, node.outputs):
        if graph.type(name) != TensorProto.FLOAT16:
            continue
        # What a mask reaches does not count where only a Softmax reads it.
        largest = masks.reach(name, reached) if name in masks.tensors else reached(name)
        if largest is not None and not largest <= half.LIMIT:
            yield TENSOR.at(node, f"Its result '{name}' reaches {number(largest)} in calibration.")


def _half(graph: Graph, node: Node, ranges: Ranges) -> Iterator[Finding]:
    largest = known(ranges, node.input(0))
    if node.operator in _NORMS:
        yield NORM.at(node, "It normalises in FP16.")
    elif node.operator in _SQUARES or _is_squared_and_summed(graph, node):
        length = None if half.squares(graph, node) else half.length(graph, node)
        if largest is None or not largest**2 * (length or 1) <= half.LIMIT:
            reaches = "" if largest is None else f", which reaches {number(largest)} in calibration"
            yield SQUARE.at(node, f"It squares '{node.input(0)}' in FP16{reaches}.")
    elif node.operator in PRODUCTS:
        # A result that leaves FP16 in calibration has been said.
        weights = None if (known(ranges, node.output) or 0.0) > half.LIMIT else _largest_sum(graph, node)
        if weights is not None and largest is not None and not weights * largest <= half.FP16_MAX:
            reaches = f"its weights add up to {number(weights)}, its input reaches {number(largest)}"
            yield PRODUCT.at(node, f"Its sum can be {number(weights * largest)} in FP16: {reaches} in calibration.")
    elif node.operator in _SUMS:
        length = half.length(graph, node)
        if length and largest is not None and not length * largest <= half.LIMIT:
            what = f"It adds {length} values of up to {number(largest)} in FP16: as much as {number(length * largest)}."
            yield SUM.at(node, what)
        elif length and length >= half.LARGE_SUM:
            yield REDUCTION.at(node, f"It adds {length} values in FP16.")


def _largest_sum(graph: Graph, node: Node) -> float | None:
    """The most that one result can be of a product with constant weights, as a multiple of the largest input."""
    weights = half.constant(graph, node.input(1))
    if weights is None or weights.ndim < 2 or not weights.size or node.get("group", 1) < 1:
        return None
    return float(_each_results(node, np.abs(weights)).sum(axis=1).max())


def _each_results(node: Node, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weights as rows, one for each channel of the result."""
    if node.operator == "MatMul" or (node.operator == "Gemm" and not node.get("transB", 0)):
        weights = np.moveaxis(weights, -1, -2)
        return weights.reshape(-1, weights.shape[-1])
    if node.operator == "ConvTranspose":  # I, O/group, kernel: each group of channels has results of its own
        groups = node.get("group", 1) if weights.shape[0] % node.get("group", 1) == 0 else 1
        weights = np.moveaxis(weights.reshape(groups, -1, *weights.shape[1:]), 2, 1)
        return weights.reshape(groups * weights.shape[1], -1)
    return weights.reshape(len(weights), -1)


def _is_squared_and_summed(graph: Graph, node: Node) -> bool:
    """The variance of a LayerNorm that was written out."""
    return half.squares(graph, node) and any(reader.operator in half.MEANS for reader in _readers(graph, node.output))


def _readers(graph: Graph, name: str) -> Iterator[Node]:
    """Who reads the values of `name`, through casts: a sum in FP32 comes too late for squares in FP16."""
    waiting = [name]
    for current in waiting:
        for reader, _ in graph.readers.get(current, []):
            if reader.operator == "Cast" and reader.output not in waiting:
                waiting.append(reader.output)
            else:
                yield reader


def _variance_back_in_half(graph: Graph, node: Node, ranges: Ranges) -> Iterator[Finding]:
    """A mean of squares that was summed in FP32 and is cast to FP16 before its root is taken: as infinite there."""
    source = node.input(0)
    total = graph.makers.get(source)
    if total is None or graph.type(source) != TensorProto.FLOAT:
        return
    if total.operator != "ReduceSumSquare" and half.summed_squares(graph, total) is None:
        return
    largest = known(ranges, source)
    if largest is None or not largest <= half.LIMIT:
        reaches = "" if largest is None else f", which reaches {number(largest)} in calibration"
        yield SQUARE.at(node, f"It takes the sum of squares '{source}' to FP16{reaches}.")


def _constants(graph: Graph, node: Node) -> Iterator[Finding]:
    """Said at the first reader of each that does more than hand it on."""
    if node.operator in ("Identity", "Cast") and graph.type(node.output) == TensorProto.FLOAT16:
        return
    for index, name in enumerate(node.inputs):
        if not name or graph.type(name) != TensorProto.FLOAT16 or graph.readers[name][0] != (node, index):
            continue
        values = half.constant(graph, name)
        if values is None or half.is_bound(graph, node, name):  # infinite or not, it limits nothing
            continue
        if np.isnan(values).any() or np.isposinf(values).any():
            yield CONSTANT.at(node, f"Its FP16 constant '{name}' holds infinity or NaN.")
        elif np.isneginf(values).any():
            yield MASK.at(node, f"Its FP16 constant '{name}' holds minus infinity.")
