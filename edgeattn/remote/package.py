"""What travels: the parts of this package that prove and measure an engine, as one zip of always the same bytes.

Whole rooms, since backends and tasks are found by name, less what trains, exports, quantizes, reports or talks to a
person. A task of somebody's own travels along, with what it imports of its own package.
"""

from __future__ import annotations

import io
from pathlib import Path

import edgeattn
from edgeattn.bundle.archive import write_zip
from edgeattn.provenance import modules_of, source_of

ROOMS = (
    "errors", "artifact", "imaging", "tiling", "framing", "metrics", "stats", "progress", "provenance", "host", "tasks",
    "backends", "measure", "bundle", "runtime",
)  # fmt: skip
# Their libraries are not for devices, and the networks that the first one runs do not travel.
_LEFT_OUT = {"edgeattn/backends/pytorch.py", "edgeattn/backends/onnxruntime.py"}
_FAR = ("__init__", "bootstrap", "far", "steps", "shards")

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
    files = {"edgeattn/__init__.py": root / "__init__.py"}
    for room in ROOMS:
        place = root / room
        found = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
        files.update((f"edgeattn/{path.relative_to(root).as_posix()}", path) for path in found)
    files.update((f"edgeattn/remote/{name}.py", root / "remote" / f"{name}.py") for name in _FAR)
    files = {name: path for name, path in files.items() if name not in _LEFT_OUT}
    files.update(_own(task_module))
    archive = io.BytesIO()
    write_zip(archive, [(name, files[name].read_bytes()) for name in sorted(files)])
    return archive.getvalue()


def _own(task_module: str) -> dict[str, Path]:
    """The files of a task that is not of this package."""
    parts = task_module.split(".")
    if parts[0] == "edgeattn":
        return {}
    packages = [".".join(parts[:end]) for end in range(1, len(parts))]
    named = [task_module, *(name for name in packages if source_of(name) is not None)]
    files = {}
    for module in modules_of(*named):
        path = source_of(module)
        if path is not None and module.partition(".")[0] == parts[0]:
            inside = module.replace(".", "/")
            files[f"{inside}/__init__.py" if path.name == "__init__.py" else f"{inside}.py"] = path
    return files
