"""How the latencies were taken: what all rows share is said once, the rest is a line per row. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgeattn.report import wording
from edgeattn.report.facts import Report, Row, dig, labels

_TILED = "engine calls (its tiles)"  # as measure/latency.py says it of a row whose frames are cut into tiles


def caption(report: Report) -> str:
    """Calls or frames, threads, batch, what the clock spans, whatever else every timed row's protocol says, and how far
    the ratios' intervals reach; "" if no row was timed."""
    timed = [row for row in report["rows"] if row["latency"]]
    if not timed:
        return ""
    threads = _range([dig(row, "latency", "threads") for row in timed])
    parts = [
        f"{_range([dig(row, 'latency', 'n') for row in timed])} {_counted(timed)} per row",
        f"{threads} {'thread' if threads == '1' else 'threads'}",
        f"batch {_range([dig(row, 'latency', 'batch') for row in timed])}",
    ]
    known = ", ".join(part for part in parts if not part.startswith(wording.NOTHING))
    texts = [known, span(report), _shared(timed), _reach(timed)]
    return " ".join(wording.stopped(text) for text in texts if text)


def _counted(timed: Sequence[Row]) -> str:
    """What `n` counts: whole frames, which are calls where none takes several (tiles)."""
    return "frames" if any(_TILED in str(dig(row, "latency", "protocol")) for row in timed) else "calls"


def _reach(timed: Sequence[Row]) -> str:
    """What the intervals of the ratios do not cover; "" when no ratio has one."""
    own = any(dig(row, "latency", "ratio_ci95") for row in timed)
    if len(timed) < 2 or not (own or any(dig(row, "latency", "parent", "ratio_ci95") for row in timed)):
        return ""
    return "An interval beside a ratio holds for this run, in this state of the machine, not for changes between runs"


def span(report: Report) -> str:
    """What lies inside the measured span, from `engine_only`; "" when no row says."""
    rows = report["rows"]
    pairs = [(name, row) for name, row in zip(labels(rows), rows, strict=True) if row["latency"]]
    more = [(name, row) for name, row in pairs if dig(row, "latency", "engine_only") is False]
    alone = [name for name, row in pairs if dig(row, "latency", "engine_only") is True]
    if not more:
        return "Inside the measured span: the engine alone" if alone else ""
    text = "Inside the measured span: the call and the copies to and from the engine"
    text += f"; for {wording.listed(alone)} the engine alone" if alone else ""
    whole = [name for name, row in more if row["stage"] == "bundle"]
    return text + (f"; for {wording.listed(whole)} also frame preparation and decoding" if whole else "")


def lines(report: Report) -> list[dict[str, str]]:
    """Name and protocol per timed row; empty when all protocols are the same and the caption has said it."""
    rows = report["rows"]
    found = [
        {"name": name, "protocol": str(protocol)}
        for name, row in zip(labels(rows), rows, strict=True)
        if (protocol := dig(row, "latency", "protocol"))
    ]
    return found if len({line["protocol"] for line in found}) > 1 else []


def whole_call(row: Row) -> str | None:
    """What preparing and decoding cost: the bundle's whole call against the engine inside it; None for other rows."""
    ratio, bounds = dig(row, "latency", "parent", "ratio"), dig(row, "latency", "parent", "ratio_ci95")
    if row["stage"] != "bundle" or ratio is None:
        return None
    interval = f" ({wording.CI} {wording.ratios(bounds)})" if bounds else ""
    return f"The whole call takes {wording.times(ratio)} the engine's time{interval}."


def _shared(timed: Sequence[Row]) -> str:
    """The clauses that every protocol has, less those the structured fields have told."""
    protocols = [str(protocol) for row in timed if (protocol := dig(row, "latency", "protocol"))]
    clauses = [_clauses(protocol) for protocol in protocols]
    if not clauses:
        return ""
    common = [clause for clause in clauses[0] if all(clause in other for other in clauses)]
    kept = [clause for clause in common if not re.fullmatch(r"(threads|batch):? \d+", clause)]
    return wording.sentence("; ".join(kept)) if kept else ""


def _clauses(protocol: str) -> list[str]:
    return [clause.strip().removesuffix(".") for clause in re.split(r";\s", protocol)]


def _range(values: Sequence[int | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return wording.NOTHING
    low, high = wording.count(min(known)), wording.count(max(known))
    return low if low == high else f"{low} to {high}"
