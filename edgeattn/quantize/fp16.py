"""FP32 graph -> FP16 graph with FP32 islands, as a pure function on ONNX.

Weights and arithmetic become FP16, except where half precision overflows or rounds sums away (`quantize.islands`).
Casts are written at the borders, so the precision of every tensor is in the graph and nothing is left to a compiler's
flag.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeattn.backends.base import last_line
from edgeattn.errors import ModelError
from edgeattn.onnxgraph.half import FP16_MAX, MASK, Masks
from edgeattn.onnxgraph.plain import bodies, inlined
from edgeattn.onnxgraph.view import Graph
from edgeattn.quantize.islands import islands

# Inputs that ONNX defines in FP32, whatever the data are: the region and the scales of a Resize.
_ALWAYS_FP32 = {"Resize": (1, 2)}
FP16_TINY = 2.0**-24  # the least number above 0
TYPES = frozenset({"to", "dtype", "output_dtype", "output_datatype"})
"""Attributes that state the type of a node's result."""
_SUFFIXES = {TensorProto.FLOAT: "", TensorProto.FLOAT16: "_fp16"}
_REASON = "edgeattn.fp32"  # under which a node's metadata say why it stayed FP32


def to_fp16(model: onnx.ModelProto, ranges: Mapping[str, float] | None = None) -> onnx.ModelProto:
    """A new graph; float inputs and outputs keep FP32 through casts.

    `ranges`: the largest |x| of tensors by name, as `quantize.ranges` measures them on the FP32 graph. Raises
    ModelError when a weight is not a number, a body of If, Loop or Scan computes in float, or onnx finds the graph, or
    what became of it, unsound.
    """
    try:
        return _to_fp16(model, ranges or {})
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        raise ModelError(f"The graph has no sound FP16 form ({last_line(error)}).") from error


def kept(half: onnx.ModelProto) -> dict[str, str]:
    """The reason of each node that `to_fp16` left in FP32, by the node's name (without one its first output's)."""
    reasons = {}
    for node in half.graph.node:
        for entry in node.metadata_props:
            if entry.key == _REASON:
                reasons[node.name or next(filter(None, node.output))] = entry.value
    return reasons


