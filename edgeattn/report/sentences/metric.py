"""What became of the accuracy, in a row and from stage to stage."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgeattn.report import wording
from edgeattn.report.facts import Row, bounds, dig, drop, drop_interval
from edgeattn.report.scale import Scale, scale_of


def accuracy(row: Row, drop_max: float | None) -> str:
    """What became of the accuracy: "INT8 keeps the accuracy: −0.10 point, 95 % between −0.45 and +0.25"."""
    name, scale = wording.precision(row["variant"]), scale_of(row)
    lost = drop(row)
    if lost is None:
        return f"{name}: the accuracy was not compared with {reference_of(row)}"
    return f"{name} {_accuracy_verb(lost, drop_interval(row), drop_max, scale)}: {_figures(row, scale)}"


def _accuracy_verb(lost: float, interval: tuple[float, float] | None, drop_max: float | None, scale: Scale) -> str:
    limit = ""
    if drop_max is not None:
        limit = scale.amount(drop_max)
        if lost > drop_max:
            return f"loses more accuracy than the budget of {limit} allows"
    best, worst = interval or (math.nan, math.nan)  # no comparison with NaN holds
    past = drop_max is not None and worst > drop_max
    cases = (
        (interval is None, "changed the accuracy by an amount without interval"),
        (best == worst == 0, "scores the same as the reference"),
        (best > 0, "loses accuracy" + (f", inside the budget of {limit}" if limit else "")),
        (worst < 0, "gains accuracy"),
        (drop_max is None, "shows no loss beyond chance"),
        (past, f"shows no loss beyond chance, though its interval reaches past the budget of {limit}"),
    )
    return next((text for holds, text in cases if holds), "keeps the accuracy")


def _figures(row: Row, scale: Scale) -> str:
    """The change and its interval; the interval's signs are the metric's own, as in the tables."""
    text, interval = scale.change(dig(row, "drift", "metric_delta")), bounds(row, "drift", "ci95")
    if interval is None:
        return text
    low, high = (wording.signed(end, scale.digits) for end in interval)
    return f"{text}, {wording.CI} between {low} and {high}"


def reference_of(row: Row) -> str:
    """The row that this one was compared with, by name."""
    return str(dig(row, "drift", "reference") or "the reference")


def compared(row: Row) -> bool:
    """True when the row's accuracy was held against another row's."""
    name = f"{row['stage']}/{row['variant']}"
    return dig(row, "drift", "metric_delta") is not None and row["drift"]["reference"] != name


def stages(path: Sequence[Row]) -> str:
    """Where on the way to what ships the accuracy moved: the first stage whose interval leaves zero out."""
    measured = [row for row in path if compared(row)]
    if not measured:
        return "The accuracy was not compared between stages"
    for row in measured:
        interval, lost = drop_interval(row), drop(row)
        if interval is not None and lost is not None and not interval[0] <= 0 <= interval[1]:
            verb = "is lost" if lost > 0 else "is gained"
            return f"Accuracy {verb} at {row['stage']}: {_figures(row, scale_of(row))}"
    if all(row["drift"]["metric_delta"] == 0 and bounds(row, "drift", "ci95") == (0, 0) for row in measured):
        return "No stage changed a single score"
    text = "No stage moved the accuracy beyond chance"
    known = all(bounds(row, "drift", "ci95") for row in measured)
    return text if known else f"{text}, as far as there are intervals"
