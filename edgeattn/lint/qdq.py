"""QuantizeLinear and DequantizeLinear as TensorRT wants them: int8, symmetric, scales it can use, the right axis.

Source: QuantDequantLinearHelper in onnx-tensorrt's onnxOpImporters.cpp (10.6) and NvInfer.h of 10.3.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from edgeattn import jetpack
from edgeattn.lint.base import Finding, Ranges, Rule, Rules, Severity, number
from edgeattn.onnxgraph.half import TO_ZERO
from edgeattn.onnxgraph.view import Graph, Node, type_name

UNSIGNED = Rule(
    "qdq.unsigned",
    Severity.ERROR,
    "TensorRT has no unsigned quantization: the parser of 10.1 takes int8 with the same scale and only warns, so that "
    "all above 127 scales is clipped and tens of dB are lost; that of 10.6 refuses the file.",
    "Make the zero point int8 and 0, and multiply the scale by 255/127.",
)
ASYMMETRIC = Rule(
    "qdq.zero-point",
    Severity.ERROR,
    "TensorRT only supports symmetric quantization and refuses the file.",
    "Quantize symmetrically: zero point 0, scale = max|x| / 127.",
)
KIND = Rule(
    "qdq.type",
    Severity.ERROR,
    "TensorRT quantizes to 8 bits and fewer alone and refuses the file.",
    "Quantize to int8.",
)
COMPUTED = Rule(
    "qdq.computed",
    Severity.ERROR,
    "TensorRT needs scales and zero points when it builds the engine and refuses computed ones.",
    "Store them as initializers.",
)
COUNT = Rule(
    "qdq.count",
    Severity.ERROR,
    "TensorRT refuses the file: scale and zero point must have the same number of elements.",
    "Give each scale a zero point of its own, 0.",
)
SCALE = Rule(
    "qdq.scale",
    Severity.ERROR,
    "TensorRT refuses scales that are not positive; one that is not finite makes every result NaN.",
    "Calibrate this tensor again; a tensor that is always 0 takes any positive scale.",
)
SCALE_RANGE = Rule(
    "qdq.scale-range",
    Severity.WARNING,
    "In FP16 it would be 0 or infinite, and the file refused: all that reads the tensor must stay FP32.",
    "Clamp the scale to 6.1e-5 ... 65504 before it is stored.",
)
SCALE_SMALL = Rule(
    "qdq.scale-small",
    Severity.WARNING,
    "Below 6.1e-5 FP16 has fewer than its 11 bits: every value of the tensor is off by the scale's rounding.",
    "Clamp the scale to 6.1e-5, or leave the tensor in float.",
)
PER_CHANNEL = Rule(
    "qdq.per-channel-activation",
    Severity.ERROR,
    "TensorRT has one scale for each activation, several for constant weights alone: it refuses the layer.",
    "Calibrate one scale for the whole tensor.",
)
AXIS_MISSING = Rule(
    "qdq.axis-missing",
    Severity.ERROR,
    "Older parsers of TensorRT then take axis 0 where ONNX takes 1: scales are refused or meet the wrong channels.",
    "Write `axis` explicitly.",
)
AXIS_NEGATIVE = Rule(
    "qdq.axis-negative",
    Severity.WARNING,
    "Not every parser is known to count from the end.",
    "Write the axis as a number from 0.",
)
AXIS = Rule(
    "qdq.axis",
    Severity.ERROR,
    "TensorRT's kernels have scales for the output channels alone: it refuses the layer or leaves it in float.",
    "Quantize along the output channels: Conv 0, ConvTranspose 1, MatMul the last, Gemm 0 with transB, else 1.",
)
AXIS_LENGTH = Rule(
    "qdq.axis-length",
    Severity.ERROR,
    "TensorRT refuses the file: every channel needs its scale.",
    "Give as many scales as the axis is long.",
)
BIAS = Rule(
    "qdq.bias",
    Severity.ERROR,
    "TensorRT refuses an INT32 tensor there ('only activation types allowed as input to this layer').",
    "Leave biases in float (ONNX Runtime's quantize_static does with QuantizeBias: False).",
)
NOT_HERE = Rule(
    "qdq.hardware",
    Severity.ERROR,
    "The board or its TensorRT does not have the type and refuses the build.",
    "Quantize to int8.",
)
NOT_EVERYWHERE = Rule(
    "qdq.some-hardware",
    Severity.NOTE,
    "On an older GPU the build is refused; of the Jetsons Thor has the type, no Orin does.",
    "Quantize to int8 where an Orin is to run it; --target judges for one board.",
)
FP16_LEAST = float(np.finfo(np.float16).tiny)  # 6.1e-5, the smallest with all bits
_QUANTIZED = {TensorProto.INT8, TensorProto.INT4, TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT4E2M1}
# The compute capability and the TensorRT from which a type can be had: the support matrix of NVIDIA's documentation
# (FP8 from Ada on, FP4 from Blackwell on), and onnx-tensorrt's docs/Changelog.md (FP8 in 9.0).
_SINCE = {TensorProto.FLOAT8E4M3FN: ((8, 9), (10, 0)), TensorProto.FLOAT4E2M1: ((10, 0), (10, 8))}
_BIAS_OF = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}


def check(graph: Graph, rules: Rules, ranges: Ranges) -> Iterator[Finding]:
    """Every Q and DQ node."""
    for node in graph.nodes:
        if node.operator in ("QuantizeLinear", "DequantizeLinear") and node.is_onnx:
            yield from _zero_point(graph, node)
            yield from _had(graph, node, rules)
            yield from _scale(graph, node)
            yield from _axis(graph, node)
            yield from _bias(graph, node)


def _zero_point(graph: Graph, node: Node) -> Iterator[Finding]:
    kind = _kind(graph, node)
    if kind == TensorProto.UINT8:
        stated = "has a uint8 zero point" if node.input(2) else "has no zero point, which means uint8"
        yield UNSIGNED.at(node, f"It {stated}.")
    elif kind not in (*_QUANTIZED, TensorProto.UNDEFINED) and not _is_int32_input(graph, node):
        yield KIND.at(node, f"It quantizes to {type_name(kind)}.")
    if not node.input(2):
        return
    points, scales = graph.value(node.input(2)), graph.value(node.input(1))
    if points is None:
        yield COMPUTED.at(node, f"Its zero point '{node.input(2)}' is computed.")
    elif np.any(points.astype(np.float32) != 0):
        first = points.reshape(-1)[np.flatnonzero(points.astype(np.float32))[0]]
        yield ASYMMETRIC.at(node, f"Its zero point is {number(first)}, not 0.")
    if points is not None and scales is not None and points.size != scales.size:
        yield COUNT.at(node, f"It has {scales.size} scales and {points.size} zero points.")


def _had(graph: Graph, node: Node, rules: Rules) -> Iterator[Finding]:
    """Types that not every GPU and TensorRT has."""
    kind = _kind(graph, node)
    if kind not in _SINCE:
        return
    capability, tensorrt = _SINCE[kind]
    name, given = type_name(kind), rules.compute_capability
    what = f"It uses {name}, which needs compute capability {jetpack.dotted(capability)}"
    if rules.tensorrt < tensorrt:
        yield NOT_HERE.at(node, f"It uses {name}, which came with TensorRT {jetpack.dotted(tensorrt)}.")
    elif given is not None and given < capability:
        yield NOT_HERE.at(node, f"{what}; the target has {jetpack.dotted(given)}.")
    elif given is None:
        yield NOT_EVERYWHERE.at(node, f"{what}.")


def _kind(graph: Graph, node: Node) -> int:
    """What it quantizes to, or dequantizes from; ONNX takes uint8 where nothing says it."""
    if node.operator == "DequantizeLinear":
        return graph.type(node.input(0))
    if node.input(2):
        return graph.type(node.input(2))
    return int(node.get("output_dtype", 0)) or TensorProto.UINT8


def _is_int32_input(graph: Graph, node: Node) -> bool:
    return node.operator == "DequantizeLinear" and graph.type(node.input(0)) == TensorProto.INT32


def _scale(graph: Graph, node: Node) -> Iterator[Finding]:
    scales = graph.value(node.input(1))
    if scales is None:
        yield COMPUTED.at(node, f"Its scale '{node.input(1)}' is computed.")
        return
    values = scales.astype(np.float64).reshape(-1)
    wrong = ~(np.isfinite(values) & (values > 0))
    if wrong.any():
        yield SCALE.at(node, f"{_among(values, wrong)} {number(values[wrong][0])}.")
        return
    if graph.type(node.input(1)) not in (TensorProto.FLOAT, TensorProto.FLOAT16):  # BF16 reaches as far as FP32
        return
    lost = (values <= TO_ZERO) | (values > np.finfo(np.float16).max)
    if lost.any():
        yield SCALE_RANGE.at(node, f"{_among(values, lost)} {number(values[lost][0])}.")
    small = (values < FP16_LEAST) & ~lost
    if small.any():
        yield SCALE_SMALL.at(node, f"{_among(values, small)} {number(values[small][0])}.")


def _among(values: NDArray[np.float64], which: NDArray[np.bool_]) -> str:
    return "Its scale is" if values.size == 1 else f"{int(which.sum())} of its {values.size} scales are such as"


def _axis(graph: Graph, node: Node) -> Iterator[Finding]:
    scales, shape = graph.value(node.input(1)), graph.shape(node.input(0))
    if scales is None or scales.size == 1:
        return
    if not _rooted(graph, node):
        yield PER_CHANNEL.at(node, f"It has {scales.size} scales for the activation '{node.input(0)}'.")
    axis = node.get("axis")
    if not isinstance(axis, int):
        yield AXIS_MISSING.at(node, f"It has {scales.size} scales and no `axis`.")
        return
    if axis < 0:
        yield AXIS_NEGATIVE.at(node, f"Its `axis` is {axis}.")
    if shape is None:
        return
    counted = axis + len(shape) if axis < 0 else axis
    if not 0 <= counted < len(shape) or shape[counted] not in (None, scales.size):
        long = f", which is {shape[counted]} long" if 0 <= counted < len(shape) else f" of {len(shape)} dimensions"
        yield AXIS_LENGTH.at(node, f"It has {scales.size} scales for axis {axis}{long}.")
    for reader, expected in _expected(graph, node, len(shape)):
        if expected != counted:
            yield AXIS.at(node, f"Its `axis` is {axis}, the {reader.operator} '{reader.label}' needs {expected}.")


def _rooted(graph: Graph, node: Node) -> bool:
    return node.input(0) in graph.constants


def _expected(graph: Graph, node: Node, rank: int) -> Iterator[tuple[Node, int]]:
    """The products that read the weight, each with the axis its output channels have at `node`."""
    waiting = [(node.output, tuple(range(rank)))]
    seen = set()
    while waiting:
        name, axes = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for reader, index in graph.readers.get(name, []):
            if reader.operator in ("QuantizeLinear", "DequantizeLinear", "Identity"):
                waiting.append((reader.output, axes))
            elif reader.operator == "Transpose":
                order = reader.get("perm", tuple(range(rank))[::-1])
                if sorted(order) == list(range(rank)):
                    waiting.append((reader.output, tuple(axes[i] for i in order)))
            elif (axis := _output_channels(reader, index, rank)) is not None:
                yield reader, axes[axis]


def _output_channels(reader: Node, index: int, rank: int) -> int | None:
    """The axis of a weight that is input `index` of `reader`; None where it is none."""
    places = {
        ("Conv", 1): 0,
        ("ConvTranspose", 1): 1,
        ("MatMul", 1): rank - 1,
        ("MatMul", 0): rank - 2,
        ("Gemm", 1): 0 if reader.get("transB", 0) else 1,
        ("Gemm", 0): 1 if reader.get("transA", 0) else 0,
    }
    return places.get((reader.operator, index))


def _bias(graph: Graph, node: Node) -> Iterator[Finding]:
    if node.operator != "DequantizeLinear":
        return
    if _is_int32_input(graph, node):
        yield BIAS.at(node, f"It dequantizes the INT32 tensor '{node.input(0)}'.")
        return
    for reader, index in graph.readers.get(node.output, []):
        if _BIAS_OF.get(reader.operator) == index:
            yield BIAS.at(node, f"It gives the bias of {reader.operator} '{reader.label}'.")
