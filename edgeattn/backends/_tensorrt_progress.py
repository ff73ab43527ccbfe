"""A long call into TensorRT that tells how far it is and can be interrupted.

The call runs in a thread of its own. In the main thread Ctrl-C would raise inside whatever callback TensorRT makes
next, which its binding prints or dies of; this way the main thread stays Python's, is interrupted as usual, and asks
the builder to stop: `step_complete` returns False, the builder returns without a plan, and the interrupt goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from edgeattn.progress import Progress

_Result = TypeVar("_Result")
_TOLD_EVERY_S = 0.1


class Watch:
    """How far the builder is; `cancel` stops it at its next step. Its methods may be called from any thread."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._phases: dict[str, tuple[int, int]] = {}
        self._told: tuple[int, int, str] | None = None

    def cancel(self) -> None:
        self._cancelled.set()

    def start(self, phase: str, steps: int) -> None:
        with self._lock:
            self._phases[phase] = (0, max(steps, 1))

    def step(self, phase: str, step: int) -> bool:
        """False when the builder shall stop."""
        with self._lock:
            if phase in self._phases:
                steps = self._phases[phase][1]
                self._phases[phase] = (min(step + 1, steps), steps)
        return not self._cancelled.is_set()

    def finish(self, phase: str) -> None:
        with self._lock:
            self._phases.pop(phase, None)

    def tell(self, progress: Progress, text: str) -> None:
        """Tell of the phase that began last, which is the innermost, when something changed."""
        with self._lock:
            phase, (done, steps) = next(reversed(self._phases.items()), ("", (0, 1)))
        told = (done, steps, f"{text}: {phase}" if phase else text)
        if told != self._told:
            self._told = told
            progress(*told)


def monitor(trt: Any, watch: Watch) -> Any | None:
    """TensorRT's `IProgressMonitor` that feeds `watch`; None in a version without one."""
    if not hasattr(trt, "IProgressMonitor"):
        return None

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

    On an interrupt, or an error of the listener, the builder is asked to stop and waited for; a second interrupt does
    not wait.
    """
    results: list[_Result] = []
    errors: list[BaseException] = []
    # Not Thread.join: interrupted once, it takes the thread for ended (CPython 3.10 and 3.11).
    ended = threading.Event()

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # raised again below, in the thread that asked
            errors.append(error)
        finally:
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
