"""How the training went."""

from __future__ import annotations

from collections.abc import Mapping

from edgeattn.report import canvas, placing
from edgeattn.report.canvas import ACCENT, INK, MUTED
from edgeattn.report.facts import Report, dig, reference_row
from edgeattn.report.plots.rows import short
from edgeattn.report.scale import scale_of


def draw(report: Report) -> str | None:
    """Loss on the training images and metric on held-out images, over the epochs."""
    history = dig(report, "training", "history") if isinstance(report.get("training"), Mapping) else None
    if not history:
        return None
    fig = canvas.figure(210)
    metric = short(f"held-out {scale_of(reference_row(report)).head}")
    titles = (("train_loss", "training loss"), ("eval_metric", metric))
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
