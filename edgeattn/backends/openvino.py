"""OpenVINO on the CPU: compiles an ONNX file to an engine, reads back what the engine executes, and runs it.

An engine folder holds `engine.json` and `engine.blob`. The blob is used where library and processor are those it was
compiled with; elsewhere the engine is built again from `model.onnx`, if that lies beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeattn import errors, host
from edgeattn.artifact import sha256_bytes
from edgeattn.backends._telemetry import silence_telemetry
from edgeattn.backends.base import MODEL, Compiled, Runner, Specs, Tensors, TensorSpec, check_inputs, last_line
from edgeattn.errors import EdgeattnError, MachineError, ModelError

SCHEMA = "edgeattn.engine/1"
BLOB, DESCRIPTION = "engine.blob", "engine.json"

_CAPABILITIES = {"FP32": "fp32", "BF16": "bf16", "FP16": "fp16", "INT8": "int8"}
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
# Networks of 2 GMAC take 2 s. OpenVINO 2026.4 does not come to an end with Attention R-CNN in FP16 (docs/decisions.md,
# "A graph that OpenVINO never finishes").
_PATIENCE_S = 300.0
_NEEDED = {"inference_precision", "blob_sha256", "fingerprint", "layers", "macs", "notes"}
_CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from edgeattn.backends._openvino_compile import main; sys.exit(main(sys.argv[2:]))"
)


def missing() -> str | None:
    """None when OpenVINO can be imported."""
    try:
        library()
    except (ImportError, OSError) as error:
        return f'OpenVINO cannot be used ({last_line(error)}); install it with: pip install "edgeattn[openvino]".'
    return None


def library() -> Any:
    """The OpenVINO package, imported so that it stays off the network. Raises ImportError."""
    silence_telemetry()
    import openvino

    return openvino


@lru_cache(maxsize=1)
def core() -> Any:
    """This process's one `openvino.Core`."""
    return library().Core()


@lru_cache(maxsize=1)
def _frontend() -> Any:
    return library().frontend.FrontEndManager().load_by_framework("onnx")


def read(path: Path) -> Any:
    """The graph of an ONNX file. `Core.read_model` would try every other format on a broken one and print about it."""
    network = _frontend().convert(_frontend().load(str(path)))
    if not network.outputs:
        raise ModelError(f"{path} holds no graph; export the model again.")
    return network


def precisions() -> list[str]:
    """What this processor executes natively, as variant names."""
    offered = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return [name for capability, name in _CAPABILITIES.items() if capability in offered]


def fingerprint() -> dict[str, str]:
    """What an engine depends on: a blob is used only where all of this is as it was when it was compiled."""
    return {
        "openvino": library().get_version(),
        "cpu": core().get_property("CPU", "FULL_DEVICE_NAME"),
        "capabilities": " ".join(sorted(core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))),
        "isa": " ".join(sorted(host.isa())),
    }


def compile(model: Path, out: Path, *, precision: str, threads: int) -> Compiled:
    """Compile the ONNX file `model` (for `int8` one with Q/DQ nodes) to `out/engine.blob` and `out/engine.json`.

    The same model, precision, library and processor give the same blob, byte for byte, and with the same number of
    threads the same description: how layers are fused, but nothing in the blob, depends on the threads.
    Raises MachineError when this processor lacks the precision, ModelError when the graph cannot be compiled.
    """
    if precision not in (offered := precisions()):
        raise MachineError(
            f"This processor ({fingerprint()['cpu']}) does not execute {precision} natively; "
            f"choose one of {', '.join(offered)}."
        )
    if not model.is_file():
        raise ModelError(f"There is no ONNX file {model}; export the model first.")
    command = [sys.executable, "-I", "-c", _CHILD, json.dumps(sys.path), *map(str, (model, out, precision, threads))]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=_PATIENCE_S
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(
            f"OpenVINO did not finish compiling {model} as {precision} within {_PATIENCE_S:.0f} s; "
            f"leave {precision} out of the recipe's variants."
        ) from error
    if done.returncode == 2 and done.stdout.strip():
        kind, message = json.loads(done.stdout.splitlines()[-1])
        raise getattr(errors, kind)(message)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ModelError(f"OpenVINO ended with code {done.returncode} while compiling {model}: {said}")
    engine = _description(out)
    return Compiled(engine["layers"], engine["macs"], engine["fingerprint"], tuple(engine["notes"]))


def load(folder: Path, *, threads: int) -> Runner:
    """The engine in `folder`; without an `engine.json`, its `model.onnx` in the precision OpenVINO chooses.

    Raises ModelError when there is neither, or when what there is cannot be used.
    """
    if not (folder / DESCRIPTION).exists():
        return OpenvinoRunner(_built(folder, settings(threads, None)))
    engine = _description(folder)
    config = settings(threads, engine["inference_precision"])
    imported = _imported(folder, engine, config)
    if not isinstance(imported, str):
        return OpenvinoRunner(imported)
    if not (folder / MODEL).is_file():
        raise ModelError(
            f"The engine in {folder} cannot be used here: {imported}. There is no {MODEL} beside it to build it from "
            "again; compile it on this machine."
        )
    return OpenvinoRunner(_built(folder, config), rebuilt=imported)


