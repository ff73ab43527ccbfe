"""The plots of report.html, each a pure function from a report to inline SVG, or None when nothing was measured."""

from __future__ import annotations

from collections.abc import Callable

from edgeattn.report import canvas
from edgeattn.report.facts import Report
from edgeattn.report.plots import drift, latency, size, trade, training


def all_plots(report: Report) -> dict[str, str]:
    """Every plot that has something to show, by name."""
    makers: dict[str, Callable[[Report], str | None]] = {
        "trade": trade.draw,
        "drift": drift.draw,
        "latency": latency.draw,
        "size": size.draw,
        "training": training.draw,
    }
    with canvas.style():
        drawn = {name: make(report) for name, make in makers.items()}
    return {name: svg for name, svg in drawn.items() if svg is not None}
