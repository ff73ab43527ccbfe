"""What ships to the device: open a bundle and run it.

    from edgeattn import runtime

    with runtime.load("bundle.edgeattn") as model:
        result = model(frame)              # frame: uint8 (H, W, 3) BGR, any size
        print(result, result.latency_ms)
        shown = result.draw(frame)

Needs NumPy, OpenCV and the library of the bundle's backend; runs on Python 3.10. A model belongs to one thread.
"""

from __future__ import annotations

from pathlib import Path

from edgeattn.backends.base import Runner
from edgeattn.opencv import require
from edgeattn.progress import Progress, silent
from edgeattn.runtime.model import Model, open_model

__all__ = ["Model", "load", "load_runner"]


def load(
    path: str | Path,
    *,
    key: str | Path | None = None,
    threads: int | None = None,
    self_test: bool = False,
    build: bool = True,
    progress: Progress = silent,
) -> Model:
    """Verify the bundle at `path`, then load its engine.

    `key`: a public key (PEM); a bundle not signed by its owner is refused. `threads`: of the engine, by default all
    the process may use. `self_test`: also run the golden samples and refuse an engine that computes something else.
    `build`: where the bundle has no engine for this machine, or the one it has was built for another processor, GPU
    or library, build it from the bundle's `model.onnx`: with OpenVINO seconds, at every load; with TensorRT
    minutes, once, then it is kept. Say False in an app that must start at once; what is missing is then a
    BundleError that says why, and `python -m edgeattn.runtime build BUNDLE` builds and keeps it beforehand.
    `progress` hears of what is built; it is called from other threads as well.

    The engine is unpacked to `$EDGEATTN_CACHE`, by default `~/.cache/edgeattn`, and verified there on every load;
    where that cannot be written, to a temporary folder, and what is built there is lost (`Model.notes`). The 16
    engines used last are kept there.
    Raises BundleError, InputError, MissingLibrary, ModelError, StorageError, StageFailed (self-test).
    """
    require()
    return open_model(
        Path(path), key=None if key is None else Path(key), threads=threads, self_test=self_test, build=build,
        progress=progress,
    )  # fmt: skip


def load_runner(path: Path, *, threads: int) -> Runner:
    """The bundle at `path`, or the only one in the folder `path`, as a Runner of the whole call: see `WholeCall`.

    Raises BundleError when the folder holds none or several, else as `load`.
    """
    from edgeattn.runtime.whole_call import WholeCall, only_bundle

    return WholeCall(load(only_bundle(path), threads=threads))
