"""Q/DQ graphs as the engines read them, as pure functions on ONNX: each takes a model and returns a new one.

NNCF writes for CPUs: activations that are never negative get unsigned zero points, which keep one bit more. TensorRT
has signed INT8 with zero point 0 alone, so there the same file is misread or refused. `for_tensorrt` mends in one go
what the functions below mend one by one; the order matters (design notes TENSORRT.md, sections 4 and 5). Only
`unsigned` is for CPUs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeattn.errors import ModelError
from edgeattn.onnxgraph.plain import bodies
from edgeattn.onnxgraph.view import PRODUCTS

QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


def for_tensorrt(model: onnx.ModelProto) -> onnx.ModelProto:
    """The functions below for TensorRT, in the order that works. Raises ModelError for asymmetric zero points."""
    return tidy(explicit_axes(skips_only(signed(model))))


def signed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every unsigned quantizer as the signed one of the same range: zero point 0 as int8, `scale * 255 / 127`.

    A tensor that reached 255 steps reaches 127 wider ones: one bit of a non-negative tensor is lost, which a signed
    format cannot keep. To retype the zero point alone, and leave the scale, would cut off the upper half of the range:
    all above 127 steps. Raises ModelError where a zero point is not 0: such a range has no symmetric form without new
    calibration.
    """
    result, graph = _copy(model)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    unsigned: set[str] = set()
    for node in _quantizers(graph):
        point = _constant(constants, node, 2)
        if point is None:
            # Without one ONNX quantizes to uint8, whatever reads it.
            if node.op_type == "QuantizeLinear" and len(node.input) < 3:
                raise ModelError(f"'{node.name}' has no zero point, so that it gives uint8; give it one of int8 zeros.")
            continue
        if np.any(point):
            raise ModelError(
                f"'{node.name}' has the zero point {int(np.ravel(point)[np.argmax(np.ravel(point) != 0)])}; TensorRT "
                "takes 0 alone: quantize with symmetric activations."
            )
        if point.dtype == np.uint8:
            unsigned.update(node.input[1:3])
        elif point.dtype != np.int8:
            raise ModelError(f"'{node.name}' has a zero point of type {point.dtype}; TensorRT takes int8 alone.")
    _check_unshared(graph, unsigned)
    for tensor in graph.initializer:
        if tensor.name in unsigned:
            values = numpy_helper.to_array(tensor)
            if values.dtype == np.uint8:
                tensor.CopyFrom(numpy_helper.from_array(values.astype(np.int8), tensor.name))
            else:
                wider = (values.astype(np.float64) * (255 / 127)).astype(values.dtype)
                tensor.CopyFrom(numpy_helper.from_array(wider, tensor.name))
    return result


