"""What FP16 cannot hold: its largest number is 65504, and it adds with 11 bits.

With calibrated ranges of the FP32 graph every tensor is judged, and every sum by its length; without, only the forms
that are known to overflow. Source of the trap: onnxsim scripts/nvidia (ViT-B/16 on an Orin Nano: 18.96 % top-1 in FP16
with LayerNorm written out, 85.27 % with it whole, 85.22 % in FP32).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
from onnx import TensorProto

from edgeattn.lint.base import Finding, Ranges, Rule, Rules, Severity, number
from edgeattn.lint.graph import Graph, Node

LIMIT = 6e4
LARGE_SUM = 1000

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
    "Keep its readers in FP32 between casts; of a mask -6e4 does as well.",
)
MASK = Rule(
    "overflow.mask",
    Severity.WARNING,
    "As a mask it works, but a row that is masked as a whole becomes NaN, and a factor of 0 does too.",
    "Use -6e4 instead.",
)

_SUMS = {"ReduceSum", "ReduceMean", "GlobalAveragePool", "ReduceL1", "ReduceLogSumExp", "ReduceLogSum", "CumSum"}
_MEANS = ("ReduceMean", "ReduceSum")
_SQUARES = {"ReduceSumSquare", "ReduceL2", "LpNormalization", "GlobalLpPool"}
_NORMS = {
    "LayerNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization",
    "MeanVarianceNormalization",
}  # fmt: skip


def check(graph: Graph, rules: Rules, ranges: Ranges) -> Iterator[Finding]:
    """Every FP16 tensor and every node that computes in FP16."""
    for node in graph.nodes:
        yield from _tensors(graph, node, ranges)
        yield from _constants(graph, node)
        if graph.type(node.input(0)) == TensorProto.FLOAT16:
            yield from _half(graph, node, ranges)
        elif node.operator == "Cast" and graph.type(node.output) == TensorProto.FLOAT16:
            yield from _variance_back_in_half(graph, node, ranges)


def known(ranges: Ranges, name: str) -> float | None:
    """The range of a tensor; `quantize.fp16` appends `_fp16` to the names of the FP32 graph."""
    return ranges.get(name, ranges.get(name.removesuffix("_fp16")))


def _tensors(graph: Graph, node: Node, ranges: Ranges) -> Iterator[Finding]:
    for name in filter(None, node.outputs):
        largest = known(ranges, name)
        if largest is not None and graph.type(name) == TensorProto.FLOAT16 and not largest <= LIMIT:
            yield TENSOR.at(node, f"Its result '{name}' reaches {number(largest)} in calibration.")


def _half(graph: Graph, node: Node, ranges: Ranges) -> Iterator[Finding]:
    largest = known(ranges, node.input(0))
    if node.operator in _NORMS:
        yield NORM.at(node, "It normalises in FP16.")
    elif node.operator in _SQUARES or _is_squared_and_summed(graph, node):
        if largest is None or not largest**2 * (_length(graph, node) or 1) <= LIMIT:
            reaches = "" if largest is None else f", which reaches {number(largest)} in calibration"
            yield SQUARE.at(node, f"It squares '{node.input(0)}' in FP16{reaches}.")
    elif node.operator in _SUMS:
        length = _length(graph, node)
        if length and largest is not None and not length * largest <= LIMIT:
            what = f"It adds {length} values of up to {number(largest)} in FP16: as much as {number(length * largest)}."
            yield SUM.at(node, what)
        elif length and length >= LARGE_SUM:
            yield REDUCTION.at(node, f"It adds {length} values in FP16.")


def _is_squared_and_summed(graph: Graph, node: Node) -> bool:
    """The variance of a LayerNorm that was written out."""
    exponent = graph.value(node.input(1)) if node.operator == "Pow" else None
    squares = exponent is not None and exponent.size == 1 and float(exponent.item()) == 2
    squares = squares or (node.operator == "Mul" and node.input(0) == node.input(1))
    return squares and any(reader.operator in _MEANS for reader in _readers(graph, node.output))


def _readers(graph: Graph, name: str) -> Iterator[Node]:
    """Who reads the values of `name`, through casts: a sum in FP32 comes too late for squares in FP16."""
    waiting = [name]
    for current in waiting:
        for reader, _ in graph.readers.get(current, []):
            if reader.operator == "Cast" and reader.output not in waiting:
                waiting.append(reader.output)
            else:
                yield reader


def _before_casts(graph: Graph, name: str) -> str:
    for _ in graph.nodes:  # as many steps as there can be: a broken file may have a circle
        maker = graph.makers.get(name)
        if maker is None or maker.operator != "Cast":
            break
        name = maker.input(0)
    return name


def _variance_back_in_half(graph: Graph, node: Node, ranges: Ranges) -> Iterator[Finding]:
    """A mean of squares that was summed in FP32 and is cast to FP16 before its root is taken: as infinite there."""
    source = node.input(0)
    total = graph.makers.get(source)
    if total is None or graph.type(source) != TensorProto.FLOAT:
        return
    square = graph.makers.get(_before_casts(graph, total.input(0))) if total.operator in _MEANS else None
    if total.operator != "ReduceSumSquare" and (square is None or not _is_squared_and_summed(graph, square)):
        return
    largest = known(ranges, source)
    if largest is None or not largest <= LIMIT:
        reaches = "" if largest is None else f", which reaches {number(largest)} in calibration"
        yield SQUARE.at(node, f"It takes the sum of squares '{source}' to FP16{reaches}.")


def _length(graph: Graph, node: Node) -> int | None:
    """How many values become one; None where a size is not known or none are summed."""
    shape = graph.shape(node.input(0))
    if not shape or node.operator in ("Pow", "Mul"):
        return None
    axes = _axes(graph, node, len(shape))
    sizes = [shape[axis] for axis in axes] if axes is not None else [None]
    return None if None in sizes else prod(size for size in sizes if size is not None)


def _axes(graph: Graph, node: Node, rank: int) -> list[int] | None:
    if node.operator.startswith("Global"):
        return list(range(2, rank))
    if node.operator in ("LpNormalization", "CumSum"):
        axis = node.get("axis", -1) if node.operator == "LpNormalization" else graph.value(node.input(1))
        return None if axis is None else [int(axis) % rank]
    given = node.get("axes")
    if given is None and node.input(1):
        given = graph.value(node.input(1))
        if given is None:
            return None
    axes = [] if given is None else [int(axis) % rank for axis in np.asarray(given).reshape(-1)]
    return axes or list(range(0 if node.get("noop_with_empty_axes", 0) == 0 else rank, rank))


def _constants(graph: Graph, node: Node) -> Iterator[Finding]:
    """Said at the first reader of each."""
    for index, name in enumerate(node.inputs):
        tensor = graph.initializers.get(name)
        if tensor is None or graph.readers[name][0] != (node, index) or graph.value(name) is None:
            continue
        if tensor.data_type != TensorProto.FLOAT16:
            continue
        values = np.asarray(graph.value(name), np.float32)
        if np.isnan(values).any() or np.isposinf(values).any():
            yield CONSTANT.at(node, f"Its FP16 constant '{name}' holds infinity or NaN.")
        elif np.isneginf(values).any():
            yield MASK.at(node, f"Its FP16 constant '{name}' holds minus infinity.")
