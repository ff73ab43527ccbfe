"""What a device with FP16 arithmetic makes of a graph, computed by ONNX Runtime on a CPU.

ONNX Runtime has no FP16 arithmetic on most CPUs. It computes such nodes in FP32 and, whatever the optimization level,
drops the casts in between ("InsertedPrecisionFreeCast"), so that nothing is rounded to FP16 but weights, and nothing
overflows: a LayerNorm that is lost on the device (tests/quantize/test_islands.py) comes out whole. So the graph is
rewritten: every node computes in FP32, as tensor cores mostly add, and what it gives is rounded to FP16 and back by
casts of our own, which ONNX Runtime leaves alone where no node is FP16.

What this does not show is what happens inside a node. Softmax, Gelu, a normalisation or a pooling is computed in FP32
from its inputs to its result, where a device may round, or overflow, on the way. A convolution or matrix product adds
up in FP32, as TensorRT's tensor-core kernels normally do; one with an FP16 accumulator, which timing may choose on the
device, overflows once a partial sum passes 65504, which can happen from (length of the sum) times (largest product) on,
and loses small terms beside a large one. Fused attention keeps its scores unrounded and rounds its exponentials.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeattn.backends import onnxruntime
from edgeattn.backends.base import MODEL, Runner
from edgeattn.onnxgraph.file import serialized
from edgeattn.onnxgraph.plain import inlined
from edgeattn.onnxgraph.view import Graph
from edgeattn.quantize.fp16 import TYPES, refuse_float_bodies

# They give values of their input and no others: there is nothing to round.
_EXACT = frozenset({
    "Cast", "CastLike", "Concat", "Constant", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Pad", "Relu",
    "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
})  # fmt: skip
_TO_HALF = ("Cast", "CastLike")


def load(folder: Path, *, threads: int, as_written: bool = True) -> Runner:
    """`folder/model.onnx` as a device would compute it, node by node. Raises ModelError.

    Without `as_written` ONNX Runtime optimizes what stands between two roundings, which stay: a second sample of how
    far rounding elsewhere moves the results.
    """
    try:
        model = onnx.load(folder / MODEL)
    except Exception:  # protobuf's own; the backend says what is wrong, in one sentence
        return onnxruntime.load(folder, threads=threads, as_written=as_written)
    with tempfile.TemporaryDirectory(prefix="edgeattn-") as work:  # read whole when it is opened
        (Path(work) / MODEL).write_bytes(serialized(rounded(model)))
        return onnxruntime.load(Path(work), threads=threads, as_written=as_written)


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with FP32 in place of FP16, and each result that was FP16 rounded to it; inputs and outputs keep their
    types. One without FP16 is left as it is. Raises ModelError for a body of If, Loop or Scan that computes in FP16."""
    view = Graph(model)
    halves = {name for name, kind in view.types.items() if kind == TensorProto.FLOAT16}
    if not halves:
        return model
    refuse_float_bodies(view, TensorProto.FLOAT16, "emulated")
    result = onnx.ModelProto()
    result.CopyFrom(inlined(model))
    nodes, weights = list(result.graph.node), [_wide(tensor) for tensor in result.graph.initializer]
    del result.graph.node[:], result.graph.initializer[:], result.graph.value_info[:]
    result.graph.initializer.extend(weights)
    own = {tensor.name for tensor in weights}
    given = [v.name for v in result.graph.input if v.name in halves and v.name not in own]
    wanted = [value.name for value in result.graph.output if value.name in halves]
    # Those keep name and type; inside, what they are in FP32 has another name.
    inside = {name: f"{name}_wide" for name in (*given, *wanted)}
    result.graph.node.extend(_cast(name, inside[name], TensorProto.FLOAT) for name in given)
    for node in nodes:
        result.graph.node.extend(_rounded(node, halves, inside))
    result.graph.node.extend(_cast(inside[name], name, TensorProto.FLOAT16) for name in wanted)
    return result


def _rounded(node: onnx.NodeProto, halves: set[str], inside: dict[str, str]) -> list[onnx.NodeProto]:
    """`node` in FP32, and the casts that round what it gives."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [inside.get(name, name) for name in node.input]
    after = []
    for index, name in enumerate(node.output):
        copy.output[index] = wide = inside.get(name, name)
        if name in halves and (node.op_type in _TO_HALF or node.op_type not in _EXACT):
            copy.output[index] = f"{wide}_exact"
            after.append(_cast(f"{wide}_exact", f"{wide}_rounded", TensorProto.FLOAT16))
            after.append(_cast(f"{wide}_rounded", wide, TensorProto.FLOAT))
    for attribute in copy.attribute:
        if attribute.name in TYPES and attribute.i == TensorProto.FLOAT16:
            attribute.i = TensorProto.FLOAT
        elif attribute.type == onnx.AttributeProto.TENSOR:
            attribute.t.CopyFrom(_wide(attribute.t))
    return [copy, *after]


def _cast(source: str, name: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [name], name=f"rounding_to_{name}", to=kind)


def _wide(tensor: onnx.TensorProto) -> onnx.TensorProto:
    if tensor.data_type != TensorProto.FLOAT16:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
