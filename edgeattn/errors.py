"""Every exception edgeattn raises on purpose; the exit code of each is part of docs/contract.md.

    EdgeattnError
    |-- InputError            2  the recipe, data, model or bundle is wrong; nothing was changed
    |   |-- RecipeError          a recipe, a target or an option
    |   |-- DataError            images, labels, data folders, downloads
    |   |-- ModelError           weights, graphs, tensors handed to a runner
    |   |   `-- NoEngine             none is for this machine, and none may be built
    |   `-- BundleError          a bundle that is truncated, altered or not for this machine
    |-- MachineError          3  this machine lacks something
    |   |-- MissingLibrary       a Python library or one of its devices
    |   |-- StorageError         the disk is full or not writable
    |   `-- ConnectionFailed     another machine that cannot be reached, refuses us, or was lost on the way
    `-- StageFailed           1  a stage ran and its own proof said no (parity, self-test, a training that diverged)

A message is one sentence or two: what, where, what was expected, what to do.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class EdgeattnError(Exception):
    """Base of all. `exit_code` is what the command line returns."""

    exit_code = 1


class InputError(EdgeattnError):
    exit_code = 2


class RecipeError(InputError):
    pass


class DataError(InputError):
    pass


class ModelError(InputError):
    pass


class NoEngine(ModelError):
    """`reason`, part of a sentence, is why there is no engine for this machine; building one was not allowed."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"There is no engine for this machine, and none may be built: {reason}.")
        self.reason = reason


class BundleError(InputError):
    pass


class MachineError(EdgeattnError):
    exit_code = 3


class MissingLibrary(MachineError):
    pass


class MachineChanged(MachineError):
    """What was asked of a machine does not hold any more: somebody set it otherwise meanwhile."""


class StorageError(MachineError):
    pass


class ConnectionFailed(MachineError):
    pass


class StageFailed(EdgeattnError):
    exit_code = 1


# Libraries put what these say into words that need no kind before them; of others, such as KeyError, it is a name.
_PLAIN = (ValueError, RuntimeError, TypeError, ImportError, SyntaxError, OSError, MemoryError, OverflowError)


def reason(error: BaseException) -> str:
    """The first line of what a library or somebody's own code raised, without a final stop, for use in a sentence.

    Before it comes the kind of error, unless the words alone tell: "KeyError: 'x'".
    """
    kind = type(error).__name__
    line = next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), "")
    if line and isinstance(error, _PLAIN):
        return line
    return f"{kind}: {line}" if line else kind


_NOT_WRITABLE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),  # a file where a folder must be, or the reverse
)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's disk errors below `path` into one sentence (StorageError)."""
    try:
        yield
    except OSError as error:
        where = error.filename2 or error.filename or path  # of two names the second is the one written to
        # NumPy reports a short write without a number: "16384 requested and 4096 written".
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or "requested and" in str(error):
            raise StorageError(
                f"No space is left on the disk while writing {where}; free some space "
                "or choose another folder with --store or --out, then run the same command to resume."
            ) from error
        if error.errno in _NOT_WRITABLE:
            raise StorageError(
                f"{where} cannot be written ({error.strerror}); choose a writable folder with --store or --out."
            ) from error
        raise
