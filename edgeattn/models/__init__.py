"""Networks, found by file name.

`models/<name>.py` defines `TASK` (the task its outputs are decoded by), `OUTPUTS` (their names, in order; or
`outputs(settings)` where settings change them), a frozen dataclass `Settings`, and `Network(settings, classes)`: a
module from normalised float `(N, 3, H, W)`, one for each of `INPUTS` (one called `frame` unless it says otherwise), to
its outputs. It has `loss(outputs, targets, label_smoothing)`, or, where training takes another way through the network,
`training_loss(*inputs, targets, label_smoothing)`; `targets` is what `train/targets.py` makes of the task's kind of
target, but of the kind `image` the clean images as floats, `(N, 3, h, w)` in 0..1, as `train/augment.py` makes them.
Weight decay shrinks its matrices and kernels called `weight`, as torch's layers call theirs, and no other
parameter. `NORMALISED = False` gives the network frames in 0..1 instead of ones of zero mean and unit variance.

A name with a dot is a module of that name outside this room: somebody's own network.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import traceback
from pathlib import Path
from types import ModuleType

from edgeattn.errors import EdgeattnError, RecipeError, reason

_SHARED = {"attention", "camera"}


def names() -> list[str]:
    """Every network of this room, sorted."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in _SHARED and m.name[0] != "_")


def find(name: str) -> ModuleType:
    """The network's module. Raises RecipeError with the known names, or when another package's lacks something.

    So it does for whatever somebody's own module raises when it is imported.
    """
    if not exists(name):
        raise RecipeError(
            f"There is no model '{name}'; known models: {', '.join(names())}, or package.module for one of your own."
        )
    try:
        module = importlib.import_module(module_name(name))
    except (EdgeattnError, MemoryError):
        raise
    except Exception as error:  # somebody else's code may raise anything
        raise _not_importable(name, error) from error
    outputs = "outputs" if hasattr(module, "outputs") else "OUTPUTS"
    if missing := [part for part in ("TASK", outputs, "Settings", "Network") if not hasattr(module, part)]:
        raise RecipeError(f"The module '{name}' is no model: it has no {missing[0]}; see edgeattn/models/__init__.py.")
    return module


def exists(name: str) -> bool:
    """Whether there is such a module; imports nothing but the packages around it.

    Raises RecipeError when one of those is there but cannot be imported.
    """
    if "." not in name:
        return name in names()
    if not all(part.isidentifier() for part in name.split(".")):
        return False
    try:
        return importlib.util.find_spec(name) is not None
    except (EdgeattnError, MemoryError):
        raise
    except Exception as error:  # so may the packages around it
        lacks = error.name if isinstance(error, ModuleNotFoundError) else None
        if lacks is not None and f"{name}.".startswith(f"{lacks}."):
            return False
        raise _not_importable(name, error) from error


def module_name(name: str) -> str:
    """The full name of the model's module."""
    return name if "." in name else f"{__name__}.{name}"


def blame(error: BaseException, name: str) -> str:
    """What the code of the model `name` raised, and the line of its own package that led there, where there is one.

    "NameError: name 'nn' is not defined, net.py line 12".
    """
    folder = _folder(name)
    frames = traceback.extract_tb(error.__traceback__) if folder is not None else []
    own = [frame for frame in frames if folder in Path(frame.filename).parents]
    return reason(error) + (f", {Path(own[-1].filename).name} line {own[-1].lineno}" if own else "")


def _folder(name: str) -> Path | None:
    """Of the package that somebody's own model lies in, found without importing it."""
    if "." not in name:
        return None
    found = importlib.util.find_spec(name.partition(".")[0])
    places = list((found.submodule_search_locations if found else None) or ())
    return Path(places[0]) if places else None


def _not_importable(name: str, error: Exception) -> RecipeError:
    return RecipeError(f"The model '{name}' cannot be imported ({blame(error, name)}); check the package.")
