"""Networks, found by file name.

`models/<name>.py` defines `TASK` (the task its outputs are decoded by), `OUTPUTS` (their names, in order), a frozen
dataclass `Settings`, and `Network(settings, classes)`: a module from normalised float `(N, 3, H, W)` to its outputs,
with `loss(outputs, targets, label_smoothing)`.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from edgeattn.errors import RecipeError

_SHARED = {"attention", "camera"}


def names() -> list[str]:
    """Every network of this room, sorted."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in _SHARED)


def find(name: str) -> ModuleType:
    """The network's module. Raises RecipeError with the known names."""
    if name not in names():
        raise RecipeError(f"There is no model '{name}'; known models: {', '.join(names())}.")
    return importlib.import_module(f"{__name__}.{name}")
