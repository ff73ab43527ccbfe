"""The plots of report.html, each a pure function from a report to inline SVG, or None when nothing was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeattn.report import canvas, placing, wording
from edgeattn.report.canvas import ACCENT, BAD, CHAR, FLOAT, INK, LINE, MUTED, SURFACE
from edgeattn.report.facts import (
    DONE,
    Report,
    Row,
    dig,
    higher_is_better,
    labels,
    pareto,
    selected_row,
)
from edgeattn.report.sentences import compared, unit_of

ROW = 26  # units of height per row of a category plot
LABEL = 26  # characters of a row's label that a plot shows


def all_plots(report: Report) -> dict[str, str]:
    """Every plot that has something to show, by name."""
    makers: dict[str, Callable[[Report], str | None]] = {
        "trade": trade,
        "drift": drift,
        "latency": latency,
        "size": size,
        "training": training,
    }
    with canvas.style():
        drawn = {name: make(report) for name, make in makers.items()}
    return {name: svg for name, svg in drawn.items() if svg is not None}


def trade_points(report: Report) -> list[tuple[str, Row]]:
    """The rows that have both figures: their label and themselves.

    The bundle is no rival of the engine inside it: its latency spans preparation and decoding too.
    """
    return [
        (label, row)
        for label, row in zip(labels(report["rows"]), report["rows"], strict=True)
        if row["status"] in DONE
        and row["stage"] != "bundle"
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
    """The p50 in ms scaled by the 95 % interval of its ratio to the reference; None for the reference itself."""
    p50, ratio = dig(row, "latency", "p50_ms"), dig(row, "latency", "ratio_to_reference")
    bounds = dig(row, "latency", "ratio_ci95")
    if p50 is None or not ratio or bounds is None:
        return None
    return p50 * bounds[0] / ratio, p50 * bounds[1] / ratio


def trade(report: Report) -> str | None:
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
    spans_y = [dig(row, "metric", "ci95") or (b, b) for (_, row), b in zip(points, y, strict=True)]
    placing.milliseconds(axes.xaxis, [v for span in spans_x for v in span] + x, axes.set_xlim)
    low, high = min(min(s) for s in spans_y), max(max(s) for s in spans_y)
    pad = 0.14 * (high - low) or 0.5
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
        named.append(placing.Point(x[index], y[index], low_end, high_end, _short(label), colour))
        axes.plot(spans_x[index], [y[index]] * 2, color=colour, linewidth=1.2, zorder=2)
        axes.plot([x[index]] * 2, spans_y[index], color=colour, linewidth=1.2, zorder=2)
        face = SURFACE if row["emulated"] else colour
        size = 8 if row is chosen else 6
        axes.plot(x[index], y[index], "o", color=colour, markerfacecolor=face, markersize=size, zorder=3)
    placing.name_points(axes, named)
    first = points[0][1]
    better = "higher is better" if higher_is_better(first) else "lower is better"
    unit = unit_of(first)
    axes.set_ylabel(f"{first['metric']['name']}{f', {unit}' if unit else ''} ({better})")
    axes.set_xlabel("p50 latency, ms (lower is better)")
    return canvas.inline_svg(fig, "trade")


def drift(report: Report) -> str | None:
    """Per row: the metric's difference from the reference with its interval, and the SQNR of the outputs."""
    shown = [
        (label, row)
        for label, row in _named(report["rows"])
        if dig(row, "drift", "metric_delta") is not None or dig(row, "drift", "sqnr_db") is not None
    ]
    if not any(compared(row) for _, row in shown):
        return None
    fig = canvas.figure(66 + ROW * len(shown))
    left = _label_width(shown)
    middle = left + 0.56 * (canvas.WIDTH - left)
    delta_axes = canvas.place(fig, left, 46, canvas.WIDTH - middle + 14, 20)
    sqnr_axes = canvas.place(fig, middle + 14, 46, 30, 20)
    _rows_axis(delta_axes, [label for label, _ in shown])
    _rows_axis(sqnr_axes, [""] * len(shown))
    chosen = selected_row(report)
    _deltas(delta_axes, shown, chosen, dig(report, "budget", "metric_drop_max"))
    known = [row["drift"]["sqnr_db"] for _, row in shown if dig(row, "drift", "sqnr_db") is not None]
    top = max(known, default=60.0) * 1.12
    for index, (_, row) in enumerate(shown):
        value = dig(row, "drift", "sqnr_db")
        colour = ACCENT if row is chosen else MUTED
        if value is None:
            text = "exact" if dig(row, "drift", "max_abs") == 0 else wording.NOTHING
            sqnr_axes.text(0.02 * top, index, text, color=MUTED, va="center", fontsize=11)
            continue
        sqnr_axes.plot([0, value], [index] * 2, color=colour, linewidth=1.2)
        sqnr_axes.plot(value, index, "o", color=colour, markersize=5)
        sqnr_axes.text(value + 0.05 * top, index, wording.fixed(value, 0), color=INK, va="center", fontsize=11)
    sqnr_axes.set_xlim(min(0.0, *known, 0.0), top)
    sqnr_axes.xaxis.set_major_locator(placing.nice(3))
    _limit_line(sqnr_axes, dig(report, "budget", "sqnr_db_min"))
    unit = next((unit_of(row) for _, row in shown if row["metric"]), "")
    change = wording.delta_unit(unit)
    delta_axes.set_xlabel(f"change of the metric{f', {change}' if change else ''}")
    sqnr_axes.set_xlabel("SQNR, dB")
    return canvas.inline_svg(fig, "drift")


