"""Frozen values that stages hand over, and the content-addressed store that keeps them.

An artifact is an immutable folder named by the hash of everything it was made from. The store's layout:

    STORE/artifacts/<stage>/<key>/            finished; manifest.json lists every file with its SHA-256
    STORE/work/<key>/                         unfinished: survives kill -9 so that a stage can resume, for 14 days
    STORE/locks/<key>.lock                    held while a process builds <key>
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from edgeattn.errors import storage_errors

SCHEMA = "edgeattn.artifact/1"
MANIFEST = "manifest.json"
WEIGHT_FILES = ("model.json", "training.json", "weights.safetensors")
PROVENANCE = "provenance.json"  # beside weights that were taken out of a store: where they come from
ELAPSED = "elapsed_s"  # in a work folder: written by stages that resume
_FORCED = "forced"
_ABANDONED_S = 14 * 24 * 3600.0


class Stage(str, Enum):
    TRAIN = "train"
    EXPORT = "export"
    QUANTIZE = "quantize"
    COMPILE = "compile"
    SELECT = "select"
    BUNDLE = "bundle"
    CHECK = "check"


class Precision(str, Enum):
    """The numeric form of a variant; its value is the variant's name in rows, recipes and targets."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    INT8 = "int8"


def sha256_bytes(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, read in pieces."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_json(value: object) -> str:
    """Hash of a JSON-able value, independent of key order."""
    return sha256_bytes(canonical_json(value).encode())


def canonical_json(value: object) -> str:
    """One spelling per value: sorted keys, no spaces. Raises ValueError on NaN and infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write to a temporary name beside `path`, flush to disk, rename. Raises StorageError."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@dataclass(frozen=True)
class Artifact:
    """A finished folder. `sha256` covers the content of all files; `key` covers what it was made from."""

    path: Path
    stage: str
    variant: str
    key: str
    sha256: str
    size_bytes: int
    seconds: float
    cached: bool

    def json(self, name: str) -> Any:
        return json.loads((self.path / name).read_text())


def artifact_key(stage: Stage, variant: str, inputs: Mapping[str, Any]) -> str:
    """The name of the artifact that is made from `inputs`: 32 hexadecimal digits."""
    return sha256_json({"stage": stage.value, "variant": variant, "inputs": dict(inputs)})[:32]


class Store:
    """Finds finished artifacts and builds missing ones, atomically and locked against other processes."""

    def __init__(self, root: Path, on_wait: Callable[[str], None] | None = None) -> None:
        self.root = root
        self._on_wait = on_wait or (lambda message: None)

    def find(self, stage: Stage, key: str) -> Artifact | None:
        """The finished artifact, or None when there is none or its files no longer match its manifest."""
        path = self.root / "artifacts" / stage.value / key
        try:
            manifest = json.loads((path / MANIFEST).read_text())
            intact = manifest["schema"] == SCHEMA and _hash_files(path) == manifest["files"]
            return _artifact(path, manifest, cached=True) if intact else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def build(
        self,
        stage: Stage,
        variant: str,
        inputs: Mapping[str, Any],
        make: Callable[[Path, Path], None],
        *,
        force: bool = False,
    ) -> Artifact:
        """Return the artifact made from `inputs`, calling `make(work, out)` only when it is missing.

        `make` writes the artifact's files into `out` and may keep whatever it needs to resume in `work`;
        `work` is handed to it again after an interruption, while `out` always starts empty. With `force` an
        existing artifact is replaced. What interrupted builds of other keys left is removed once it has not been
        touched for 14 days. Raises StorageError when the disk refuses, and whatever `make` raises.
        """
        from filelock import FileLock, Timeout

        described = {"stage": stage.value, "variant": variant, "inputs": dict(inputs)}
        key = artifact_key(stage, variant, inputs)
        work = self.root / "work" / key
        if not force and (found := self.find(stage, key)):
            # What an interrupted --force left must not be resumed when it is next asked for.
            if work.exists():
                self._remove_idle(work)
            return found
        with storage_errors(self.root):
            (self.root / "locks").mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.root / "locks" / f"{key}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                self._on_wait(f"{stage.value}/{variant} is being built by another process; waiting for it")
                lock.acquire()
            try:
                # The other process may have finished it while we waited.
                if not force and (found := self.find(stage, key)):
                    return found
                self._remove_abandoned(beside=key)
                # --force makes anew, unless what is there was left by an interrupted --force.
                if force and not (work / _FORCED).exists():
                    shutil.rmtree(work, ignore_errors=True)
                work.mkdir(parents=True, exist_ok=True)
                if force:
                    (work / _FORCED).touch()
                return self._make(stage, variant, key, described, make)
            finally:
                lock.release()

    def _remove_abandoned(self, *, beside: str) -> None:
        """Changed settings and code give other keys, so most of what is left unfinished is never asked for again."""
        for work in (self.root / "work").glob("*"):
            if work.name != beside and _is_abandoned(work):
                # It may have been resumed, and interrupted again, before the lock is ours.
                self._remove_idle(work, only_if=_is_abandoned)

    def _remove_idle(self, work: Path, only_if: Callable[[Path], bool] = lambda work: True) -> None:
        """Remove a work folder that no process is at; `only_if` is asked once none can come."""
        from filelock import FileLock

        # Where the lock cannot be had, another process is building it (filelock.Timeout) or it is another user's.
        with suppress(OSError), FileLock(self.root / "locks" / f"{work.name}.lock", timeout=0):
            if only_if(work):
                shutil.rmtree(work, ignore_errors=True)

    def _make(
        self, stage: Stage, variant: str, key: str, described: dict[str, Any], make: Callable[[Path, Path], None]
    ) -> Artifact:
        work = self.root / "work" / key
        out = work / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        earlier_s = elapsed_s(work)
        started = time.monotonic()
        make(work, out)
        files = _hash_files(out)
        manifest = {
            "schema": SCHEMA,
            **described,
            "key": key,
            "files": files,
            "seconds": round(earlier_s + time.monotonic() - started, 3),
        }
        write_atomic(out / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True))
        final = self.root / "artifacts" / stage.value / key
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists():
            # A rename cannot replace a full folder: move the old one aside first, so that there is never half of one.
            aside = work / "replaced"
            shutil.rmtree(aside, ignore_errors=True)
            final.replace(aside)
        out.replace(final)
        shutil.rmtree(work, ignore_errors=True)
        return _artifact(final, manifest, cached=False)


def elapsed_s(work: Path) -> float:
    """Seconds that interrupted attempts have put into what `work` keeps, as far as they noted them there."""
    try:
        return float((work / ELAPSED).read_text())
    except (OSError, ValueError):
        return 0.0


def _is_abandoned(work: Path) -> bool:
    """True when nothing in the folder was touched for 14 days; False also when that cannot be told."""
    try:
        last = max(path.lstat().st_mtime for path in (work, *work.rglob("*")))
    except OSError:
        return False
    return time.time() - last > _ABANDONED_S


def _hash_files(folder: Path) -> dict[str, dict[str, Any]]:
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST)
    return {p.relative_to(folder).as_posix(): {"sha256": sha256_file(p), "size_bytes": p.stat().st_size} for p in paths}


def folder_sha256(folder: Path) -> str:
    """The `Artifact.sha256` of the files that lie in an artifact's folder now."""
    return _content_sha256(_hash_files(folder))


def _content_sha256(files: Mapping[str, Mapping[str, Any]]) -> str:
    return sha256_json({name: entry["sha256"] for name, entry in files.items()})


def _artifact(path: Path, manifest: dict[str, Any], *, cached: bool) -> Artifact:
    return Artifact(
        path=path,
        stage=manifest["stage"],
        variant=manifest["variant"],
        key=manifest["key"],
        sha256=_content_sha256(manifest["files"]),
        size_bytes=sum(entry["size_bytes"] for entry in manifest["files"].values()),
        seconds=manifest["seconds"],
        cached=cached,
    )
