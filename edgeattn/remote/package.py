"""What travels: the parts of this package that prove and measure an engine, as one zip of always the same bytes.

Whole rooms where things are found by name, and whatever they import; nothing that trains, exports, quantizes, reports
or talks to a person. A task of somebody's own travels along, with what it imports of its own package.
"""

from __future__ import annotations

import io
from pathlib import Path

import edgeattn
from edgeattn.bundle.archive import write_zip
from edgeattn.provenance import modules_of, source_of

ROOMS = ("tasks", "backends", "measure", "bundle", "runtime")
_ALONE = ("edgeattn.errors", "edgeattn.artifact", "edgeattn.progress")  # `modules_of` leaves these out
_FAR = ("edgeattn.remote.bootstrap", "edgeattn.remote.far", "edgeattn.remote.steps")
# Their libraries are not for devices, and the networks that the first one runs do not travel.
_LEFT_OUT = {"edgeattn.backends.pytorch", "edgeattn.backends.onnxruntime"}

NEEDED = {"numpy": "numpy>=1.26", "cv2": "opencv-python-headless>=4.9"}
"""Modules that the far side must have, whatever the backend, and what pip calls them."""
NEEDED_BY = {"openvino": {"openvino": "openvino>=2026.4,<2027"}}
"""The same by backend. TensorRT is not installed by pip on a Jetson: its backend says itself what is missing."""


def needed(backend: str) -> list[tuple[str, str]]:
    """`(module, requirement)` of all that the far side must have before anything can run there."""
    return [*NEEDED.items(), *NEEDED_BY.get(backend, {}).items()]


def pack(task_module: str) -> bytes:
    """The zip; `task_module` is the full name of the recipe's task. Raises RecipeError when it cannot be read."""
    root = Path(edgeattn.__file__).parent
    found = (path for room in ROOMS for path in (root / room).rglob("*.py"))
    named = {".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__") for path in found}
    task = [task_module, *(name for name in _packages(task_module) if source_of(name))]
    modules = {*modules_of(*(named - _LEFT_OUT), *_FAR, *task), *_ALONE}
    files = dict(_located(name) for module in modules for name in (module, *_packages(module)) if source_of(name))
    archive = io.BytesIO()
    write_zip(archive, [(name, files[name].read_bytes()) for name in sorted(files)])
    return archive.getvalue()


def _packages(module: str) -> list[str]:
    """Those that the module lies in: all are imported with it."""
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _located(module: str) -> tuple[str, Path]:
    """Its name in the zip, and its file."""
    path = source_of(module)
    assert path is not None, module
    inside = module.replace(".", "/")
    return (f"{inside}/__init__.py" if path.name == "__init__.py" else f"{inside}.py"), path
