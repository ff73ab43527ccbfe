"""A strongly typed network takes every type from the graph and converts nothing by itself.

Source: NvInfer.h of 10.3 (kSTRONGLY_TYPED, IElementWiseLayer, IQuantizeLayer, IDequantizeLayer), the types listed in
onnx-tensorrt's docs/operators.md (10.15; for INT8 10.6, "support is available only through quantization"), and for
UINT8 NVIDIA/TensorRT #3985 ("all UINT8 inputs must directly feed into a cast layer [...] no other layers support UINT8
inputs, even just data-movement ops") and #4278 (outputs).
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import TensorProto

from edgeattn.lint._support import SINCE
from edgeattn.lint.base import Finding, Ranges, Rule, Rules, Severity, known
from edgeattn.onnxgraph.half import LIMIT
from edgeattn.onnxgraph.view import FLOATS, MOVING, PRODUCTS, Graph, Node, type_name

MIXED = Rule(
    "typing.mixed",
    Severity.ERROR,
    "A strongly typed network converts nothing by itself: TensorRT refuses the layer.",
    "Cast one of them, or store the constant in the other's type.",
)
Q_SCALE = Rule(
    "typing.q-scale",
    Severity.ERROR,
    "A strongly typed network needs the scale in the type of what is quantized: TensorRT refuses the layer.",
    "Store the scale in that type.",
)
DQ_FLOAT32 = Rule(
    "typing.dq-fp32",
    Severity.WARNING,
    "DequantizeLinear gives its scale's type, so that the layer behind it ends in FP32, with casts around it.",
    "Store the scale as FP16.",
)
QDQ_OPSET = Rule(
    "typing.qdq-opset",
    Severity.ERROR,
    "Before opset 19 ONNX has FP32 scales alone: the file is not valid, and ONNX Runtime refuses it.",
    "Export with opset 19 or 20.",
)
INFERENCE = Rule(
    "typing.inference",
    Severity.ERROR,
    "No type or shape can be relied on from there: TensorRT's parser, ONNX Runtime or both refuse the file.",
    "Correct the node that is named.",
)
UNMADE = Rule(
    "typing.unmade",
    Severity.ERROR,
    "Nothing can be computed from it: TensorRT, ONNX Runtime and every other reader refuse the file.",
    "Export the model again; whatever changed the graph left too little of it, or in the wrong order.",
)
STALE = Rule(
    "typing.stale",
    Severity.ERROR,
    "TensorRT does not look at it, but ONNX Runtime and onnx's full check refuse the file, so nothing can be checked.",
    "Clear value_info whenever types were changed.",
)
UNKNOWN = Rule(
    "typing.unsupported",
    Severity.ERROR,
    "TensorRT has no such type and refuses the file.",
    "Cast to float, int32 or int64.",
)
DOUBLE = Rule(
    "typing.double",
    Severity.WARNING,
    "TensorRT casts it down to FP32 and clamps what FP32 cannot hold.",
    "Store it as FP32.",
)
INT8_CAST = Rule(
    "typing.int8-cast",
    Severity.ERROR,
    "INT8 exists through quantization alone: TensorRT refuses the cast.",
    "Use QuantizeLinear and DequantizeLinear with a scale.",
)

INT8 = Rule(
    "typing.int8",
    Severity.ERROR,
    "Of TensorRT's operators DequantizeLinear alone computes with quantized numbers: it refuses the layer.",
    "Put a DequantizeLinear in front of it.",
)
UINT8 = Rule(
    "typing.uint8",
    Severity.ERROR,
    "TensorRT casts a UINT8 input to FP32 or FP16 and such a result to a UINT8 output, and has no other UINT8 layer, "
    "not even to move it: it refuses the network.",
    "Cast the input to float before anything else reads it, the output as the last thing of all.",
)
UINT8_SHAPE = Rule(
    "typing.uint8-shape",
    Severity.WARNING,
    "NVIDIA says that no layer but a cast takes UINT8; whether that holds where only the shape is read is not known.",
    "Take the shape of what the Cast gives.",
)

_UNSUPPORTED = {
    TensorProto.INT16, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64, TensorProto.STRING,
    TensorProto.COMPLEX64, TensorProto.COMPLEX128,
}  # fmt: skip
# ONNX lets these differ, TensorRT does not: inputs of a node by their places.
_ALSO_SAME = {"Pow": (0, 1), "GridSample": (0, 1), "BatchNormalization": (0, 1, 2, 3, 4), "Attention": (0, 1, 2)}
_QUANTIZED = {
    TensorProto.INT8, TensorProto.INT4, TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT4E2M1,
}  # fmt: skip
# What moves numbers, or compares them with each other, needs no scale.
_NEEDS_NO_SCALE = MOVING | {"Concat", "Gather", "MaxPool", "Shape", "Size"}
_FROM_UINT8 = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UNDEFINED)


def check(graph: Graph, rules: Rules, ranges: Ranges) -> Iterator[Finding]:
    """Node by node what has two types; then what ONNX's own inference has against the graph."""
    clashes: list[Finding] = []
    halves = any(kind == TensorProto.FLOAT16 for kind in graph.types.values())
    for node in graph.nodes:
        if node.operator == "QuantizeLinear":
            clashes += _quantize(graph, node)
        elif node.operator == "DequantizeLinear":
            clashes += _dequantize(graph, node, halves, ranges)
        else:
            clashes += _mixed(graph, node)
            yield from _uint8(graph, node)
            yield from _int8(graph, node)
        yield from _types(graph, node)
    clashes += _unmade(graph)
    yield from clashes
    if graph.inference_error and not any(found.severity is Severity.ERROR for found in clashes):
        yield INFERENCE.at(None, f"ONNX's strict shape inference fails: {graph.inference_error}.")
    for name, kind in graph.declared.items():
        actual = graph.type(name)
        if name in graph.makers and TensorProto.UNDEFINED not in (kind, actual) and kind != actual:
            what = f"The file states '{name}' to be {type_name(kind)}, it is {type_name(actual)}."
            yield STALE.at(graph.makers[name], what)


