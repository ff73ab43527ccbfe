"""What a backend offers whose engines can be built on the device, of nothing but a `model.onnx` and its own library."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from edgeattn.backends.base import Backend, Compiled, Runner
from edgeattn.errors import ModelError
from edgeattn.progress import Progress, silent

DESCRIPTION = "engine.json"


class BuiltRunner(Runner, Protocol):
    """`engine_folder`: where the engine lies."""

    engine_folder: Path


class OnDevice(Protocol):
    """Beside what every backend has. `BUILT_HERE`: the folder below a `model.onnx` where `load` looks first.

    A backend whose library times layers has `layer_times(runner, inputs) -> {layer: milliseconds}` as well.
    """

    BUILT_HERE: str

    def precisions(self) -> list[str]: ...

    def check_options(self, options: Mapping[str, int]) -> None:
        """Raise InputError for an option that the backend does not have, or a value out of range."""
        ...

    def build_here(
        self,
        model: Path,
        out: Path,
        *,
        precision: str,
        threads: int,
        options: Mapping[str, int],
        progress: Progress,
        fresh: bool = False,
    ) -> Compiled:
        """Build `model` into the folder `out`; `fresh`: without what earlier builds measured."""
        ...

    def load(self, folder: Path, *, threads: int, build: bool, progress: Progress = silent) -> Runner:
        """As every backend's; without `build` NoEngine says why an engine would have to be built."""
        ...


def builds(backend: Backend) -> OnDevice | None:
    """The backend as one that builds engines; None where it opens every graph as it is."""
    return cast(OnDevice, backend) if hasattr(backend, "build_here") else None


def read_description(folder: Path) -> dict[str, Any]:
    """The `engine.json` in `folder`. Raises ModelError."""
    path = folder / DESCRIPTION
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path} cannot be read as a description of an engine; build it again with --force."
        ) from error
