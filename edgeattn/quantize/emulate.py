"""What a device with FP16 arithmetic makes of a graph, computed by ONNX Runtime on a CPU.

ONNX Runtime has no FP16 arithmetic on most CPUs. It computes such nodes in FP32 and, whatever the optimization level,
drops the casts in between ("InsertedPrecisionFreeCast"), so that nothing is rounded to FP16 but weights, and nothing
overflows: a LayerNorm that is lost on the device (tests/quantize/test_islands.py) comes out whole. So the graph is
rewritten: every node computes in FP32, as tensor cores add, and what it gives is rounded to FP16 and back by casts of
our own, which ONNX Runtime leaves alone where no node is FP16.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeattn.backends import onnxruntime
from edgeattn.backends.base import MODEL, Runner

# They give values of their input and no others: there is nothing to round.
_EXACT = frozenset({
    "Cast", "Concat", "Constant", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Pad", "Relu", "Reshape",
    "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
})  # fmt: skip


def load(folder: Path, *, threads: int) -> Runner:
    """`folder/model.onnx` as a device would compute it, node by node. Raises ModelError."""
    try:
        model = onnx.load(folder / MODEL)
    except Exception:  # protobuf's own; the backend says what is wrong, in one sentence
        return onnxruntime.load(folder, threads=threads, as_written=True)
    with tempfile.TemporaryDirectory(prefix="edgeattn-") as work:  # read whole when it is opened
        (Path(work) / MODEL).write_bytes(rounded(model).SerializeToString())
        return onnxruntime.load(Path(work), threads=threads, as_written=True)


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with FP32 in place of FP16, and each result that was FP16 rounded to it; one without FP16 is left as it
    is. Inputs and outputs must be no FP16, as those of `fp16.to_fp16` are not."""
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    halves = {v.name for v in graph.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT16}
    halves |= {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    if not halves:
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:], result.graph.initializer[:], result.graph.value_info[:]
    result.graph.initializer.extend(_wide(tensor) for tensor in graph.initializer)
    for node in graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        after = []
        for index, name in enumerate(node.output):
            to_half = node.op_type == "Cast" and name in halves
            if name in halves and (to_half or node.op_type not in _EXACT):
                copy.output[index] = f"{name}_exact"
                after.append(_cast(f"{name}_exact", f"{name}_rounded", TensorProto.FLOAT16))
                after.append(_cast(f"{name}_rounded", name, TensorProto.FLOAT))
        for attribute in copy.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
            elif attribute.type == onnx.AttributeProto.TENSOR:
                attribute.t.CopyFrom(_wide(attribute.t))
        result.graph.node.extend([copy, *after])
    return result


def _cast(source: str, name: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [name], name=f"rounding_to_{name}", to=kind)


def _wide(tensor: onnx.TensorProto) -> onnx.TensorProto:
    if tensor.data_type != TensorProto.FLOAT16:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
