"""The process that holds one runner while it is timed: `python -m edgeattn.measure.worker FD`.

FD is an inherited socket; each request and each answer is one JSON object. Only the clock around `Runner.infer` is
here; order, rounds and statistics belong to the parent. The request `do` is one of

    load   {entry, path, threads, frames}      frames: an .npz file, one uint8 (M, T, H, W, 3) per input: M frames
                                               of T engine calls each, cycled over
    warm   {window, tolerance, min_s, max_s}   -> {durations_ns, steady}
    turn   {unrecorded, unrecorded_s, calls}   -> {durations_ns, quiet}
    peak                                       -> {peak_rss_bytes}
    close

A failure is answered as {error: {kind, message}}, kind being a class of edgeattn/errors.py.
"""

from __future__ import annotations

import itertools
import json
import signal
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeattn import errors
from edgeattn.backends.base import Runner
from edgeattn.measure.candidate import open_entry
from edgeattn.stats import is_steady

Call = Callable[[], int]

_SLICE_S = 0.005
_QUIET_SHARE = 0.1
_QUIET_LIMIT_S = 0.3


class Session:
    """One runner and what has been asked of it."""

    def __init__(self) -> None:
        self._runner: Runner | None = None
        self._call: Call = lambda: 0

    def load(self, entry: str, path: str, threads: int, frames: str) -> dict[str, Any]:
        self._runner = open_entry(entry, Path(path), threads)
        with np.load(frames, allow_pickle=False) as arrays:
            self._call = timed_call(self._runner, {name: arrays[name] for name in arrays.files})
        return {}

    def warm(self, window: int, tolerance: float, min_s: float, max_s: float) -> dict[str, Any]:
        durations, steady = warm_up(self._call, window=window, tolerance=tolerance, min_s=min_s, max_s=max_s)
        return {"durations_ns": durations, "steady": steady}

    def turn(self, unrecorded: int, unrecorded_s: float, calls: int) -> dict[str, Any]:
        """Calls that bring the caches and threads back, then the recorded ones, then silence for whoever is next."""
        started, count = time.monotonic(), 0
        while count < unrecorded or time.monotonic() - started < unrecorded_s:
            self._call()
            count += 1
        durations = [self._call() for _ in range(calls)]
        return {"durations_ns": durations, "quiet": wait_until_quiet()}

    def peak(self) -> dict[str, Any]:
        return {"peak_rss_bytes": peak_rss_bytes()}

    def close(self) -> dict[str, Any]:
        if self._runner is not None:
            self._runner.close()
        return {}


def timed_call(runner: Runner, frames: Mapping[str, NDArray[np.uint8]]) -> Call:
    """A function that runs the next frame and returns the nanoseconds that it took, outputs on the host.

    `frames` is `(M, T, H, W, 3)` per input: a frame is T calls of `infer` at batch 1, timed together.
    """
    count, tiles = next(iter(frames.values())).shape[:2]

    def batch(frame: int, tile: int) -> dict[str, NDArray[np.uint8]]:
        return {name: np.ascontiguousarray(values[frame, tile : tile + 1]) for name, values in frames.items()}

    turns = itertools.cycle([[batch(frame, tile) for tile in range(tiles)] for frame in range(count)])

    def call() -> int:
        batches = next(turns)
        start = time.perf_counter_ns()
        outputs = [runner.infer(inputs) for inputs in batches]
        stop = time.perf_counter_ns()
        # Freed here, not inside the next call's measured span.
        del outputs
        return stop - start

    return call


def warm_up(
    call: Call,
    *,
    window: int,
    tolerance: float,
    min_s: float,
    max_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[list[int], bool]:
    """Call until steady (see `stats.is_steady`, asked after each full window) and at least `min_s` have gone by.

    Gives up after `max_s` and then returns False beside the durations.
    """
    started = clock()
    durations: list[int] = []
    while True:
        durations.append(call())
        elapsed = clock() - started
        due = elapsed >= min_s and len(durations) % window == 0
        if due and is_steady(durations, window=window, tolerance=tolerance):
            return durations, True
        if elapsed >= max_s:
            return durations, False


def wait_until_quiet(
    cpu_clock: Callable[[], float] = time.process_time, sleep: Callable[[float], None] = time.sleep
) -> bool:
    """Sleep until this process's threads no longer use the CPU; False when they still do after 0.3 s.

    Engines keep threads spinning after a call in case another follows: for about 35 ms (ONNX Runtime), 10 ms (PyTorch)
    or 2 ms (OpenVINO) on the machine this was written on. That would slow down whoever is measured next, and switching
    it off would measure something else than what is deployed.
    """
    before = cpu_clock()
    for _ in range(round(_QUIET_LIMIT_S / _SLICE_S)):
        sleep(_SLICE_S)
        now = cpu_clock()
        if now - before < _QUIET_SHARE * _SLICE_S:
            return True
        before = now
    return False


def peak_rss_bytes(status: Path = Path("/proc/self/status")) -> int | None:
    """The largest resident memory this process ever had (Linux's VmHWM), libraries included; None where unknown.

    Not `getrusage`, whose maximum a process inherits from the one that started it.
    """
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(found[0]) * 1024 if found else None


def describe_error(error: Exception) -> dict[str, str]:
    """`{kind, message}`: the nearest class of errors.py, so that the exit code survives the pipe."""
    if isinstance(error, errors.EdgeattnError):
        known = next(c.__name__ for c in type(error).__mro__ if getattr(errors, c.__name__, None) is c)
        return {"kind": known, "message": str(error)}
    if isinstance(error, MemoryError):
        return {"kind": "MachineError", "message": "The memory of this machine is not enough for it."}
    return {"kind": "ModelError", "message": f"Running it raised {type(error).__name__}: {error}"}


def serve(connection: Connection) -> None:
    """Answer requests until `close`, a failure, or the parent is gone."""
    session = Session()
    while True:
        try:
            request = json.loads(connection.recv_bytes())
        except (EOFError, ConnectionError):
            return
        action = request.pop("do")
        try:
            answer = getattr(session, action)(**request)
        except Exception as error:  # whatever an engine raises must reach the parent as a sentence
            answer = {"error": describe_error(error)}
        connection.send_bytes(json.dumps(answer).encode())
        if action == "close" or "error" in answer:
            return


if __name__ == "__main__":
    # Ctrl-C reaches the whole process group; the parent decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(Connection(int(sys.argv[1])))
