"""Tasks, found by file name: `tasks/<name>.py` defines `TASK`."""

from __future__ import annotations

import importlib
import pkgutil
from typing import cast

from edgeattn.errors import InputError
from edgeattn.tasks.base import Task


def names() -> list[str]:
    """Every task of this room, sorted."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base")


def find(name: str) -> Task:
    """The task called `name`. Raises InputError with the known names."""
    if name not in names():
        raise InputError(f"There is no task '{name}'; known tasks: {', '.join(names())}.")
    return cast(Task, importlib.import_module(f"{__name__}.{name}").TASK)
