"""What became of the accuracy, in a row and from stage to stage."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgeattn.report import wording
from edgeattn.report.facts import Row, dig, drop, drop_interval


def unit_of(row: Row | None) -> str:
    """The unit of the row's metric, empty when it has none."""
    return str(dig(row, "metric", "unit") or "")


def accuracy(row: Row, drop_max: float | None) -> str:
    """What became of the accuracy: "INT8 keeps the accuracy: −0.10 point, 95 % between −0.45 and +0.25"."""
    name, unit = wording.precision(row["variant"]), unit_of(row)
    lost, bounds = drop(row), drop_interval(row)
    if lost is None:
        return f"{name}: the accuracy was not compared with {reference_of(row)}"
    figures = wording.delta(dig(row, "drift", "metric_delta"), unit) + _between(row, unit)
    return f"{name} {_accuracy_verb(lost, bounds, drop_max, unit)}: {figures}"


def _accuracy_verb(lost: float, bounds: tuple[float, float] | None, drop_max: float | None, unit: str) -> str:
    limit = ""
    if drop_max is not None:
        limit = wording.with_unit(wording.fixed(drop_max, wording.digits_of(unit)), wording.delta_unit(unit, drop_max))
        if lost > drop_max:
            return f"loses more accuracy than the budget of {limit} allows"
    best, worst = bounds or (math.nan, math.nan)  # no comparison with NaN holds
    past = drop_max is not None and worst > drop_max
    cases = (
        (bounds is None, "changed the accuracy by an amount without interval"),
        (best == worst == 0, "scores the same as the reference"),
        (best > 0, "loses accuracy" + (f", inside the budget of {limit}" if limit else "")),
        (worst < 0, "gains accuracy"),
        (drop_max is None, "shows no loss beyond chance"),
        (past, f"shows no loss beyond chance, though its interval reaches past the budget of {limit}"),
    )
    return next((text for holds, text in cases if holds), "keeps the accuracy")


def _between(row: Row, unit: str) -> str:
    bounds = dig(row, "drift", "ci95")
    if bounds is None:
        return ""
    digits = wording.digits_of(unit)
    return f", {wording.CI} between {wording.signed(bounds[0], digits)} and {wording.signed(bounds[1], digits)}"


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
        bounds, lost = drop_interval(row), drop(row)
        if bounds is not None and lost is not None and not bounds[0] <= 0 <= bounds[1]:
            verb = "is lost" if lost > 0 else "is gained"
            figures = wording.delta(row["drift"]["metric_delta"], unit_of(row)) + _between(row, unit_of(row))
            return f"Accuracy {verb} at {row['stage']}: {figures}"
    if all(row["drift"]["metric_delta"] == 0 and not any(dig(row, "drift", "ci95") or [1]) for row in measured):
        return "No stage changed a single score"
    return "No stage moved the accuracy beyond chance"
