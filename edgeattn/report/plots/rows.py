"""The rows of a report as the lines of a plot: their labels and the axis that names them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeattn.report.canvas import CHAR, LINE
from edgeattn.report.facts import Row, labels

ROW = 26  # units of height per row of a category plot
LABEL = 26  # characters of a row's label that a plot shows


def rows_axis(axes: Any, names: Sequence[str]) -> None:
    """One row per name from top to bottom, grid lines across, no frame."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -1.1)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(True, axis="x", linewidth=0.7)
    for row in range(len(names)):
        axes.axhline(row, color=LINE, linewidth=0.5, zorder=0)


def named(rows: Sequence[Row]) -> list[tuple[str, Row]]:
    """Rows with their labels, cut to what a plot has room for."""
    return [(short(label), row) for label, row in zip(labels(rows), rows, strict=True)]


def short(label: str) -> str:
    """The label, cut to what a plot has room for."""
    return label if len(label) <= LABEL else label[: LABEL - 1] + "…"


def label_width(shown: Sequence[tuple[str, Row]]) -> float:
    """The room that the longest label takes, in units of width."""
    return 14 + CHAR * max(len(label) for label, _ in shown)
