"""Starts, asks and always reaps worker processes (see worker.py)."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from edgeattn import errors
from edgeattn.errors import EdgeattnError, MachineError, MissingLibrary, StorageError
from edgeattn.measure.candidate import Candidate

T = TypeVar("T")

_CLOSE_S = 10.0
_LAST_WORDS = 200


class Worker:
    """One candidate in a process of its own; a context manager, so that the process never outlives its block.

    Every failure is an EdgeattnError that names the candidate: what the worker raised, with its class; MachineError
    when it died or gave no answer within `timeout_s`.
    """

    def __init__(self, candidate: Candidate, *, timeout_s: float) -> None:
        self._name = candidate.name
        self._candidate = candidate
        self._timeout_s = timeout_s
        self._connection, theirs = multiprocessing.Pipe()
        # Libraries print to both; a file cannot fill up and block them as a pipe would.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edgeattn.measure.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(p).absolute()) for p in sys.path)},
            )
        except OSError as error:
            self._connection.close()
            self._output.close()
            raise MachineError(f"No process could be started to measure '{self._name}' ({error.strerror}).") from error
        finally:
            theirs.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def load(self, frames: Path) -> None:
        """Have the candidate's runner opened; `answer("load")` waits for it.

        `frames` is an .npz file, per input uint8 `(M, T, H, W, 3)`: M frames of T engine calls.
        """
        candidate = self._candidate
        path = str(candidate.path.absolute())
        self._request("load", entry=candidate.entry, path=path, threads=candidate.threads, frames=str(frames))

    def ask(self, action: str, **values: Any) -> dict[str, Any]:
        """Send one request and wait for its answer."""
        self._request(action, **values)
        return self.answer(action)

    def answer(self, action: str) -> dict[str, Any]:
        """Wait for the answer to the request that was sent last, which was to do `action`."""
        try:
            if not self._connection.poll(self._timeout_s):
                raise MachineError(
                    f"'{self._name}' gave no answer within {self._timeout_s:g} s while asked to {action}; "
                    "it hangs, or this machine is too slow or too busy for it."
                )
            answer: dict[str, Any] = json.loads(self._connection.recv_bytes())
        except (EOFError, ConnectionError) as error:
            raise MachineError(self._obituary(action)) from error
        if failure := answer.get("error"):
            kind: type[EdgeattnError] = getattr(errors, failure["kind"])
            raise kind(f"'{self._name}' could not be measured. {failure['message']}")
        return answer

    def _request(self, action: str, **values: Any) -> None:
        try:
            self._connection.send_bytes(json.dumps({"do": action, **values}).encode())
        except ConnectionError as error:
            raise MachineError(self._obituary(action)) from error

    def close(self) -> None:
        """Let the runner release what it holds, then end the process.

        Its measurements are whole by now, so a library that crashes or hangs on its way out is no error.
        """
        if self._connection.closed:
            return  # it was killed
        try:
            self._connection.send_bytes(json.dumps({"do": "close"}).encode())
            self._process.wait(_CLOSE_S)
        except (ConnectionError, subprocess.TimeoutExpired):
            pass
        finally:
            self.kill()

    def kill(self) -> None:
        """End the process without asking, and reap it. Safe to call again."""
        try:
            self._process.kill()
        finally:
            self._process.wait()
            self._connection.close()
            self._output.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.kill()

    def _obituary(self, action: str) -> str:
        """How the worker ended, with the last line it printed."""
        try:
            code = self._process.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            return f"'{self._name}' stopped answering while asked to {action}."
        how = f"ended with code {code}"
        if code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
            how += " (often: the memory ran out)" if -code == signal.SIGKILL else ""
        self._output.seek(0)
        printed = self._output.read().decode(errors="replace").strip().splitlines()
        words = f"; the last it said: {printed[-1][-_LAST_WORDS:]}" if printed else ""
        return f"The process running '{self._name}' {how} while asked to {action}{words}."


class Workers:
    """A worker per candidate, asked by name; a context manager that ends them all.

    One that fails is ended and its reason kept in `failed`, so that the others can go on. Raised instead is what would
    be in vain to go on with: a failure of `essential`, which all others are compared with, and a library or disk that
    this machine lacks.
    """

    def __init__(self, *, essential: str, timeout_s: float) -> None:
        self.failed: dict[str, str] = {}
        self._essential, self._timeout_s = essential, timeout_s
        self._workers: dict[str, Worker] = {}
        self._stack = ExitStack()

    def start(self, candidate: Candidate, frames: Path) -> None:
        """Start its process and have its runner opened (see `Worker.load`), without waiting for it."""
        worker = self._stack.enter_context(Worker(candidate, timeout_s=self._timeout_s))
        self._workers[candidate.name] = worker
        self._attempt(candidate.name, lambda: worker.load(frames))

    def wait_loaded(self) -> None:
        """Until every runner is open or has failed."""
        for name, worker in list(self._workers.items()):
            self._attempt(name, partial(worker.answer, "load"))

    def ask(self, name: str, action: str, **values: Any) -> dict[str, Any] | None:
        """The answer of one worker; None when it has failed, now or before."""
        worker = self._workers.get(name)
        return None if worker is None else self._attempt(name, lambda: worker.ask(action, **values))

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _attempt(self, name: str, call: Callable[[], T]) -> T | None:
        try:
            return call()
        except (MissingLibrary, StorageError):
            raise
        except EdgeattnError as error:
            if name == self._essential:
                raise
            self.failed[name] = str(error)
            self._workers.pop(name).kill()
            return None
