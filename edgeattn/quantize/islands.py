"""Which nodes stay FP32 when a graph becomes FP16, and why.

FP16 ends at 65504 and has 11 bits. What is known to leave that range, or to lose what it adds, by its form: sums of
squares, long sums, normalisations, powers, pixel coordinates. What leaves it on the calibration samples, or holds a
constant beyond it: whoever makes such a tensor and whoever reads it. Softmax stays FP16: it computes with what is at
most its largest input, and a cast on either side would keep TensorRT from fusing attention (design notes TENSORRT.md,
section 4; nvidia-modelopt's AutoCast keeps back by range likewise).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeattn.quantize.policy import MOVING, NORMALISATIONS

# Both as in `lint.overflow`, which finds what is kept back here: neither room may import the other.
LIMIT = 6e4  # of 65504: the device rounds elsewhere than calibration did
LARGE_SUM = 1000
"""Terms from which a sum stays FP32, whatever their size."""

# Places in pixels: FP16 knows only half pixels above 1024, and NonMaxSuppression exists in FP32 alone.
PLACES = frozenset({"RoiAlign", "NonMaxSuppression", "GridSample"})
SQUARES = frozenset({"ReduceSumSquare", "ReduceL2", "GlobalLpPool"})
SUMS = frozenset({"ReduceSum", "ReduceMean", "ReduceL1", "GlobalAveragePool", "CumSum"})
POWERS = frozenset({"Exp", "Pow", "LogSoftmax", "ReduceLogSum", "ReduceLogSumExp"})
ALWAYS = NORMALISATIONS | {"MeanVarianceNormalization"} | PLACES | SQUARES | POWERS
# Between the sum of squares and its root: constants are added, it is divided by a number, kept above one.
_BEFORE_THE_ROOT = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Clip", "Cast"}) | MOVING
# What hands the values of its first input on.
_SAME_VALUES = frozenset({"QuantizeLinear", "DequantizeLinear", "Cast", "Slice", "Split"}) | MOVING


def islands(graph: onnx.GraphProto, ranges: Mapping[str, float]) -> dict[str, str]:
    """The reason of each node that stays FP32, by the name of its first output.

    `graph` must have shapes and types (onnx.shape_inference). `ranges`: the largest |x| of tensors by name, as
    `quantize.ranges` measures them; without one only a tensor's form is known.
    """
    found = _View(graph, ranges)
    reasons: dict[str, str] = {}
    for node in graph.node:
        if reason := found.reason(node):
            reasons[node.output[0]] = reason
    for node in graph.node:
        if found.sums_squares(node):
            for name in found.up_to_the_root(node):
                reasons.setdefault(name, "variance: in FP16 the square of what is larger than 256 is infinite")
    return reasons


class _View:
    def __init__(self, graph: onnx.GraphProto, ranges: Mapping[str, float]) -> None:
        self._makers = {name: node for node in graph.node for name in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        values = [*graph.value_info, *graph.input, *graph.output]
        self._floats = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT}
        self._shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in values}
        self._constants = dict(_constants(graph))
        self._reached = dict(ranges)
        for name, value in self._constants.items():
            if value.dtype == np.float32:
                self._floats.add(name)
                self._reached[name] = float(np.abs(value[np.isfinite(value)]).max(initial=0.0))

    def reason(self, node: onnx.NodeProto) -> str | None:
        """Why this node by itself stays FP32; None when it does not."""
        if node.op_type in ALWAYS:
            return f"{node.op_type} in FP32"
        for name in [*node.output, *node.input]:
            if name in self._floats and (reached := self._reaches(name)) is not None and reached > LIMIT:
                what = "constant" if name in self._constants else "in calibration"
                return f"'{name}' reaches {reached:.3g} ({what}), FP16 ends at 65504"
        if node.op_type in SUMS:
            length = self._length(node)
            if length is None or length >= LARGE_SUM:
                return f"{node.op_type} of {length or 'unknown many'} values: FP16 loses small ones beside a large sum"
            reached = self._reaches(node.input[0])
            if reached is not None and length * reached > LIMIT:
                return f"{node.op_type} of {length} values of up to {reached:.3g}, FP16 ends at 65504"
        return None

    def sums_squares(self, node: onnx.NodeProto) -> bool:
        """The variance of a normalisation that was written out, or a plain sum of squares."""
        if node.op_type == "ReduceSumSquare":
            return True
        return node.op_type in ("ReduceMean", "ReduceSum") and self._square(node) is not None

    def _square(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        maker = self._makers.get(node.input[0])
        if maker is None or maker.op_type not in ("Mul", "Pow"):
            return None
        if maker.op_type == "Mul":
            return maker if maker.input[0] == maker.input[1] else None
        exponent = self._constants.get(maker.input[1])
        return maker if exponent is not None and exponent.size == 1 and exponent.item() == 2 else None

    def up_to_the_root(self, node: onnx.NodeProto) -> Iterator[str]:
        """First outputs of the square, the sum, and what is done to it until its root is taken."""
        square = self._square(node)
        if square is not None:
            yield square.output[0]
        waiting = [node]
        while waiting:
            name = waiting.pop().output[0]
            yield name
            for reader in self._readers.get(name, []):
                if reader.op_type == "Sqrt":
                    yield reader.output[0]
                elif reader.op_type in _BEFORE_THE_ROOT and self._only(reader, name):
                    waiting.append(reader)

    def _only(self, node: onnx.NodeProto, name: str) -> bool:
        """Besides `name` it reads constants alone."""
        return all(other == name or not other or other in self._constants for other in node.input)

    def _reaches(self, name: str) -> float | None:
        while name not in self._reached:
            maker = self._makers.get(name)
            if maker is None or maker.op_type not in _SAME_VALUES:
                return None
            name = maker.input[0]
        return self._reached[name]

    def _length(self, node: onnx.NodeProto) -> int | None:
        """How many values become one; None where that is not known."""
        shape = self._shapes.get(node.input[0], ())
        axes = self._axes(node, len(shape))
        sizes = [shape[axis] for axis in axes] if axes is not None else []
        return math.prod(sizes) if sizes and all(sizes) else None

    def _axes(self, node: onnx.NodeProto, rank: int) -> list[int] | None:
        if not rank:
            return None
        if node.op_type == "GlobalAveragePool":
            return list(range(2, rank))
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        axes = given.get("axes")
        if len(node.input) > 1 and node.input[1]:
            if node.input[1] not in self._constants:
                return None
            axes = self._constants[node.input[1]].reshape(-1)
        if axes is None or not len(axes):
            return [] if given.get("noop_with_empty_axes") else list(range(rank))
        return [int(axis) % rank for axis in axes]


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[str, np.ndarray]]:
    for tensor in graph.initializer:
        yield tensor.name, np.asarray(numpy_helper.to_array(tensor))
    for node in graph.node:
        if node.op_type == "Constant":
            value = helper.get_attribute_value(node.attribute[0])
            if isinstance(value, onnx.TensorProto):
                value = numpy_helper.to_array(value)
            elif node.attribute[0].name.startswith("value_float"):
                value = np.asarray(value, np.float32)
            yield node.output[0], np.asarray(value)
