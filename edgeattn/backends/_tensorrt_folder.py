"""An engine's folder: `engine.plan` and `engine.json`, made together, and opened only where both fit this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeattn.artifact import sha256_bytes, sha256_file, write_atomic
from edgeattn.backends import _tensorrt_inspect, _tensorrt_plan
from edgeattn.backends import _tensorrt_library as lib
from edgeattn.backends._tensorrt_build import build_plan
from edgeattn.backends._tensorrt_device import INFORMATION, fingerprint
from edgeattn.backends._tensorrt_engine import Engine
from edgeattn.backends._tensorrt_settings import BuildSettings
from edgeattn.backends.base import read_description
from edgeattn.board import Sampler, describe_device, while_building
from edgeattn.board import settings as board_settings
from edgeattn.errors import InputError, ModelError, storage_errors
from edgeattn.progress import Progress

SCHEMA = "edgeattn.engine/1"
PLAN, DESCRIPTION = "engine.plan", "engine.json"
_NEEDED = {"plan_sha256", "onnx_sha256", "settings", "fingerprint", "layers", "macs", "notes"}
# A version-compatible plan is of one GPU but not of one release of the software.
_SOFTWARE = {"tensorrt", "l4t"}

UNTRUSTED = (
    "it is version-compatible, so it may hold code for the CPU, and nobody is known to vouch for it (a bundle's signer "
    "does, where the key is given)"
)

_LOOK_EVERY_S = 1.0  # at the board; it is busy timing

Description = dict[str, Any]


def made(model: Path, settings: BuildSettings, progress: Progress, precision: str | None) -> tuple[bytes, Description]:
    """Plan and description of an ONNX file; the plan was opened once, so what is written has been seen to load."""
    board = describe_device(lib.ROOT)
    with Sampler(lib.ROOT, interval_s=_LOOK_EVERY_S) as sampler:
        built = build_plan(model, settings, progress)
    engine = engine_of(built.plan, settings)
    try:
        executed, notes = _executed(engine, built.multiply_adds)
    finally:
        engine.close()
    layers, macs = _tensorrt_inspect.totals(executed, built.multiply_adds)
    counted, unit = (macs, "multiply-adds") if macs else (layers, "layers")
    if not notes:
        notes += _tensorrt_inspect.notes(precision, counted, unit)
        if settings.dla_core is not None:
            notes.append(_tensorrt_inspect.dla_note(executed))
    notes = [*built.notes, *notes]
    telemetry = sampler.telemetry.to_dict()
    notes += while_building(board, telemetry)
    if settings.tf32:
        notes.append("FP32 products run with 10-bit mantissas (TF32).")
    return built.plan, {
        "schema": SCHEMA,
        "backend": "tensorrt",
        "asked_precision": precision,
        "precision": max(counted, key=counted.__getitem__, default=precision),
        "plan_sha256": sha256_bytes(built.plan),
        "onnx_sha256": sha256_file(model),
        "settings": settings.to_json(),
        "workspace_mb": built.workspace_mb,
        "fingerprint": fingerprint(),
        "board": board_settings(board),
        "telemetry": telemetry,
        "layers": layers,
        "macs": macs,
        "executed": [layer.to_json() for layer in executed],
        "notes": notes,
        "warnings": list(built.warnings),
    }


def _executed(engine: Engine, multiply_adds: Mapping[str, int]) -> tuple[list[_tensorrt_inspect.Layer], list[str]]:
    """What runs, and a note where the inspector does not say it readably: that is no reason to have no engine."""
    try:
        return _tensorrt_inspect.layers(engine.information(), multiply_adds), []
    except ModelError as error:
        return [], [f"What the engine executes, and in which precision, is not known: {error}"]


def write(out: Path, plan: bytes, description: Description) -> None:
    """Both or neither: nothing in `out` is replaced before both are on the disk. Raises StorageError.

    Killed between the two renames it leaves a plan whose hash is not the description's, which `opened` notices.
    """
    text = json.dumps(description, indent=1, sort_keys=True)
    fresh_plan, fresh_text = out / f".{PLAN}.new", out / f".{DESCRIPTION}.new"
    try:
        write_atomic(fresh_plan, plan)
        write_atomic(fresh_text, text)
        with storage_errors(out):
            fresh_plan.replace(out / PLAN)
            fresh_text.replace(out / DESCRIPTION)
    finally:
        fresh_plan.unlink(missing_ok=True)
        fresh_text.unlink(missing_ok=True)


def read(folder: Path) -> Description:
    """The description in `folder`. Raises ModelError."""
    path = folder / DESCRIPTION
    engine = read_description(path, "build the model again")
    if engine.get("schema") != SCHEMA or not engine.keys() >= _NEEDED:
        raise ModelError(f"{path} is no complete {SCHEMA} of TensorRT; build the model again.")
    return engine


def settings_of(folder: Path, description: Description) -> BuildSettings:
    """What the engine was built with, without its timing cache. Raises ModelError."""
    try:
        return BuildSettings.from_json(description["settings"], timing_cache=None)
    except (InputError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{folder / DESCRIPTION} has no usable settings; build the model again.") from error


def mismatch(folder: Path, description: Description) -> str | None:
    """Why the engine is not of this machine, by the plan's header and its fingerprint; None when it is."""
    newer = settings_of(folder, description).version_compatible
    try:
        with (folder / PLAN).open("rb") as file:
            head = file.read(_tensorrt_plan.HEADER_SIZE)
    except OSError as error:
        return f"{PLAN} cannot be read ({error.strerror})"
    if reason := _tensorrt_plan.unusable(head, lib.library().__version__, newer_is_fine=newer):
        return reason
    here, there = fingerprint(), description["fingerprint"]
    compared = (here.keys() | there.keys()) - {INFORMATION} - (_SOFTWARE if newer else set())
    if differing := sorted(key for key in compared if here.get(key) != there.get(key)):
        return "; ".join(
            f"{key} is '{here.get(key)}', the engine was built for '{there.get(key)}'" for key in differing
        )
    return None


def opened(folder: Path, description: Description, *, trusted: bool) -> Engine | str:
    """The engine, or why it cannot be used here. TensorRT sees the plan only when all that is known of it fits.

    `trusted`: it was built on this machine, or is of a bundle whose signature was checked. A version-compatible plan
    carries code that runs on the CPU as this user; hashes, which whoever wrote the plan wrote too, say nothing of that
    code, so without `trusted` such a plan is never given to TensorRT.
    """
    if reason := mismatch(folder, description):
        return reason
    try:
        plan = (folder / PLAN).read_bytes()
    except OSError as error:
        return f"{PLAN} cannot be read ({error.strerror})"
    if sha256_bytes(plan) != description["plan_sha256"]:
        return f"{PLAN} is truncated or was altered"
    settings = settings_of(folder, description)
    if settings.version_compatible and not trusted:
        return UNTRUSTED
    try:
        return engine_of(plan, settings)
    except ModelError as error:
        return str(error).rstrip(".")


def engine_of(plan: bytes, settings: BuildSettings) -> Engine:
    """Open a plan that was built with `settings`, on this machine or by somebody who is trusted (see `opened`)."""
    return Engine(plan, host_code=settings.version_compatible, dla_core=settings.dla_core)
