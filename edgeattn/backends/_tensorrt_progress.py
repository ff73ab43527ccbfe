"""A long call into TensorRT that tells how far it is and can be interrupted.

The call runs in a thread of its own. In the main thread Ctrl-C would raise inside whatever callback TensorRT makes
next, which its binding prints or dies of; this way the main thread stays Python's, is interrupted as usual, and asks
the builder to stop: `step_complete` returns False, the builder returns without a plan, and the interrupt goes on.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from edgeattn.progress import Progress

_Result = TypeVar("_Result")
_TOLD_EVERY_S = 0.1
_INTERRUPTED = 130  # a shell's code for what SIGINT ended


class Watch:
    """How far the builder is; `cancel` stops it at its next step. Its methods may be called from any thread."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._phases: dict[str, tuple[int, int]] = {}
        self._told: tuple[int, int, str] | None = None

    def cancel(self) -> None:
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def start(self, phase: str, steps: int) -> None:
        with self._lock:
            self._phases[phase] = (0, max(steps, 1))

    def step(self, phase: str, step: int) -> bool:
        """False when the builder shall stop."""
        with self._lock:
            if phase in self._phases:
                steps = self._phases[phase][1]
                self._phases[phase] = (min(step + 1, steps), steps)
        return not self.cancelled

    def finish(self, phase: str) -> None:
        with self._lock:
            self._phases.pop(phase, None)

    def tell(self, progress: Progress, text: str) -> None:
        """Tell of the phase that began last, which is the innermost, when something changed."""
        with self._lock:
            if not self._phases and self._told is not None:  # between two, or behind the last one
                return
            phase, (done, steps) = next(reversed(self._phases.items()), ("", (0, 1)))
        told = (done, steps, f"{text}: {phase}" if phase else text)
        if told != self._told:
            self._told = told
            progress(*told)


_running: list[tuple[Watch, threading.Event]] = []  # builders, and the event that says that one has ended
if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_running.clear)  # a forked process has no builder, and would wait for ever


@atexit.register
def _end_under_builders() -> None:
    """Let no builder call back into a Python that is being taken down: that ends in SIGABRT or SIGSEGV.

    One that was told to stop and not waited for (a second Ctrl-C) is left behind at once, with all that the process
    still had to do; any other one is told to stop and waited for.
    """
    for watch, ended in _running.copy():
        with suppress(KeyboardInterrupt):
            if not watch.cancelled:
                watch.cancel()
                ended.wait()
        if not ended.is_set():
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError, AttributeError):  # closed, or none
                    stream.flush()
            os._exit(_INTERRUPTED)


def monitor(trt: Any, watch: Watch) -> Any:
    """TensorRT's `IProgressMonitor` that feeds `watch`."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the package has no types
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            watch.start(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return watch.step(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            watch.finish(phase_name)

    return Monitor()


def watched(call: Callable[[], _Result], watch: Watch, progress: Progress, text: str) -> _Result:
    """`call()` in a thread, telling of `watch` meanwhile; what it raises, and what `progress` raises, is raised here.

    On an interrupt, or an error of the listener, the builder is asked to stop and waited for. A second interrupt does
    not wait; if the builder is still at it when the process ends, see `_end_under_builders`.
    """
    results: list[_Result] = []
    errors: list[BaseException] = []
    # Not Thread.join: interrupted once, it takes the thread for ended (CPython 3.10 and 3.11).
    ended = threading.Event()
    running = (watch, ended)

    def run() -> None:
        _running.append(running)
        try:
            results.append(call())
        except BaseException as error:  # raised again below, in the thread that asked
            errors.append(error)
        finally:
            _running.remove(running)
            ended.set()

    watch.tell(progress, text)
    try:
        threading.Thread(target=run, name="tensorrt-build", daemon=True).start()  # waits too, for it to have begun
        while not ended.wait(_TOLD_EVERY_S):
            watch.tell(progress, text)
    except BaseException:
        watch.cancel()
        ended.wait()
        raise
    if errors:
        raise errors[0]
    return results[0]
