"""Layers that the deep learning accelerator of Orin cannot take; they run on the GPU, and nothing says so.

Source: "DLA Supported Layers and Restrictions" of the TensorRT documentation, NvInfer.h of 10.3 (matrix products run on
the GPU: what took them, a fully connected layer, is gone since TensorRT 10), and for LRN, PRelu, LeakyRelu, Equal and
what only rearranges, operators/README.md of NVIDIA's Deep-Learning-Accelerator-SW (commit 372cea3, of TensorRT 8.5 and
8.6). That it takes INT8 from a calibration cache alone, not from Q/DQ: NVIDIA/Model-Optimizer #1661 (June 2026, "DLA
still only supports IQ") and cuDLA-samples #19. Asked for only with `Rules.dla`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from onnx import TensorProto

from edgeattn.lint._patterns import product_is_int8
from edgeattn.lint.base import Finding, Ranges, Rule, Rules, Severity
from edgeattn.onnxgraph.view import Graph, Node

VERSION = Rule(
    "dla.version",
    Severity.ERROR,
    "This version builds nothing for a DLA.",
    "Use TensorRT 10.0 to 10.7 (JetPack 6), or 11.4.1 and newer on an AGX Orin with JetPack 7.2.2.",
)
DYNAMIC = Rule(
    "dla.dynamic",
    Severity.ERROR,
    "A DLA takes fixed shapes alone: smallest, usual and largest shape must be the same.",
    "Export with fixed shapes (dynamic_batch: false).",
)
SIZE = Rule(
    "dla.size",
    Severity.WARNING,
    "Beyond 4096 frames in a batch, or 8192 elsewhere, the layer falls back to the GPU.",
    "Make the input smaller or cut it into tiles.",
)
GPU = Rule(
    "dla.gpu",
    Severity.WARNING,
    "It falls back to the GPU without a word, and each change from one to the other copies the tensors.",
    "Keep the DLA for the part before it, or run all of it on the GPU.",
)

QUANTIZED = Rule(
    "dla.quantized",
    Severity.WARNING,
    "In this version a DLA takes its INT8 scales from a calibration cache, which edgeattn does not write: what stands "
    "between Q and DQ falls back to the GPU.",
    "Give the DLA the FP16 graph, or leave the INT8 graph to the GPU.",
)

_FREE = {"Constant", "Identity", "Cast", "QuantizeLinear", "DequantizeLinear", "Shape", "ConstantOfShape"}
_FREE |= {"Reshape", "Transpose", "Slice"}
_PLAIN = {"Add", "Sub", "Mul", "Max", "Min", "Sum", "Relu", "Sigmoid", "Tanh", "Clip", "BatchNormalization", "Equal"}
_PLAIN |= {"Abs", "PRelu", "LeakyRelu", "LRN"}


def builds_for_it(tensorrt: tuple[int, ...]) -> bool:
    """Whether this version of TensorRT makes anything run on a DLA."""
    return (10, 0) <= tensorrt < (10, 8) or tensorrt >= (11, 4, 1)


def check(graph: Graph, rules: Rules, ranges: Ranges) -> Iterator[Finding]:
    """Nothing unless a DLA is asked for."""
    if not rules.dla:
        return
    if not builds_for_it(rules.tensorrt):
        yield VERSION.at(None, f"TensorRT {rules.version} has no DLA.")
    for name in graph.inputs:
        if (shape := graph.shape(name)) is not None and None in shape:
            yield DYNAMIC.at(None, f"The input '{name}' has a dynamic shape.")
    for node in graph.nodes:
        if all(name in graph.constants for name in node.outputs):
            continue
        if _is_quantized(graph, node, rules):
            if node.operator != "DequantizeLinear":  # a warning for each pair, and for what is computed with them
                yield QUANTIZED.at(node, "It is quantized.")
        elif reason := gpu_only(graph, node, rules):
            yield GPU.at(node, reason)
        elif large := _too_large(graph, node):
            yield SIZE.at(node, large)


def _is_quantized(graph: Graph, node: Node, rules: Rules) -> bool:
    """Whether a node is a quantizer, or computes in INT8, where a DLA knows none. TensorRT 11 has no other INT8."""
    if rules.tensorrt >= (11,):
        return False
    return node.operator in ("QuantizeLinear", "DequantizeLinear") or product_is_int8(graph, node)


def gpu_only(graph: Graph, node: Node, rules: Rules) -> str | None:
    """Why a node runs on the GPU; None where the DLA can take it."""
    if _is_quantized(graph, node, rules):
        return "It is quantized, and a DLA takes no Q/DQ."
    if node.operator in _FREE:
        return None
    limit = _LIMITS.get(node.operator)
    if limit is None and node.operator not in _PLAIN:
        return f"A DLA has no {node.operator}."
    if graph.type(node.output) == TensorProto.FLOAT and not graph.quantized(node.input(0)):
        return "It computes in FP32, a DLA in FP16 and INT8 alone."
    return limit(graph, node) if limit else None


def _too_large(graph: Graph, node: Node) -> str | None:
    for name in node.outputs:
        shape = graph.shape(name) or ()
        if (shape[:1] and (shape[0] or 0) > 4096) or any((size or 0) > 8192 for size in shape[1:]):
            return f"Its result '{name}' is {' x '.join(map(str, shape))}."
    return None


def _within(node: Node, name: str, lowest: int, highest: int) -> str | None:
    values = node.get(name)
    values = values if isinstance(values, list) else [] if values is None else [values]
    if all(lowest <= value <= highest for value in values if isinstance(value, int)):
        return None
    return f"`{name}` must be from {lowest} to {highest} for a DLA, it is {values}."


def _convolution(graph: Graph, node: Node) -> str | None:
    weights = graph.shape(node.input(1))
    if weights is not None and len(weights) != 4:
        return "A DLA convolves images alone (4 dimensions)."
    if weights is not None and any((side or 1) > 32 for side in weights[2:]):
        return f"A DLA's kernels have sides up to 32, this one has {list(weights[2:])}."
    if node.operator == "ConvTranspose":
        if node.get("group", 1) != 1:
            return f"A DLA's transposed convolution has one group, this one {node.get('group')}."
        return _within(node, "pads", 0, 0)
    return (
        _within(node, "strides", 1, 8) or _within(node, "pads", 0, 31) or _within(node, "dilations", 1, 32)
        or _within(node, "group", 1, 8192)
    )  # fmt: skip


def _pool(graph: Graph, node: Node) -> str | None:
    return _within(node, "kernel_shape", 1, 8) or _within(node, "strides", 1, 16)


def _softmax(graph: Graph, node: Node) -> str | None:
    shape = graph.shape(node.input(0))
    if not shape:
        return None
    axis = node.get("axis", -1) % len(shape)
    rest = [size for place, size in enumerate(shape) if place not in (0, axis)]
    most = 8192 if all(size == 1 for size in rest) else 1024
    return f"Its axis is {shape[axis]} long, a DLA's at most {most}." if (shape[axis] or 0) > most else None


def _resize(graph: Graph, node: Node) -> str | None:
    if (mode := node.get("mode", "nearest")) not in ("nearest", "linear", "bilinear"):
        return f"A DLA resizes by nearest or linear alone, not {mode}."
    scales = graph.value(node.input(2))
    before, after = graph.shape(node.input(0)), graph.shape(node.output)
    if scales is None and before and after and None not in (*before, *after):
        scales = np.asarray([b / a for a, b in zip(before, after, strict=True) if a and b is not None])
    if scales is not None and (np.any(scales != np.round(scales)) or np.any(scales < 1) or np.any(scales > 32)):
        return f"A DLA resizes by whole factors from 1 to 32, here {[float(s) for s in scales.reshape(-1)]}."
    if node.get("mode", "nearest") == "linear" and node.get("coordinate_transformation_mode") not in (
        None, "half_pixel"
    ):  # fmt: skip
        return "A DLA's linear resize is half_pixel alone."
    return None


def _concat(graph: Graph, node: Node) -> str | None:
    rank = len(graph.shape(node.output) or ())
    axis = node.get("axis", 1)
    return None if axis == 1 or (rank and axis % rank == 1) else f"A DLA concatenates channels alone, not axis {axis}."


_LIMITS: dict[str, Callable[[Graph, Node], str | None]] = {
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "Softmax": _softmax,
    "Resize": _resize,
    "Upsample": _resize,
    "Concat": _concat,
}
