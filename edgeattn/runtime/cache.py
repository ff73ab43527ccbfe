"""Unpack a bundle's engine to where its backend can open it, and verify it there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeattn.artifact import sha256_file, write_atomic
from edgeattn.bundle.manifest import MODEL
from edgeattn.bundle.reader import Bundle
from edgeattn.errors import BundleError, StorageError, storage_errors


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


def place_engine(bundle: Bundle) -> EngineFolder:
    """Unpack what is not yet in the cache, and verify what is. Raises BundleError, StorageError."""
    placed = _placed_names(bundle)
    root = _root()
    if root is not None:
        # Half of a SHA-256 tells bundles apart; the files themselves are compared with the whole of theirs.
        folder = root / bundle.sha256[:32]
        try:
            _fill(folder, bundle, placed)
            return EngineFolder(folder)
        except StorageError:
            pass  # read-only or full: a temporary folder may still be there
    with storage_errors(Path(tempfile.gettempdir())):
        temporary = tempfile.TemporaryDirectory(prefix="edgeattn-")
    try:
        _fill(Path(temporary.name), bundle, placed)
    except BaseException:
        temporary.cleanup()
        raise
    return EngineFolder(Path(temporary.name), temporary)


def _root() -> Path | None:
    """Where engines are kept between runs; None where this user has no home."""
    if chosen := os.environ.get("EDGEATTN_CACHE"):
        return Path(chosen)
    try:
        return Path.home() / ".cache" / "edgeattn"
    except RuntimeError:
        return None


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
        if short in placed and entry.sha256 != manifest.files[placed[short]].sha256:
            raise BundleError(f"The bundle {bundle.path} holds two different files '{short}'; build it again.")
        placed.setdefault(short, name)
    return placed


def _fill(folder: Path, bundle: Bundle, placed: Mapping[str, str]) -> None:
    for short, name in placed.items():
        path, entry = folder / short, bundle.manifest.files[name]
        try:
            intact = path.stat().st_size == entry.size_bytes and sha256_file(path) == entry.sha256
        except OSError:
            intact = False
        if not intact:
            write_atomic(path, bundle.read(name))
