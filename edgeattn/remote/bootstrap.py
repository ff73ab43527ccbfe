"""The program that the far side's Python is given on standard input, before anything of this package is there.

Standard library only, and the syntax of Python 3.6, so that a Python that is too old can say so. Standard input holds
this text, then one line of JSON (the request), then the files that were asked for, then nothing but signs of life.
Standard output holds records: the byte 0x1E, a JSON object, a newline (RFC 7464); behind a record `file` come as many
bytes as it says.

    hello {python, executable}   need [sha256, ..]   received sha256   progress [done, total, text]
    file {name, sha256, size}    error {kind, message}   result {values, files, cached}
"""

import errno
import hashlib
import importlib
import importlib.util
import json
import os
import re
import select
import shutil
import signal
import sys
import threading
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

# Without a sign of life for so long nobody is there any more. The near side gives one every quarter of a minute, and
# itself gives up after two minutes without an answer.
PATIENCE_S = 180
OLDEST = (3, 10)
RELEASE = Path("/etc/nv_tegra_release")
_CHUNK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


class Channel:
    """Records to the near side on what was standard output; what libraries print goes to standard error instead."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)

    def tell(self, **record: Any) -> None:
        """One record."""
        self._out.write(b"\x1e" + json.dumps(record).encode() + b"\n")
        self._out.flush()

    def send(self, name: str, sha256: str, path: Path) -> None:
        """One file."""
        with path.open("rb") as file:
            self.tell(file={"name": name, "sha256": sha256, "size": path.stat().st_size})
            shutil.copyfileobj(file, self._out, _CHUNK)
        self._out.flush()

    def fail(self, kind: str, message: str) -> int:
        """Say why nothing more will come, `kind` being a class of edgeattn/errors.py; returns an exit code."""
        self.tell(error={"kind": kind, "message": message})
        return 3


def root() -> Path:
    """Where everything is kept."""
    return Path.home() / ".cache" / "edgeattn" / "remote"


def described(error: Exception, place: Path) -> Any:
    """A pair, the kind and the message, of what nobody expected; only what is the disk's fault is told as such."""
    if isinstance(error, OSError) and error.errno in (*_FULL, *_FORBIDDEN):
        return "StorageError", disk_sentence(error, place)
    said = next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), "")
    if not isinstance(error, OSError):
        said = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return (
        "MachineError",
        f"the work broke off ({said or type(error).__name__}); mend what that names there, then run the same command "
        "to resume.",
    )


def disk_sentence(error: OSError, place: Path) -> str:
    """What the operating system says of the disk, as one sentence."""
    where = error.filename2 or error.filename or place
    # NumPy reports a short write without a number: "16384 requested and 4096 written".
    if error.errno in _FULL or "requested and" in str(error):
        return (
            f"No space is left on the disk while writing {where}; free some space there (all of {root()} may go), "
            "then run the same command to resume."
        )
    return f"{where} cannot be written ({error.strerror or error}); make it writable for this user."


def hash_of(path: Path) -> str:
    """SHA-256 of a file in hexadecimal; empty when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            for chunk in iter(lambda: file.read(_CHUNK), b""):
                digest.update(chunk)
    except OSError:
        return ""
    return digest.hexdigest()


def whole(path: Path) -> bool:
    """Whether the file is there and is what its name, a hash, says. What is something else is removed."""
    if hash_of(path) == path.name:
        os.utime(path)  # it is in use, so it is not to be removed as old
        return True
    with suppress(FileNotFoundError):
        path.unlink()
    return False


def receive(stream: Any, path: Path, size: int) -> bool:
    """Read `size` bytes into `path`, which appears when it is whole. False when they are not what its name says.

    Raises EOFError when the connection ends before.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    digest, left = hashlib.sha256(), size
    try:
        with temporary.open("wb") as file:
            while left:
                signal.alarm(PATIENCE_S)  # ends this process: a connection that is cut silently never ends
                chunk = stream.read1(min(left, _CHUNK))
                signal.alarm(0)
                if not chunk:
                    raise EOFError
                file.write(chunk)
                digest.update(chunk)
                left -= len(chunk)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != path.name:
            return False
        temporary.replace(path)
        return True
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def unpack(archive: Path, folder: Path) -> None:
    """The zip `archive` as `folder`, which appears when it is whole; made anew where a file in it is another."""
    with zipfile.ZipFile(str(archive)) as package:
        if all(_content(folder / name) == package.read(name) for name in package.namelist()):
            os.utime(folder)  # it is in use, as below
            return
        temporary = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
        shutil.rmtree(str(temporary), ignore_errors=True)
        package.extractall(str(temporary))
    shutil.rmtree(str(folder), ignore_errors=True)
    try:
        temporary.rename(folder)
    except OSError:  # another process was faster
        shutil.rmtree(str(temporary), ignore_errors=True)
        if not folder.is_dir():
            raise


