"""TensorRT on NVIDIA GPUs and Jetson: builds an ONNX file into an engine on the machine it will run on, and runs it.

An engine folder holds `engine.plan` and `engine.json`. The plan is used only on the GPU and software it was built for;
elsewhere the engine is built again from `model.onnx`, if that lies beside it, and kept in `built-here` below it.

The precision is in the graph (FP16 types, Q/DQ nodes): networks are strongly typed and no flag of the builder asks for
one. Proven so far: every call against NVIDIA's own lists of the API of six versions from 10.3 to 11.4, and memory,
streams and recordings against a stand-in for CUDA. Nothing has run on a GPU yet.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgeattn.artifact import MANIFEST, sha256_file
from edgeattn.backends import _cuda
from edgeattn.backends import _tensorrt_folder as folders
from edgeattn.backends import _tensorrt_library as lib
from edgeattn.backends._tensorrt_device import fingerprint, precisions, timing_cache
from edgeattn.backends._tensorrt_engine import Engine
from edgeattn.backends._tensorrt_folder import DESCRIPTION, PLAN, SCHEMA
from edgeattn.backends._tensorrt_settings import BuildSettings
from edgeattn.backends.base import MODEL, Compiled, Specs, Tensors
from edgeattn.errors import MachineError, ModelError, StorageError
from edgeattn.file_lock import locked
from edgeattn.progress import Progress, silent

__all__ = [
    "BUILT_HERE",
    "DESCRIPTION",
    "MODEL",
    "PLAN",
    "SCHEMA",
    "BuildSettings",
    "Engine",
    "TensorrtRunner",
    "build",
    "compile",
]
__all__ += ["fingerprint", "load", "missing", "open_engine", "precisions", "timing_cache"]

BUILT_HERE = "built-here"
"""Below the folder of a `model.onnx`: the engine that was built for this machine, by `load` or by `build` into it."""


def missing() -> str | None:
    """None when TensorRT, and a GPU for it, can be used here."""
    return lib.missing()


def compile(model: Path, out: Path, *, precision: str, threads: int) -> Compiled:
    """Build the ONNX file `model`, converted to `precision` already, into `out`; `threads` changes nothing here.

    Raises MachineError when this GPU lacks the precision, ModelError when the graph cannot be built.
    """
    if precision not in (offered := precisions()):
        raise MachineError(
            f"This GPU ({_cuda.runtime().device_name()}) does not execute {precision} natively; "
            f"choose one of {', '.join(offered)}."
        )
    return build(model, out, BuildSettings(timing_cache=timing_cache()), precision=precision)


def build(
    model: Path, out: Path, settings: BuildSettings, progress: Progress = silent, *, precision: str | None = None
) -> Compiled:
    """Build `model` into `out/engine.plan` and `out/engine.json`; what is in `out` stays as it was when that fails.

    TensorRT chooses by measured time, so two builds may differ. `precision` is what the graph was converted to, for
    notes on what runs otherwise. Ctrl-C stops at the builder's next step. Raises ModelError, MachineError.
    """
    plan, description = folders.made(model, settings, progress, precision)
    folders.write(out, plan, description)
    return Compiled(description["layers"], description["macs"], description["fingerprint"], tuple(description["notes"]))


def open_engine(folder: Path) -> Engine:
    """The engine in `folder`, for several streams and for inspection. Raises ModelError when it cannot be used here."""
    opened = folders.opened(folder, folders.read(folder))
    if isinstance(opened, str):
        raise ModelError(f"The engine in {folder} cannot be used here: {opened}. Build it on this machine.")
    return opened


def load(folder: Path, *, threads: int, progress: Progress = silent) -> TensorrtRunner:
    """The engine in `folder`; where it cannot be used here, or there is none, its `model.onnx` built for this GPU.

    A build takes minutes, so it is kept in `built-here` and used from then on. `threads` changes nothing here. Raises
    ModelError when there is neither, or when what there is cannot be used.
    """
    settings, reason = BuildSettings(), None
    if (folder / DESCRIPTION).exists():
        description = folders.read(folder)
        opened = folders.opened(folder, description)
        if not isinstance(opened, str):
            return TensorrtRunner(opened, tuple(description["notes"]))
        settings, reason = folders.settings_of(folder, description), opened
    if not (folder / MODEL).is_file():
        if reason is None:
            raise ModelError(
                f"There is neither {DESCRIPTION} nor {MODEL} in {folder}; give the folder of a model or engine."
            )
        raise ModelError(
            f"The engine in {folder} cannot be used here: {reason}. There is no {MODEL} beside it to build it from "
            "again; build it on this machine."
        )
    engine, notes = _built_here(folder, replace(settings, timing_cache=timing_cache()), progress)
    return TensorrtRunner(engine, notes, rebuilt=reason)


class TensorrtRunner:
    """`rebuilt` says why the engine had to be built again from `model.onnx`; None when it was used, or there was none.

    `engine` gives further contexts for further streams; it is closed with the runner.
    """

    def __init__(self, engine: Engine, notes: tuple[str, ...] = (), rebuilt: str | None = None) -> None:
        self.engine, self.rebuilt = engine, rebuilt
        try:
            self._context = engine.context()
        except BaseException:
            engine.close()
            raise
        self.notes = notes + self._context.notes

    @property
    def specs(self) -> Specs:
        return self.engine.specs

    def infer(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        return self._context.infer(inputs)

    def close(self) -> None:
        self.engine.close()


def _built_here(folder: Path, settings: BuildSettings, progress: Progress) -> tuple[Engine, tuple[str, ...]]:
    """The engine that was built here from `folder/model.onnx`, now or before, and notes on it."""
    model, here = folder / MODEL, folder / BUILT_HERE
    with ExitStack() as held:
        unkept = _lock(held, folder, here)
        if found := _found(here, model):
            return found
        plan, description = folders.made(model, settings, progress, None)
        if unkept is None:
            try:
                folders.write(here, plan, description)
            except StorageError as error:
                unkept = str(error)
    notes = tuple(description["notes"])
    if unkept is not None:
        notes += (f"The engine was not kept and is built again at the next start: {unkept}",)
    return folders.engine_of(plan, settings), notes


def _lock(held: ExitStack, folder: Path, here: Path) -> str | None:
    """Let one process at a time build `here`; returns why nothing can be kept there, None when it can."""
    if (folder / MANIFEST).exists():  # its files are listed there, and no other may appear
        return f"{folder} is a finished artifact; compile it to keep the engine."
    try:
        held.enter_context(locked(here))
    except StorageError as error:
        return str(error)
    return None


def _found(here: Path, model: Path) -> tuple[Engine, tuple[str, ...]] | None:
    """With whatever settings it was built: somebody may have built it there with their own."""
    try:
        description = folders.read(here)
    except ModelError:  # none yet
        return None
    if description["onnx_sha256"] != sha256_file(model):
        return None
    opened = folders.opened(here, description)
    return None if isinstance(opened, str) else (opened, tuple(description["notes"]))
