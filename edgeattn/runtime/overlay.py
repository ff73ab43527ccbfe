"""Write drawn frames where the user asked for them, atomically and never over the source."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from edgeattn.artifact import write_atomic
from edgeattn.errors import DataError, StorageError, storage_errors
from edgeattn.imaging import IMAGE_SUFFIXES, Frame, printable
from edgeattn.opencv import cv2
from edgeattn.runtime.sources import VIDEOS, Source, frames_per_second

_WRITTEN = IMAGE_SUFFIXES - {".pgm"}  # a .pgm is grey, an overlay is not


class Sink(Protocol):
    def write(self, name: str, frame: Frame) -> None: ...


@contextmanager
def open_sink(source: Source, out: Path | None) -> Iterator[Sink | None]:
    """Where overlays of `source` go: None without `out`; a file for one image or a video; a folder for a folder.

    For one image or video `out` may also name a folder. An overlay keeps its image's name, with `.png` added where the
    suffix is of no format that can be written. Overlays of a folder or a video appear under their names when they are
    complete; what ends early leaves nothing. Raises DataError when `out` is the source itself or cannot take it,
    StorageError when it is a name that the disk cannot have.
    """
    if out is None:
        yield None
    elif source.kind == "video":
        with storage_errors(out):
            path = _destination(source, out, VIDEOS, source.path.with_suffix(".mp4").name)
        with _video(source, path) as sink:
            yield sink
    elif source.kind == "image":
        with storage_errors(out):
            path = _destination(source, out, _WRITTEN, _overlay_name(source.path))
        yield _Images({printable(source.path.name): path})
    else:
        with storage_errors(out):
            _check_folder(source, out)
        with _folder(source, out) as sink:
            yield sink


def _overlay_name(image: Path) -> str:
    return image.name if image.suffix.lower() in _WRITTEN else f"{image.name}.png"


def _check_folder(source: Source, out: Path) -> None:
    """Raises DataError unless `out` can be the folder of a folder's overlays."""
    if out.exists() and not out.is_dir():
        raise DataError(f"--out must be a folder for the overlays of the folder {source.path}, but {out} is a file.")
    if out.resolve() == source.path.resolve():
        raise DataError(f"The overlays would replace the images in {source.path}; give another folder with --out.")


def _destination(source: Source, out: Path, suffixes: frozenset[str], name: str) -> Path:
    """`out` when it names a file of the right kind, else `name` in the folder `out`."""
    path = out if out.suffix.lower() in suffixes and not out.is_dir() else out / name
    if path.resolve() == source.path.resolve():
        raise DataError(f"The overlay would replace {source.path}; give another name with --out.")
    if out.is_file() and path != out:
        raise DataError(
            f"--out is the file {out}; expected a folder or a name ending in {', '.join(sorted(suffixes))}."
        )
    return path


class _Images:
    def __init__(self, paths: dict[str, Path]) -> None:
        self._paths = paths

    def write(self, name: str, frame: Frame) -> None:
        path = self._paths[name]
        try:
            written, data = cv2.imencode(path.suffix.lower(), frame)
        except cv2.error:  # a build without this format; others return False
            written = False
        if not written:
            raise DataError(f"This OpenCV cannot write {path.suffix} images; give --out a name ending in .png.")
        write_atomic(path, data.tobytes())


@contextmanager
def _folder(source: Source, out: Path) -> Iterator[Sink]:
    """Overlays are kept in a folder inside `out`, the same disk, and moved up together: one image may be no image."""
    with _made(out):
        with storage_errors(out):
            temporary = Path(tempfile.mkdtemp(prefix=".overlays-", dir=out))
        try:
            yield _Images({printable(image.name): temporary / _overlay_name(image) for image in source.images})
            with storage_errors(out):
                for overlay in sorted(temporary.iterdir()):
                    overlay.replace(out / overlay.name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """`folder` exists inside the block; after a failure the folders that were made for it are gone again."""
    with storage_errors(folder):
        new = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for place in new:
            with suppress(OSError):  # somebody else has put something there meanwhile
                place.rmdir()
        raise


class _Video:
    def __init__(self, temporary: Path, per_second: float) -> None:
        self._temporary, self._per_second = temporary, per_second
        self._writer: cv2.VideoWriter | None = None
        self._count = 0

    def write(self, name: str, frame: Frame) -> None:
        if self._writer is None:
            code = cv2.VideoWriter.fourcc(*("XVID" if self._temporary.suffix.lower() == ".avi" else "mp4v"))
            size = (frame.shape[1], frame.shape[0])
            self._writer = cv2.VideoWriter(str(self._temporary), code, self._per_second, size)
            if not self._writer.isOpened():
                raise DataError(
                    f"This OpenCV cannot write {self._temporary.suffix} video; give --out a name ending in .mp4."
                )
        self._writer.write(frame)
        self._count += 1

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()

    def check(self, path: Path) -> None:
        """Raise StorageError unless every frame can be read back: OpenCV says nothing when the disk takes no more.

        Frames are decoded, not asked for: a cut-off file may still give the full number in its header.
        """
        kept = 0
        capture = cv2.VideoCapture(str(self._temporary))
        try:
            while capture.grab():
                kept += 1
        finally:
            capture.release()
        if kept < self._count:
            raise StorageError(
                f"Only {kept} of the {self._count} frames written for {path} can be read back, as when no space is "
                "left on the disk; free some space or choose another place with --out."
            )


@contextmanager
def _video(source: Source, path: Path) -> Iterator[Sink]:
    # OpenCV chooses the container by the suffix, so the temporary name keeps it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    with _made(path.parent):
        _probe(path)
        sink = _Video(temporary, frames_per_second(source.path))
        try:
            yield sink
            sink.close()
            sink.check(path)
            with storage_errors(path):
                temporary.replace(path)
        finally:
            sink.close()
            temporary.unlink(missing_ok=True)


def _probe(path: Path) -> None:
    """Raise StorageError where no file can be written beside `path`: to OpenCV that looks like an unknown format."""
    try:
        with storage_errors(path), tempfile.TemporaryFile(dir=path.parent) as file:
            file.write(bytes(4096))
            file.flush()
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written ({error.strerror}); choose a writable folder with --out."
        ) from error
