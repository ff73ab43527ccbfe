"""An ONNX file as a graph, or one sentence why it is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import TensorProto, numpy_helper

from edgeattn.backends.base import last_line
from edgeattn.errors import ModelError

_INT32 = 2**31 - 1


def read(path: Path) -> onnx.ModelProto:
    """The model with its weights, external ones too. Raises ModelError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); check the path.") from error
    model = _parsed(data, str(path))
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, MemoryError, onnx.checker.ValidationError) as error:
        raise ModelError(
            f"The weights that {path} keeps in other files cannot be read ({last_line(error)})."
        ) from error
    _check(model, str(path))
    return model


def parse(data: bytes, where: str) -> onnx.ModelProto:
    """The model in `data`, which has no weights elsewhere; `where` it is from, for the sentence. Raises ModelError."""
    model = _parsed(data, where)
    _check(model, where)
    return model


def _parsed(data: bytes, where: str) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # protobuf, which comes with onnx, has its own
        raise ModelError(f"{where} is not an ONNX file; give a .onnx, an engine's folder or a bundle.") from error
    if not model.graph.node or not model.opset_import:
        raise ModelError(f"{where} holds no ONNX graph; give a .onnx, an engine's folder or a bundle.")
    return model


def _check(model: onnx.ModelProto, where: str) -> None:
    """That every type is one of ONNX's and every tensor is as long as it says: nothing behind this asks again."""
    known = set(TensorProto.DataType.values())
    if large := next((each.version for each in model.opset_import if abs(each.version) > _INT32), None):
        raise ModelError(f"{where} states opset {large}, which ONNX does not have; export the model again.")
    functions = [onnx.GraphProto(node=function.node) for function in model.functions]
    for each in (inner for graph in (model.graph, *functions) for inner in _graphs(graph)):
        if any(not isinstance(text, str) for text in _names(each)):  # protobuf gives bytes then
            raise ModelError(f"A name in {where} is no UTF-8 text; export the model again.")
        for value in [*each.input, *each.output, *each.value_info]:
            if (kind := value.type.tensor_type.elem_type) not in known:
                raise ModelError(
                    f"{where} states the element type {kind} for '{value.name}', which ONNX does not have; export the "
                    "model again."
                )
        for tensor in _tensors(each):
            if tensor.data_location == TensorProto.EXTERNAL:
                raise ModelError(f"{where} keeps '{tensor.name}' in another file, which cannot be read from here.")
            if wrong := _wrong(tensor):
                name = f"The tensor '{tensor.name}'" if tensor.name else "A tensor of a node"
                raise ModelError(f"{name} in {where} is broken ({wrong}); export the model again.")


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """`graph` and the bodies in it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for body in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from _graphs(body)


def _names(graph: onnx.GraphProto) -> Iterator[object]:
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    for value in [*graph.input, *graph.output, *graph.value_info, *graph.initializer]:
        yield value.name


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors


def _wrong(tensor: onnx.TensorProto) -> str | None:
    """Why the tensor holds no values of its type and shape; None where it does."""
    if tensor.data_type not in TensorProto.DataType.values() or tensor.data_type == TensorProto.UNDEFINED:
        return f"ONNX has no element type {tensor.data_type}"
    if any(size < 0 for size in tensor.dims):
        return f"its shape is {list(tensor.dims)}"
    try:
        numpy_helper.to_array(tensor)
    except (ValueError, TypeError, OverflowError) as error:
        return last_line(error)
    return None
