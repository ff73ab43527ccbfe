"""What is measured: a name, and how a process of its own gets at the runner."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from edgeattn.backends.base import Runner, Tensors
from edgeattn.errors import InputError, MissingLibrary


@dataclass(frozen=True)
class Candidate:
    """`entry` is `module:function`, called as `function(path, threads=threads) -> Runner`.

    It is a string, such as `edgeattn.backends.openvino:load`, because another process imports it, and so that whatever
    stands above this room can be measured without being imported here. `frames` take the place of those all candidates
    share, for one that prepares frames itself: of each the engine calls, as `measure_latency` says.
    """

    name: str
    entry: str
    path: Path
    threads: int
    frames: tuple[tuple[Tensors, ...], ...] | None = None


def open_entry(entry: str, path: Path, threads: int) -> Runner:
    """Import `entry` and call it. Raises InputError, MissingLibrary, and whatever the entry raises."""
    module_name, colon, function_name = entry.partition(":")
    if not (module_name and colon and function_name):
        raise InputError(f"An entry reads 'module:function', got '{entry}'.")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise MissingLibrary(f"'{module_name}' cannot be imported here ({error}); install what it needs.") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise InputError(f"The module '{module_name}' has no function '{function_name}'; check the entry '{entry}'.")
    return cast(Runner, function(path, threads=threads))
