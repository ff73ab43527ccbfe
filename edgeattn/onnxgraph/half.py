"""FP16 as a graph meets it: what it cannot hold, which nodes sum or square, which masks end in a Softmax.

FP16 ends at 65504, has 11 bits, and knows no number between 0 and 6e-8. `quantize.islands` keeps in FP32 what these
forms spoil, `lint.overflow` and `lint.underflow` find them in a graph of anyone's.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from edgeattn.onnxgraph.view import FLOATS, MOVING, Graph, Node

FP16_MAX = 65504.0
LIMIT = 6e4
"""What a tensor may reach, of 65504: the device rounds elsewhere than calibration did. Constants are known exactly."""
LARGE_SUM = 1000
"""Terms from which FP16 loses the small ones beside the sum so far, whatever their size."""
TO_ZERO = 2.0**-25
"""Rounds to 0 in FP16, as everything below does."""
MASK = -3e4
"""What a mask needs: `exp` of it is 0 beside any score, two of them are still FP16, and so is one plus a score."""

NORMALISATIONS = frozenset({
    "LayerNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization", "LpNormalization",
    "MeanVarianceNormalization",
})  # fmt: skip
SQUARE_SUMS = frozenset({"ReduceSumSquare", "ReduceL2", "GlobalLpPool", "LpPool"})
"""They sum squares: one value above 256 is enough to overflow, however few they sum."""
SUMS = frozenset({"ReduceSum", "ReduceMean", "ReduceL1", "GlobalAveragePool", "AveragePool", "CumSum"})
MEANS = frozenset({"ReduceMean", "ReduceSum"})
_WINDOWS = frozenset({"AveragePool", "LpPool"})
WIDE_INTEGERS = frozenset({
    TensorProto.INT16, TensorProto.INT32, TensorProto.INT64, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64
})  # fmt: skip
"""Integers beyond FP16, which has every whole number to 2048: indices, counts, sizes."""

# On the way from a mask to its Softmax. Of Where the condition does not count.
_TO_SOFTMAX = MOVING | {"Cast", "Expand", "Add", "Sub", "Where", "Mul", "Div", "Concat", "Max", "Min", "Clip", "Tile",
                        "Gather", "Trilu"}  # fmt: skip
# They leave a divisor as small as it is, or their constants do.
_TO_DIVISION = MOVING | {"Cast", "Expand", "Tile", "Gather", "Sqrt", "Mul", "Div"}


def squares(graph: Graph, node: Node) -> bool:
    """Whether `node` multiplies a tensor by itself."""
    if node.operator == "Mul":
        return node.input(0) == node.input(1)
    exponent = graph.value(node.input(1)) if node.operator == "Pow" else None
    return exponent is not None and exponent.size == 1 and float(exponent.item()) == 2


def summed_squares(graph: Graph, node: Node) -> Node | None:
    """The square that `node`, a mean or sum, adds up, through casts: the variance of a normalisation written out."""
    if node.operator not in MEANS:
        return None
    maker = graph.makers.get(before_casts(graph, node.input(0)))
    return maker if maker is not None and squares(graph, maker) else None


def before_casts(graph: Graph, name: str) -> str:
    """The tensor that casts, if any, made `name` of."""
    for _ in graph.nodes:  # as many steps as there can be: a broken file may have a circle
        maker = graph.makers.get(name)
        if maker is None or maker.operator != "Cast":
            break
        name = maker.input(0)
    return name


def length(graph: Graph, node: Node) -> int | None:
    """How many values of a reduction or pooling become one; None where a size is not known or none are summed."""
    if node.operator in _WINDOWS:
        window = node.get("kernel_shape", ())
        return prod(window) if window else None
    shape = graph.shape(node.input(0))
    if not shape:
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


def constant(graph: Graph, name: str) -> NDArray[np.float64] | None:
    """The numbers of a float constant, or of a ConstantOfShape the one that it repeats; None of everything else."""
    maker = graph.makers.get(name)
    if maker is not None and maker.operator == "ConstantOfShape":
        tensor = maker.get("value", TensorProto(dims=[1], data_type=TensorProto.FLOAT, float_data=[0]))
        value = numpy_helper.to_array(tensor)
    else:
        value = graph.value(name) if name in graph.constants else None
    return None if value is None or graph.type(name) not in FLOATS else np.asarray(value, np.float64)


def is_bound(graph: Graph, node: Node, name: str) -> bool:
    """Whether constant `name` only limits what `node` gives, and limits nothing that FP16 holds: `Clip(x, 0, 3.4e38)`.

    Brought to 65504 it does the same.
    """
    value = constant(graph, name)
    if value is None or not value.size:
        return False
    below, above = bool((value <= -FP16_MAX).all()), bool((value >= FP16_MAX).all())
    places = {place for place, read in enumerate(node.inputs) if read == name}
    if node.operator == "Clip":
        return (places == {1} and below) or (places == {2} and above)
    return (node.operator == "Max" and below) or (node.operator == "Min" and above)


def vanishes(value: NDArray[np.float64]) -> bool:
    """Whether a constant is something, and nothing in FP16."""
    some = np.abs(value[value != 0])
    return bool(some.size) and bool((some <= TO_ZERO).all())


def to_the_division(graph: Graph, node: Node) -> list[Node]:
    """`node` and those behind it up to a division by what it gives, or a logarithm of it; empty where there is none.

    For an epsilon in `x / max(|x|, eps)`: all of these must know the epsilon from 0.
    """
    waiting = [node]
    before: dict[Node, list[Node]] = {node: []}  # from where each was reached
    leading: list[Node] = []
    ends: list[Node] = []
    for current in waiting:
        for reader, place in graph.readers.get(current.output, []):
            if _divides(graph, reader, place):
                leading.append(current)
                ends.append(reader)
            elif reader.operator in _TO_DIVISION:
                if reader not in before:
                    before[reader] = []
                    waiting.append(reader)
                before[reader].append(current)
    lead = set(leading)
    for current in leading:
        fresh = [maker for maker in before[current] if maker not in lead]
        lead.update(fresh)
        leading += fresh
    return list(dict.fromkeys([*(each for each in waiting if each in lead), *ends]))


def _divides(graph: Graph, node: Node, place: int) -> bool:
    """Whether input `place` of `node` must not be 0."""
    if node.operator == "Pow":
        exponent = graph.value(node.input(1))
        return place == 0 and exponent is not None and exponent.size == 1 and float(exponent.item()) < 0
    return node.operator in ("Reciprocal", "Log") or (node.operator == "Div" and place == 1)


class Masks:
    """What is added to scores, or stands in their place, to be nothing behind a Softmax: -1e9, -65504, minus infinity.

    `tensors` are the masks on their way and the scores they are in, which only Softmaxes read in the end. `constants`
    are those that such nodes read: finite ones may be brought to `MASK`, it is all the same to a Softmax.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._ends: set[str] = set()
        for node in reversed(graph.nodes):  # who reads a tensor stands behind its maker
            self._ends.update(name for name in node.outputs if name and self._ends_in_softmax(name))
        self.tensors: set[str] = set()
        self.constants: set[str] = set()
        self._reached_by: Callable[[str], float | None] | None = None
        self._reach: dict[str, float | None] = {}
        for node in graph.nodes:
            name = node.output
            if node.operator == "ConstantOfShape" and self._is_mask(name) and name in self._ends:
                self.tensors.add(name)
                self.constants.add(name)
            elif node.operator in _TO_SOFTMAX and name in self._ends:
                masks = {read for read in self._values(node) if self._is_mask(read) and self._masks(node, read)}
                self.constants |= masks
                if masks or self.tensors.intersection(self._values(node)):
                    self.tensors.add(name)

    def reach(self, name: str, reached: Callable[[str], float | None]) -> float | None:
        """The largest |x| of one of `tensors` without what is masked, from what its inputs reach."""
        if reached != self._reached_by:  # all at once, in the graph's order: a chain of masks may be long
            self._reached_by, self._reach = reached, {}
            for node in self._graph.nodes:
                if node.output in self.tensors:
                    self._reach[node.output] = self._reach_behind(node, reached)
        return self._reach.get(name)

    def _reach_behind(self, node: Node, reached: Callable[[str], float | None]) -> float | None:
        found = [self._reach_of(read, reached) for read in self._values(node)]
        known = [value for value in found if value is not None]
        if len(known) < len(found):
            return None
        if node.operator == "Mul":
            return float(np.prod(known))
        if node.operator in ("Add", "Sub"):
            return sum(known)
        if node.operator == "Div":  # by one number, the root of a width
            return known[0] / known[1] if len(known) == 2 and known[1] else None
        return max(known, default=0.0)

    def _reach_of(self, name: str, reached: Callable[[str], float | None]) -> float | None:
        value = constant(self._graph, name)
        if value is not None:
            return float(np.abs(value[value > MASK]).max(initial=0.0))
        return self._reach.get(name) if name in self.tensors else reached(name)

    def _values(self, node: Node) -> list[str]:
        """The float inputs of which `node` gives values."""
        if node.operator == "Where":
            return list(node.inputs[1:])
        if node.operator == "Clip":  # its bounds are no values, and limit no masked score
            return list(node.inputs[:1])
        return [name for name in node.inputs if name and self._graph.type(name) in FLOATS]

    def _is_mask(self, name: str) -> bool:
        value = constant(self._graph, name)
        return value is not None and bool((value <= MASK).any()) and not bool((value[np.isfinite(value)] > LIMIT).any())

    def _masks(self, node: Node, name: str) -> bool:
        """A factor masks where it meets flags, 0 and 1, alone; a divisor never does."""
        if node.operator not in ("Mul", "Div", "Sub"):
            return True
        return node.operator == "Mul" and all(self._is_flag(read) for read in node.inputs if read != name)

    def _is_flag(self, name: str) -> bool:
        graph = self._graph
        for _ in graph.nodes:
            node = graph.maker(name, "Cast", "Sub", "Expand")
            if node is None:
                return False
            if node.operator == "Cast" and graph.type(node.input(0)) not in FLOATS:
                return graph.type(node.input(0)) != int(TensorProto.UNDEFINED)
            inputs = graph.activations(node)
            name = inputs[0] if inputs else ""
        return False

    def _ends_in_softmax(self, name: str) -> bool:
        readers = self._graph.readers.get(name, [])
        return name not in self._graph.outputs and bool(readers) and all(
            reader.operator == "Softmax"
            or (
                reader.operator in _TO_SOFTMAX
                and name in self._values(reader)
                and not (reader.operator == "Div" and place == 1)
                and self._ends.issuperset(filter(None, reader.outputs))
            )
            for reader, place in readers
        )  # fmt: skip
