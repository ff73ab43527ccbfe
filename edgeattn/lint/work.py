"""How much a graph computes and moves: what a roofline is made of (`measure.roofline`).

Nothing here may be more than an engine needs, so that the time derived of it is a true lower bound. Counted are the
convolutions and matrix products that lead to an output, weights as they are stored, inputs and outputs. Not counted is
whatever an engine may do without: all other operators and their results (which may be fused away), the bodies of If,
Loop and Scan (which may not run), constants that are computed while the engine is built.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from math import gcd, prod
from typing import Any

import onnx
from onnx import TensorProto, helper

from edgeattn.backends._tensorrt_network import einsum
from edgeattn.lint.listing import precision
from edgeattn.onnxgraph.view import PRODUCTS, Graph, Node, as_graph

_TILE = 4


@dataclass(frozen=True)
class Work:
    """Of one call, a dynamic size counted as 1. Precisions by name, `int8`; sizes in bytes.

    `macs`: multiply-adds as the field counts them, by the sums that define convolution and product, padding included.
    `least_macs`: the fewest multiplications that known kernels need for the same: none for padding, and Winograd's for
    kernels of more than one pixel. `uncounted`: products whose shapes are not known, which are in neither.
    """

    macs: dict[str, int]
    least_macs: dict[str, int]
    weights_bytes: int
    input_bytes: int
    output_bytes: int
    uncounted: tuple[str, ...] = ()

    @property
    def io_bytes(self) -> int:
        """What is new at every call and must pass to the GPU or from it."""
        return self.input_bytes + self.output_bytes

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "uncounted": list(self.uncounted)}


def work(model: onnx.ModelProto | Graph) -> Work:
    """What the graph of `model` computes and moves; the model is not changed."""
    graph = as_graph(model)
    macs: Counter[str] = Counter()
    least: Counter[str] = Counter()
    weights: dict[str, int] = {}
    uncounted = []
    needed = _needed(graph)
    stored = _stored(graph)
    for node in needed:
        for name in node.inputs if _multiplies(node) else ():
            if name in graph.constants:
                root, size = stored[name]
                weights[root] = max(size, weights.get(root, 0))
        counts = _macs(graph, node) if _multiplies(node) else (0, 0)
        if counts is None:
            uncounted.append(node.label)
        elif counts[0]:
            kind = precision(graph, node)
            macs[kind] += counts[0]
            least[kind] += counts[1]
    read = {name for node in needed for name in node.inputs} | set(graph.outputs)
    return Work(
        dict(sorted(macs.items())),
        dict(sorted(least.items())),
        sum(weights.values()),
        sum(_bytes(graph, name) for name in graph.inputs if name in read),
        sum(_bytes(graph, name) for name in graph.outputs),
        tuple(uncounted),
    )


def _multiplies(node: Node) -> bool:
    return node.is_onnx and node.operator in (*PRODUCTS, "Einsum")


def _needed(graph: Graph) -> list[Node]:
    """The nodes outside of bodies that lead to an output and are computed by the engine, not while it is built."""
    wanted = set(graph.outputs) | {name for node in graph.inside for name in node.inputs}
    found = []
    for node in reversed(graph.nodes):  # a graph's nodes stand in an order in which they can be computed
        if node in graph.inside or not wanted.intersection(node.outputs) or graph.constants.issuperset(node.outputs):
            continue
        wanted.update(node.inputs)
        found.append(node)
    return found[::-1]


def _stored(graph: Graph) -> dict[str, tuple[str, int]]:
    """For each constant the one that it comes from, and the least bytes from which it can be had.

    A quantized or converted weight is kept as the smaller of what it was and what it became. Of several constants that
    make one, the largest alone counts.
    """
    found = {name: (name, _bytes(graph, name)) for name in graph.initializers}
    for node in graph.nodes:  # a constant's own constants stand before it
        sources = [found[name] for name in node.inputs if name in found]
        for name in graph.constants.intersection(node.outputs):
            size = _bytes(graph, name)
            root, kept = max(sources, key=lambda source: source[1], default=(name, size))
            found[name] = root, min(size, kept)
    return found


def _bytes(graph: Graph, name: str) -> int:
    """Of a tensor; 0 where its shape or type is not known."""
    shape, kind = graph.shape(name), graph.type(name)
    if shape is None or kind in (TensorProto.UNDEFINED, TensorProto.STRING):
        return 0
    return int(prod(max(size or 1, 1) for size in shape) * helper.tensor_dtype_to_np_dtype(kind).itemsize)


def _sizes(graph: Graph, name: str) -> list[int]:
    """Of a tensor; empty where its shape is not known."""
    return [max(size or 1, 1) for size in graph.shape(name) or ()]


def _macs(graph: Graph, node: Node) -> tuple[int, int] | None:
    """Multiply-adds as the field counts them, and the least; None where they cannot be told."""
    left, right, out = (_sizes(graph, name) for name in (node.input(0), node.input(1), node.output))
    if not left or not right:
        return None
    if node.operator in ("Conv", "ConvTranspose"):
        return _convolution(node, left, right, out)
    if node.operator == "Einsum":
        return _einsum(node, [left, right])
    if not out and graph.shape(node.output) is None:
        return None
    deep = left[0] if node.operator == "Gemm" and node.get("transA", 0) else left[-1]
    return prod(out) * deep, prod(out) * deep


def _einsum(node: Node, shapes: list[list[int]]) -> tuple[int, int]:
    """Where a label is in one operand alone and not in the result, it could be summed up before: least is 0 then."""
    equation = str(node.get("equation", "")).replace(" ", "")
    count = einsum(equation, shapes) if len(node.inputs) == 2 else 0
    operands, _, result = equation.partition("->")
    left, _, right = operands.partition(",")
    return count, count if set(left) ^ set(right) <= set(result) else 0


def _convolution(node: Node, data: list[int], weights: list[int], out: list[int]) -> tuple[int, int] | None:
    """Each value of the result takes a kernel of each channel of its group; transposed, each value of the input gives
    one. `least` along an axis: see `_axis`."""
    axes = len(weights) - 2
    strides, dilations = (list(node.get(name, ()) or [1] * axes) for name in ("strides", "dilations"))
    whole = len(data) == len(out) == len(weights) and len(strides) == len(dilations) == axes
    if axes < 1 or not whole or min(strides + dilations) < 1:
        return None
    dense, sparse = (out, data) if node.operator == "Conv" else (data, out)
    channels = prod(dense[:2]) * weights[1]  # Conv: O,I/group,kernel; ConvTranspose: I,O/group,kernel
    least = float(channels)
    for axis, size in enumerate(weights[2:]):
        before = _before(node, axis, axes, dense[2 + axis], sparse[2 + axis], size, strides[axis], dilations[axis])
        least *= _axis(dense[2 + axis], sparse[2 + axis], size, strides[axis], dilations[axis], before)
    return channels * prod(dense[2:]) * prod(weights[2:]), int(least)


def _before(node: Node, axis: int, axes: int, dense: int, sparse: int, kernel: int, stride: int, dilation: int) -> int:
    """The padding before the first pixel along an axis."""
    pads = node.get("pads", ())
    if len(pads) == 2 * axes and node.get("auto_pad", "NOTSET") == "NOTSET":
        return int(pads[axis])
    # None where the shapes need none; on which side the odd pixel of SAME lies changes no count.
    return max((dense - 1) * stride + (kernel - 1) * dilation + 1 - sparse, 0) // 2


def _axis(dense: int, sparse: int, kernel: int, stride: int, dilation: int, before: int) -> float:
    """The fewest multiplications along one axis of a convolution, for all its `dense` places (those of the result, or
    of the input of a transposed one, which step by `stride` over the `sparse` ones).

    Either all that do not meet padding, or those of Winograd's minimal filtering F(4, taps): taps + 3 for four results
    (Winograd 1980; Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016). Four is the largest tile
    that NVIDIA's libraries are known to use; a stride makes as many convolutions without one as it has phases.
    """
    meeting = sum(
        0 <= place * stride + tap * dilation - before < sparse for place in range(dense) for tap in range(kernel)
    )
    phases = min(kernel, stride // gcd(stride, dilation))
    return min(meeting, dense * (kernel + (_TILE - 1) * phases) / _TILE)
