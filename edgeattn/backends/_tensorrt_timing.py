"""The timing cache: what TensorRT measured of each candidate, kept in a file so that the next build need not again.

It is of one GPU, TensorRT and CUDA. Another one's is not used: the build starts with none, and says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeattn.artifact import write_atomic
from edgeattn.errors import StorageError
from edgeattn.file_lock import locked


class TimingCache:
    """One build's use of the file `path`; `notes` says what a user should know of it."""

    def __init__(self, path: Path, config: Any) -> None:
        """Give what is in the file to `config` (IBuilderConfig)."""
        self._path = path
        self.notes: list[str] = []
        self._taken = _content(path)
        if self._taken and self._give(config, self._taken):
            return
        if self._taken:
            self.notes.append(f"The timing cache {path} is not of this GPU and TensorRT; a new one takes its place.")
            self._taken = b""
        self._give(config, b"")

    @staticmethod
    def _give(config: Any, content: bytes) -> bool:
        cache = config.create_timing_cache(content)
        return cache is not None and bool(config.set_timing_cache(cache, ignore_mismatch=False))

    def save(self, config: Any) -> None:
        """Write what the build added, together with what other builds wrote into the file meanwhile.

        A file that cannot be written costs the next build time, not this one its engine.
        """
        cache = config.get_timing_cache()
        if cache is None:
            return
        try:
            with locked(self._path):
                newest = _content(self._path)
                if newest and newest != self._taken:
                    other = config.create_timing_cache(newest)
                    if other is not None:  # of another GPU or TensorRT: combine says False and changes nothing
                        cache.combine(other, ignore_mismatch=False)
                write_atomic(self._path, bytes(cache.serialize()))
        except StorageError as error:
            self.notes.append(f"The timing cache was not kept: {error}")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
