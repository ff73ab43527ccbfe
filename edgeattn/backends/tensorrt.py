"""TensorRT on NVIDIA GPUs and Jetson: builds an ONNX file into an engine on the machine it will run on, and runs it.

An engine folder holds `engine.plan` and `engine.json`. The plan is used only on the GPU and software it was built for;
elsewhere the engine is built again from `model.onnx`, if that lies beside it, and kept in `built-here` below it. What
is there and fits goes before the folder's own engine: it was timed on this very machine.

The precision is in the graph (FP16 types, Q/DQ nodes): networks are strongly typed and no flag of the builder asks for
one. Proven so far: every call against NVIDIA's own lists of the API of six versions from 10.3 to 11.4; memory, streams
and recordings on an H100 (`_cuda`). No engine has been built or run by TensorRT itself yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import fields, replace
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
from edgeattn.errors import InputError, MachineError, ModelError, NoEngine, StorageError
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
    "build_here",
    "check_options",
    "compile",
    "layer_times",
]
__all__ += ["fingerprint", "load", "missing", "open_engine", "precisions", "timing_cache"]

BUILT_HERE = "built-here"
"""Below the folder of a `model.onnx`: the engine that was built for this machine, by `load` or by `build` into it."""

BUILT_INSTEAD = "an engine was built here in its place"
NONE_COMPILED = "none was compiled for it"


def missing() -> str | None:
    """None when TensorRT, and a GPU for it, can be used here."""
    return lib.missing()


def compile(model: Path, out: Path, *, precision: str, threads: int, progress: Progress = silent) -> Compiled:
    """Build the ONNX file `model`, converted to `precision` already, into `out`; `threads` changes nothing here.

    Raises MachineError when this GPU lacks the precision, ModelError when the graph cannot be built.
    """
    if precision not in (offered := precisions()):
        raise MachineError(
            f"This GPU ({_cuda.runtime().device_name()}) does not execute {precision} natively; "
            f"choose one of {', '.join(offered)}."
        )
    return build(model, out, BuildSettings(timing_cache=timing_cache()), progress, precision=precision)


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


def check_options(options: Mapping[str, int]) -> None:
    """Raise InputError unless `options` are numbers or switches of `BuildSettings`, within their ranges."""
    _settings(options, None)


def _settings(options: Mapping[str, int], cache: Path | None) -> BuildSettings:
    known = {entry.name for entry in fields(BuildSettings)} - {"timing_cache", "profiles"}
    if unknown := sorted(options.keys() - known):
        raise InputError(f"TensorRT has no build option {unknown[0]}; it has {', '.join(sorted(known))}.")
    return BuildSettings(**options, timing_cache=cache)  # type: ignore[arg-type]  # its fields that are such


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
    """As `build`, with this user's timing cache; `fresh` times every candidate anew. `options`: see `check_options`.

    `threads` changes nothing here.
    """
    return build(model, out, _settings(options, None if fresh else timing_cache()), progress, precision=precision)


def open_engine(folder: Path, *, trusted: bool = False) -> Engine:
    """The engine in `folder`, for several streams and for inspection. Raises ModelError when it cannot be used here.

    `trusted`: you built it, or know who did; a version-compatible one is opened only then, since it can hold code.
    """
    opened = folders.opened(folder, folders.read(folder), trusted=trusted)
    if isinstance(opened, str):
        raise ModelError(f"The engine in {folder} cannot be used here: {opened}. Build it on this machine.")
    return opened


def load(
    folder: Path, *, threads: int, build: bool = True, trusted: bool = False, progress: Progress = silent
) -> TensorrtRunner:
    """The engine in `folder`; where it cannot be used here, or there is none, its `model.onnx` built for this GPU.

    A build takes minutes, so it is kept in `built-here` and used from then on, before the folder's own engine. Without
    `build` nothing is built: NoEngine says why it would have to be. `trusted`: see `open_engine`; what was built here
    is. `threads` changes nothing here. Raises ModelError when there is neither engine nor model, or when what there is
    cannot be used.
    """
    model, here = folder / MODEL, folder / BUILT_HERE
    description = folders.read(folder) if (folder / DESCRIPTION).exists() else None
    found = _found(here, model) if model.is_file() else None
    if isinstance(found, tuple):
        why = None if description is None else folders.mismatch(folder, description) or BUILT_INSTEAD
        return TensorrtRunner(*found, rebuilt=why, engine_folder=here)
    settings, reason = BuildSettings(), None
    if description is not None:
        opened = folders.opened(folder, description, trusted=trusted)
        if not isinstance(opened, str):
            return TensorrtRunner(opened, tuple(description["notes"]), engine_folder=folder)
        settings, reason = folders.settings_of(folder, description), opened
    if not model.is_file():
        if reason is None:
            raise ModelError(
                f"There is neither {DESCRIPTION} nor {MODEL} in {folder}; give the folder of a model or engine."
            )
        raise ModelError(
            f"The engine in {folder} cannot be used here: {reason}. There is no {MODEL} beside it to build it from "
            "again; build it on this machine."
        )
    if not build:
        raise NoEngine(reason or found or NONE_COMPILED)
    engine, notes = _built_here(folder, replace(settings, timing_cache=timing_cache()), progress)
    return TensorrtRunner(engine, notes, rebuilt=reason, engine_folder=here)


def layer_times(runner: TensorrtRunner, inputs: Tensors) -> dict[str, float]:
    """Mean milliseconds of each executed layer, by its name (see `Engine.layer_times`)."""
    return runner.engine.layer_times(inputs)


class TensorrtRunner:
    """`rebuilt` says why an engine built here from `model.onnx` stands in for the folder's; None when there was none.

    `engine_folder` is where the engine lies, or would, where it could not be kept. `engine` gives further contexts for
    further streams; it is closed with the runner.
    """

    def __init__(
        self,
        engine: Engine,
        notes: tuple[str, ...] = (),
        rebuilt: str | None = None,
        engine_folder: Path | None = None,
    ) -> None:
        self.engine, self.rebuilt, self.engine_folder = engine, rebuilt, engine_folder
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
        if isinstance(found := _found(here, model), tuple):
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


def _found(here: Path, model: Path) -> tuple[Engine, tuple[str, ...]] | str | None:
    """The engine in `here` and notes on it, or why it cannot be used, or None when there is none.

    With whatever settings it was built: somebody may have built it there with their own.
    """
    if not (here / DESCRIPTION).exists():
        return None
    try:
        description = folders.read(here)
        if description["onnx_sha256"] != sha256_file(model):
            return "what was built here is of another model"
        opened = folders.opened(here, description, trusted=True)
    except ModelError as error:  # a description that says nothing usable is that of no engine
        opened = str(error).rstrip(".")
    if isinstance(opened, str):
        return f"what was built here does not fit: {opened}"
    return opened, tuple(description["notes"])
