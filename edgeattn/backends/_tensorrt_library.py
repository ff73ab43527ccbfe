"""The TensorRT package: whether it can be used here, and what it says while it works.

The names used of it are those that 10.3 (JetPack 6.1), 10.7, 10.13, 10.16, 11.0 and 11.4 have in common, so one code
serves all; what only some have is asked for with `hasattr`, never by version.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edgeattn import jetpack
from edgeattn.backends import _cuda
from edgeattn.backends.base import last_line
from edgeattn.board import jetson
from edgeattn.errors import EdgeattnError, MachineError, MissingLibrary, ModelError

ROOT = jetson.ROOT  # of the file system that says which Jetson this is
_KEPT = 30  # messages of each kind, the last ones


def library() -> Any:
    """The `tensorrt` package. Raises ImportError."""
    import tensorrt

    return tensorrt


def missing() -> str | None:
    """None when TensorRT, and a GPU for it, can be used here."""
    try:
        trt = library()
    except (ImportError, OSError) as error:
        # What this board's own packages would bring is no help on an old one, so that is said instead.
        return _outdated() or (
            f"TensorRT cannot be used ({last_line(error)}); install it on a Jetson with: sudo apt install "
            "nvidia-jetpack (a virtual environment sees it if made with --system-site-packages), elsewhere with: "
            "pip install tensorrt."
        )
    flags = getattr(trt, "NetworkDefinitionCreationFlag", None)
    if not hasattr(flags, "STRONGLY_TYPED"):
        return _outdated() or (
            f"TensorRT {trt.__version__} cannot take the precision from the graph (it has no strongly typed networks), "
            "which every edgeattn engine relies on; install TensorRT 10.3 or newer: on a Jetson that is JetPack 6.1 or "
            "newer, JetPack 5 and 6.0 have only TensorRT 8."
        )
    try:
        _cuda.runtime()
    except MissingLibrary as error:
        return f"TensorRT {trt.__version__} is installed, but CUDA cannot be used: {error}"
    return None


def _outdated() -> str | None:
    """That this is a Jetson whose JetPack is too old; None where it is none, or new enough."""
    return jetpack.check_release(jetson.l4t(ROOT), jetson.module_id(ROOT))


def collector(trt: Any) -> Any:
    """A logger that prints nothing and keeps `errors` and `warnings`, lists of single lines without repetition.

    TensorRT calls it from several threads; an exception that left it would end the process in some versions.
    """

    class Collector(trt.ILogger):  # type: ignore[misc]  # the package has no types
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # the binding wants exactly this, and wants it called
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if int(severity) > int(trt.ILogger.WARNING):
                return
            kept = self.errors if int(severity) <= int(trt.ILogger.ERROR) else self.warnings
            line = " ".join(msg.split())
            if line not in kept:
                kept.append(line)
                del kept[:-_KEPT]

    return Collector()


def said(log: Any) -> str:
    """The last errors, as part of a sentence."""
    return "; ".join(line.rstrip(".") for line in log.errors[-3:]) or "it gave no reason"


def refusal(what: str, log: Any) -> ModelError:
    """A ModelError of what TensorRT cannot do, to be raised; its cause holds all that was said."""
    trt = library()
    error = ModelError(f"TensorRT {trt.__version__} cannot {what}: {said(log)}.")
    error.__cause__ = RuntimeError("\n".join(log.errors) or "no message")
    return error


@contextmanager
def translated(what: str, log: Any) -> Iterator[None]:
    """Turn what the binding raises into one sentence.

    A RuntimeError is an answer of TensorRT; a TypeError may be a mistake of ours, so that one is left as it is.
    """
    try:
        yield
    except EdgeattnError:
        raise
    except RuntimeError as error:
        reason = said(log) if log.errors else last_line(error)
        raise ModelError(f"TensorRT {library().__version__} cannot {what}: {reason}.") from error


def created(make: Any, what: str, log: Any, *arguments: Any) -> Any:
    """`make(*arguments)`, a `Builder` or `Runtime`, which is where TensorRT first needs the GPU.

    Where that fails the binding raises TypeError ("factory function returned nullptr").
    """
    try:
        return make(*arguments)
    except TypeError as error:
        if "nullptr" not in str(error):
            raise
        raise MachineError(
            f"TensorRT {library().__version__} cannot start its {what}: {said(log)}; check GPU and driver with: "
            "nvidia-smi."
        ) from error
