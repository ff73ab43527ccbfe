"""What each row weighs on the disk."""

from __future__ import annotations

from edgeattn.report import canvas, wording
from edgeattn.report.canvas import ACCENT, BAD, FLOAT, INK
from edgeattn.report.facts import DONE, Report, dig, selected_row
from edgeattn.report.plots.rows import ROW, label_width, named, rows_axis


def draw(report: Report) -> str | None:
    """The artifact's size per row, as bars from zero."""
    shown = [
        (label, row)
        for label, row in named(report["rows"])
        if dig(row, "artifact", "size_bytes") is not None and row["status"] in DONE
    ]
    if not shown:
        return None
    fig = canvas.figure(30 + ROW * len(shown))
    axes = canvas.place(fig, label_width(shown), 24, 64, 6)
    rows_axis(axes, [label for label, _ in shown])
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
