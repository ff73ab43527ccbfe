"""What a person sees while a run goes on: a live line on a terminal, plain lines in CI. All of it on standard error."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from edgeattn.pipeline.rows import Row
from edgeattn.report.wording import digits_of, fixed

_PLAIN_EVERY_S = 10.0
_STYLES = {"ok": "green", "cached": "dim", "failed": "bold red", "unsupported": "yellow", "deferred": "yellow"}


class RunConsole:
    """Use as a context manager; `progress` and `row` are handed to the pipeline."""

    def __init__(self, quiet: bool = False, verbose: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self._verbose = verbose
        self._live = (
            Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TimeElapsedColumn(),
                console=self.console,
                transient=True,
            )
            if self.console.is_terminal and not quiet
            else None
        )
        self._task = self._live.add_task("starting", total=None) if self._live else None
        self._last_text = ""
        self._last_time = 0.0

    def __enter__(self) -> RunConsole:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def progress(self, done: int, total: int, text: str) -> None:
        """The pipeline's progress; in CI a line when the step changes or ten seconds have passed."""
        if self._live and self._task is not None:
            known = total if total > 1 else None
            self._live.update(self._task, completed=done, total=known, description=escape(text))
            return
        now = time.monotonic()
        step = text.split(",")[0].split(":")[0]
        if self._verbose or step != self._last_text or now - self._last_time > _PLAIN_EVERY_S:
            share = f" {done}/{total}" if total > 1 else ""
            if self._verbose or not (step.startswith("epoch") and now - self._last_time < _PLAIN_EVERY_S):
                self.console.print(f"  {escape(text)}{share}")
                self._last_text, self._last_time = step, now

    def row(self, row: Row) -> None:
        """One finished row of the report."""
        self.console.print(f"[{_STYLES[row.status]}]{row.status:>11}[/]  {row.name:<15} {escape(describe(row))}")

    def note(self, message: str) -> None:
        self.console.print(escape(message))


def describe(row: Row) -> str:
    """A row in one line: metric, drift, latency, or why there is none."""
    if row.reason:
        return row.reason
    parts = []
    if row.metric:
        metric, places = row.metric, digits_of(row.metric["unit"])
        text = f"{metric['name']} {fixed(metric['value'], places)} {metric['unit']}".rstrip()
        if None not in metric["ci95"]:
            text += " ({:.{p}f} to {:.{p}f})".format(*metric["ci95"], p=places)
        parts.append(text)
    if row.drift and row.drift["sqnr_db"] is not None:
        parts.append(f"{row.drift['sqnr_db']:.1f} dB")
    if row.latency:
        # On another machine the reference does not run; what engines are compared with there is told with it.
        timed = row.latency if row.latency["ratio_to_reference"] is not None else row.latency["device_ratio"]
        ratio, (low, high) = timed.get("ratio_to_reference", timed.get("ratio")), timed["ratio_ci95"]
        of = f" of {timed['reference']}" if "reference" in timed else ""
        parts.append(f"p50 {row.latency['p50_ms']:.3f} ms, x{ratio:.3f} ({low:.3f} to {high:.3f}){of}")
    if row.seconds is not None and row.status != "cached":
        parts.append(f"{row.seconds:.1f} s")
    return "; ".join(parts)
