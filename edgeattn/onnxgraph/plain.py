"""A model made plain: functions written out where they are called, names that no two bodies share, no large weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from math import prod

import onnx
import onnx.inliner
from onnx import TensorProto

from edgeattn.backends.base import last_line
from edgeattn.errors import ModelError

_SHAPE_SIZE = 2**12
"""As many numbers as no tensor of sizes, axes or places has that a shape depends on."""


def plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy for those who look at it: what it computes is unknown without its weights. Raises ModelError."""
    result = inlined(_without_weights(model))
    _set_apart(result.graph, set(_defined(result.graph)), {})
    return result


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which large initializers have no bytes: shapes do not depend on them, and ONNX's own functions take
    no more than 2 GB."""
    graph = onnx.GraphProto(
        name="graph",
        node=model.graph.node,
        input=model.graph.input,
        output=model.graph.output,
        value_info=model.graph.value_info,
        initializer=map(_small, model.graph.initializer),
        sparse_initializer=model.graph.sparse_initializer,
    )
    return onnx.ModelProto(
        ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions, graph=graph
    )


def _small(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """`tensor`, or where it is too large to be a shape another of its name, type and shape."""
    if prod(tensor.dims) <= _SHAPE_SIZE:
        return tensor
    return TensorProto(
        name=tensor.name, dims=tensor.dims, data_type=tensor.data_type, data_location=TensorProto.EXTERNAL
    )


def _defined(graph: onnx.GraphProto) -> Iterator[str]:
    """The names that `graph` gives, without the bodies in it."""
    yield from (value.name for value in [*graph.input, *graph.initializer])
    yield from (name for node in graph.node for name in node.output if name)


def _set_apart(graph: onnx.GraphProto, taken: set[str], renamed: Mapping[str, str]) -> None:
    """Give names of their own to tensors of bodies that are called as one elsewhere: ONNX allows it of two branches,
    and its shape inference stumbles over it.

    `taken` are the names so far; `renamed` what `graph` and those around it call otherwise now.
    """
    for tensor in [*graph.input, *graph.initializer, *graph.output, *graph.value_info]:
        tensor.name = renamed.get(tensor.name, tensor.name)
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
        for body in bodies(node):
            inner = {}
            for name in _defined(body):
                inner[name] = next(each for each in _variants(name) if each not in taken)
                taken.add(inner[name])
            _set_apart(body, taken, {**renamed, **inner})


def _variants(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}_{number}" for number in count(2))


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with its local functions written out; itself where it has none. Raises ModelError."""
    if not model.functions:
        return model
    try:
        return onnx.inliner.inline_local_functions(model)
    except Exception as error:  # onnx's own exceptions have only this class in common
        raise ModelError(
            f"The graph's local functions cannot be written out where they are called ({last_line(error)}); export the "
            "model again without them."
        ) from error


def bodies(proto: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Those of an If, Loop or Scan."""
    for attribute in proto.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def forget(graph: onnx.GraphProto) -> None:
    """Drop what the file states about inner tensors: it may be out of date, and inference believes it."""
    del graph.value_info[:]
    for proto in graph.node:
        for body in bodies(proto):
            forget(body)