class OpenvinoRunner:
    """`rebuilt` says why the engine had to be built again from `model.onnx`; None when the engine was used as it is."""

    def __init__(self, compiled: Any, rebuilt: str | None = None) -> None:
        self.rebuilt = rebuilt
        self._specs = Specs(
            inputs=tuple(_spec(port) for port in compiled.inputs),
            outputs=tuple(_spec(port) for port in compiled.outputs),
        )
        self._names = [spec.name for spec in self._specs.outputs]
        self._dynamic = any(None in spec.shape for spec in self._specs.inputs + self._specs.outputs)
        self._request = compiled.create_infer_request()
        self._bound: dict[str, NDArray[Any]] = {}
        self._results: list[Any] = []
        if not self._dynamic:
            # Handing arrays over in each call costs 15 to 20 us, a tenth of a small network's time; copying a frame
            # into memory that OpenVINO already knows costs next to nothing.
            library_tensor = library().Tensor
            for spec in self._specs.inputs:
                self._bound[spec.name] = np.zeros([size or 0 for size in spec.shape], spec.dtype)
                self._request.set_tensor(spec.name, library_tensor(self._bound[spec.name], shared_memory=True))
            self._results = [self._request.get_output_tensor(i) for i in range(len(self._names))]

    @property
    def specs(self) -> Specs:
        return self._specs

    def infer(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        if self._request is None:
            raise ModelError("This runner is closed; load the model again.")
        check_inputs(self._specs, inputs)
        with translated("run the model"):
            if not self._dynamic:
                for name, memory in self._bound.items():
                    np.copyto(memory, inputs[name])
                self._request.infer()
                tensors = self._results
            else:
                # With one thread, `infer` (2026.4) drops the error when dynamic shapes do not fit each other inside the
                # graph and returns empty arrays; `wait` raises it, at the price of a switch between threads.
                arrays = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
                self._request.start_async(arrays, share_inputs=True)
                self._request.wait()
                tensors = self._request.output_tensors
            # The tensors are OpenVINO's and change with the next call.
            return {name: tensor.data.copy() for name, tensor in zip(self._names, tensors, strict=True)}

    def close(self) -> None:
        self._request = None
        self._bound, self._results = {}, []


def inference_precision(precision: str) -> str:
    """OpenVINO's INFERENCE_PRECISION_HINT for a variant.

    Quantized layers follow from the graph; what is left in float runs as it does by default, which is the narrowest
    float the processor has.
    """
    if precision in _HINTS:
        return _HINTS[precision]
    return str(core().get_property("CPU", "INFERENCE_PRECISION_HINT").to_string()).replace("float", "f")


def settings(threads: int, hint: str | None) -> dict[str, Any]:
    """The compiler's settings for one stream of single frames; `hint` None leaves the precision to OpenVINO."""
    chosen: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        # A pinned thread waits behind whatever else runs on its core: the camera's decoder on a device, the engine
        # timed before this one on a development machine. With nothing else running, pinning measured no gain.
        "ENABLE_CPU_PINNING": False,
    }
    return chosen if hint is None else {**chosen, "INFERENCE_PRECISION_HINT": hint}


def exported(compiled: Any) -> bytes:
    """The engine as bytes; OpenVINO returns them as a stream in some releases."""
    blob = compiled.export_model()
    return blob if isinstance(blob, bytes) else bytes(blob.getvalue())


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn whatever OpenVINO raises into a ModelError of one sentence."""
    try:
        yield
    except EdgeattnError:
        raise
    except Exception as error:  # the ONNX frontend's exceptions have only this class in common
        raise ModelError(f"OpenVINO cannot {what}: {last_line(error)}.") from error


def _description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    try:
        engine = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as a description of an engine; compile the model again.") from error
    if not isinstance(engine, dict) or engine.get("schema") != SCHEMA or not engine.keys() >= _NEEDED:
        raise ModelError(f"{path} is no complete {SCHEMA}; compile the model again with this version of edgeattn.")
    return engine


def _imported(folder: Path, engine: dict[str, Any], config: dict[str, Any]) -> Any:
    """The compiled model from the blob, or a str: why it cannot be used here."""
    here = fingerprint()
    there = engine["fingerprint"]
    if differing := sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key)):
        return "; ".join(
            f"{key} is '{here.get(key)}', the engine was compiled for '{there.get(key)}'" for key in differing
        )
    try:
        blob = (folder / BLOB).read_bytes()
    except OSError as error:
        return f"{BLOB} cannot be read ({error.strerror})"
    # OpenVINO notices a truncated blob, but runs one whose weights were altered.
    if sha256_bytes(blob) != engine["blob_sha256"]:
        return f"{BLOB} is truncated or was altered"
    try:
        return core().import_model(blob, "CPU", config)
    except RuntimeError as error:
        return f"OpenVINO refuses {BLOB} ({last_line(error)})"


def _built(folder: Path, config: dict[str, Any]) -> Any:
    path = folder / MODEL
    if not path.is_file():
        raise ModelError(
            f"There is neither {DESCRIPTION} nor {MODEL} in {folder}; give the folder of a model or engine."
        )
    with translated(f"load {path}"):
        return core().compile_model(read(path), "CPU", config)


def _spec(port: Any) -> TensorSpec:
    shape = tuple(size.get_length() if size.is_static else None for size in port.get_partial_shape())
    return TensorSpec(port.get_any_name(), shape, np.dtype(port.get_element_type().to_dtype()).name)