def finished(place: Path, key: Any) -> Any:
    """The record of the finished step `key` whose files are all there and whole; None when there is none."""
    path = place / "steps" / f"{key}.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        os.utime(path)
        sound = all(whole(place / "files" / entry["sha256"]) for entry in record["files"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return record if sound else None


def watch() -> None:
    """End this process and all that it started once the near side is gone: closed, or silent for too long."""
    while True:
        ready = select.select([0], [], [], PATIENCE_S)[0]
        if not ready or not os.read(0, 4096):
            os.killpg(os.getpgrp(), signal.SIGKILL)


def main() -> int:
    """Take the request, ask for what is missing, then hand over to edgeattn.remote.far."""
    channel = Channel()
    with suppress(OSError):  # it leads a group already
        os.setsid()  # a process group of its own, which `watch` may end
    stream = sys.stdin.buffer
    request = json.loads(stream.readline().decode())
    version = ".".join(map(str, sys.version_info[:3]))
    channel.tell(hello={"python": version, "executable": sys.executable})
    if request["values"].get("backend") == "tensorrt" and old_jetson(_content(RELEASE)):
        return channel.fail(
            "MissingLibrary",
            "this Jetson's JetPack is older than 6.1 and has only TensorRT 8, which cannot take the precision from the "
            "graph; flash JetPack 6.1 or newer (Xavier boards stay at JetPack 5, so that they cannot be used).",
        )
    if sys.version_info[:2] < OLDEST:
        return channel.fail(
            "MissingLibrary",
            f"Python 3.10 or newer is needed, {sys.executable} is {version}; install one there and name it with "
            "--host-python.",
        )
    lacking = [requirement for module, requirement in request["needed"] if not satisfied(module, requirement)]
    if lacking:
        return channel.fail("MissingLibrary", f"{sys.executable} lacks {', '.join(lacking)}; {how_to_get(lacking)}")
    try:
        return _serve(channel, stream, request)
    except EOFError:
        with suppress(OSError):  # mostly nobody is there to hear it
            channel.fail("ConnectionFailed", "The connection ended within a file; run the same command again.")
        return 3
    except Exception as error:  # whatever it is must reach the near side as a sentence
        return channel.fail(*described(error, root()))


def satisfied(module: str, requirement: str) -> bool:
    """Whether `module` is there, and no older than `requirement` ("numpy>=1.26") asks, where its version is known."""
    if importlib.util.find_spec(module) is None:
        return False
    from importlib import metadata

    name, _, rest = requirement.partition(">=")
    try:
        return bool(numbers(metadata.version(name)) >= numbers(rest.partition(",")[0]))
    except metadata.PackageNotFoundError:  # OpenCV comes under several names
        return True


def how_to_get(lacking: Any) -> str:
    """Part of a sentence. A system's own Python has no pip, or one that installs nothing (PEP 668)."""
    wanted = " ".join(f"'{requirement}'" for requirement in lacking)
    if sys.prefix != sys.base_prefix:
        return f"install with: {sys.executable} -m pip install {wanted}"
    return (
        f"on that machine run: {sys.executable} -m venv --system-site-packages ~/edgeattn && "
        f"~/edgeattn/bin/pip install {wanted}, then name it with --host-python '~/edgeattn/bin/python'"
    )


def numbers(version: str) -> Any:
    """A list, [2026, 4] of "2026.4.0rc1": what stands before the second dot decides here."""
    return [int(part) for part in re.findall(r"\d+", version)[:2]]


def old_jetson(release: Any) -> bool:
    """Whether this is /etc/nv_tegra_release of a JetPack before 6.1 (L4T before 36.4); None is no Jetson's."""
    found = re.search(rb"R(\d+) \(release\), REVISION: (\d+)", release or b"")
    return bool(found and (int(found.group(1)), int(found.group(2))) < (36, 4))


def _serve(channel: Channel, stream: BinaryIO, request: Any) -> int:
    place = root()
    for name in ("files", "steps", "work", "packages"):
        (place / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    package = request["package"]
    wanted = {package["sha256"]: package["size"]}
    if request["force"] or not finished(place, request["key"]):
        wanted.update((entry["sha256"], entry["size"]) for entry in request["files"].values())
    need = [sha256 for sha256 in wanted if not whole(place / "files" / sha256)]
    channel.tell(need=need)
    for sha256 in need:
        if not receive(stream, place / "files" / sha256, wanted[sha256]):
            return channel.fail(
                "ConnectionFailed", "A file arrived other than it was sent; run the same command again."
            )
        channel.tell(received=sha256)
    threading.Thread(target=watch, daemon=True).start()
    code = place / "packages" / package["sha256"]
    unpack(place / "files" / package["sha256"], code)
    # What is started with `-m` looks for modules where it stands, and that is the user's own folder till now.
    os.chdir(str(code))
    sys.path[:] = [str(code), *filter(None, sys.path)]
    # By name: it is the one that was just unpacked, and it imports this file in its turn.
    far = importlib.import_module("edgeattn.remote.far")
    return int(far.serve(channel, place, request))


def _content(path: Path) -> Any:
    try:
        return path.read_bytes()
    except OSError:
        return None


if __name__ == "__main__":
    sys.exit(main())
