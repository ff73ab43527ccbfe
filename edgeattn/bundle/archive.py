"""The zip below a bundle: the same content gives the same bytes, and reading trusts nothing the file says."""

from __future__ import annotations

import io
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import BinaryIO

from edgeattn.errors import BundleError

TOTAL_BYTES_MAX = 4 << 30
# Zip cannot say "no date"; this is the earliest it can express.
_NO_DATE = (1980, 1, 1, 0, 0, 0)
_START = b"PK\x03\x04"
_END = b"PK\x05\x06"
_END_BYTES = 22
_COMMENT_BYTES_MAX = 1 << 16
_IN_ZIP64 = 0xFFFFFFFF
_ENCRYPTED = 1
_CHUNK = 1 << 20
# What zipfile and zlib raise on bytes that are not what they claim to be.
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    IndexError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)


def write_zip(file: BinaryIO, entries: Iterable[tuple[str, Path | bytes]]) -> None:
    """Write `entries` (name, content) in this order: stored, undated, without anything of this platform."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries:
            info = zipfile.ZipInfo(name, _NO_DATE)
            info.create_system = 3  # Unix, wherever it is written
            info.external_attr = 0o644 << 16
            info.file_size = len(content) if isinstance(content, bytes) else content.stat().st_size
            source = io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")
            with source, archive.open(info, "w") as target:
                shutil.copyfileobj(source, target, _CHUNK)


def unsafe_names(names: Iterable[str]) -> list[str]:
    """Those that could leave the folder they are extracted to, or could not be extracted beside the others."""
    listed = list(names)
    folders = {parent.as_posix().casefold() for name in listed for parent in PurePosixPath(name).parents}
    return [name for name in listed if _leaves(name) or name.casefold() in folders]


def _leaves(name: str) -> bool:
    if any(character in name for character in '\\:*?"<>|') or not name.isprintable():
        return True
    return any(part in ("", ".", "..") or part != part.strip() for part in name.split("/"))


def _end_records(tail: bytes, size: int) -> list[int]:
    """Where, in a file of `size` bytes that ends in `tail`, an end record of the whole file stops.

    The end of a zip inside the zip (golden.npz) tells of a directory that does not lie right before it.
    """
    found = []
    at = tail.find(_END)
    while at >= 0:
        if len(tail) - at >= _END_BYTES:
            directory_bytes, directory_at = struct.unpack_from("<II", tail, at + 12)
            begins = size - len(tail) + at
            # All ones: the real numbers are in a zip64 record before this one, which zipfile checks.
            if directory_at + directory_bytes == begins or directory_at == _IN_ZIP64:
                found.append(begins + _END_BYTES)
        at = tail.find(_END, at + 1)
    return found


class Archive:
    """An open zip whose directory is sound: names safe and unique, sizes within the limit.

    The contents are not verified: whoever reads an entry hashes it. Raises BundleError on everything that is not so.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise BundleError(f"The bundle {path} cannot be read ({error.strerror}); check the path.") from error
        try:
            self.size_bytes = self._check_ends()
            self._zip = zipfile.ZipFile(self._file)
            self._entries = self._check_directory()
        except _BROKEN as error:
            self._file.close()
            raise self._damaged(error) from error
        except BundleError:
            self._file.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()
        self._file.close()

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of every entry, as the zip's directory declares them."""
        return {name: info.file_size for name, info in self._entries.items()}

    def chunks(self, name: str) -> Iterator[bytes]:
        """The content of one entry, never more than its declared size."""
        try:
            with self._zip.open(self._entries[name]) as entry:
                while chunk := entry.read(_CHUNK):
                    yield chunk
        except _BROKEN as error:
            raise self._damaged(error, name) from error

    def read(self, name: str) -> bytes:
        return b"".join(self.chunks(name))

    def _check_ends(self) -> int:
        """The file's size. zipfile accepts bytes before the first record and behind the last; no hash covers those."""
        start = self._file.read(len(_START))
        if start != _START:
            raise BundleError(
                f"{self.path} is not a bundle: it does not begin as a zip file does; give a file that edgeattn wrote."
            )
        size = self._file.seek(0, io.SEEK_END)
        self._file.seek(max(0, size - _END_BYTES - _COMMENT_BYTES_MAX))
        ends = _end_records(self._file.read(), size)
        if not ends:
            raise BundleError(
                f"The bundle {self.path} is cut short or altered: its {size} bytes do not end as a zip file does; "
                "copy or download it again."
            )
        if extra := size - max(ends):
            raise BundleError(
                f"The bundle {self.path} has {extra} bytes behind its end; it was altered, copy or download it again."
            )
        return size

    def _check_directory(self) -> dict[str, zipfile.ZipInfo]:
        infos = self._zip.infolist()
        names = [info.orig_filename for info in infos]
        if unsafe := unsafe_names(names):
            raise BundleError(
                f"The bundle {self.path} holds the file name {unsafe[0]!r}, which could write outside its folder; "
                "it was refused, do not use it."
            )
        seen: set[str] = set()
        for name in names:
            # Some file systems do not tell capitals from small letters.
            if name.casefold() in seen:
                raise BundleError(f"The bundle {self.path} holds '{name}' twice; it was altered, build it again.")
            seen.add(name.casefold())
        for info in infos:
            if info.flag_bits & _ENCRYPTED or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise BundleError(
                    f"'{info.filename}' in the bundle {self.path} is encrypted or compressed in a way bundles are not; "
                    "build it again."
                )
        if (total := sum(info.file_size for info in infos)) > TOTAL_BYTES_MAX:
            raise BundleError(
                f"The bundle {self.path} would unpack to {total} bytes; the limit is {TOTAL_BYTES_MAX} (4 GiB)."
            )
        return dict(zip(names, infos, strict=True))

    def _damaged(self, error: BaseException, name: str | None = None) -> BundleError:
        what = f"'{name}' in the bundle {self.path}" if name else f"The bundle {self.path}"
        reason = " ".join(str(error).split()) or type(error).__name__
        return BundleError(f"{what} is damaged ({reason}); copy or download it again.")
