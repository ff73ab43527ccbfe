"""Which nodes stay FP32 when a graph becomes FP16, and why.

FP16 ends at 65504 and has 11 bits. What is known to leave that range, or to lose what it adds, by its form: sums of
squares, long sums, normalisations, powers, places in pixels, what becomes an index, an epsilon that is 0 in FP16. What
leaves it on the calibration samples, or reads a constant beyond it: whoever makes such a tensor and whoever reads it.
Softmax stays FP16: it computes with what is at most its largest input, and a cast on either side would keep TensorRT
from fusing attention (design notes TENSORRT.md, section 4; nvidia-modelopt's AutoCast keeps back by range likewise). So
masks in front of it do not count, however far they reach: `to_fp16` brings them to what FP16 holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from edgeattn.onnxgraph import half
from edgeattn.onnxgraph.view import MOVING, PRODUCTS, Graph, Node

# Places, by the input that holds them: FP16 knows only half pixels above 1024, and NonMaxSuppression is FP32 alone.
_PLACES = {"GridSample": 1, "RoiAlign": 1, "NonMaxSuppression": 0}
_POWERS = frozenset({"Exp", "Pow", "LogSoftmax", "ReduceLogSum", "ReduceLogSumExp"})
_NOT_IN_FP16 = frozenset({"Range"})  # ONNX has it in FP32 and wider alone
# Sums of squares are among them however few they add; other sums stay by their length (`half.SUMS`).
_WHATEVER_THEY_READ = half.NORMALISATIONS | half.SQUARE_SUMS | _PLACES.keys() | _POWERS | _NOT_IN_FP16
# Between the sum of squares and its root: constants are added, it is divided by a number, kept above one.
_BEFORE_THE_ROOT = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Clip", "Cast"}) | MOVING
# What hands the values of its first input on.
_SAME_VALUES = frozenset({"QuantizeLinear", "DequantizeLinear", "Cast"}) | MOVING
# Arithmetic on places: number by number, or moving them.
_ELEMENTWISE = frozenset({
    "Abs", "Add", "Cast", "Ceil", "Clip", "Concat", "Div", "Exp", "Expand", "Floor", "Gather", "GatherElements",
    "GatherND", "Max", "Mean", "Min", "Mul", "Neg", "Pad", "Pow", "Reciprocal", "Relu", "Round", "Sigmoid", "Sqrt",
    "Sub", "Sum", "Tanh", "Tile", "Where",
}) | MOVING  # fmt: skip
# Between the exponential of a box's growth and its corners, which are a centre minus and plus half a side.
_TO_CORNERS = frozenset({"Mul", "Div", "Cast", "Gather", "GatherElements", "Concat"}) | MOVING
_VARIANCE = "variance: in FP16 the square of what is larger than 256 is infinite"
_PLACE = "place in an image: FP16 knows half pixels alone above 1024"
_INDEX = "it becomes a whole number, an index or a count: FP16 knows those to 2048 alone"
_DIVISOR = "it keeps a division from 0 by a constant that is 0 in FP16"


def islands(graph: Graph, ranges: Mapping[str, float]) -> dict[str, str]:
    """The reason of each node that stays FP32, by `key`.

    `ranges`: the largest |x| of tensors by name, as `quantize.ranges` measures them; without one only a tensor's form
    is known.
    """
    found = _View(graph, ranges)
    reasons = {key(node): reason for node in graph.nodes if (reason := found.reason(node))}
    for node in graph.nodes:
        for more, reason in (
            (found.up_to_the_root(node), _VARIANCE),
            (found.places(node), _PLACE),
            (found.indices(node), _INDEX),
            (found.up_to_the_division(node), _DIVISOR),
        ):
            for other in more:
                reasons.setdefault(key(other), reason)
    return reasons | dict(found.between_quantizers(reasons))


def key(node: Node) -> str:
    """The name of its first output: nodes may have none."""
    return next(filter(None, node.outputs), "")


class _View:
    def __init__(self, graph: Graph, ranges: Mapping[str, float]) -> None:
        self._graph = graph
        self._ranges = ranges
        self._masks = half.Masks(graph)

    def reason(self, node: Node) -> str | None:
        """Why this node by itself stays FP32; None when it does not."""
        if not any(map(self._is_float, [*node.inputs, *node.outputs])):
            return None
        if node.operator in _WHATEVER_THEY_READ:
            return f"{node.operator} in FP32"
        for name in filter(None, [*node.outputs, *node.inputs]):
            value = half.constant(self._graph, name)
            if value is not None:
                if (largest := _largest(value)) > half.FP16_MAX and self._matters(node, name):
                    return f"'{name}' reaches {largest:.3g} (constant), FP16 ends at 65504"
            elif self._is_float(name) and not (reached := self._reaches(name) or 0.0) <= half.LIMIT:
                return f"'{name}' reaches {reached:.3g} (in calibration), FP16 ends at 65504"
        return self._sums(node) if node.operator in half.SUMS else None

    def _sums(self, node: Node) -> str | None:
        length = half.length(self._graph, node)
        if length is None or length >= half.LARGE_SUM:
            many = length or "unknown many"
            return f"{node.operator} of {many} values: FP16 loses small ones beside a large sum"
        reached = self._reaches(node.input(0))
        if reached is not None and not length * reached <= half.LIMIT:
            return f"{node.operator} of {length} values of up to {reached:.3g}, FP16 ends at 65504"
        return None

    def _matters(self, node: Node, name: str) -> bool:
        """Whether `node` needs a constant beyond FP16 as it is: not as a mask, nor as a bound beyond all of FP16."""
        if name in self._masks.constants:
            return node.output not in self._masks.tensors
        return not half.is_bound(self._graph, node, name)

    def up_to_the_root(self, node: Node) -> Iterator[Node]:
        """The square, the sum, and what is done to it until its root is taken."""
        square = half.summed_squares(self._graph, node)
        if square is not None:
            yield square
        elif node.operator != "ReduceSumSquare":
            return
        waiting, seen = [node], {node}
        while waiting:
            node = waiting.pop()
            yield node
            for reader in self._readers(node.output):
                if reader.operator == "Sqrt":
                    yield reader
                elif reader.operator in _BEFORE_THE_ROOT and self._only(reader, node.output) and reader not in seen:
                    seen.add(reader)
                    waiting.append(reader)

    def places(self, node: Node) -> Iterator[Node]:
        """The arithmetic that makes the places which `node` reads; of a box's corners also what is done with them."""
        if node.operator in _PLACES:
            yield from self._made_by([node.input(_PLACES[node.operator])])
        elif node.operator == "Exp":
            sides = {node.output, *(name for n in self._behind([node], _TO_CORNERS) for name in n.outputs)}
            both = [reader for name in sides for reader in self._readers(name) if self._of_two(reader)]
            if {reader.operator for reader in both} >= {"Add", "Sub"}:
                corners = [reader for reader in both if reader.operator in ("Add", "Sub")]
                yield from self._made_by([reader.output for reader in corners])
                yield from self._behind(corners, _ELEMENTWISE)

    def indices(self, node: Node) -> Iterator[Node]:
        """The arithmetic that makes the float numbers which `node` turns into integers, itself among it."""
        if (
            node.operator == "Cast"
            and self._graph.type(node.output) in half.WIDE_INTEGERS
            and self._is_float(node.input(0))
        ):
            yield node
            yield from self._made_by([node.input(0)])

    def _of_two(self, node: Node) -> bool:
        return len(set(self._graph.activations(node))) == 2

    def _made_by(self, names: Iterable[str]) -> Iterator[Node]:
        """Back over arithmetic on single numbers, to products, normalisations and inputs."""
        waiting, seen = list(names), set[Node]()
        while waiting:
            name = waiting.pop()
            node = self._graph.makers.get(name)
            if node is None or node in seen or node.operator not in _ELEMENTWISE or not self._is_float(name):
                continue
            seen.add(node)
            yield node
            waiting += [read for read in node.inputs if read]

    def _behind(self, nodes: Iterable[Node], over: frozenset[str]) -> Iterator[Node]:
        waiting, seen = list(nodes), set(nodes)
        while waiting:
            for name in waiting.pop().outputs:
                for reader in self._readers(name):
                    if reader.operator in over and reader not in seen and self._is_float(reader.output):
                        seen.add(reader)
                        waiting.append(reader)
                        yield reader

    def up_to_the_division(self, node: Node) -> Iterator[Node]:
        """Those that must know from 0 a constant which is 0 in FP16."""
        for name in node.inputs if node.operator in _ELEMENTWISE else ():
            value = half.constant(self._graph, name)
            if value is not None and half.vanishes(value):
                yield from half.to_the_division(self._graph, node)
                if node.operator in ("Mul", "Div"):
                    yield node

    def between_quantizers(self, reasons: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        """What moves a dequantized operand to a product that stays FP32: with a cast in between it is no INT8 one.

        The DequantizeLinear itself is written again for FP32 by `fp16.to_fp16`.
        """
        for node in self._graph.nodes:
            if node.operator not in PRODUCTS or key(node) not in reasons:
                continue
            waiting = list(node.inputs[:2]) if all(map(self._graph.quantized, node.inputs[:2])) else []
            kept = {node}
            while waiting:
                name = waiting.pop()
                maker = self._graph.makers.get(name)
                moved = self._graph.moved(maker) if maker else []
                if maker and moved and all(key(r) in reasons or r in kept for r in self._readers(name)):
                    yield key(maker), reasons[key(node)]
                    kept.add(maker)
                    waiting += moved

    def _readers(self, name: str) -> list[Node]:
        return [reader for reader, _ in self._graph.readers.get(name, [])]

    def _only(self, node: Node, name: str) -> bool:
        """Besides `name` it reads constants alone."""
        return all(other == name or other in self._graph.constants for other in node.inputs if other)

    def _is_float(self, name: str) -> bool:
        return self._graph.type(name) == int(TensorProto.FLOAT)

    def _reaches(self, name: str) -> float | None:
        if name in self._masks.tensors:
            return self._masks.reach(name, self._reaches)
        for _ in self._graph.nodes:  # as many steps as there can be: a broken file may have a circle
            if name in self._ranges:
                break
            if (value := half.constant(self._graph, name)) is not None:
                return _largest(value)
            maker = self._graph.makers.get(name)
            if maker is None or maker.operator not in _SAME_VALUES:
                return None
            name = maker.input(0)
        return self._ranges.get(name)


def _largest(value: NDArray[np.float64]) -> float:
    """Infinities aside: FP16 has them too."""
    return float(np.abs(value[np.isfinite(value)]).max(initial=0.0))
