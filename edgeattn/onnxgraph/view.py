"""A read-only view of an ONNX graph: who makes and who reads a tensor, its type and shape, what is constant.

Bodies of If, Loop and Scan are laid out flat among the nodes, local functions are written out where they are called.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeattn.backends.base import last_line
from edgeattn.onnxgraph.plain import bodies, forget, plain

FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})

# What only rearranges its first input.
MOVING = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Flatten", "Slice", "Split"})
# TensorRT moves Q and DQ over these too: INT8 stays INT8 (design notes TENSORRT.md, section 4).
_QUANTIZERS_MOVE_OVER = MOVING | {"MaxPool", "Relu", "Concat"}
PRODUCTS = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})

_VALUES = ("value_float", "value_floats", "value_int", "value_ints")


@dataclass(frozen=True, eq=False)
class Node:
    """One node. `label` is its name, or, where it has none, that of its first output."""

    label: str
    operator: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(repr=False)

    def input(self, index: int) -> str:
        """The name of an input; empty where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else ""

    @property
    def output(self) -> str:
        """The name of the first output; empty where a broken file has none."""
        return self.outputs[0] if self.outputs else ""

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute; the default also where a broken file has one of another kind. Lists take a tuple as default."""
        value = self.attributes.get(name, default)
        kind = list if isinstance(default, tuple) else type(default)
        return value if default is None or isinstance(value, kind) else default

    @property
    def is_onnx(self) -> bool:
        return self.domain in ("", "ai.onnx")


class Graph:
    """`types` are ONNX element types, `shapes` have None where a dimension is dynamic; both hold what is known.

    Raises ModelError for local functions that cannot be written out.
    `inference_error` says what ONNX's strict shape inference, from the nodes alone, has against the graph. `declared`
    are the types that the file itself states for inner tensors. `functions` are the local functions, by domain and
    name, that ONNX does not write out: they are for another opset than the graph. What two bodies call the same, only
    the first keeps the name of.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        whole, model = model, plain(model)
        self.functions = {(function.domain, function.name) for function in model.functions}
        self.opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.nodes: list[Node] = []
        self.makers: dict[str, Node] = {}
        self.readers: dict[str, list[tuple[Node, int]]] = {}
        self.inside: set[Node] = set()  # of a body: run not at all, once or often
        self.bound: set[str] = set()  # the inputs of bodies, which the node around them gives
        self.results: list[tuple[Node, str]] = []  # of bodies, with the node around them
        self._flatten(model.graph)
        self.initializers.update((tensor.name, tensor) for tensor in whole.graph.initializer)
        own = [value.name for value in model.graph.input]
        self.inputs = tuple(name for name in own if name not in self.initializers)
        self.outputs = tuple(value.name for value in model.graph.output)
        self.declared = {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
        self.types: dict[str, int] = {}
        self.shapes: dict[str, tuple[int | None, ...]] = {}
        self.inference_error = self._infer(model)
        self.constants = self._constants()
        self._values: dict[str, NDArray[Any] | None] = {}

    def type(self, name: str) -> int:
        """The element type; TensorProto.UNDEFINED (0) where it is not known."""
        return self.types.get(name, int(TensorProto.UNDEFINED))

    def shape(self, name: str) -> tuple[int | None, ...] | None:
        return self.shapes.get(name)

    def value(self, name: str) -> NDArray[Any] | None:
        """What a constant holds, through Identity and Cast; None where it is computed."""
        sought, way = name, list[str]()
        while name not in self._values:
            self._values[name] = None  # what a circle of nodes would find
            way.append(name)
            maker = None if name in self.initializers else self.makers.get(name)
            if maker is not None and maker.operator in ("Identity", "Cast"):
                name = maker.input(0)
        for name in reversed(way):
            # Bytes that do not fit the shape, or no known type: `lint.reading` refuses a file with such a tensor.
            with contextlib.suppress(ValueError, TypeError, KeyError):
                self._values[name] = self._value(name)
        return self._values[sought]

    def sole_reader(self, name: str) -> Node | None:
        """The one node that reads `name`; None where there are several, or the tensor leaves the graph."""
        readers = self.readers.get(name, [])
        return readers[0][0] if len(readers) == 1 and name not in self.outputs else None

    def origin(self, name: str) -> str:
        """The tensor of which `name` is a rearrangement."""
        for _ in self.nodes:  # as many steps as there can be: a broken file may have a circle
            maker = self.makers.get(name)
            if maker is None or not maker.is_onnx or maker.operator not in MOVING:
                break
            name = maker.input(0)
        return name

    def maker(self, name: str, *operators: str) -> Node | None:
        """The node behind `name`, looking through what only rearranges, when it is one of `operators`."""
        found = self.makers.get(self.origin(name))
        return found if found and found.is_onnx and found.operator in operators else None

    def quantized(self, name: str) -> Node | None:
        """The DequantizeLinear that `name` comes from, at once or over what TensorRT moves Q and DQ across; of a Concat
        the first input's, when all come from one."""
        waiting, seen, found = [name], set[Node](), []
        while waiting:
            maker = self.makers.get(waiting.pop())
            if maker is None or not maker.is_onnx:
                return None
            if maker.operator == "DequantizeLinear":
                found.append(maker)
            elif maker not in seen:  # a broken file may have a circle
                if maker.operator not in _QUANTIZERS_MOVE_OVER:
                    return None
                seen.add(maker)
                waiting += self.moved(maker)[::-1]
        return found[0] if found else None

    def moved(self, node: Node) -> list[str]:
        """The inputs whose values `node` hands on as they are, or the larger of; empty for one that computes."""
        if node.operator not in _QUANTIZERS_MOVE_OVER:
            return []
        return [name for name in node.inputs if name] if node.operator == "Concat" else [node.input(0)]

    def activations(self, node: Node) -> list[str]:
        """The inputs that depend on the graph's own."""
        return [name for name in node.inputs if name and name not in self.constants]

    def type_name(self, name: str) -> str:
        return type_name(self.type(name))

    def _flatten(self, graph: onnx.GraphProto, *, inside: bool = False) -> None:
        self.initializers.update((tensor.name, tensor) for tensor in graph.initializer)
        for proto in graph.node:
            attributes = {a.name: helper.get_attribute_value(a) for a in proto.attribute if not a.ref_attr_name}
            node = Node(
                proto.name or next((name for name in proto.output if name), proto.op_type),
                proto.op_type,
                proto.domain,
                tuple(proto.input),
                tuple(proto.output),
                {name: value.decode(errors="replace") if isinstance(value, bytes) else value
                 for name, value in attributes.items()},
            )  # fmt: skip
            self.nodes.append(node)
            if inside:
                self.inside.add(node)
            self.makers.update((name, node) for name in node.outputs if name)
            for index, name in enumerate(node.inputs):
                if name:
                    self.readers.setdefault(name, []).append((node, index))
            for body in bodies(proto):
                self.bound.update(value.name for value in body.input)
                self.results += [(node, value.name) for value in body.output]
                self._flatten(body, inside=True)

    def _infer(self, model: onnx.ModelProto) -> str | None:
        bare = onnx.ModelProto()
        bare.CopyFrom(model)
        forget(bare.graph)
        error = None
        try:
            bare = onnx.shape_inference.infer_shapes(bare, check_type=True, strict_mode=True, data_prop=True)
        except Exception as refused:  # onnx's own exceptions have only this class in common
            error = last_line(refused).removeprefix("[ShapeInferenceError] ")
            try:
                bare = onnx.shape_inference.infer_shapes(bare, data_prop=True)
            except Exception:  # as above; what the file declares is left
                bare = model
        self._learn(bare.graph)
        return error

    def _learn(self, graph: onnx.GraphProto) -> None:
        for tensor in graph.initializer:
            self.types[tensor.name] = tensor.data_type
            self.shapes[tensor.name] = tuple(tensor.dims)
        for value in [*graph.value_info, *graph.input, *graph.output]:
            kind = value.type.tensor_type
            self.types.setdefault(value.name, kind.elem_type)
            if kind.HasField("shape"):
                sizes = (d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
                self.shapes.setdefault(value.name, tuple(sizes))
        for proto in graph.node:
            for body in bodies(proto):
                self._learn(body)

    def _constants(self) -> set[str]:
        constants = set(self.initializers)
        for node in self.nodes:
            read = [name for name in node.inputs if name]
            if node.operator == "Constant" or (read and constants.issuperset(read)):
                constants.update(node.outputs)
        return constants

    def _value(self, name: str) -> NDArray[Any] | None:
        if name in self.initializers:
            return np.asarray(numpy_helper.to_array(self.initializers[name]))
        maker = self.makers.get(name)
        if maker is None:
            return None
        if maker.operator == "Constant":
            tensor = maker.get("value", TensorProto())
            plain = next((maker.get(key) for key in _VALUES if key in maker.attributes), None)
            return np.asarray(numpy_helper.to_array(tensor) if "value" in maker.attributes else plain)
        if maker.operator not in ("Identity", "Cast"):
            return None
        value = self._values.get(maker.input(0))
        if value is None or maker.operator == "Identity":
            return value
        with np.errstate(over="ignore", invalid="ignore"):  # beyond the type it is infinite
            return value.astype(helper.tensor_dtype_to_np_dtype(maker.get("to", TensorProto.FLOAT)))


def as_graph(model: onnx.ModelProto | Graph) -> Graph:
    """A view of `model`, which may be one already."""
    return model if isinstance(model, Graph) else Graph(model)


def type_name(kind: int) -> str:
    """As NumPy calls it: `float32` for TensorProto.FLOAT."""
    if kind not in TensorProto.DataType.values():
        return f"type {kind}"
    name = str(TensorProto.DataType.Name(kind)).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)
