"""Write a bundle: same inputs, same bytes."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from edgeattn.artifact import sha256_bytes, sha256_file
from edgeattn.bundle.archive import write_zip
from edgeattn.bundle.manifest import MANIFEST, SIGNATURE, FileEntry, Manifest, check_files
from edgeattn.bundle.signature import sign
from edgeattn.errors import BundleError, storage_errors


def write_bundle(
    out: Path, manifest: Manifest, files: Mapping[str, Path | bytes], *, sign_key: Path | None = None
) -> Path:
    """Write `files` (name in the bundle -> path or content) and the manifest that lists them to `out`.

    `files` must hold `model.onnx` and `golden.npz`, and the engine below `manifest.engine_dir` when that is set.
    With `sign_key` (a private key, PEM) the manifest is signed. Nothing is left at `out` unless all of it was written.
    Raises BundleError, StorageError and, when signing, MissingLibrary.
    """
    listed = replace(manifest, files={name: _entry(name, files[name]) for name in sorted(files)})
    check_files(listed, str(out))
    described = listed.to_json()
    entries: list[tuple[str, Path | bytes]] = [(MANIFEST, described)]
    if sign_key is not None:
        entries.append((SIGNATURE, sign(described, sign_key)))
    entries += [(name, files[name]) for name in sorted(files)]
    _write(out, entries)
    return out


def _entry(name: str, content: Path | bytes) -> FileEntry:
    if isinstance(content, bytes):
        return FileEntry(sha256_bytes(content), len(content))
    try:
        return FileEntry(sha256_file(content), content.stat().st_size)
    except OSError as error:
        raise BundleError(f"{content}, the bundle's '{name}', cannot be read ({error.strerror}).") from error


def _write(out: Path, entries: list[tuple[str, Path | bytes]]) -> None:
    """As `write_atomic`, without ever holding a large engine in memory."""
    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = out.with_name(f".{out.name}.{os.getpid()}.{threading.get_ident()}.tmp")
        try:
            with temporary.open("w+b") as file:
                write_zip(file, entries)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(out)
        finally:
            temporary.unlink(missing_ok=True)
