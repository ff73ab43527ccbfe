"""Get one pinned file: streamed to a temporary name, resumed where the server allows, checked, renamed."""

from __future__ import annotations

import http.client
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeattn.artifact import sha256_file
from edgeattn.errors import DataError, storage_errors
from edgeattn.imaging import printable

# Called with bytes received so far and the total, None where the server does not say.
Progress = Callable[[int, int | None], None]

_CHUNK_BYTES = 1 << 18
# Characters with a meaning in an address, and the sign of those that are encoded already.
_KEPT = "%/:?=&;,+$@!*'()[]~"
_TRANSIENT_STATUS = (408, 425, 429, 500, 502, 503, 504)


class _InterruptedError(Exception):
    """The transfer stopped for a reason that another attempt may not meet."""


def fetch(
    url: str,
    sha256: str,
    destination: Path,
    *,
    size_bytes: int | None = None,
    progress: Progress | None = None,
    attempts: int = 4,
    pause_s: float = 1.0,
    timeout_s: float = 30.0,
) -> Path:
    """Download `url` to `destination` unless that exists with the right content; `http`, `https` and `file` only.

    An interrupted transfer is kept beside `destination` and resumed by the next attempt or call; pauses between
    attempts double from `pause_s`. Raises DataError (no network, no such file, wrong content) and StorageError.
    """
    from filelock import FileLock

    transfer_url = _as_sent(url)
    expected = sha256.lower()
    partial = destination.with_name(f".{destination.name}.part")
    transfer = _Transfer(transfer_url, partial, size_bytes, progress, timeout_s)
    with storage_errors(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(destination.with_name(f".{destination.name}.lock")):
            if destination.exists():
                if (got := sha256_file(destination)) != expected:
                    raise DataError(
                        f"{destination} has the SHA-256 {got}, expected {expected}; delete it to download it again "
                        f"from {url}."
                    )
                return destination
            if partial.exists():
                # What an earlier call left may belong to another version of the file: then once from the beginning.
                if sha256_file(partial) != expected:
                    transfer.run(attempts, pause_s)
                if sha256_file(partial) != expected:
                    partial.unlink()
            if not partial.exists():
                transfer.run(attempts, pause_s)
            if (got := sha256_file(partial)) != expected:
                partial.unlink()
                raise DataError(
                    f"{url} has the SHA-256 {got}, expected {expected}; nothing was kept. The file there has changed "
                    "or the pinned checksum is wrong."
                )
            partial.replace(destination)
    return destination


def _as_sent(url: str) -> str:
    """`url` in the characters that addresses are sent in: the host's name as IDNA, the rest percent-encoded.

    What is percent-encoded already stays. Raises DataError for what is no address, or one of another kind.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode()
        path, query = (urllib.parse.quote(text, safe=_KEPT) for text in (parts.path, parts.query))
    except ValueError as error:  # UnicodeError is one
        raise DataError(_no_address(url, error)) from error
    if parts.scheme not in ("http", "https", "file"):
        raise DataError(f"{url} cannot be downloaded: only http, https and file addresses are understood.")
    return urllib.parse.urlunsplit((parts.scheme, host, path, query, ""))


def _no_address(url: str, error: ValueError) -> str:
    return f"{printable(url)} is not an address that can be downloaded ({error}); correct it."


@dataclass(frozen=True)
class _Transfer:
    """From `url` into `partial`, appended to what is there where the server can resume."""

    url: str
    partial: Path
    size_bytes: int | None
    progress: Progress | None
    timeout_s: float

    def run(self, attempts: int, pause_s: float) -> None:
        for attempt in range(attempts):
            failure = self._attempt()
            if failure is None:
                return
            if attempt + 1 == attempts:
                raise DataError(
                    f"{self.url} could not be downloaded after {attempts} attempt(s) ({failure}); check the network, "
                    "then run the same command to resume."
                ) from failure
            time.sleep(pause_s * 2**attempt)

    def _attempt(self) -> Exception | None:
        """None when everything arrived, else what may pass with another attempt. Raises DataError for the rest."""
        have = self.partial.stat().st_size if self.partial.exists() else 0
        request = urllib.request.Request(self.url, headers={"User-Agent": "edgeattn"})
        if have:
            request.add_header("Range", f"bytes={have}-")
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s) as response:
                resuming = getattr(response, "status", None) == http.client.PARTIAL_CONTENT
                self._receive(response, have if resuming else 0)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                self.partial.unlink(missing_ok=True)  # longer than the file there: it belongs to another version
                return error
            if error.code in _TRANSIENT_STATUS:
                return error
            raise DataError(f"{self.url} answered {error.code} {error.reason}; check the address.") from error
        except urllib.error.URLError as error:
            if self.url.startswith("file:"):
                raise DataError(f"{self.url} cannot be read ({error.reason}); check the address.") from error
            return error
        except (_InterruptedError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
            return error
        except ValueError as error:  # of an address, also of one that a server points on to
            raise DataError(_no_address(self.url, error)) from error
        return None

    def _receive(self, response: http.client.HTTPResponse, have: int) -> None:
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else None
        if total is not None:
            self._check_size(total)
        with self.partial.open("ab" if have else "wb") as file:
            while chunk := response.read(_CHUNK_BYTES):
                file.write(chunk)
                have += len(chunk)
                if self.size_bytes is not None and have > self.size_bytes:
                    self._check_size(have)
                if self.progress is not None:
                    self.progress(have, total)
        # A connection that closes early ends the loop as a complete one does.
        if total is not None and have < total:
            raise _InterruptedError(f"the connection closed after {have} of {total} bytes")

    def _check_size(self, got: int) -> None:
        if self.size_bytes is not None and got != self.size_bytes:
            self.partial.unlink(missing_ok=True)
            raise DataError(
                f"{self.url} has {got} bytes or more, expected {self.size_bytes}; nothing was kept. The file there has "
                "changed or the pinned size is wrong."
            )
