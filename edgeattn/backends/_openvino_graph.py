"""What an OpenVINO engine will really execute: layers and multiply-adds per precision, read from its runtime graph.

A layer is a node that computes. Inputs, outputs, constants, precision and layout conversions and pure data movement
(reshape, transpose, split, ...) are not counted, nor is arithmetic on indices and shapes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

PRECISIONS = {"f32": "fp32", "bf16": "bf16", "f16": "fp16", "i8": "int8", "u8": "int8"}

_WIDTH = {"i8": 0, "u8": 0, "f16": 1, "bf16": 1, "f32": 2}
_PRODUCTS = {"Convolution", "Deconvolution", "FullyConnected", "MatMul"}
_MOVES_DATA = {
    *("Input", "Output", "Const", "Reorder", "Convert", "Reshape", "Transpose", "Split", "Concatenation", "Gather"),
    *("StridedSlice", "Broadcast", "Tile", "Pad", "ShapeOf", "DepthToSpace", "SpaceToDepth", "Range", "Memory"),
}


@dataclass
class Layer:
    """One executed layer: `nodes` are the operators of the graph in it, `macs` its multiply-adds."""

    name: str
    kind: str
    precision: str
    nodes: tuple[str, ...]
    macs: int

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "nodes": list(self.nodes)}


def layers(model: Any, runtime: Any) -> list[Layer]:
    """What `runtime`, the runtime graph of the engine compiled from `model`, executes, in its order.

    A convolution or matrix product counts as the precision of its operands. Any other layer counts as the widest of
    what it reads and writes, so that one that takes 8-bit data but works in float is not called int8; for attention
    fused into one layer what it reads decides. A dynamic dimension counts as 1.
    """
    expected = multiply_adds(model)
    total = sum(expected.values())
    found: list[Layer] = []
    fused: dict[str, Layer] = {}
    for node in runtime.get_ordered_ops():
        info = {key: str(value.value) for key, value in dict(node.get_rt_info()).items()}
        if info["layerType"] in _MOVES_DATA:
            continue
        # A product that was fused into this layer is found by name; where a fusion renamed it, by the layer's shapes.
        names = tuple(info["originalLayersNames"].split(","))
        named = sum(expected.pop(name, 0) for name in names)
        kind = _precision(node, info, fused=named > 0)
        if kind in PRECISIONS:
            macs = max(named, _product(info["layerType"], node))
            found.append(Layer(str(node.get_friendly_name()), info["layerType"], PRECISIONS[kind], names, macs))
            if info["layerType"] not in _PRODUCTS:
                fused.update(dict.fromkeys(names, found[-1]))
    for node in model.get_ordered_ops():
        count = expected.get(node.get_friendly_name(), 0)
        home = next((fused[name] for name in _followers(node) if name in fused), None) if count else None
        if home and count <= total - sum(layer.macs for layer in found):
            home.macs += count
    return found


def read_back(model: Any, executed: list[Layer]) -> tuple[dict[str, int], dict[str, int]]:
    """(layers, multiply-adds) per precision; multiply-adds that no executed layer can be shown to do are `unknown`."""
    counts = Counter(layer.precision for layer in executed)
    macs: Counter[str] = Counter()
    for layer in executed:
        macs[layer.precision] += layer.macs
    macs["unknown"] = max(0, sum(multiply_adds(model).values()) - sum(macs.values()))
    return dict(sorted(counts.items())), {kind: count for kind, count in sorted(macs.items()) if count}


def _followers(node: Any) -> list[str]:
    """The names of up to three operators that take only this one's result, in order.

    A product inside a fused layer loses its name where the scaling after it was folded into it.
    """
    names: list[str] = []
    while len(names) < 3 and node.get_output_size() and len(users := node.output(0).get_target_inputs()) == 1:
        node = next(iter(users)).get_node()
        names.append(str(node.get_friendly_name()))
    return names


def multiply_adds(model: Any) -> dict[str, int]:
    """Multiply-adds of every convolution and matrix product of a graph as read from ONNX, by the operator's name."""
    counts = {}
    for node in model.get_ordered_ops():
        if count := _operator(node.get_type_name(), node):
            counts[str(node.get_friendly_name())] = count
    return counts


def _operator(kind: str, node: Any) -> int:
    if kind in ("Convolution", "GroupConvolution"):
        return _convolution(node, node.output(0))
    if kind in ("ConvolutionBackpropData", "GroupConvolutionBackpropData"):
        return _convolution(node, node.input(0))
    if kind == "MatMul":
        left = _shape(node.input(0))
        transposed = node.get_attributes()["transpose_a"] and len(left) > 1
        return prod(_shape(node.output(0))) * left[-2 if transposed else -1]
    if kind == "ScaledDotProductAttention":
        query, key, value = (_shape(node.input(i)) for i in range(3))
        return prod(query[:-1]) * key[-2] * (query[-1] + value[-1])
    return _einsum(node) if kind == "Einsum" else 0


def _einsum(node: Any) -> int:
    """Of two operands without an ellipsis: every combination of the labels is one multiply-add. Else 0."""
    terms = str(node.get_attributes()["equation"]).replace(" ", "").split("->")[0].split(",")
    if len(terms) != 2 or "." in "".join(terms):
        return 0
    sizes: dict[str, int] = {}
    for term, port in zip(terms, node.inputs(), strict=True):
        sizes.update(zip(term, _shape(port), strict=True))
    return prod(sizes.values())


def _product(layer: str, node: Any) -> int:
    """Multiply-adds of an executed layer, from its shapes; 0 for a layer that is no product by itself."""
    if layer not in _PRODUCTS:
        return 0
    if layer == "Convolution":
        return _convolution(node, node.output(0))
    if layer == "Deconvolution":
        return _convolution(node, node.input(0))
    left, out = _shape(node.input(0)), _shape(node.output(0))
    if layer == "FullyConnected":
        return prod(out) * left[-1]
    # Whether the left operand is transposed is not told: its matrix has rows x depth elements either way.
    return prod(out) * (prod(left[-2:]) // out[-2]) if min(len(left), len(out)) > 1 else prod(left)


def _convolution(node: Any, per: Any) -> int:
    """Elements of `per` (the output; the input of a transposed convolution) times the weights that meet each.

    Weights are `(O, I, kernel...)`, or `(G, O/G, I/G, kernel...)` with groups.
    """
    data, weights = _shape(node.input(0)), _shape(node.input(1))
    return prod(_shape(per)) * prod(weights[1 + len(weights) - len(data) :])


def _shape(port: Any) -> list[int]:
    return [size.get_length() if size.is_static else 1 for size in port.get_partial_shape()]


def _precision(node: Any, info: dict[str, str], *, fused: bool) -> str:
    if info["layerType"] in _PRODUCTS:
        return info["runtimePrecision"]
    ports = [port.get_source_output() for port in node.inputs()]
    data = [port for port in ports if port.get_node().get_rt_info()["layerType"].value != "Const"]
    kinds = [str(port.get_element_type().to_string()) for port in data + ([] if fused else list(node.outputs()))]
    known = [kind for kind in (info["runtimePrecision"], *kinds) if kind in _WIDTH]
    return max(known, key=_WIDTH.__getitem__, default=info["runtimePrecision"])
