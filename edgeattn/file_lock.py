"""A lock per file between processes, where `filelock` is not installed: a device has the standard library only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeattn.errors import StorageError, storage_errors


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of `path`, a file that need not exist; waits while another process or thread holds it.

    The lock is `<path>.lock`, which stays: removing it would let two processes lock two files of one name. It is gone
    with the process that holds it, killed or not. Raises StorageError where the folder takes no file or no lock.
    """
    import fcntl  # not on Windows, where no target is, but where the other backends may be looked up

    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.with_name(f"{path.name}.lock").open("wb")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise StorageError(
                f"{path} cannot be locked ({error.strerror}); choose a folder on a local disk."
            ) from error
        yield
