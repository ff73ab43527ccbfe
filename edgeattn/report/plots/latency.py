"""The distribution of each row's latency."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeattn.report import canvas, placing
from edgeattn.report.canvas import ACCENT, INK, MUTED
from edgeattn.report.facts import Report, dig, selected_row, where_engines_run
from edgeattn.report.plots.rows import label_width, named


def draw(report: Report) -> str | None:
    """Latency against the share of calls below it, per row of one machine; the tail gets as much room as the body.

    The horizontal axis is `1 / (1 - share)`, logarithmic: 50 %, 90 % and 99 % stand about evenly. Nothing is clipped.
    """
    shown = [
        (label, row)
        for label, row in named(report["rows"])
        if dig(row, "latency", "samples_ms") and where_engines_run(report, row)
    ]
    if not shown:
        return None
    names = [label for label, _ in shown]
    fig = canvas.figure(330)
    axes = canvas.place(fig, 50, 46, label_width(shown), 14)
    samples = [np.sort(np.asarray(row["latency"]["samples_ms"], np.float64)) for _, row in shown]
    longest = max(len(values) for values in samples)
    axes.set_xscale("log")
    axes.set_xlim(1, 2.2 * longest)
    shares = [share for share in (50, 90, 99, 99.9) if 1 / (1 - share / 100) <= 2 * longest]
    axes.set_xticks([1 / (1 - share / 100) for share in shares], [f"{share} %" for share in shares])
    axes.set_xticks([], minor=True)
    placing.milliseconds(axes.yaxis, [float(v) for values in samples for v in (values[0], values[-1])], axes.set_ylim)
    axes.grid(True, linewidth=0.7)
    axes.tick_params(labelcolor=MUTED)
    chosen = selected_row(report)
    for (_, row), values in zip(shown, samples, strict=True):
        colour, width = (ACCENT, 2.0) if row is chosen else (MUTED, 1.1)
        axes.plot(below(len(values)), values, drawstyle="steps-mid", color=colour, linewidth=width)
        for share, key in ((50, "p50_ms"), (90, "p90_ms"), (99, "p99_ms")):
            if dig(row, "latency", key) is not None:
                axes.plot(1 / (1 - share / 100), row["latency"][key], "o", color=colour, markersize=4)
    colours = [ACCENT if row is chosen else INK for _, row in shown]
    placing.name_lines(axes, [float(values[-1]) for values in samples], names, colours)
    axes.set_xlabel("share of calls that were at least this fast")
    axes.set_ylabel("latency, ms")
    return canvas.inline_svg(fig, "latency")


def below(count: int) -> NDArray[np.float64]:
    """Where each of `count` sorted calls stands on the axis of `draw`: 1 / (1 - share), the share mid-call.

    Two calls stand at shares 25 % and 75 %: [1.33, 4].
    """
    return np.asarray(1 / (1 - (np.arange(count) + 0.5) / count))
