"""How large the tensors of a graph become on the calibration samples: what FP16, which ends at 65504, must hold."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from edgeattn.backends import onnxruntime
from edgeattn.backends.base import Tensors
from edgeattn.onnxgraph.file import serialized
from edgeattn.progress import Progress

_FP32_MAX = float(np.finfo(np.float32).max)


def largest(path: Path, calls: Sequence[Tensors], progress: Progress) -> dict[str, float]:
    """The largest |x| of every FP32 tensor of the graph at `path`, its inputs among them, over `calls`, batch 1, by the
    tensor's name.

    Infinity and NaN, which JSON lacks, count as the largest FP32: they are too large for FP16 as well. Minus infinity,
    which masks scores, does not count: FP16 has it too. An empty tensor has 0.
    Raises ModelError when the graph does not run.
    """
    watched = onnx.load(path)
    graph = onnx.shape_inference.infer_shapes(watched, data_prop=True).graph
    names = [v.name for v in graph.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT]
    made = {name for node in watched.graph.node for name in node.output}
    present = {value.name for value in watched.graph.output}
    for name in names:
        if name in made - present:
            # Without a shape: some are known only when the graph runs.
            watched.graph.output.append(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model.onnx").write_bytes(serialized(watched))
        runner = onnxruntime.load(Path(folder), threads=1, as_written=True)
        try:
            for index, call in enumerate(calls):
                progress(index, len(calls), "measuring how large tensors become")
                for name, value in {**call, **runner.infer(call)}.items():
                    if value.dtype == np.float32:
                        found[name] = max(found.get(name, 0.0), _reached(value))
        finally:
            runner.close()
    return dict(sorted(found.items()))


def _reached(value: NDArray[np.float32]) -> float:
    reached = np.abs(np.where(np.isneginf(value), 0, value)).max(initial=0.0)
    return float(np.nan_to_num(reached, nan=_FP32_MAX, posinf=_FP32_MAX))
