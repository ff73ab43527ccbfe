"""Images inside a `.tar`, `.tar.gz` or `.tar.xz`, read without unpacking anything to disk."""

from __future__ import annotations

import gzip
import lzma
import mmap
import tarfile
import zlib
from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, cast

from edgeattn.artifact import sha256_bytes
from edgeattn.errors import DataError
from edgeattn.imaging import printable

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz")
# A compressed archive is held in memory unpacked, once per process.
UNPACKED_BYTES_MAX = 4 << 30
_BLOCK = 512


class TarReader:
    """Files named by their path inside the archive. Pickles as a path: a process that lacks the content reads it."""

    def __init__(self, path: Path) -> None:
        state = path.stat()
        self._key = (str(path), state.st_size, state.st_mtime_ns)

    def names(self) -> tuple[list[str], list[str]]:
        """Paths of the files and of the folders, as the archive has them without a leading `./`. Raises DataError."""
        _, files, folders = _contents(*self._key)
        return list(files), list(folders)

    def read(self, file: str) -> bytes:
        data, files, _ = _contents(*self._key)
        start, size = files[file]
        return data[start : start + size]

    def where(self, file: str) -> str:
        return printable(f"{file} in {self._key[0]}")

    def identities(self, files: Sequence[str]) -> tuple[list[str], bool]:
        return [sha256_bytes(self.read(file)) for file in files], True


@lru_cache(maxsize=2)
def _contents(
    path: str, size_bytes: int, mtime_ns: int
) -> tuple[bytes | mmap.mmap, dict[str, tuple[int, int]], tuple[str, ...]]:
    """The unpacked archive, where each file lies in it, and its folders; size and time tell a changed file."""
    try:
        data = _unpacked(Path(path))
        with tarfile.open(fileobj=_file(data), mode="r:") as archive:
            members = archive.getmembers()
    except (OSError, EOFError, lzma.LZMAError, zlib.error, tarfile.TarError, ValueError) as error:
        raise DataError(
            f"The archive {path} is damaged or incomplete ({error}); get it again or pack it again."
        ) from error
    end = max((m.offset_data + (m.size + _BLOCK - 1) // _BLOCK * _BLOCK * m.isfile() for m in members), default=0)
    # A tar ends with empty blocks: without one after its last member it was cut off.
    if data[end : end + _BLOCK] != bytes(_BLOCK):
        raise DataError(f"The archive {path} is incomplete (its end is missing); get it again or pack it again.")
    files = {_plain(m.name): (m.offset_data, m.size) for m in members if m.isfile()}
    return data, files, tuple(_plain(m.name) for m in members if m.isdir())


def _plain(name: str) -> str:
    return name.removeprefix("./").strip("/")


def _unpacked(path: Path) -> bytes | mmap.mmap:
    name = path.name.lower()
    with path.open("rb") as raw:
        if name.endswith(".tar"):
            return mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ)
        with gzip.open(raw) if name.endswith("gz") else lzma.open(raw) as stream:
            data = stream.read(UNPACKED_BYTES_MAX + 1)
    if len(data) > UNPACKED_BYTES_MAX:
        raise DataError(f"The archive {path} unpacks to more than 4 GiB; unpack it and give the folder instead.")
    return data


def _file(data: bytes | mmap.mmap) -> BinaryIO:
    return BytesIO(data) if isinstance(data, bytes) else cast(BinaryIO, data)
