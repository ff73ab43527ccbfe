"""The far side of a step: one at a time, whole or not there, and kept under the hash of what it was made from."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from edgeattn.artifact import sha256_file, write_atomic
from edgeattn.errors import InputError, StorageError
from edgeattn.measure.worker import describe_error
from edgeattn.remote import bootstrap
from edgeattn.remote.steps import STEPS, Job

SCHEMA = "edgeattn.remote/1"
_UNUSED_S = 14 * 24 * 3600.0
_LOOK_AGAIN_S = 0.5


class Channel(Protocol):
    """See `bootstrap.Channel`."""

    def tell(self, **record: Any) -> None: ...
    def send(self, name: str, sha256: str, path: Path) -> None: ...


def serve(channel: Channel, root: Path, request: Mapping[str, Any]) -> int:
    """Run the step that is asked for, or find it finished; send its files and its record, or the reason why not."""
    try:
        record, cached = _record(channel, root, request)
    except Exception as error:  # whatever an engine raises must reach the near side as a sentence
        channel.tell(error=_described(error, root))
        return 1
    for name, entry in record["files"].items():
        if entry["sha256"] not in request["have"]:
            channel.send(name, entry["sha256"], root / "files" / entry["sha256"])
    channel.tell(result={**record, "cached": cached})
    return 0


def _record(channel: Channel, root: Path, request: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """The step's record, and whether it was finished before."""
    step, key = STEPS.get(request["step"]), request["key"]
    if step is None:
        raise InputError(f"There is no step '{request['step']}'; both sides must run the same edgeattn.")

    def progress(done: int, total: int, text: str) -> None:
        channel.tell(progress=[done, total, text])

    if key is None:  # a question, which is answered anew each time
        with suppress(BlockingIOError), _locked(root):
            _clear(root)  # nobody is at anything, so what lies about is of somebody who was cut off
        return {"values": step(Job(Path(), Path(), request["values"], progress)), "files": {}}, False
    with _alone(root, progress):
        if not request["force"] and (found := bootstrap.finished(root, key)):
            return found, True
        _clear(root)
        work = root / "work" / key
        for name, entry in request["files"].items():
            link = work / "in" / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(root / "files" / entry["sha256"])
        (work / "out").mkdir(parents=True)
        with _temporary(work / "tmp"):
            values = step(Job(work / "in", work / "out", request["values"], progress))
        record = {"schema": SCHEMA, "step": request["step"], "values": values, "files": _kept(root, work / "out")}
        write_atomic(root / "steps" / f"{key}.json", json.dumps(record))
        shutil.rmtree(work, ignore_errors=True)
        return record, False


def _kept(root: Path, out: Path) -> dict[str, dict[str, Any]]:
    """What the step wrote, moved to where files are named by their content."""
    files: dict[str, dict[str, Any]] = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        sha256, size = sha256_file(path), path.stat().st_size
        path.replace(root / "files" / sha256)
        files[path.relative_to(out).as_posix()] = {"sha256": sha256, "size": size}
    return files


@contextmanager
def _alone(root: Path, progress: Any) -> Iterator[None]:
    """Hold this user's one lock, which goes with the process that holds it, killed or not."""
    told = False
    while True:
        with ExitStack() as held:
            try:
                held.enter_context(_locked(root))
            except BlockingIOError:
                if not told:
                    progress(0, 1, "waiting for another run")
                    told = True
                time.sleep(_LOOK_AGAIN_S)
                continue
            yield
            return


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """The lock, or BlockingIOError at once."""
    with (root / "lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


@contextmanager
def _temporary(folder: Path) -> Iterator[None]:
    """Temporary files of this process and of those it starts: with the step's, which are cleared when it was killed."""
    folder.mkdir()
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"], tempfile.tempdir = str(folder), None
    try:
        yield
    finally:
        tempfile.tempdir = None
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before


def _clear(root: Path) -> None:
    """Remove what is unfinished, which nobody is at while this process holds the lock, and what is long unused."""
    for work in (root / "work").iterdir():
        shutil.rmtree(work, ignore_errors=True)
    for room in ("files", "steps", "packages"):
        for path in (root / room).iterdir():
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _UNUSED_S:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _described(error: Exception, root: Path) -> dict[str, str]:
    """`{kind, message}`. A full disk is told in the words of this side: it has no --store that could be elsewhere."""
    if isinstance(error, StorageError) and isinstance(error.__cause__, OSError):
        return {"kind": StorageError.__name__, "message": bootstrap.disk_sentence(error.__cause__, root)}
    if isinstance(error, OSError):
        kind, message = bootstrap.described(error, root)
        return {"kind": kind, "message": message}
    return describe_error(error)