def _unmade(graph: Graph) -> Iterator[Finding]:
    """Tensors that are read before any node gives them, or that none ever gives."""
    made = {"", *graph.inputs, *graph.initializers, *graph.bound}
    for node in graph.nodes:
        if missing := next((name for name in node.inputs if name not in made), None):
            yield UNMADE.at(node, f"It reads '{missing}', which no node before it gives.")
        made.update(node.outputs)
    for name in graph.outputs:
        if name not in made:
            yield UNMADE.at(None, f"The output '{name}' is given by no node.")
    for node, name in graph.results:
        if name not in made:
            yield UNMADE.at(node, f"Its body's output '{name}' is given by no node.")


def _mixed(graph: Graph, node: Node) -> Iterator[Finding]:
    for places in _alike(graph, node):
        kinds: dict[int, str] = {}
        for place in places:
            if (name := node.input(place)) and graph.type(name) != TensorProto.UNDEFINED:
                kinds.setdefault(graph.type(name), name)
        if len(kinds) > 1 and (kinds.keys() & FLOATS or node.operator in _ALSO_SAME):
            pairs = ", ".join(f"'{name}' is {type_name(kind)}" for kind, name in kinds.items())
            yield MIXED.at(node, f"Its inputs have different types: {pairs}.")


def _alike(graph: Graph, node: Node) -> Iterator[tuple[int, ...]]:
    """Groups of inputs that must have one type: by ONNX's own schema, and where TensorRT asks for more."""
    if node.operator in _ALSO_SAME:
        yield _ALSO_SAME[node.operator]
        return
    try:
        schema = onnx.defs.get_schema(node.operator, graph.opset, "")
    except onnx.defs.SchemaError:
        return
    groups: dict[str, list[int]] = {}
    for place in range(len(node.inputs)):
        formal = schema.inputs[min(place, len(schema.inputs) - 1)] if schema.inputs else None
        if formal is not None and formal.is_homogeneous:
            groups.setdefault(formal.type_str, []).append(place)
    yield from (tuple(places) for kind, places in groups.items() if not kind.startswith("tensor("))


