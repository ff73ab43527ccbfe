"""The attention-safe policy: which nodes of a graph stay in float, and why.

Weight products carry nearly all arithmetic and tolerate INT8; what decides *where to look* (scores, softmax, gates)
and what carries the signal past a block (residual adds, normalisation) does not. Published: INT8 with residual adds
quantized drops ViT-B/16 to 0.03-4.99 % top-1, weight products alone keep 84.51 of 85.22 % (onnxsim, scripts/nvidia).
Measured here on SE-ResNet-20: gates and residual adds in float raise the SQNR from 31.0 to 36.0 dB, the pooling of the
gates as well to 36.2 dB. Time, one run on a noisy machine, p50 over that of BF16: NNCF's defaults 0.85, gates and
adds in float 0.89, their pooling as well 0.84 (docs/decisions.md).
"""

from __future__ import annotations

import math
from collections import Counter

import onnx

from edgeattn.onnxgraph.half import NORMALISATIONS
from edgeattn.onnxgraph.view import MOVING, PRODUCTS, Graph

SATURATING = frozenset({"Softmax", "LogSoftmax", "Sigmoid", "HardSigmoid", "Tanh"})
REDUCTIONS = frozenset({"ReduceSum", "ReduceMean", "ReduceSumSquare", "ReduceL2", "GlobalAveragePool"})


def float_nodes(graph: onnx.GraphProto) -> dict[str, str]:
    """Names of the nodes to keep in float, each with the reason in words."""
    constants = constant_names(graph)
    reasons: dict[str, str] = {}
    for node in graph.node:
        activations = [name for name in node.input if name and name not in constants]
        if node.op_type in SATURATING:
            reasons[node.name] = f"{node.op_type} decides where to look"
        elif node.op_type in NORMALISATIONS:
            reasons[node.name] = "normalisation rescales every later layer"
        elif node.op_type in REDUCTIONS:
            reasons[node.name] = "sum over many values: quantizing its input also requantizes the branch it looks at"
        elif node.op_type == "MatMul" and len(activations) == 2:
            reasons[node.name] = "attention score or value product: both sides are activations"
        elif node.op_type == "Add" and len(activations) == 2:
            reasons[node.name] = "residual add carries the signal past the block"
        elif node.op_type == "Sub" and len(activations) == 2:
            reasons[node.name] = "difference of two activations, such as the sides of a box: small beside either"
        elif node.op_type == "Mul" and len(activations) == 2:
            reasons[node.name] = "gate: one activation scales another"
    return reasons


def smoothed_wrongly(graph: onnx.GraphProto) -> list[str]:
    """Weight products of what a reduction gives, to be left in float where SmoothQuant is used.

    OpenVINO 2026.4 joins a reduction with the smoothing factors and the quantizer behind it, and takes the factors of
    the wrong channels: 5 dB instead of the 37 that ONNX Runtime keeps on compact_transformer
    (tests/quantize/test_openvino_guards.py). Such a product is small: often the classifier.
    """
    makers = {output: node for node in graph.node for output in node.output}
    constants = constant_names(graph)
    found = []
    for node in graph.node:
        if node.op_type in ("MatMul", "Gemm") and node.input[1] in constants:
            maker = makers.get(_origin(node.input[0], makers))
            if maker is not None and maker.op_type in REDUCTIONS:
                found.append(node.name)
    return found


def additions_to_convolutions(graph: onnx.GraphProto) -> set[str]:
    """Names of residual additions of which a side is a convolution's result that nobody else reads.

    TensorRT joins the two and takes the other side, the skip, as INT8 (`qdq.skips_only`): nothing is rounded between
    convolution and sum. Behind a gate, a product of attention or a normalisation there is no such kernel, nor behind a
    convolution that stays in float itself (`slow_on_tensor_cores`).
    """
    slow = slow_on_tensor_cores(graph)
    makers = {output: node for node in graph.node for output in node.output}
    reads = Counter(name for node in graph.node for name in node.input)
    found = set()
    for node in graph.node:
        if node.op_type == "Add" and any(
            reads[name] == 1 and name in makers and makers[name].op_type == "Conv" and makers[name].name not in slow
            for name in node.input
        ):
            found.add(node.name)
    return found


