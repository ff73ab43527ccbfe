"""The `ssh` process of one connection: records in, files both ways, signs of life out."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from edgeattn.artifact import sha256_file
from edgeattn.errors import ConnectionFailed, EdgeattnError, MissingLibrary, storage_errors
from edgeattn.progress import Progress
from edgeattn.remote import ssh
from edgeattn.remote.host import Host
from edgeattn.remote.records import Record, Sent, parse, printable

_CHUNK = 1 << 18
_MARK = b"\x1e"
_LAST_LINES = 40
_ENDS_S = 10.0
_MB = 1e6

Source = Path | bytes


class Line:
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
                env=ssh.environment(),
                # Without a terminal nobody can be asked on it, not even by the ssh to a jump host.
                start_new_session=True,
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

    def __enter__(self) -> Line:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ended.set()
        if kind is not None and not issubclass(kind, Exception) and self._process.poll() is None:
            # Ctrl-C does not reach another session. Ended first: what is not yet sent would be waited for below.
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
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

    def records(self) -> Iterator[Record]:
        """What the far side says. Lines without the mark are not its own: a login script greets somebody.

        Raises ConnectionFailed for what it never says.
        """
        while text := self._out.readline():
            _, mark, record = text.partition(_MARK)
            if mark and not record.endswith(b"\n"):
                return  # cut off within a record
            if mark:
                try:
                    found = parse(record)
                except ValueError as error:
                    raise self.distrust(str(error)) from error
                yield found

    def distrust(self, what: str) -> ConnectionFailed:
        """That the far side sends what no step sends."""
        return ConnectionFailed(
            f"{self.host.address} sends {what}; it is not to be trusted, or something on the way alters what it says."
        )

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

    def fetch(self, sent: Sent, into: Path) -> None:
        """One file that the far side sends, to `into/<sha256>`. Raises ConnectionFailed, StorageError."""
        path, left = into / sent.sha256, sent.size
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
                    f"'{sent.name}' arrived from {self.host.address} other than it was sent; run the same command "
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
                if text := printable(line.decode(errors="replace")).strip():
                    self._said.append(text)


def _chunks(source: Source) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield from (source[at : at + _CHUNK] for at in range(0, len(source), _CHUNK))
        return
    with source.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
