"""Attention vision models from PyTorch to a camera.

    import edgeattn

    model = edgeattn.load("bundle.edgeattn")
    result = model(frame)          # frame: uint8 (H, W, 3) BGR, any size
    print(result)

Running a bundle needs NumPy, OpenCV and the library its engine was compiled with; nothing is imported before `load`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeattn.progress import Progress
    from edgeattn.runtime import Model

__version__ = "0.1.0"


def load(
    path: str | Path,
    *,
    key: str | Path | None = None,
    threads: int | None = None,
    self_test: bool = False,
    build: bool = True,
    progress: Progress | None = None,
) -> Model:
    """The model in the bundle at `path`, ready to call; see `edgeattn.runtime.load`."""
    from edgeattn import runtime
    from edgeattn.progress import silent

    return runtime.load(path, key=key, threads=threads, self_test=self_test, build=build, progress=progress or silent)
