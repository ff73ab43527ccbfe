"""Backends, found by file name. Nothing heavy is imported until a backend is used."""

from __future__ import annotations

import importlib
import pkgutil
from typing import cast

from edgeattn.backends.base import Backend, Compiler
from edgeattn.errors import InputError, MissingLibrary


def names() -> list[str]:
    """Every backend's name; `base` is the protocols, and a leading underscore marks a backend's private part."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base" and not m.name.startswith("_"))


def find(name: str) -> Backend:
    """The backend called `name`, its library present. Raises InputError or MissingLibrary."""
    if name not in names():
        raise InputError(f"There is no backend '{name}'; known backends: {', '.join(names())}.")
    backend = cast(Backend, importlib.import_module(f"{__name__}.{name}"))
    if reason := backend.missing():
        raise MissingLibrary(reason)
    return backend


def find_compiler(name: str) -> Compiler:
    """As `find`, for a backend that compiles engines."""
    backend = find(name)
    if not hasattr(backend, "compile"):
        raise InputError(f"The backend '{name}' runs models but compiles no engines; a target needs one that does.")
    return cast(Compiler, backend)
