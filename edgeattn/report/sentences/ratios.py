"""A latency ratio in words: how much faster than the reference, and than the float parent."""

from __future__ import annotations

from collections.abc import Sequence

from edgeattn.report import wording
from edgeattn.report.facts import Report, Row, bounds, dig, float_parent, not_worth_it, selected_row
from edgeattn.report.sentences.metric import reference_of


def against_reference(row: Row) -> str:
    """The row's latency against the reference's; says so when it was not the device that was timed."""
    name, other = wording.precision(row["variant"]), reference_of(row)
    text = speed(dig(row, "latency", "ratio_to_reference"), bounds(row, "latency", "ratio_ci95"), name, other)
    return f"{text}; emulated, not the device" if row["emulated"] else text


def speed(ratio: float | None, interval: Sequence[float] | None, name: str, other: str) -> str:
    """A latency ratio (below 1 is faster) in words; the interval is the ratio's, turned into speed."""
    if ratio is None or ratio <= 0:
        return f"{name} was not timed against {other}"
    if interval is None or interval[0] <= 0:
        return f"{name} took {wording.ratio(ratio)} of the time of {other}; without interval, this decides nothing"
    low, high = interval
    if low <= 1 <= high:
        return (
            f"{name} is no faster than {other} beyond chance: {wording.ratio(ratio)} of its time, "
            f"{wording.CI} between {wording.ratio(low)} and {wording.ratio(high)}"
        )
    if high < 1:
        return f"{name} is {wording.times(1 / ratio)} as fast as {other} ({wording.CI} {speeds(interval)})"
    return (
        f"{name} is slower than {other}: {wording.ratio(ratio)} of its time, "
        f"{wording.CI} between {wording.ratio(low)} and {wording.ratio(high)}"
    )


def speeds(interval: Sequence[float]) -> str:
    """An interval of latency ratios as one of speeds: (0.4, 0.625) -> "1.60 to 2.50"."""
    return f"{wording.times(1 / interval[1])[:-1]} to {wording.times(1 / interval[0])[:-1]}"


def against_parent(row: Row, *, ships: bool) -> str | None:
    """The engine against its float parent, or None when it has none. What ships is never said not to be worth it."""
    parent = float_parent(row)
    if parent is None:
        return None
    name, other = wording.precision(row["variant"]), wording.precision(str(parent["variant"]))
    text = speed(dig(parent, "ratio"), bounds(parent, "ratio_ci95"), name, other)
    text = f"{text}; not worth it" if not_worth_it(row) and not ships else text
    return f"{text}; emulated, not the device" if row["emulated"] else text


def worth(report: Report) -> list[str]:
    """One sentence per engine that has a float parent."""
    chosen = selected_row(report)
    found = (against_parent(row, ships=row is chosen) for row in report["rows"])
    return [text for text in found if text is not None]
