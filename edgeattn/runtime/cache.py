"""Unpack a bundle's engine to where its backend can open it, verify it there, and keep what is there bounded."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgeattn import host
from edgeattn.artifact import sha256_file, write_atomic
from edgeattn.bundle.manifest import MODEL
from edgeattn.bundle.reader import Bundle
from edgeattn.errors import BundleError, StorageError, storage_errors

MAX_ENGINES = 16
_RECENT_S = 24 * 3600.0
_USE_NOTED_EVERY_S = 3600.0  # as the folder's time of change; not at each load, for the sake of flash memory


@dataclass(frozen=True)
class EngineFolder:
    """What a backend's `load` takes: the engine's files and `model.onnx` side by side.

    `temporary` owns the folder when it is not cached; keep this object as long as the engine is in use.
    """

    path: Path
    temporary: tempfile.TemporaryDirectory[str] | None = None

    def close(self) -> None:
        if self.temporary is not None:
            self.temporary.cleanup()


def place_engine(bundle: Bundle, *, keep: bool = False) -> EngineFolder:
    """Unpack what is not yet in the cache, and verify what is. Raises BundleError, StorageError.

    When an engine is added, those used longest ago go: beyond 16, but none that was used within the last day. With
    `keep` no temporary folder will do: what is built there must be found again.
    """
    placed = _placed_names(bundle)
    root = host.cache_folder()
    if root is None and keep:
        raise StorageError("This user has no home folder to keep engines in; name one with EDGEATTN_CACHE=FOLDER.")
    if root is not None:
        # Half of a SHA-256 tells bundles apart; the files themselves are compared with the whole of theirs.
        folder = root / bundle.sha256[:32]
        try:
            _note_use(folder)
            if _fill(folder, bundle, placed):
                _remove_unused(root)
            return EngineFolder(folder)
        except StorageError as error:
            if keep:
                raise StorageError(
                    f"Engines cannot be kept in {root}: {error} Name another folder with EDGEATTN_CACHE=FOLDER."
                ) from error
            # read-only or full: a temporary folder may still be there
    with storage_errors(Path(tempfile.gettempdir())):
        temporary = tempfile.TemporaryDirectory(prefix="edgeattn-")
    try:
        _fill(Path(temporary.name), bundle, placed)
    except BaseException:
        temporary.cleanup()
        raise
    return EngineFolder(Path(temporary.name), temporary)


def _placed_names(bundle: Bundle) -> Mapping[str, str]:
    """Name in the folder -> name in the bundle."""
    manifest = bundle.manifest
    placed = {MODEL: MODEL}
    if manifest.engine_dir is None:
        return placed
    prefix = f"{manifest.engine_dir}/"
    for name, entry in manifest.files.items():
        if not name.startswith(prefix):
            continue
        short = name[len(prefix) :]
        if "/" in short:  # where this machine keeps the engines that it built itself, and trusts them
            raise BundleError(
                f"The bundle {bundle.path} holds '{name}' in a folder below its engine's, where none belongs; do not "
                "use it."
            )
        if short in placed and entry.sha256 != manifest.files[placed[short]].sha256:
            raise BundleError(f"The bundle {bundle.path} holds two different files '{short}'; build it again.")
        placed.setdefault(short, name)
    return placed


def _note_use(folder: Path) -> None:
    with suppress(OSError):  # not there yet, or not ours to write
        if time.time() - folder.stat().st_mtime > _USE_NOTED_EVERY_S:
            os.utime(folder)


def _remove_unused(root: Path) -> None:
    """Another process may be about to open an engine used a moment ago; one that is open no longer needs its files."""
    with suppress(OSError):
        # Whatever else somebody keeps in the folder they chose is not ours to remove.
        engines = [p for p in root.iterdir() if re.fullmatch("[0-9a-f]{32}", p.name) and (p / MODEL).is_file()]
        by_use = sorted(((folder.stat().st_mtime, folder) for folder in engines), reverse=True)
        for last_use, folder in by_use[MAX_ENGINES:]:
            if time.time() - last_use > _RECENT_S:
                shutil.rmtree(folder, ignore_errors=True)


def _fill(folder: Path, bundle: Bundle, placed: Mapping[str, str]) -> bool:
    """True when something had to be written."""
    written = False
    for short, name in placed.items():
        path, entry = folder / short, bundle.manifest.files[name]
        try:
            intact = path.stat().st_size == entry.size_bytes and sha256_file(path) == entry.sha256
        except OSError:
            intact = False
        if not intact:
            write_atomic(path, bundle.read(name))
            written = True
    return written
