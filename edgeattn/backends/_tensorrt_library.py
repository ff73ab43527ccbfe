"""The TensorRT package: whether it can be used here, and what it says while it works.

The names used of it are those that 10.3 (JetPack 6.1), 10.7, 10.13, 10.16, 11.0 and 11.4 have in common, so one code
serves all; what only some have is asked for with `hasattr`, never by version.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from edgeattn import jetpack
from edgeattn.backends import _cuda
from edgeattn.backends._tensorrt_plan import release
from edgeattn.backends.base import last_line
from edgeattn.board import jetson
from edgeattn.errors import EdgeattnError, MachineError, MissingLibrary, ModelError

ROOT = jetson.ROOT  # of the file system that says which Jetson this is
_KEPT = 30  # messages of each kind, the last ones
# What reading a description raises where TensorRT gives sizes that are none, text that is no UTF-8 (a node's name may
# be anything) or nothing at all. What is only told, and decides nothing, must not fail for it.
UNREADABLE = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


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
    if release(trt.__version__) < jetpack.TENSORRT_MIN:
        return _outdated() or (
            f"TensorRT {trt.__version__} is too old: edgeattn takes the precision from the graph (strongly typed "
            "networks), by the API of 10.3; install TensorRT 10.3 or newer: on a Jetson that is JetPack 6.1 or newer, "
            "JetPack 5 and 6.0 have only TensorRT 8."
        )
    try:
        _cuda.runtime()
    except MissingLibrary as error:
        return f"TensorRT {trt.__version__} is installed, but CUDA cannot be used: {error}"
    return None


def _outdated() -> str | None:
    """That this is a Jetson whose JetPack is too old; None where it is none, or new enough."""
    return jetpack.check_release(jetson.l4t(ROOT), jetson.module_id(ROOT))


class Operation:
    """What TensorRT says during one operation: `errors` and `warnings`, single lines without repetition."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []

    @contextmanager
    def heard(self) -> Iterator[Operation]:
        """Collect here what TensorRT says in this thread, and in threads of its own. An inner operation goes first."""
        here = threading.get_ident()
        before = _under_way.get(here)
        _under_way[here] = self
        try:
            yield self
        finally:
            if before is None:
                del _under_way[here]
            else:
                _under_way[here] = before


_under_way: dict[int, Operation] = {}  # by thread; several contexts run at once, each in a thread of the caller's


@lru_cache(maxsize=1)
def logger(trt: Any) -> Any:
    """The one logger of this process, which prints nothing and hands each message to the operation that it is of.

    One, and kept for ever: TensorRT keeps the first one's address for what all builders and runtimes share (TensorRT
    issue 1475), and calls it long after those that it was made for are gone. It calls it from several threads; an
    exception that left it would end the process in some versions.
    """

    class Logger(trt.ILogger):  # type: ignore[misc]  # the package has no types
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # the binding wants exactly this, and wants it called

        def log(self, severity: Any, msg: str) -> None:
            if int(severity) > int(trt.ILogger.WARNING):
                return
            own = _under_way.get(threading.get_ident())
            # In a thread of TensorRT's own nothing says whose operation it works for.
            for operation in list(_under_way.values()) if own is None else [own]:
                kept = operation.errors if int(severity) <= int(trt.ILogger.ERROR) else operation.warnings
                line = " ".join(msg.split())
                if line not in kept:
                    kept.append(line)
                    del kept[:-_KEPT]

    return Logger()


def said_errors() -> list[str]:
    """Of the operation that is under way in this thread."""
    operation = _under_way.get(threading.get_ident())
    return [] if operation is None else operation.errors


def said() -> str:
    """The last errors of this operation, as part of a sentence."""
    return "; ".join(line.rstrip(".") for line in said_errors()[-3:]) or "it gave no reason"


def refusal(what: str) -> ModelError:
    """A ModelError of what TensorRT cannot do, to be raised; its cause holds all that was said in this operation."""
    trt = library()
    error = ModelError(f"TensorRT {trt.__version__} cannot {what}: {said()}.")
    error.__cause__ = RuntimeError("\n".join(said_errors()) or "no message")
    return error


def reason(error: BaseException) -> str:
    """Of an `UNREADABLE`, for brackets in a sentence."""
    return f"{type(error).__name__}: {last_line(error)}"


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn what the binding raises into one sentence.

    A RuntimeError is an answer of TensorRT; a TypeError may be a mistake of ours, so that one is left as it is.
    """
    try:
        yield
    except EdgeattnError:
        raise
    except RuntimeError as error:
        why = said() if said_errors() else last_line(error)
        raise ModelError(f"TensorRT {library().__version__} cannot {what}: {why}.") from error


def created(make: Any, what: str) -> Any:
    """`make(logger)`, a `Builder` or `Runtime`, which is where TensorRT first needs the GPU.

    Where that fails the binding raises TypeError ("factory function returned nullptr").
    """
    try:
        return make(logger(library()))
    except TypeError as error:
        if "nullptr" not in str(error):
            raise
        raise MachineError(
            f"TensorRT {library().__version__} cannot start its {what}: {said()}; check GPU and driver with: "
            "nvidia-smi."
        ) from error
