"""The process in which `openvino.compile` runs the compiler: `main` is given the arguments it was started with.

A process of its own, because OpenVINO numbers the nodes it creates through the life of a process and writes those
numbers into the engine: only in a fresh one does the same model give the same bytes, and so the same artifact hash.
It also keeps a crash of the compiler, and whatever it prints, away from the pipeline.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from edgeattn.artifact import sha256_bytes, sha256_file, write_atomic
from edgeattn.backends import _openvino_graph as graph
from edgeattn.backends import openvino as backend
from edgeattn.backends._openvino_library import compiled, read, spoils_int8, translated
from edgeattn.errors import EdgeattnError

_IN_FLOAT = (
    "What is quantized is computed in float, and slower: without AMX OpenVINO computes concatenated int8 activations "
    "wrongly. Write them as uint8, as edgeattn quantize does for CPUs."
)


def main(arguments: list[str]) -> int:
    """Compile; on an error of ours print its class and message as the last line of standard output and return 2."""
    model, out, precision, threads = arguments
    try:
        _compile(Path(model), Path(out), precision, int(threads))
    except EdgeattnError as error:
        print(json.dumps([type(error).__name__, str(error)]), flush=True)
        return 2
    return 0


def _compile(model: Path, out: Path, precision: str, threads: int) -> None:
    hint = backend.inference_precision(precision)
    with translated(f"compile {model}"):
        network = read(model)
        spoiled = spoils_int8(network)
        engine = compiled(network, backend.settings(threads, hint))
        blob, runtime = backend.exported(engine), engine.get_runtime_model()
    executed = graph.layers(network, runtime)
    layers, macs = graph.read_back(network, executed)
    counted = macs or layers
    description = {
        "schema": backend.SCHEMA,
        "backend": "openvino",
        "asked_precision": precision,
        "precision": max(counted, key=counted.__getitem__, default=precision),
        "inference_precision": hint,
        "threads": threads,
        "blob_sha256": sha256_bytes(blob),
        "onnx_sha256": sha256_file(model),
        "fingerprint": backend.fingerprint(),
        "layers": layers,
        "macs": macs,
        "executed": [layer.to_json() for layer in executed],
        "notes": [_IN_FLOAT]
        if spoiled
        else _notes(precision, graph.PRECISIONS[hint], counted, "multiply-adds" if macs else "layers"),
    }
    write_atomic(out / backend.BLOB, blob)
    write_atomic(out / backend.DESCRIPTION, json.dumps(description, indent=1, sort_keys=True))


def _notes(asked: str, hint: str, executed: Mapping[str, int], unit: str) -> list[str]:
    """Sentences on what differs from what the variant's name promises; `executed` counts `unit` per precision."""
    notes = []
    total = sum(executed.values())
    share = {name: 100 * count / total for name, count in executed.items()}
    if total and share.get(asked, 0.0) < 50:
        ran = ", ".join(f"{share[name]:.3g} % in {name}" for name in sorted(share, key=share.__getitem__, reverse=True))
        remedy = " Give a quantized graph, with QuantizeLinear and DequantizeLinear nodes." if asked == "int8" else ""
        notes.append(
            f"{asked} was asked for, but {share.get(asked, 0.0):.3g} % of the {unit} run in it: {ran}.{remedy}"
        )
    elif asked == "int8" and share.keys() - {"int8"}:
        notes.append(f"{100 - share['int8']:.3g} % of the {unit} are not quantized; float parts run in {hint}.")
    return notes