def _to_fp16(model: onnx.ModelProto, ranges: Mapping[str, float]) -> onnx.ModelProto:
    result = _plain(model)
    view = Graph(result)
    refuse_float_bodies(view, TensorProto.FLOAT, "FP16")
    graph = onnx.shape_inference.infer_shapes(result, strict_mode=True, data_prop=True).graph
    values = [*graph.value_info, *graph.input, *graph.output]
    floats = {name for name, kind in view.types.items() if kind == TensorProto.FLOAT}
    floats |= {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    weights = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    writer = _Writer(floats, weights, islands(view, ranges), Masks(view).constants)
    for value in graph.input:
        if value.name in floats and value.name not in weights:
            writer.available.add((value.name, TensorProto.FLOAT))
    for node in graph.node:
        writer.add(node)
    for value in graph.output:  # in their order: equal models must give equal files
        if value.name in floats:
            writer.tensor(value.name, TensorProto.FLOAT)
    del result.graph.node[:], result.graph.initializer[:], result.graph.value_info[:]
    result.graph.node.extend(writer.nodes)
    scales = {node.input[1] for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
    for tensor in graph.initializer:
        result.graph.initializer.extend(writer.stored(tensor, scale=tensor.name in scales))
    onnx.checker.check_model(result, full_check=True)
    return result


def _plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose functions are written out where they are called, and whose Constant nodes of FP32 are weights."""
    result = onnx.ModelProto()
    result.CopyFrom(inlined(model))
    nodes = list(result.graph.node)
    del result.graph.node[:]
    for node in nodes:
        value = _constant(node)
        if value is None:
            result.graph.node.append(node)
        else:
            result.graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
    return result


def refuse_float_bodies(graph: Graph, kind: int, called: str) -> None:
    """Raises ModelError for a body of If, Loop or Scan that computes in `kind`: nothing here rewrites bodies."""
    for node in graph.nodes:
        if node in graph.inside:
            continue
        for value in node.attributes.values():
            bodies = [value] if isinstance(value, onnx.GraphProto) else []
            if any(graph.type(name) == kind for body in bodies for name in _named(body)):
                raise ModelError(
                    f"{node.operator} '{node.label}' has a body that computes in float, which has no {called} form "
                    "here; export the model without it, or leave this precision out."
                )


def _named(body: onnx.GraphProto) -> Iterator[str]:
    yield from (tensor.name for tensor in body.initializer)
    yield from (value.name for value in body.input)
    for node in body.node:
        yield from (*node.input, *node.output)
        for inner in bodies(node):
            yield from _named(inner)


class _Writer:
    """Rewrites nodes in order. A float tensor keeps its name in FP32, and has `_fp16` appended in FP16: `available` are
    those that are written, each with its precision. `islands`: the reason of each node that stays FP32, by its first
    output; `masks`: constants of which a Softmax needs no more than that they are far below its other inputs."""

    def __init__(self, floats: set[str], weights: set[str], islands: Mapping[str, str], masks: Collection[str]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.available: set[tuple[str, int]] = set()
        self._floats = floats
        self._weights = weights
        self._islands = islands
        self._masks = masks
        self._quantized: dict[str, onnx.NodeProto] = {}

    def add(self, node: onnx.NodeProto) -> None:
        reason = self._islands.get(next(filter(None, node.output), ""))
        if reason is None and node.op_type == "DequantizeLinear":
            self._quantized[node.output[0]] = node
            return
        copy = self._written(node, TensorProto.FLOAT16 if reason is None else TensorProto.FLOAT)
        if reason is not None:
            copy.metadata_props.append(onnx.StringStringEntryProto(key=_REASON, value=reason))
        self.nodes.append(copy)

    def tensor(self, name: str, kind: int) -> str:
        """The name of `name` in precision `kind`; written from the other one when it exists in that alone."""
        if name in self._weights:
            self.available.add((name, kind))
        elif name not in self._floats:
            return name
        elif (name, kind) not in self.available:
            if name in self._quantized:
                self.nodes.append(self._dequantized(name, kind))
            else:
                other = TensorProto.FLOAT16 if kind == TensorProto.FLOAT else TensorProto.FLOAT
                cast, source = _called(name, kind), _called(name, other)
                self.nodes.append(helper.make_node("Cast", [source], [cast], name=f"cast_{cast}", to=kind))
            self.available.add((name, kind))
        return _called(name, kind)

    def _dequantized(self, name: str, kind: int) -> onnx.NodeProto:
        """A DequantizeLinear in the precision of who reads it, once in each: TensorRT sees no INT8 product behind a
        cast."""
        written = any((name, other) in self.available for other in _SUFFIXES)
        copy = self._written(self._quantized[name], kind)
        if written and copy.name:
            copy.name += _SUFFIXES[kind] or "_fp32"
        return copy

    def stored(self, tensor: onnx.TensorProto, *, scale: bool) -> list[onnx.TensorProto]:
        """The weight in the precisions it is read in."""
        if tensor.data_type != TensorProto.FLOAT:
            return [tensor]
        wide, half = ((tensor.name, kind) in self.available for kind in (TensorProto.FLOAT, TensorProto.FLOAT16))
        if not half:
            return [tensor] if wide else []
        values = numpy_helper.to_array(tensor)
        # A scale that rounds to 0 is refused by TensorRT, and elsewhere makes 0 or NaN of the whole tensor.
        values = np.maximum(values, FP16_TINY) if scale else self._within(tensor.name, values)
        rounded = _half(tensor.name, values)
        written = [numpy_helper.from_array(rounded, _called(tensor.name, TensorProto.FLOAT16))]
        if wide:  # what is quantized with one scale must not be dequantized with another
            kept = numpy_helper.from_array(rounded.astype(np.float32), tensor.name) if scale else tensor
            written.insert(0, kept)
        return written

    def _written(self, node: onnx.NodeProto, kind: int) -> onnx.NodeProto:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        del copy.input[:], copy.output[:]
        fixed = _ALWAYS_FP32.get(node.op_type, ())
        copy.input.extend(
            self.tensor(name, TensorProto.FLOAT if index in fixed else kind) for index, name in enumerate(node.input)
        )
        for name in node.output:
            if name in self._floats:
                self.available.add((name, kind))
                copy.output.append(_called(name, kind))
            else:
                copy.output.append(name)
        if any(name in self._floats for name in node.output):
            self._state_type(copy, node, kind)
        return copy

    def _state_type(self, copy: onnx.NodeProto, node: onnx.NodeProto, kind: int) -> None:
        """Where a node says by itself of what type its result is."""
        for attribute in copy.attribute:
            if attribute.name in TYPES and attribute.i == TensorProto.FLOAT:
                attribute.i = kind
        given = {attribute.name for attribute in copy.attribute}
        if node.op_type in ("RandomNormal", "RandomUniform", "EyeLike") and "dtype" not in given:
            copy.attribute.append(helper.make_attribute("dtype", kind))
        if node.op_type == "ConstantOfShape" and kind == TensorProto.FLOAT16:
            values = [numpy_helper.to_array(a.t) for a in node.attribute if a.name == "value"]
            value = self._within(node.output[0], values[0] if values else np.zeros(1, np.float32))
            del copy.attribute[:]
            half = numpy_helper.from_array(_half(node.output[0], value))
            copy.attribute.append(helper.make_attribute("value", half))

    def _within(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        """A constant as FP16 can hold it. Who needs it as it is, is in an island and reads it in FP32."""
        lowest = MASK if name in self._masks else -FP16_MAX
        return np.where(np.isfinite(values), np.clip(values, lowest, FP16_MAX), values)


def _called(name: str, kind: int) -> str:
    return name + _SUFFIXES[kind]


def _constant(node: onnx.NodeProto) -> NDArray[np.float32] | None:
    """The value of a Constant node of FP32, of a tensor, a number or a list; None of every other node."""
    if node.op_type != "Constant":
        return None
    attribute = node.attribute[0]
    if attribute.name in ("value_float", "value_floats"):
        return np.asarray(helper.get_attribute_value(attribute), np.float32)
    if attribute.name == "value" and attribute.t.data_type == TensorProto.FLOAT:
        return np.asarray(numpy_helper.to_array(attribute.t), np.float32)
    return None


def _half(name: str, values: NDArray[Any]) -> NDArray[np.float16]:
    if np.isnan(values).any():
        raise ModelError(f"The weight '{name}' holds NaN; train again, with a smaller learning rate.")
    return values.astype(np.float16)