def slow_on_tensor_cores(graph: onnx.GraphProto) -> dict[str, str]:
    """Weight products that NVIDIA leaves out of INT8 since it is slower there, each with the reason.

    The limits are those of nvidia-modelopt 0.47 (onnx/quantization, `graph_utils` and `ort_utils`): a matrix of one row
    or column has no use for tensor cores, nor have fewer than 16 channels unless they are a multiple of 8.
    """
    sizes = _sizes(graph)
    constants = constant_names(graph)
    reasons: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in ("MatMul", "Gemm") and node.input[1] in constants:
            weights, rows = sizes.get(node.input[1], ()), sizes.get(node.input[0], ())
            if any(size < 16 for size in weights[-2:]):
                reasons[node.name] = "product of fewer than 16 channels: INT8 is slower than FP16 on tensor cores"
            elif rows and math.prod(rows[:-1]) == 1:
                reasons[node.name] = "product of a single row: INT8 is slower than FP16 on tensor cores"
        elif node.op_type == "Conv" and node.input[1] in constants:
            weights = sizes.get(node.input[1], ())
            group = next((a.i for a in node.attribute if a.name == "group"), 1)
            if not weights:
                continue
            if group > 1 and (weights[0] % 8 or min(weights[2:], default=1) < 3):
                reasons[node.name] = "convolution in groups: INT8 is slower than FP16 on tensor cores"
            elif group == 1 and weights[1] < 16 and weights[1] % 8:
                reasons[node.name] = "convolution of few channels: INT8 is slower than FP16 on tensor cores"
    return reasons


def _sizes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    """The sizes of every tensor that has them written down; a dimension without a number counts as 1."""
    sizes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in [*graph.value_info, *graph.input, *graph.output]:
        shape = value.type.tensor_type.shape
        sizes[value.name] = tuple(dim.dim_value or 1 for dim in shape.dim)
    return sizes


def unquantized_products(graph: onnx.GraphProto) -> set[str]:
    """Names of the convolutions and weight products of a graph with Q/DQ nodes whose weights are in float."""
    makers = {output: node for node in graph.node for output in node.output}
    constants = constant_names(graph)
    found = set()
    for node in graph.node:
        if node.op_type in PRODUCTS:
            weights = [makers.get(_origin(name, makers)) for name in node.input[:2] if name in constants]
            if weights and not any(maker is not None and maker.op_type == "DequantizeLinear" for maker in weights):
                found.add(node.name)
    return found


def half_quantized(model: onnx.ModelProto) -> list[str]:
    """Names of the products that read one operand from DequantizeLinear, for TensorRT's eyes, and the other from float.

    It multiplies them in float, so that the quantizers cost accuracy for nothing. NNCF moves quantizers over ReduceMax,
    as OpenVINO does and TensorRT does not.
    """
    graph = Graph(model)
    products = [node for node in graph.nodes if node.operator in PRODUCTS]
    sides = {node.label: [graph.quantized(name) is not None for name in node.inputs[:2]] for node in products}
    return [name for name, quantized in sides.items() if any(quantized) and not all(quantized)]


def _origin(name: str, makers: dict[str, onnx.NodeProto]) -> str:
    """The tensor of which `name` is a rearrangement."""
    while name in makers and makers[name].op_type in MOVING:
        name = makers[name].input[0]
    return name


def classifier_nodes(graph: onnx.GraphProto) -> list[str]:
    """Weight products whose result is a graph output, directly or through nodes that only move or scale it."""
    makers = {output: node for node in graph.node for output in node.output}
    moving = MOVING | {"Add"}
    found = []
    for output in graph.output:
        node = makers.get(output.name)
        while node is not None and node.op_type in moving:
            node = makers.get(node.input[0])
        if node is not None and node.op_type in ("Gemm", "MatMul"):
            found.append(node.name)
    return found


def constant_names(graph: onnx.GraphProto) -> set[str]:
    """Names that hold weights: initializers, Constant nodes, and what is computed from those alone."""
    constants = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" or (node.input and all(name in constants for name in node.input if name)):
            constants.update(node.output)
    return constants
