"""One connection: the request, the files that the far side lacks, then its records until the result."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from edgeattn import errors
from edgeattn.artifact import sha256_bytes, sha256_file
from edgeattn.bundle.archive import unsafe_names
from edgeattn.errors import ConnectionFailed, EdgeattnError, MissingLibrary, storage_errors
from edgeattn.progress import Progress
from edgeattn.remote import bootstrap, ssh
from edgeattn.remote.host import Host

_CHUNK = 1 << 18
_MARK = b"\x1e"
_LAST_LINES = 40
_ENDS_S = 10.0
_MB = 1e6

Source = Path | bytes


@dataclass(frozen=True)
class Request:
    """One step. `files`: by the names the step knows them by. `key`: what its record is named; None for a question.

    `needed`: modules that must be there and what pip calls them. `force`: do it again although there is a record.
    """

    step: str
    key: str | None
    values: Mapping[str, Any]
    package: bytes
    needed: list[tuple[str, str]]
    files: Mapping[str, Source] = field(default_factory=dict)
    force: bool = False


def converse(host: Host, request: Request, into: Path | None, progress: Progress) -> dict[str, Any]:
    """The result record (`values`, `files`, `cached`); the files it names are in `into`, named by their SHA-256.

    What is in `into` already is not sent again; None for a question, which brings no files. Raises what the step
    raised there, as it said it, and ConnectionFailed, MissingLibrary or InputError where it did not come to that.
    """
    listed = {name: _entry(source) for name, source in request.files.items()}
    sources: dict[str, Source] = {listed[name]["sha256"]: source for name, source in request.files.items()}
    package = _entry(request.package)
    sources[package["sha256"]] = request.package
    head = {
        "step": request.step,
        "key": request.key,
        "values": request.values,
        "files": listed,
        "package": package,
        "needed": request.needed,
        "force": request.force,
        "have": [path.name for path in _whole_files(into)] if into else [],
    }
    program = Path(bootstrap.__file__).read_bytes()
    with _Line(host, program + json.dumps(head).encode() + b"\n", len(program)) as line:
        return _listen(line, sources, into, progress)


def _listen(line: _Line, sources: Mapping[str, Source], into: Path | None, progress: Progress) -> dict[str, Any]:
    address = line.host.address
    for record in line.records():
        if "need" in record:
            line.doing = "files were sent"
            line.send([sources[sha256] for sha256 in record["need"]], progress)
            line.stay_alive()
        elif "progress" in record:
            done, total, text = record["progress"]
            line.doing = f"'{_printable(text)}' was under way"
            progress(done, total, f"{_printable(text)}, on {address}")
        elif "file" in record and into is not None:
            line.doing = "results were fetched"
            progress(0, 1, f"fetching results from {address}")
            line.fetch(record["file"], into)
        elif "error" in record:
            raise _error(record["error"], address)
        elif "result" in record:
            return _trusted(record["result"], address)
        elif "hello" in record:
            line.doing = "it looked for what is there already"
    raise line.failure()


class _Line:
    """The `ssh` process with its three streams; a context manager that always ends it."""

    def __init__(self, host: Host, opening: bytes, program_bytes: int) -> None:
        self.host = host
        self.doing: str | None = None
        try:
            self._process = subprocess.Popen(
                ssh.command(host, program_bytes),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except FileNotFoundError as error:
            raise MissingLibrary(
                "The OpenSSH client is not installed here; install it, as with: apt-get install openssh-client"
            ) from error
        self._said: deque[str] = deque(maxlen=_LAST_LINES)
        self._ended = threading.Event()
        self._hearer = threading.Thread(target=self._hear, daemon=True)
        self._hearer.start()
        self._write(opening)

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with suppress(OSError):
            self._in.close()  # the far side ends with it
        try:
            self._process.wait(_ENDS_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._hearer.join(_ENDS_S)
        self._out.close()

    @property
    def _in(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def _out(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def records(self) -> Iterator[dict[str, Any]]:
        """What the far side says. Lines without the mark are not its own: a login script greets somebody."""
        while text := self._out.readline():
            _, mark, record = text.partition(_MARK)
            if mark:
                try:
                    yield json.loads(record)
                except ValueError:
                    return  # cut off within a record

    def send(self, sources: list[Source], progress: Progress) -> None:
        """The files that the far side lacks, one behind the other."""
        sizes = [len(source) if isinstance(source, bytes) else source.stat().st_size for source in sources]
        total, sent = sum(sizes), 0
        amount = f"{total / _MB:.1f} MB" if total >= _MB else f"{total / 1e3:.0f} kB"
        for source in sources:
            for chunk in _chunks(source):
                if not self._write(chunk):
                    return  # it has ended, and has said why
                sent += len(chunk)
                progress(round(sent / _MB), round(total / _MB), f"sending {amount} to {self.host.address}")

    def fetch(self, entry: Mapping[str, Any], into: Path) -> None:
        """One file that the far side sends, to `into/<sha256>`. Raises ConnectionFailed, StorageError."""
        _trusted({"files": {entry["name"]: entry}}, self.host.address)
        path, left = into / entry["sha256"], int(entry["size"])
        temporary = path.with_name(f".{path.name}.tmp")
        with storage_errors(path):
            into.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                while left:
                    chunk = self._out.read(min(left, _CHUNK))
                    if not chunk:
                        raise self.failure()
                    file.write(chunk)
                    left -= len(chunk)
            if sha256_file(temporary) != path.name:
                raise ConnectionFailed(
                    f"'{entry['name']}' arrived from {self.host.address} other than it was sent; run the same command "
                    "again."
                )
            temporary.replace(path)

    def stay_alive(self) -> None:
        """From now on a sign of life every few seconds, without which the far side ends what it is doing."""
        threading.Thread(target=self._pulse, daemon=True).start()

    def failure(self) -> EdgeattnError:
        """Why there is no more to read."""
        try:
            code: int | None = self._process.wait(_ENDS_S)
        except subprocess.TimeoutExpired:
            code = None
        self._hearer.join(_ENDS_S)
        return ssh.failure(self.host, code, list(self._said), doing=self.doing)

    def _write(self, data: bytes) -> bool:
        try:
            self._in.write(data)
            self._in.flush()
        except (OSError, ValueError):  # ValueError: closed meanwhile
            return False
        return True

    def _pulse(self) -> None:
        while not self._ended.wait(ssh.ALIVE_S) and self._write(b"\n"):
            pass

    def _hear(self) -> None:
        stream = self._process.stderr
        assert stream is not None
        with stream:
            for line in stream:
                if text := line.decode(errors="replace").strip():
                    self._said.append(text)


def _error(told: Mapping[str, str], address: str) -> EdgeattnError:
    """What was raised there, as the same class here."""
    kind = getattr(errors, told["kind"], None)
    if not (isinstance(kind, type) and issubclass(kind, EdgeattnError)):
        kind = EdgeattnError
    return kind(f"On {address}: {_printable(told['message'])}")


def _trusted(result: dict[str, Any], address: str) -> dict[str, Any]:
    """The result, whose names become files here. Raises ConnectionFailed for one that would leave its folder."""
    files = result["files"]
    if unsafe_names(files) or not all(re.fullmatch("[0-9a-f]{64}", entry["sha256"]) for entry in files.values()):
        raise ConnectionFailed(f"{address} sends files with names that no step gives; it is not to be trusted.")
    return result


def _printable(text: str) -> str:
    """Another machine's words, without signs that would steer the terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def _entry(source: Source) -> dict[str, Any]:
    if isinstance(source, bytes):
        return {"sha256": sha256_bytes(source), "size": len(source)}
    return {"sha256": sha256_file(source), "size": source.stat().st_size}


def _whole_files(folder: Path) -> list[Path]:
    """Files that an earlier connection brought, as they were sent."""
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.is_file() and sha256_file(path) == path.name]


def _chunks(source: Source) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield from (source[at : at + _CHUNK] for at in range(0, len(source), _CHUNK))
        return
    with source.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
