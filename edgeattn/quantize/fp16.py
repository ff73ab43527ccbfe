"""FP32 graph -> FP16 graph with FP32 islands, as a pure function on ONNX.

Weights and arithmetic become FP16, except where half precision overflows or rounds sums away (`quantize.islands`).
Casts are written at the borders, so the precision of every tensor is in the graph and nothing is left to a compiler's
flag.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeattn.backends.base import last_line
from edgeattn.errors import ModelError
from edgeattn.quantize.islands import islands

# Inputs that ONNX defines in FP32, whatever the data are: the region and the scales of a Resize.
_ALWAYS_FP32 = {"Resize": (1, 2)}
FP16_TINY = 2.0**-24  # the least number above 0


def to_fp16(model: onnx.ModelProto, ranges: Mapping[str, float] | None = None) -> onnx.ModelProto:
    """A new graph; float inputs and outputs keep FP32 through casts.

    `ranges`: the largest |x| of tensors by name, as `quantize.ranges` measures them on the FP32 graph. Raises
    ModelError when a weight is not a number, or onnx finds the graph, or what became of it, unsound.
    """
    try:
        return _to_fp16(model, ranges or {})
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        raise ModelError(f"The graph has no sound FP16 form ({last_line(error)}).") from error


def kept(model: onnx.ModelProto, ranges: Mapping[str, float]) -> dict[str, str]:
    """The reason of each node that `to_fp16` leaves in FP32, by the node's name."""
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    reasons = islands(graph, ranges)
    return {node.name: reasons[node.output[0]] for node in graph.node if node.output[0] in reasons}


def _to_fp16(model: onnx.ModelProto, ranges: Mapping[str, float]) -> onnx.ModelProto:
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    floats = _float_tensors(graph)
    weights = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    writer = _Writer(floats, set(weights), islands(graph, ranges))
    for value in graph.input:
        if value.name in floats:
            writer.available[(value.name, TensorProto.FLOAT)] = value.name
    for node in graph.node:
        writer.add(node)
    for value in graph.output:  # in their order: equal models must give equal files
        if value.name in floats:
            writer.finish(value.name)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:], result.graph.initializer[:], result.graph.value_info[:]
    result.graph.node.extend(writer.nodes)
    scales = {node.input[1] for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
    for tensor in graph.initializer:
        result.graph.initializer.extend(_initializers(tensor, writer.used, scale=tensor.name in scales))
    onnx.checker.check_model(result, full_check=True)
    return result


class _Writer:
    """Rewrites nodes in order; knows under which name each float tensor exists in FP32 and in FP16."""

    def __init__(self, floats: set[str], weights: set[str], islands: Collection[str]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.available: dict[tuple[str, int], str] = {}
        self.used: set[tuple[str, int]] = set()
        self._floats = floats
        self._weights = weights
        self._islands = islands

    def add(self, node: onnx.NodeProto) -> None:
        kind = TensorProto.FLOAT if node.output[0] in self._islands else TensorProto.FLOAT16
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        del copy.input[:], copy.output[:]
        fixed = _ALWAYS_FP32.get(node.op_type, ())
        copy.input.extend(
            self.tensor(name, TensorProto.FLOAT if index in fixed else kind) for index, name in enumerate(node.input)
        )
        for name in node.output:
            if name not in self._floats:
                copy.output.append(name)
                continue
            own = name if kind == TensorProto.FLOAT else f"{name}_fp16"
            self.available[(name, kind)] = own
            copy.output.append(own)
        if node.op_type == "Cast" and node.output[0] in self._floats:
            del copy.attribute[:]
            copy.attribute.append(helper.make_attribute("to", kind))
        elif kind == TensorProto.FLOAT16 and (value := _constant(node)) is not None:
            del copy.attribute[:]
            half = numpy_helper.from_array(_half(node.output[0], value))
            copy.attribute.append(helper.make_attribute("value", half))
        self.nodes.append(copy)

    def tensor(self, name: str, kind: int) -> str:
        """The name of float tensor `name` in precision `kind`, casting when it exists in the other one only."""
        if name in self._weights:
            self.used.add((name, kind))
            return _weight_name(name, kind)
        if name not in self._floats:
            self.used.add((name, TensorProto.UNDEFINED))
            return name
        if (name, kind) not in self.available:
            other = TensorProto.FLOAT16 if kind == TensorProto.FLOAT else TensorProto.FLOAT
            cast = f"{name}_{'fp16' if kind == TensorProto.FLOAT16 else 'fp32'}"
            source = self.available[(name, other)]
            self.nodes.append(helper.make_node("Cast", [source], [cast], name=f"cast_{cast}", to=kind))
            self.available[(name, kind)] = cast
        return self.available[(name, kind)]

    def finish(self, name: str) -> None:
        """Make graph output `name` exist in FP32 under its own name."""
        if self.available.get((name, TensorProto.FLOAT)) == name:
            return
        source = self.tensor(name, TensorProto.FLOAT16)
        self.nodes.append(helper.make_node("Cast", [source], [name], name=f"cast_{name}", to=TensorProto.FLOAT))


def _float_tensors(graph: onnx.GraphProto) -> set[str]:
    values = [*graph.value_info, *graph.input, *graph.output]
    known = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    for node in graph.node:
        if _constant(node) is not None:
            known.add(node.output[0])
    return known


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


def _weight_name(name: str, kind: int) -> str:
    return f"{name}_fp16" if kind == TensorProto.FLOAT16 else name


def _initializers(tensor: onnx.TensorProto, used: set[tuple[str, int]], *, scale: bool) -> list[onnx.TensorProto]:
    if tensor.data_type != TensorProto.FLOAT:
        return [tensor]
    written = [tensor] if (tensor.name, TensorProto.FLOAT) in used else []
    if (tensor.name, TensorProto.FLOAT16) in used:
        values = numpy_helper.to_array(tensor)
        # A scale that rounds to 0 is refused by TensorRT, and elsewhere makes 0 or NaN of the whole tensor.
        values = np.maximum(values, FP16_TINY) if scale else values
        written.append(numpy_helper.from_array(_half(tensor.name, values), f"{tensor.name}_fp16"))
    return written


def _half(name: str, values: NDArray[Any]) -> NDArray[np.float16]:
    if np.isnan(values).any():
        raise ModelError(f"The weight '{name}' holds NaN; train again, with a smaller learning rate.")
    return values.astype(np.float16)
