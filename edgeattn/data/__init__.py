"""Data set formats, found by file name: `data/<name>.py` defines `Settings` and `load`."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from edgeattn.errors import RecipeError

_NOT_FORMATS = {
    "archive",
    "base",
    "boxed",
    "calibration",
    "degrade",
    "download",
    "kept",
    "labelled",
    "scene_plan",
    "scene_render",
    "scene_source",
}


def names() -> list[str]:
    """The formats there are, sorted."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in _NOT_FORMATS)


def find(name: str) -> ModuleType:
    """The format called `name`: `Settings` and `load(settings, root, seed) -> Splits`. Raises RecipeError."""
    if name not in names():
        raise RecipeError(f"There is no data format '{name}'; known formats: {', '.join(names())}.")
    return importlib.import_module(f"{__name__}.{name}")
