"""The closing summary of a run: fits a screen, answers whether it ships, which variant, what was lost and won."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgeattn.report.wording import digits_of

_PLAIN_WIDTH = 140  # in a log nothing is gained by folding
_INTERVALS_WIDTH = 110  # a narrower terminal gets the figures alone; their intervals are in the report


def show(report: dict[str, Any], folder: Path, bundle: Path | None) -> None:
    """Print the summary on standard output."""
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    intervals = console.width >= _INTERVALS_WIDTH
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    columns: tuple[tuple[str, Literal["left", "right"]], ...] = (
        ("stage/variant", "left"),
        ("status", "left"),
        ("metric (95 %)", "right"),
        ("delta (95 %)", "right"),
        ("SQNR", "right"),
        ("p50 ms", "right"),
        ("ratio (95 %)", "right"),
        ("MB", "right"),
    )
    for heading, justify in columns:
        shown = heading if intervals else heading.removesuffix(" (95 %)")
        table.add_column(shown, justify=justify, no_wrap=True)
    for row in report["rows"]:
        table.add_row(*_cells(row, intervals))
    console.print(table)
    for row in report["rows"]:
        if row["reason"]:
            console.print(f"{row['stage']}/{row['variant']}: {escape(row['reason'])}", style="yellow", soft_wrap=False)
    verdict = report["verdict"]
    word = "[bold green]PASSED[/]" if verdict["passed"] else "[bold red]NOT PASSED[/]"
    console.print(f"\n{word}  {escape(' '.join(verdict['reasons']))}", soft_wrap=False)
    if bundle:
        console.print(f"bundle  {escape(str(bundle))}")
    console.print(f"report  {escape(str(folder / 'report.html'))}   ({report['wall_seconds']:.1f} s)")


def _cells(row: dict[str, Any], intervals: bool) -> list[str]:
    metric, drift, latency = row["metric"], row["drift"], row["latency"]
    size = row["artifact"]["size_bytes"] / 1e6 if row["artifact"] else None
    places = digits_of(metric.get("unit", "%")) if metric else 2
    return [
        f"{row['stage']}/{row['variant']}",
        row["status"],
        _interval(metric and metric["value"], intervals and metric and metric["ci95"], f"{{:.{places}f}}"),
        _interval(drift and drift["metric_delta"], intervals and drift and drift["ci95"], f"{{:+.{places}f}}"),
        _sqnr(drift),
        f"{latency['p50_ms']:.3f}" if latency else "–",
        _interval(latency and latency["ratio_to_reference"], intervals and latency and latency["ratio_ci95"], "{:.3f}"),
        f"{size:.2f}" if size is not None else "–",
    ]


def _sqnr(drift: dict[str, Any] | None) -> str:
    """JSON knows no infinity: equal outputs have no SQNR and no difference either."""
    if drift is None or (drift["sqnr_db"] is None and drift["max_abs"] != 0):
        return "–"
    return "exact" if drift["sqnr_db"] is None else f"{drift['sqnr_db']:.1f} dB"


def _interval(value: float | None, interval: list[float] | Literal[False] | None, form: str) -> str:
    if value is None:
        return "–"
    if not interval or None in interval:
        return form.format(value)
    return f"{form.format(value)} ({form.format(interval[0])} to {form.format(interval[1])})"