def _deltas(axes: Any, shown: Sequence[tuple[str, Row]], chosen: Row | None, drop_max: float | None) -> None:
    axes.axvline(0, color=MUTED, linewidth=1)
    for index, (_, row) in enumerate(shown):
        value, bounds = dig(row, "drift", "metric_delta"), dig(row, "drift", "ci95")
        colour = ACCENT if row is chosen else INK
        if value is None:
            continue
        if bounds is not None:
            axes.plot(bounds, [index] * 2, color=colour, linewidth=1.6, solid_capstyle="round")
        axes.plot(value, index, "o", color=colour, markersize=6)
    if drop_max is not None:
        better = next((higher_is_better(row) for _, row in shown if row["metric"]), True)
        _limit_line(axes, -drop_max if better else drop_max)
    low, high = axes.get_xlim()
    # All exact: a scale for nothing is better than one of 1e-9.
    if high - low < 1e-6:
        axes.set_xlim(-1, 1)
    axes.xaxis.set_major_locator(placing.nice(4))


def _limit_line(axes: Any, at: float | None) -> None:
    if at is not None:
        axes.axvline(at, color=BAD, linewidth=1, linestyle=(0, (3, 3)))
        axes.text(at, -0.85, "budget", color=BAD, fontsize=11, ha="center", va="center")


def latency(report: Report) -> str | None:
    """Latency against the share of calls below it, per row; the tail gets as much room as the body.

    The horizontal axis is `1 / (1 - share)`, logarithmic: 50 %, 90 % and 99 % stand about evenly. Nothing is clipped.
    """
    shown = [(label, row) for label, row in _named(report["rows"]) if dig(row, "latency", "samples_ms")]
    if not shown:
        return None
    names = [label for label, _ in shown]
    fig = canvas.figure(330)
    axes = canvas.place(fig, 50, 46, _label_width(shown), 14)
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
    """Where each of `count` sorted calls stands on the axis of `latency`: 1 / (1 - share), the share mid-call.

    Two calls stand at shares 25 % and 75 %: [1.33, 4].
    """
    return np.asarray(1 / (1 - (np.arange(count) + 0.5) / count))


def size(report: Report) -> str | None:
    """The artifact's size per row, as bars from zero."""
    shown = [
        (label, row)
        for label, row in _named(report["rows"])
        if dig(row, "artifact", "size_bytes") is not None and row["status"] in DONE
    ]
    if not shown:
        return None
    fig = canvas.figure(30 + ROW * len(shown))
    axes = canvas.place(fig, _label_width(shown), 24, 64, 6)
    _rows_axis(axes, [label for label, _ in shown])
    axes.grid(False)
    axes.set_ylim(len(shown) - 0.45, -0.6)
    values = [row["artifact"]["size_bytes"] / 1e6 for _, row in shown]
    chosen = selected_row(report)
    axes.barh(
        range(len(shown)),
        values,
        height=0.56,
        color=[ACCENT if row is chosen else FLOAT for _, row in shown],
        alpha=0.8,
    )
    top = max(values) or 1.0
    for index, (_, row) in enumerate(shown):
        text = wording.size(row["artifact"]["size_bytes"])
        axes.text(values[index] + 0.015 * top, index, text, va="center", color=INK, fontsize=11)
    limit = dig(report, "budget", "size_mb_max")
    axes.set_xlim(0, top)
    if limit is not None and limit <= top:
        axes.axvline(limit, color=BAD, linewidth=1, linestyle=(0, (3, 3)))
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    return canvas.inline_svg(fig, "size")


def training(report: Report) -> str | None:
    """Loss on the training images and metric on held-out images, over the epochs."""
    history = dig(report, "training", "history") if isinstance(report.get("training"), Mapping) else None
    if not history:
        return None
    fig = canvas.figure(210)
    titles = (("train_loss", "training loss"), ("eval_metric", "metric on held-out images"))
    for index, (key, title) in enumerate(titles):
        left = 44 + index * (canvas.WIDTH / 2 + 4)
        axes = canvas.place(fig, left, 44, canvas.WIDTH - left - canvas.WIDTH / 2 + 60, 30)
        points = [(entry["epoch"], entry[key]) for entry in history if dig(entry, key) is not None]
        if points:
            x, y = zip(*points, strict=True)
            axes.plot(x, y, "-" if len(x) > 1 else "o", color=ACCENT, linewidth=1.6)
        axes.grid(True, linewidth=0.7)
        axes.set_title(title, fontsize=canvas.FONT, color=INK, loc="left")
        axes.tick_params(labelcolor=MUTED)
        axes.xaxis.set_major_locator(placing.nice(4, whole=True))
        axes.yaxis.set_major_locator(placing.nice(4))
        axes.set_xlabel("epoch")
    return canvas.inline_svg(fig, "training")


def _rows_axis(axes: Any, names: Sequence[str]) -> None:
    """One row per name from top to bottom, grid lines across, no frame."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -1.1)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(True, axis="x", linewidth=0.7)
    for row in range(len(names)):
        axes.axhline(row, color=LINE, linewidth=0.5, zorder=0)


def _named(rows: Sequence[Row]) -> list[tuple[str, Row]]:
    """Rows with their labels, cut to what a plot has room for."""
    return [(_short(label), row) for label, row in zip(labels(rows), rows, strict=True)]


def _short(label: str) -> str:
    return label if len(label) <= LABEL else label[: LABEL - 1] + "…"


def _label_width(shown: Sequence[tuple[str, Row]]) -> float:
    return 14 + CHAR * max(len(label) for label, _ in shown)
