"""Tells on a terminal how far long work is: a bar that is drawn again, or in a log a line now and then."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from types import TracebackType
from typing import TextIO

_BAR = 24
_DRAW_EVERY_S = 0.5  # so that the seconds go on where the work is silent
_LINE_EVERY_S = 10.0


class Ticker:
    """A `progress.Progress`, and a context manager that ends with the line cleared. It may be called from any thread.

    Before `patience_s` it says nothing: what is done by then needs no words. Needs no library; only ASCII is
    written. What the stream refuses to take (a reader that has gone) is not the work's business: it goes on in
    silence.
    """

    def __init__(self, stream: TextIO | None = None, *, every_s: float | None = None, patience_s: float = 0.0) -> None:
        self._patience_s = patience_s
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._every_s = every_s if every_s is not None else (_DRAW_EVERY_S if self._terminal else _LINE_EVERY_S)
        self._lock = threading.Lock()
        self._state: tuple[int, int, str] | None = None
        self._began = self._shown = time.monotonic()
        self._drawn = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __call__(self, done: int, total: int, text: str) -> None:
        with self._lock:
            fresh = self._state is None or _work(self._state[2]) != _work(text)
            self._state = (done, total, text)
            if fresh or self._terminal:
                self._show()

    def __enter__(self) -> Ticker:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._terminal and self._drawn:
            self._write(f"\r{' ' * self._drawn}\r")

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            with self._lock:
                if self._state is not None and time.monotonic() - self._shown >= self._every_s:
                    self._show()

    def _show(self) -> None:
        assert self._state is not None
        if time.monotonic() - self._began < self._patience_s:
            return
        self._shown = time.monotonic()
        seconds = int(self._shown - self._began)
        words = line(*self._state, seconds, bar=self._terminal)
        if not self._terminal:
            self._write(f"{words}\n")
            return
        width = shutil.get_terminal_size().columns - 1
        words = words[:width]
        self._write(f"\r{words.ljust(self._drawn)}")
        self._drawn = len(words)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text.encode("ascii", "replace").decode())
            self._stream.flush()
        except (OSError, ValueError):  # closed
            self._stop.set()


def line(done: int, total: int, text: str, seconds: int, *, bar: bool) -> str:
    """ "[######------]  50 % 1:05 building" with a bar, "building, 50 %, 1:05" without; no share where none is done."""
    clock = f"{seconds // 60}:{seconds % 60:02d}"
    share = done / total if total and done else None
    if not bar:
        return ", ".join([text, *([] if share is None else [f"{share:.0%}"]), clock])
    filled = round(_BAR * (share or 0.0))
    percent = "     " if share is None else f"{100 * share:3.0f} %"
    return f"[{'#' * filled}{'-' * (_BAR - filled)}] {percent} {clock} {text}"


def _work(text: str) -> str:
    """What is being done, without the phase that it is in: TensorRT has hundreds of those."""
    return text.partition(": ")[0]
