"""For whom an INT8 graph is written. NNCF writes for CPUs; TensorRT reads only some of that, and some of it slowly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx

from edgeattn.errors import RecipeError
from edgeattn.quantize import fp16, policy, qdq


@dataclass(frozen=True)
class Form:
    """`finish` turns what NNCF wrote into the graph that ships; it is given the ranges of the FP32 graph's tensors
    (`quantize.ranges`), where `rest_is_fp16`. `kept` gives nodes that stay in float besides those of
    the policy, each with the reason, and `released` nodes of the policy that may be quantized all the same. `halves`
    gives products of which NNCF quantized one side alone: they are left in float then.

    `symmetric`: activations have the zero point 0. `per_tensor`: they have one scale, those of depthwise convolutions
    too. `smoothing`: the settings with SmoothQuant are tried; it multiplies
    in front of each product, which a CPU joins with the layer before and TensorRT runs as a kernel of its own.
    `as_written`: it is judged as a device computes it (`quantize.emulate`), node by node. With optimizations on, ONNX
    Runtime quantizes what stands before a product with INT8 weights although the graph does not (55 dB where the device
    has no such error).
    """

    name: str
    symmetric: bool
    per_tensor: bool
    smoothing: bool
    as_written: bool
    rest_is_fp16: bool
    finish: Callable[[onnx.ModelProto, Mapping[str, float]], onnx.ModelProto]
    kept: Callable[[onnx.GraphProto], dict[str, str]]
    released: Callable[[onnx.GraphProto], set[str]]
    halves: Callable[[onnx.ModelProto], list[str]]


def _cpu(model: onnx.ModelProto, ranges: Mapping[str, float]) -> onnx.ModelProto:
    return qdq.unsigned(model)


def _tensorrt(model: onnx.ModelProto, ranges: Mapping[str, float]) -> onnx.ModelProto:
    """INT8 with an FP16 rest, as strongly typed networks need it: the float type of every tensor is in the graph."""
    return fp16.to_fp16(qdq.for_tensorrt(model), ranges)


CPU = Form(
    "cpu",
    symmetric=False,
    per_tensor=False,
    smoothing=True,
    as_written=False,
    rest_is_fp16=False,
    finish=_cpu,
    kept=lambda graph: {},
    released=lambda graph: set(),
    halves=lambda model: [],
)
TENSORRT = Form(
    "tensorrt",
    symmetric=True,
    per_tensor=True,
    smoothing=False,
    as_written=True,
    rest_is_fp16=True,
    finish=_tensorrt,
    kept=policy.slow_on_tensor_cores,
    released=policy.additions_to_convolutions,
    halves=policy.half_quantized,
)
_FORMS = {form.name: form for form in (CPU, TENSORRT)}


def of_backend(backend: str) -> Form:
    """The form that engines of `backend` are compiled from: its own where it has one, else that for CPUs."""
    return _FORMS.get(backend, CPU)


def find(name: str) -> Form:
    """Raises RecipeError with the known names."""
    if name not in _FORMS:
        raise RecipeError(f"There is no form of INT8 graph '{name}'; known: {', '.join(_FORMS)}.")
    return _FORMS[name]