def unsigned(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every int8 quantizer of an activation as uint8, values and zero point moved by 128: the same steps and values.

    For OpenVINO 2026.4, on two counts (tests/quantize/test_openvino_guards.py, which fails when one is mended). Without
    AMX it computes a convolution of concatenated int8 activations wrongly (10 dB). With AMX it has "No suitable
    implementations" for a convolution of asymmetric int8 whose result is quantized again, unless its float parts run in
    FP32.
    """
    result, graph = _copy(model)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    fixed = {node.output[0] for node in _quantizers(graph) if node.input[0] in constants} | constants.keys()
    of_weights = {node.input[2] for node in _quantizers(graph) if node.input[0] in fixed and len(node.input) > 2}
    moved: set[str] = set()
    for node in _quantizers(graph):
        point = _constant(constants, node, 2)
        if point is not None and point.dtype == np.int8 and node.input[2] not in of_weights:
            moved.add(node.input[2])
    for tensor in graph.initializer:
        if tensor.name in moved:
            point = numpy_helper.to_array(tensor).astype(np.int16) + 128
            tensor.CopyFrom(numpy_helper.from_array(point.astype(np.uint8), tensor.name))
    return tidy(result) if moved else result


def skips_only(model: onnx.ModelProto) -> onnx.ModelProto:
    """Of residual additions with two quantized inputs only the skip one stays quantized.

    TensorRT computes `conv(x) + skip` in one kernel, which takes the skip as INT8 and adds it to the convolution's
    sum before that is rounded. A quantizer between convolution and addition splits the two, and rounds twice. If both
    inputs are products (a shortcut with a 1 x 1 convolution), the one that is computed later is the branch.
    """
    result, graph = _copy(model)
    makers = {output: index for index, node in enumerate(graph.node) for output in node.output}

    def real(name: str) -> str | None:
        """What is quantized and dequantized to give `name`; None when it is not."""
        node = _maker(graph, makers, name, "DequantizeLinear")
        source = node and _maker(graph, makers, node.input[0], "QuantizeLinear")
        return str(source.input[0]) if source else None

    for node in graph.node:
        sources = [real(name) for name in node.input]
        if node.op_type != "Add" or None in sources:
            continue
        depth = [_product_index(graph, makers, str(name)) for name in sources]
        branch = int(np.argmax(depth))
        if depth[branch] >= 0:
            node.input[branch] = str(sources[branch])
    _drop_unread(graph)
    return result


def explicit_axes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Per-channel quantizers name their axis, counted from the front; per-tensor ones name none.

    A missing axis is 1 for ONNX; TensorRT's older parsers take 0, a newer one 1. NNCF names one, but counts it from the
    back for MatMul and Gemm; TensorRT's parser is written to take that, others may not be. Raises ModelError when a
    tensor's number of dimensions is not known.
    """
    result, graph = _copy(model)
    ranks = _ranks(result)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in _quantizers(graph):
        scale = _constant(constants, node, 1)
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        kept = [a for a in node.attribute if a.name != "axis"]
        del node.attribute[:]
        node.attribute.extend(kept)
        if scale is None or scale.ndim == 0 or scale.size == 1:
            continue
        rank = ranks.get(node.input[0])
        if rank is None:
            raise ModelError(f"The dimensions of '{node.input[0]}', which '{node.name}' quantizes, are not known.")
        node.attribute.append(helper.make_attribute("axis", axis % rank))
    return result


def tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without initializers that nobody reads, and without notes on the types of inner tensors.

    Those say UINT8 where the quantizers are signed by now; ONNX Runtime and onnx's own checker then refuse the file.
    """
    result, graph = _copy(model)
    del graph.value_info[:]
    read = set(_read(graph))
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return result


def _copy(model: onnx.ModelProto) -> tuple[onnx.ModelProto, onnx.GraphProto]:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    return result, result.graph


def _quantizers(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    return [node for node in graph.node if node.op_type in QUANTIZERS]


def _constant(constants: dict[str, TensorProto], node: onnx.NodeProto, index: int) -> NDArray[Any] | None:
    if len(node.input) <= index or node.input[index] not in constants:
        return None
    array: NDArray[Any] = numpy_helper.to_array(constants[node.input[index]])
    return array


def _check_unshared(graph: onnx.GraphProto, unsigned: set[str]) -> None:
    """A scale that a signed quantizer reads too would be widened for that one as well; NNCF gives each its own."""
    for node in _quantizers(graph):
        mixed = {name in unsigned for name in node.input[1:3]}
        if len(mixed) > 1:
            raise ModelError(
                f"'{node.name}' shares its scale or zero point with an unsigned quantizer; give it its own."
            )


def _maker(graph: onnx.GraphProto, makers: dict[str, int], name: str, kind: str) -> onnx.NodeProto | None:
    index = makers.get(name)
    return graph.node[index] if index is not None and graph.node[index].op_type == kind else None


def _product_index(graph: onnx.GraphProto, makers: dict[str, int], name: str) -> int:
    """Where in the graph's order the product stands that gives `name`, a bias added at most; -1 when none does."""
    index = makers.get(name)
    if index is None:
        return -1
    node = graph.node[index]
    if node.op_type in PRODUCTS:
        return index
    constants = {tensor.name for tensor in graph.initializer}
    if node.op_type == "Add" and len(computed := [n for n in node.input if n not in constants]) == 1:
        return _product_index(graph, makers, computed[0])
    return -1


def _drop_unread(graph: onnx.GraphProto) -> None:
    """Removes quantizers whose output nobody reads any more; a DQ first, then the Q before it."""
    while True:
        read = set(_read(graph))
        kept = [n for n in graph.node if n.op_type not in QUANTIZERS or not read.isdisjoint(n.output)]
        if len(kept) == len(graph.node):
            return
        del graph.node[:]
        graph.node.extend(kept)


def _read(graph: onnx.GraphProto) -> Iterator[str]:
    """The names that nodes read, those in the bodies of If, Loop and Scan too, or that leave the graph or a body."""
    yield from (value.name for value in graph.output)
    for node in graph.node:
        yield from node.input
        for body in bodies(node):
            yield from _read(body)


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(tidy(model), data_prop=True).graph
    ranks = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    for value in [*graph.value_info, *graph.input, *graph.output]:
        if value.type.tensor_type.HasField("shape"):
            ranks[value.name] = len(value.type.tensor_type.shape.dim)
    return ranks
