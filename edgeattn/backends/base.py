"""The two protocols every inference library stands behind: compile a graph, load an engine as a `Runner`.

A backend is `backends/<name>.py` with `missing()`, `load(folder, threads)` and, where it has one, `compile(...)`.
NumPy in, NumPy out: a check or a camera never sees more of a library than this.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeattn.errors import ModelError
from edgeattn.progress import Progress, silent

Tensors = Mapping[str, NDArray[Any]]

MODEL = "model.onnx"
"""The graph in an artifact's folder. A backend that has this name in its module loads such folders; the contract tests
find it by that."""


@dataclass(frozen=True)
class TensorSpec:
    """`shape` has None where a dimension is dynamic; `dtype` is NumPy's name for it."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class Specs:
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Runner(Protocol):
    """One loaded model. Not thread-safe: give each thread its own."""

    @property
    def specs(self) -> Specs: ...

    def infer(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        """All outputs for these inputs; the arrays belong to the caller. Raises ModelError on a wrong input."""
        ...

    def close(self) -> None:
        """Release the library's memory; the runner is of no use afterwards."""
        ...


@dataclass(frozen=True)
class Compiled:
    """What `compile` says of the engine it wrote: the precision that will really execute, read back.

    `layers` and `macs` count executed layers and multiply-adds per precision name (`fp32`, `bf16`, `int8`, …).
    `notes` holds what a user must know, such as a variant that ran in another precision than asked.
    """

    layers: Mapping[str, int]
    macs: Mapping[str, int]
    fingerprint: Mapping[str, str]
    notes: tuple[str, ...] = field(default=())


class Backend(Protocol):
    """The functions of one `backends/<name>.py`."""

    def missing(self) -> str | None:
        """None when the library can be used here, else one sentence: what is missing and how to get it."""
        ...

    def load(self, folder: Path, *, threads: int) -> Runner:
        """The model in an artifact's or bundle's folder, ready to infer. Raises ModelError, MissingLibrary."""
        ...


class Compiler(Backend, Protocol):
    def precisions(self) -> list[str]:
        """The precisions this machine executes natively, as variant names."""
        ...

    def fingerprint(self) -> dict[str, str]:
        """What an engine depends on: it is used only where all of this is as it was when it was compiled."""
        ...

    def compile(self, model: Path, out: Path, *, precision: str, threads: int, progress: Progress = silent) -> Compiled:
        """Compile the ONNX file `model` into the folder `out`. Raises ModelError, MissingLibrary."""
        ...


def _by_name(value: Any, kind: type) -> bool:
    return isinstance(value, dict) and all(type(entry) is kind for entry in value.values())


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _executed(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(layer, dict)
        and all(isinstance(layer.get(key), str) for key in ("name", "kind", "precision"))
        and _texts(layer.get("nodes", []))
        for layer in value
    )


_Kind = tuple[Callable[[Any], bool], str]
_TEXT: _Kind = (lambda value: isinstance(value, str), "a text")
_COUNTS: _Kind = (lambda value: _by_name(value, int), "whole numbers by name")
_OBJECT_OR_NULL: _Kind = (lambda value: value is None or isinstance(value, dict), "an object or null")
_DESCRIBED: dict[str, _Kind] = {
    **dict.fromkeys(("plan_sha256", "onnx_sha256", "blob_sha256", "inference_precision"), _TEXT),
    **dict.fromkeys(("layers", "macs"), _COUNTS),
    "fingerprint": (lambda value: _by_name(value, str), "texts by name"),
    "settings": (lambda value: isinstance(value, dict), "values by name"),
    **dict.fromkeys(
        ("board", "telemetry"), (lambda value: value is None or isinstance(value, dict), "an object or null")
    ),
    "notes": (_texts, "a list of texts"),
    "executed": (_executed, "a list of layers with name, kind, precision and nodes"),
}


def read_description(path: Path, cure: str) -> dict[str, Any]:
    """An engine's `engine.json`: what is in it is of the kind that its readers count on; what is not, is for them.

    It may come from anywhere, in a bundle or beside a model. Raises ModelError, which ends with `cure`.
    """
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read as a description of an engine; {cure}.") from error
    if not isinstance(described, dict):
        raise ModelError(f"{path} is no description of an engine, which is a JSON object; {cure}.")
    for name, (fits, words) in _DESCRIBED.items():
        if name in described and not fits(described[name]):
            raise ModelError(f"{path} is no description of an engine ('{name}' must be {words}); {cure}.")
    return described


def check_inputs(specs: Specs, inputs: Tensors) -> None:
    """Raise ModelError unless `inputs` has exactly the declared names, shapes and dtypes."""
    wanted = {spec.name: spec for spec in specs.inputs}
    if inputs.keys() != wanted.keys():
        raise ModelError(f"The model takes the inputs {sorted(wanted)}, got {sorted(inputs)}.")
    for name, spec in wanted.items():
        array = inputs[name]
        if not isinstance(array, np.ndarray):
            raise ModelError(f"Input '{name}' must be a NumPy array, got {type(array).__name__}.")
        if array.dtype != np.dtype(spec.dtype):
            raise ModelError(f"Input '{name}' must be {spec.dtype}, got {array.dtype}.")
        if len(array.shape) != len(spec.shape) or any(
            want is not None and want != got for want, got in zip(spec.shape, array.shape, strict=True)
        ):
            raise ModelError(f"Input '{name}' must have shape {spec.shape}, got {array.shape}.")


def last_line(error: BaseException) -> str:
    """What a library's exception says, as one line without its full stop; where in its sources it arose is left out."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__
