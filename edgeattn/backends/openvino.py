"""OpenVINO on the CPU: compiles an ONNX file to an engine, reads back what the engine executes, and runs it.

An engine folder holds `engine.json` and `engine.blob`. The blob is used where library and processor are those it was
compiled with; elsewhere the engine is built again from `model.onnx`, if that lies beside it. What was compiled into
`built-here` below it, and fits, goes before the folder's own engine.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeattn import errors, host
from edgeattn.artifact import sha256_bytes, sha256_file
from edgeattn.backends._openvino_library import compiled, core, library, read, translated
from edgeattn.backends._openvino_runner import OpenvinoRunner
from edgeattn.backends.base import MODEL, Compiled, Runner, last_line, read_description
from edgeattn.errors import InputError, MachineError, ModelError, NoEngine
from edgeattn.progress import Progress, silent

SCHEMA = "edgeattn.engine/1"
BLOB, DESCRIPTION = "engine.blob", "engine.json"
BUILT_HERE = "built-here"
"""Below the folder of a `model.onnx`: the engine that was compiled for this machine with `build_here`."""

BUILT_INSTEAD = "an engine was compiled here in its place"
NONE_COMPILED = "none was compiled for it"

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


def compile(model: Path, out: Path, *, precision: str, threads: int, progress: Progress = silent) -> Compiled:
    """Compile the ONNX file `model` (for `int8` one with Q/DQ nodes) to `out/engine.blob` and `out/engine.json`.

    The same model, precision, library and processor give the same blob, byte for byte, and with the same number of
    threads the same description: how layers are fused, but nothing in the blob, depends on the threads. There is
    nothing to tell `progress`: OpenVINO compiles in one go.
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
            f"leave it out for this backend: leave_out: {{openvino: [{precision}]}} in the recipe."
        ) from error
    if done.returncode == 2 and done.stdout.strip():
        kind, message = json.loads(done.stdout.splitlines()[-1])
        raise getattr(errors, kind)(message)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ModelError(f"OpenVINO ended with code {done.returncode} while compiling {model}: {said}")
    engine = _description(out)
    return Compiled(engine["layers"], engine["macs"], engine["fingerprint"], tuple(engine["notes"]))


def check_options(options: Mapping[str, int]) -> None:
    """Raise InputError for any: OpenVINO takes none."""
    if options:
        raise InputError(f"OpenVINO has no {' or '.join(sorted(options))}; leave it out, it is for TensorRT's engines.")


def build_here(
    model: Path,
    out: Path,
    *,
    precision: str,
    threads: int,
    options: Mapping[str, int],
    progress: Progress = silent,
    fresh: bool = False,
) -> Compiled:
    """As `compile`, telling of it. Nothing is timed, so `fresh` changes nothing."""
    check_options(options)
    text = f"compiling {model.name} with {_release()}"
    progress(0, 1, text)
    compiled = compile(model, out, precision=precision, threads=threads)
    progress(1, 1, text)
    return compiled


def load(
    folder: Path, *, threads: int, build: bool = True, trusted: bool = False, progress: Progress = silent
) -> Runner:
    """The engine in `folder`; without an `engine.json`, its `model.onnx` in the precision OpenVINO chooses.

    Without `build` no graph is compiled: NoEngine says why it would have to be. `trusted` changes nothing here. Raises
    ModelError when there is neither engine nor model, or when what there is cannot be used.
    """
    model, here = folder / MODEL, folder / BUILT_HERE
    own = _description(folder) if (folder / DESCRIPTION).exists() else None
    found = _found(here, model, threads) if model.is_file() else None
    if found is not None and not isinstance(found, str):
        why = None if own is None else _mismatch(own) or BUILT_INSTEAD
        return OpenvinoRunner(found, rebuilt=why, engine_folder=here)
    if own is None:
        if not build and model.is_file():
            raise NoEngine(found or NONE_COMPILED)
        return OpenvinoRunner(_built(folder, settings(threads, None), progress))
    config = settings(threads, own["inference_precision"])
    imported = _imported(folder, own, config)
    if not isinstance(imported, str):
        return OpenvinoRunner(imported, engine_folder=folder)
    if not model.is_file():
        raise ModelError(
            f"The engine in {folder} cannot be used here: {imported}. There is no {MODEL} beside it to build it from "
            "again; compile it on this machine."
        )
    if not build:
        raise NoEngine(imported)
    return OpenvinoRunner(_built(folder, config, progress), rebuilt=imported)


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


def _release() -> str:
    return f"OpenVINO {library().get_version().partition('-')[0]}"


def _description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    engine = read_description(path, "compile the model again")
    if engine.get("schema") != SCHEMA or not engine.keys() >= _NEEDED:
        raise ModelError(f"{path} is no complete {SCHEMA}; compile the model again with this version of edgeattn.")
    return engine


def _found(here: Path, model: Path, threads: int) -> Any:
    """The compiled model of `here`, or a str: why it cannot be used, or None when there is none."""
    try:
        engine = _description(here)
    except ModelError:  # none yet
        return None
    if engine.get("onnx_sha256") != sha256_file(model):
        return "what was compiled here is of another model"
    imported = _imported(here, engine, settings(threads, engine["inference_precision"]))
    return f"what was compiled here does not fit: {imported}" if isinstance(imported, str) else imported


def _mismatch(engine: dict[str, Any]) -> str | None:
    """Why the engine is not of this machine, by its fingerprint; None when it is."""
    here, there = fingerprint(), engine["fingerprint"]
    differing = sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))
    words = [f"{key} is '{here.get(key)}', the engine was compiled for '{there.get(key)}'" for key in differing]
    return "; ".join(words) or None


def _imported(folder: Path, engine: dict[str, Any], config: dict[str, Any]) -> Any:
    """The compiled model from the blob, or a str: why it cannot be used here."""
    if reason := _mismatch(engine):
        return reason
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


def _built(folder: Path, config: dict[str, Any], progress: Progress) -> Any:
    path = folder / MODEL
    if not path.is_file():
        raise ModelError(
            f"There is neither {DESCRIPTION} nor {MODEL} in {folder}; give the folder of a model or engine."
        )
    progress(0, 1, f"compiling {path.name} with {_release()}")
    with translated(f"load {path}"):
        return compiled(read(path), config)
