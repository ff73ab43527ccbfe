"""What an engine executes, from the inspector's JSON: precision per layer, and which ONNX nodes it was fused from.

10.x writes a tensor's format and type as one text ("Format/Datatype"), 11.x as "Format" and "Datatype"; both are read.
("Bindings", which 11.x calls "I/O Tensors", are not needed: the engine is asked.) TensorRT does not say in which
precision a layer computes; it is taken from what the layer reads and writes. Written from NVIDIA's documentation and
published examples, and that a layer on the DLA is of type "DLA" from memory; no engine has been inspected yet.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgeattn.backends._tensorrt_library import UNREADABLE, reason
from edgeattn.backends._tensorrt_network import onnx_names
from edgeattn.errors import ModelError

_TYPES = {
    **{"fp32": "fp32", "float": "fp32", "fp16": "fp16", "half": "fp16", "bf16": "bf16", "bfloat16": "bf16"},
    **{"int8": "int8", "fp8": "fp8", "int4": "int4", "fp4": "fp4"},
}
_TYPE = re.compile(rf"\b({'|'.join(_TYPES)})\b", re.IGNORECASE)
_WIDTH = {"fp4": 0, "int4": 0, "fp8": 1, "int8": 1, "bf16": 2, "fp16": 2, "fp32": 3}
_MOVES_DATA = {
    *("Reformat", "NoOp", "Constant", "Shuffle", "Slice", "Gather", "Concatenation", "Shape", "shape_call"),
    *("signal", "wait", "ShapeHostToDevice", "CopyNode", "Assertion"),
}
_PRODUCT = re.compile(r"conv|gemm|matmul|matrixmultiply|mha|attention|einsum", re.IGNORECASE)
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Layer:
    """One executed layer: `nodes` are the ONNX nodes in it, `device` is "gpu" or "dla", `macs` its multiply-adds."""

    name: str
    kind: str
    precision: str
    device: str
    nodes: tuple[str, ...]
    tactic: str
    macs: int

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "nodes": list(self.nodes)}


def layers(text: str, multiply_adds: Mapping[str, int]) -> list[Layer]:
    """The layers that compute. Raises ModelError when `text` is no inspector's JSON.

    `multiply_adds` of the network by ONNX node, see `_tensorrt_network`: they go to the layer that the node is in; of
    several to the one that is a product.
    """
    try:
        return _layers(text, multiply_adds)
    except UNREADABLE as error:
        raise ModelError(
            f"TensorRT's inspector gave no list of layers for the engine ({reason(error)}); build it again."
        ) from error


def _layers(text: str, multiply_adds: Mapping[str, int]) -> list[Layer]:
    entries = list(json.loads(text, strict=False)["Layers"])  # metadata hold control characters, in some versions bare
    detailed = [entry if isinstance(entry, dict) else {"Name": str(entry)} for entry in entries]
    computing = [entry for entry in detailed if entry.get("LayerType") not in _MOVES_DATA]
    homes = _homes(computing, multiply_adds)
    return [_layer(entry, homes.get(index, 0)) for index, entry in enumerate(computing)]


def totals(executed: list[Layer], multiply_adds: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """(layers, multiply-adds) per precision; multiply-adds whose node no layer names are `unknown`."""
    counts = Counter(layer.precision for layer in executed)
    macs: Counter[str] = Counter()
    for layer in executed:
        macs[layer.precision] += layer.macs
    macs[UNKNOWN] += sum(multiply_adds.values()) - sum(layer.macs for layer in executed)
    return dict(sorted(counts.items())), {kind: count for kind, count in sorted(macs.items()) if count}


def notes(asked: str | None, executed: Mapping[str, int], unit: str) -> list[str]:
    """Sentences on what differs from what the variant's name promises; `executed` counts `unit` per precision."""
    total = sum(executed.values())
    if asked is None or not total:
        return []
    share = {name: 100 * count / total for name, count in executed.items()}
    if share.get(asked, 0.0) < 50:
        ran = ", ".join(f"{share[name]:.3g} % in {name}" for name in sorted(share, key=share.__getitem__, reverse=True))
        return [
            f"{asked} was asked for, but {share.get(asked, 0.0):.3g} % of the {unit} run in it: {ran}. TensorRT takes "
            "the precision from the graph; give one that was converted to it."
        ]
    if asked == "int8" and share.keys() - {"int8"}:
        return [f"{100 - share['int8']:.3g} % of the {unit} are not quantized."]
    return []


def dla_note(executed: list[Layer]) -> str:
    """What the DLA took and what fell back to the GPU, which TensorRT does without a word."""
    back = [layer.name for layer in executed if layer.device == "gpu"]
    named = f": {', '.join(back[:5])}{', ...' if len(back) > 5 else ''}" if back else ""
    return f"The DLA runs {len(executed) - len(back)} of {len(executed)} layers, the GPU {len(back)}{named}."


def _homes(entries: list[dict[str, Any]], multiply_adds: Mapping[str, int]) -> dict[int, int]:
    """Multiply-adds per entry."""
    found: Counter[int] = Counter()
    for node, count in multiply_adds.items():
        inside = [index for index, entry in enumerate(entries) if node in _nodes(entry)]
        products = [index for index in inside if _PRODUCT.search(_kind(entries[index]))]
        if inside:
            found[(products or inside)[0]] += count
    return dict(found)


def _nodes(entry: Mapping[str, Any]) -> list[str]:
    """By the metadata; where there are none, by the layer's name, which joins its nodes' with " + "."""
    return onnx_names(str(entry.get("Metadata", ""))) or str(entry.get("Name", "")).split(" + ")


def _kind(entry: Mapping[str, Any]) -> str:
    return f"{entry.get('LayerType', '')} {entry.get('ParameterType', '')}".strip()


def _layer(entry: Mapping[str, Any], macs: int) -> Layer:
    kind = _kind(entry)
    device = "dla" if str(entry.get("LayerType", "")).upper().startswith("DLA") else "gpu"
    nodes = tuple(dict.fromkeys(_nodes(entry)))
    tactic = str(entry.get("TacticName", ""))
    return Layer(str(entry.get("Name", "")), kind, _precision(entry, bool(macs)), device, nodes, tactic, macs)


def _precision(entry: Mapping[str, Any], product: bool) -> str:
    """A product counts as its operands: its weights where they are told, else the narrowest that it reads (the widest
    may be a residual added to it). Any other layer counts as the widest that it reads or writes, so that one that
    takes 8-bit data but works in float is not called int8."""
    read = [kind for kind in map(_tensor_type, entry.get("Inputs", [])) if kind]
    if product:
        weights = entry.get("Weights")
        held = _type(str(weights.get("Type", ""))) if isinstance(weights, dict) and weights.get("Count") else None
        return held or min(read, key=_WIDTH.__getitem__, default=UNKNOWN)
    written = [kind for kind in map(_tensor_type, entry.get("Outputs", [])) if kind]
    return max(read + written, key=_WIDTH.__getitem__, default=UNKNOWN)


def _tensor_type(tensor: Any) -> str | None:
    """None for what is no number to compute with, such as indices."""
    if not isinstance(tensor, dict):
        return None
    told = (tensor.get(key) for key in ("Datatype", "DataType", "Format/Datatype", "Format"))
    return next((kind for text in told if text and (kind := _type(str(text)))), None)


def _type(text: str) -> str | None:
    found = _TYPE.search(text)
    return _TYPES[found[1].lower()] if found else None
