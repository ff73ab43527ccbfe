"""Accuracy against latency: which rows no other beats on both."""

from __future__ import annotations

from collections.abc import Sequence

from edgeattn.report import canvas, placing
from edgeattn.report.canvas import ACCENT, INK, MUTED, SURFACE
from edgeattn.report.facts import (
    DONE,
    Report,
    Row,
    bounds,
    dig,
    higher_is_better,
    labels,
    pareto,
    selected_row,
    where_engines_run,
)
from edgeattn.report.plots.rows import short
from edgeattn.report.scale import scale_of


def trade_points(report: Report) -> list[tuple[str, Row]]:
    """The rows that have both figures: their label and themselves; those that were timed on one machine.

    The bundle is no rival of the engine inside it: its latency spans preparation and decoding too.
    """
    return [
        (label, row)
        for label, row in zip(labels(report["rows"]), report["rows"], strict=True)
        if row["status"] in DONE
        and row["stage"] != "bundle"
        and where_engines_run(report, row)
        and dig(row, "metric", "value") is not None
        and dig(row, "latency", "p50_ms") is not None
    ]


def front(points: Sequence[tuple[str, Row]]) -> list[int]:
    """The Pareto front of `trade_points`, as indices sorted by latency. Emulated rows measure no device: left out."""
    real = [index for index, (_, row) in enumerate(points) if not row["emulated"]]
    pairs = []
    for index in real:
        row = points[index][1]
        value = row["metric"]["value"]
        pairs.append((row["latency"]["p50_ms"], value if higher_is_better(row) else -value))
    return [real[i] for i in pareto(pairs)]


def p50_interval(row: Row) -> tuple[float, float] | None:
    """The p50 in ms scaled by the 95 % interval of its ratio to the reference; None for the reference itself.

    On another machine the ratio is that to the most precise engine there.
    """
    p50, ratio = dig(row, "latency", "p50_ms"), dig(row, "latency", "ratio_to_reference")
    interval = bounds(row, "latency", "ratio_ci95")
    if ratio is None:
        ratio, interval = (
            dig(row, "latency", "device_ratio", "ratio"),
            bounds(row, "latency", "device_ratio", "ratio_ci95"),
        )
    if p50 is None or not ratio or interval is None:
        return None
    return p50 * interval[0] / ratio, p50 * interval[1] / ratio


def draw(report: Report) -> str | None:
    """Metric against p50 latency, 95 % intervals on both axes, Pareto front as a dashed line."""
    points = trade_points(report)
    if not points:
        return None
    fig = canvas.figure(330)
    axes = canvas.place(fig, 58, 46, 14, 14)
    chosen = selected_row(report)
    x = [row["latency"]["p50_ms"] for _, row in points]
    y = [row["metric"]["value"] for _, row in points]
    spans_x = [p50_interval(row) or (a, a) for (_, row), a in zip(points, x, strict=True)]
    spans_y = [bounds(row, "metric", "ci95") or (b, b) for (_, row), b in zip(points, y, strict=True)]
    placing.milliseconds(axes.xaxis, [v for span in spans_x for v in span] + x, axes.set_xlim)
    low, high = min(min(s) for s in spans_y), max(max(s) for s in spans_y)
    pad = 0.14 * (high - low) or 0.01 * abs(high) or 0.5
    axes.set_ylim(low - pad, high + pad)
    axes.yaxis.set_major_locator(placing.nice(5))
    axes.tick_params(labelcolor=MUTED)
    axes.grid(True, axis="y", linewidth=0.7)
    line = front(points)
    axes.plot([x[i] for i in line], [y[i] for i in line], "--", color=MUTED, linewidth=1, zorder=1)
    named = []
    for index, (label, row) in enumerate(points):
        colour = ACCENT if row is chosen else INK if index in line else MUTED
        low_end, high_end = spans_y[index]
        named.append(placing.Point(x[index], y[index], low_end, high_end, short(label), colour))
        axes.plot(spans_x[index], [y[index]] * 2, color=colour, linewidth=1.2, zorder=2)
        axes.plot([x[index]] * 2, spans_y[index], color=colour, linewidth=1.2, zorder=2)
        face = SURFACE if row["emulated"] else colour
        size = 8 if row is chosen else 6
        axes.plot(x[index], y[index], "o", color=colour, markerfacecolor=face, markersize=size, zorder=3)
    placing.name_points(axes, named)
    scale = scale_of(points[0][1])
    axes.set_ylabel(f"{scale.head} ({scale.direction})")
    axes.set_xlabel("p50 latency, ms (lower is better)")
    return canvas.inline_svg(fig, "trade")
