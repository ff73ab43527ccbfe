"""How far each row has drifted from the reference, in the metric and in its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeattn.report import canvas, placing, wording
from edgeattn.report.canvas import ACCENT, BAD, INK, MUTED
from edgeattn.report.facts import Report, Row, bounds, dig, selected_row
from edgeattn.report.plots.rows import ROW, label_width, named, rows_axis
from edgeattn.report.scale import Scale, scale_of
from edgeattn.report.sentences import compared


def draw(report: Report) -> str | None:
    """Per row: the metric's difference from the reference with its interval, and the SQNR of the outputs."""
    shown = [
        (label, row)
        for label, row in named(report["rows"])
        if dig(row, "drift", "metric_delta") is not None or dig(row, "drift", "sqnr_db") is not None
    ]
    if not any(compared(row) for _, row in shown):
        return None
    fig = canvas.figure(82 + ROW * len(shown))
    left = label_width(shown)
    middle = left + 0.56 * (canvas.WIDTH - left)
    delta_axes = canvas.place(fig, left, 62, canvas.WIDTH - middle + 14, 20)
    sqnr_axes = canvas.place(fig, middle + 14, 62, 30, 20)
    rows_axis(delta_axes, [label for label, _ in shown])
    rows_axis(sqnr_axes, [""] * len(shown))
    chosen = selected_row(report)
    scale = scale_of(next((row for _, row in shown if row["metric"]), None))
    _deltas(delta_axes, shown, chosen, dig(report, "budget", "metric_drop_max"), scale)
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
    unit = ", ".join(text for text in (wording.delta_unit(scale.unit), scale.direction) if text)
    # Ends with the axes: a long name then reaches below the rows' names, not below the other axes.
    delta_axes.set_xlabel(f"change of {scale.name}\n{unit}", loc="right", multialignment="right")
    sqnr_axes.set_xlabel("SQNR, dB")
    return canvas.inline_svg(fig, "drift")


def _deltas(
    axes: Any, shown: Sequence[tuple[str, Row]], chosen: Row | None, drop_max: float | None, scale: Scale
) -> None:
    axes.axvline(0, color=MUTED, linewidth=1)
    for index, (_, row) in enumerate(shown):
        value, interval = dig(row, "drift", "metric_delta"), bounds(row, "drift", "ci95")
        colour = ACCENT if row is chosen else INK
        if value is None:
            continue
        if interval is not None:
            axes.plot(interval, [index] * 2, color=colour, linewidth=1.6, solid_capstyle="round")
        axes.plot(value, index, "o", color=colour, markersize=6)
    if drop_max is not None:
        _limit_line(axes, -drop_max if scale.higher_is_better else drop_max)
    low, high = axes.get_xlim()
    # All exact: a scale for nothing is better than one of 1e-9.
    if high - low < 1e-6:
        axes.set_xlim(-1, 1)
    axes.xaxis.set_major_locator(placing.nice(4))


def _limit_line(axes: Any, at: float | None) -> None:
    if at is not None:
        axes.axvline(at, color=BAD, linewidth=1, linestyle=(0, (3, 3)))
        axes.text(at, -0.85, "budget", color=BAD, fontsize=11, ha="center", va="center")