def _quantize(graph: Graph, node: Node) -> Iterator[Finding]:
    value, scale = graph.type(node.input(0)), graph.type(node.input(1))
    if graph.opset < 19 and scale not in (TensorProto.FLOAT, TensorProto.UNDEFINED):
        yield QDQ_OPSET.at(node, f"Its scale is {type_name(scale)} at opset {graph.opset}.")
    elif TensorProto.UNDEFINED not in (value, scale) and value != scale:
        yield Q_SCALE.at(node, f"It quantizes {type_name(value)} with a scale that is {type_name(scale)}.")


def _dequantize(graph: Graph, node: Node, halves: bool, ranges: Ranges) -> Iterator[Finding]:
    scale = graph.type(node.input(1))
    if graph.opset < 19 and scale not in (TensorProto.FLOAT, TensorProto.UNDEFINED):
        yield QDQ_OPSET.at(node, f"Its scale is {type_name(scale)} at opset {graph.opset}.")
    elif halves and scale == TensorProto.FLOAT:
        for reader, _ in graph.readers.get(node.output, []):
            needed = (known(ranges, reader.output) or 0.0) > LIMIT  # FP16 could not hold what the product gives
            if reader.operator in PRODUCTS and not needed:
                what = f"Its scale is FP32 in an FP16 graph, and {reader.operator} '{reader.label}' reads it."
                yield DQ_FLOAT32.at(node, what)
                return


def _types(graph: Graph, node: Node) -> Iterator[Finding]:
    for name in filter(None, node.outputs):
        kind = graph.type(name)
        if kind in _UNSUPPORTED:
            yield UNKNOWN.at(node, f"It gives '{name}', which is {type_name(kind)}.")
        elif kind == TensorProto.DOUBLE:
            yield DOUBLE.at(node, f"It gives '{name}', which is float64.")
        elif kind == TensorProto.INT8 and node.operator == "Cast":
            yield INT8_CAST.at(node, f"It casts '{node.input(0)}' to int8.")


def _int8(graph: Graph, node: Node) -> Iterator[Finding]:
    """What reads quantized numbers themselves."""
    read = next((name for name in graph.activations(node) if graph.type(name) in _QUANTIZED), None)
    if read is not None and node.operator in SINCE and node.operator not in _NEEDS_NO_SCALE:
        yield INT8.at(node, f"It reads '{read}', which is {graph.type_name(read)}.")


def _uint8(graph: Graph, node: Node) -> Iterator[Finding]:
    """UINT8 anywhere but between an input and its Cast, or an output and its Cast. Said where it begins."""
    casts = node.operator in ("Cast", "CastLike")  # of the second input of CastLike only the type counts
    read = [name for name in (node.inputs[:1] if casts else node.inputs) if graph.type(name) == TensorProto.UINT8]
    made = [name for name in node.outputs if graph.type(name) == TensorProto.UINT8]
    begins = [name for name in read if name not in graph.makers]
    if casts and all(name in graph.inputs for name in read) and set(made) <= set(graph.outputs):
        if read and graph.type(node.output) not in _FROM_UINT8:
            yield UINT8.at(node, f"It casts UINT8 to {graph.type_name(node.output)}, not to FP32 or FP16.")
    elif node.operator in ("Shape", "Size") and read:
        yield UINT8_SHAPE.at(node, f"It reads the shape of '{read[0]}', which is UINT8.")
    elif begins:
        yield UINT8.at(node, f"It reads '{begins[0]}', which is UINT8.")
    elif made:
        yield UINT8.at(node, f"It gives '{made[0]}', which is UINT8.")
