"""Which variant ships: the fastest one inside the budget, and not a less precise one unless it is provably faster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeattn.stats import Interval, overlaps, within_limit

# From the most precise form to the least: a later one must earn its place against an earlier one.
ORDER = ("fp32", "fp16", "bf16", "int8")


@dataclass(frozen=True)
class Limits:
    """The budget; None = not limited."""

    metric_drop_max: float | None = None
    latency_p99_ms_max: float | None = None
    size_mb_max: float | None = None
    sqnr_db_min: float | None = None


@dataclass(frozen=True)
class Candidate:
    """What the decision needs of one engine. `ratio` and `ratio_ci95` are against the reference.

    `metric` and `unit` are for sentences alone; "" where the metric is a share of 1.

    `parent` is `{"variant", "ratio", "ratio_ci95"}` from the same rounds, or None.
    """

    variant: str
    metric_delta: float | None
    higher_is_better: bool
    sqnr_db: float | None
    p99_ms: float | None
    size_mb: float | None
    ratio: float | None
    ratio_ci95: Interval | None
    parent: Mapping[str, Any] | None
    metric: str = "the metric"
    unit: str = ""


@dataclass(frozen=True)
class Selection:
    """`variant` is None when no engine is inside the budget; `why` says in sentences what was weighed."""

    variant: str | None
    why: tuple[str, ...]


def misses(candidate: Candidate, limits: Limits) -> list[str]:
    """One sentence per limit that the engine breaks; empty when it is inside the budget.

    A limit whose figure was not measured counts as missed: nothing ships on a figure that is not there. An SQNR that is
    null because the outputs are equal cannot be told from one not measured, so callers pass infinity.
    """
    drop = None
    if candidate.metric_delta is not None:
        drop = -candidate.metric_delta if candidate.higher_is_better else candidate.metric_delta
    unit = {"%": "points "}.get(candidate.unit, f"{candidate.unit} " if candidate.unit else "")
    checks = (
        ("loses", drop, f"{unit}of {candidate.metric}", limits.metric_drop_max, "at most"),
        ("takes", candidate.p99_ms, "ms at p99", limits.latency_p99_ms_max, "at most"),
        ("is", candidate.size_mb, "MB large", limits.size_mb_max, "at most"),
    )
    found = [
        f"{candidate.variant} {verb} {_figure(value)} {what}, {bound} {limit:g} allowed"
        for verb, value, what, limit, bound in checks
        if limit is not None and (value is None or not within_limit(value, limit))
    ]
    least = limits.sqnr_db_min
    if least is not None and (candidate.sqnr_db is None or not within_limit(candidate.sqnr_db, least, least=True)):
        found.append(f"{candidate.variant} keeps {_figure(candidate.sqnr_db)} dB SQNR, at least {least:g} asked")
    return found


def select(candidates: Sequence[Candidate], limits: Limits) -> Selection:
    """Walk from the most precise variant to the least; move on only to one whose latency interval is clearly lower."""
    chosen: Candidate | None = None
    why: list[str] = []
    for candidate in sorted(candidates, key=lambda c: ORDER.index(c.variant)):
        missed = misses(candidate, limits)
        if missed:
            why += [f"{sentence}." for sentence in missed]
        elif chosen is None:
            chosen = candidate
        elif (verdict := _faster(candidate, chosen))[0]:
            why.append(f"{candidate.variant} is faster than {chosen.variant} ({verdict[1]}).")
            chosen = candidate
        else:
            why.append(f"{candidate.variant} is not worth it against {chosen.variant} ({verdict[1]}).")
    if chosen is None:
        return Selection(None, (*why, "No engine is inside the budget."))
    return Selection(chosen.variant, (*why, f"{chosen.variant} is the fastest engine inside the budget."))


def _faster(candidate: Candidate, other: Candidate) -> tuple[bool, str]:
    """Whether `candidate` is faster beyond the noise, with the figure that says so."""
    parent = candidate.parent
    if parent is not None and parent["variant"] == other.variant:
        low, high = parent["ratio_ci95"]
        return high < 1.0, f"latency ratio {parent['ratio']:.2f}, 95 % {low:.2f} to {high:.2f}"
    if candidate.ratio is None or other.ratio is None or candidate.ratio_ci95 is None or other.ratio_ci95 is None:
        return False, "its latency was not measured"
    # Not compared directly: both against the reference, whose own noise then counts twice. On the safe side.
    apart = not overlaps(candidate.ratio_ci95, other.ratio_ci95) and candidate.ratio < other.ratio
    return apart, f"{candidate.ratio:.3f} against {other.ratio:.3f} of the reference's latency"


def _figure(value: float | None) -> str:
    return "an unmeasured amount" if value is None else f"{value:.3g}"
