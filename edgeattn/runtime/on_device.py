"""What a backend offers whose engines can be built on the device, of nothing but a `model.onnx` and its own library."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from edgeattn.backends import base
from edgeattn.backends.base import Backend, Compiled, Runner
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

    def load(self, folder: Path, *, threads: int, build: bool, trusted: bool, progress: Progress = silent) -> Runner:
        """As every backend's; without `build` NoEngine says why an engine would have to be built.

        `trusted`: the engine in `folder` was built on this machine, or is of a bundle whose signature was checked. One
        that can hold code of its own is opened only then; one in `BUILT_HERE` always, for nothing else puts it there.
        """
        ...


def builds(backend: Backend) -> OnDevice | None:
    """The backend as one that builds engines; None where it opens every graph as it is."""
    return cast(OnDevice, backend) if hasattr(backend, "build_here") else None


def read_description(folder: Path) -> dict[str, Any]:
    """The `engine.json` in `folder`. Raises ModelError."""
    return base.read_description(folder / DESCRIPTION, "build it again with --force")
