"""Tasks, found by file name: `tasks/<name>.py` defines `TASK`, an object with all parts of `base.Task`.

A name with a dot is a module of that name outside this room: somebody's own task. Recipe and network name it alike
(`task: package.module`, `TASK = "package.module"`). Its `target` is one of the kinds of target that data formats give.

It ships to the device as this room does: NumPy and OpenCV only, Python 3.10. A bundle names its task and holds none of
its code, so the package must be there too, installed, on PYTHONPATH or in the folder that the program is started from.
Bundles come from anywhere: only a module whose source sets `TASK` is imported for a name, and it is looked at first.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pkgutil
from pathlib import Path
from typing import cast

from edgeattn.errors import EdgeattnError, InputError, reason
from edgeattn.tasks.base import Task

_PARTS = tuple(part for part in (*Task.__annotations__, *vars(Task)) if not part.startswith("_"))


def names() -> list[str]:
    """Every task of this room, sorted."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base")


def find(name: str) -> Task:
    """The task called `name`. Raises InputError with the known names, or when somebody's own lacks something."""
    if "." in name:
        return _own(name)
    if name not in names():
        raise InputError(
            f"There is no task '{name}'; known tasks: {', '.join(names())}, or package.module for one of your own."
        )
    return cast(Task, importlib.import_module(module_name(name)).TASK)


def module_name(name: str) -> str:
    """The full name of the task's module."""
    return name if "." in name else f"{__name__}.{name}"


def _own(name: str) -> Task:
    source = _source(name)
    if source is None:
        raise InputError(
            f"There is no task '{name}': no such module is installed, on PYTHONPATH or below the folder that the "
            "program was started from; put its package there."
        )
    if not _sets_task(source):
        raise InputError(f"The module '{name}' is no task: it sets no TASK; see edgeattn/tasks/__init__.py.")
    try:
        task = importlib.import_module(name).TASK
    except (EdgeattnError, MemoryError):
        raise
    except Exception as error:  # somebody else's code may raise anything
        raise InputError(
            f"The task '{name}' cannot be imported ({reason(error)}); check its package, which may need NumPy and "
            "OpenCV only."
        ) from error
    if missing := [part for part in _PARTS if not hasattr(task, part)]:
        raise InputError(
            f"The TASK of '{name}' is no task: it has no {missing[0]}; see Task in edgeattn/tasks/base.py."
        )
    return cast(Task, task)


def _source(name: str) -> Path | None:
    """The file of a module, found without importing anything, the packages around it neither."""
    package, *inside = name.split(".")
    if not all(part.isidentifier() for part in (package, *inside)):
        return None
    try:
        found = importlib.util.find_spec(package)
    except ValueError:  # a program without a file, such as __main__
        return None
    for place in (found.submodule_search_locations if found else None) or ():
        path = Path(place).joinpath(*inside)
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file
    return None


def _sets_task(source: Path) -> bool:
    """Whether a statement of the module itself gives something the name TASK; False for what is not Python."""
    try:
        body = ast.parse(source.read_bytes()).body
    except (SyntaxError, ValueError):
        return False
    named: set[str] = set()
    for node in body:
        if isinstance(node, ast.Assign):
            named.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            named.add(node.target.id)
        elif isinstance(node, ast.ImportFrom):
            named.update(alias.asname or alias.name for alias in node.names)
    return "TASK" in named
