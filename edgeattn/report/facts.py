"""Reading a report: which row is the reference, which ships, which limits hold. Pure functions, no wording."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeattn.stats import within_limit

Row = Mapping[str, Any]
Report = Mapping[str, Any]

STAGES = ("train", "export", "quantize", "compile", "bundle")
DONE = ("ok", "cached")


def dig(value: Any, *keys: str) -> Any:
    """`value[a][b]...`, or None as soon as a step is missing or null. For fields an older report may lack."""
    for key in keys:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def bounds(value: Any, *keys: str) -> tuple[float, float] | None:
    """The interval there as (low, high); None when it is missing or an end of it could not be told."""
    found = dig(value, *keys)
    return None if found is None or None in found else (found[0], found[1])


def labels(rows: Sequence[Row]) -> list[str]:
    """`stage/variant` per row; the backend is added where two rows would share a name."""
    names = [f"{row['stage']}/{row['variant']}" for row in rows]
    count = Counter(names)
    return [
        f"{name} {row['backend']}" if count[name] > 1 and row["backend"] else name
        for name, row in zip(names, rows, strict=True)
    ]


def where_engines_run(report: Report, row: Row) -> bool:
    """Whether the row was timed on the machine that the engines are for: latencies of two machines are not compared.

    True of all rows where that is the machine that made the report.
    """
    return dig(report, "host", "device", "address") is None or row["stage"] in ("compile", "bundle")


def reference_name(report: Report) -> str:
    """The row every drift is measured against, such as `train/fp32`."""
    names = (dig(row, "drift", "reference") for row in report["rows"])
    return next((str(name) for name in names if name), "train/fp32")


def reference_row(report: Report) -> Row | None:
    """The row of that name, or None when the report lacks it."""
    name = reference_name(report)
    return next((row for row in report["rows"] if f"{row['stage']}/{row['variant']}" == name), None)


def selected_row(report: Report) -> Row | None:
    """The engine that ships: it has the selected hash and variant. Of several, the last one with the most figures."""
    selected = report["selected"]
    if selected is None:
        return None
    rows = [
        row
        for row in report["rows"]
        if dig(row, "artifact", "sha256") == selected["artifact_sha256"] and row["variant"] == selected["variant"]
    ]
    rows = [row for row in rows if row["stage"] != "bundle"] or rows
    same = [row for row in rows if row["backend"] == selected["backend"]] or rows
    figures = [sum(row[part] is not None for part in ("metric", "drift", "latency")) for row in same]
    return max(zip(figures, range(len(same)), same, strict=True), key=lambda item: item[:2])[2] if same else None


def bundle_row(report: Report, row: Row | None) -> Row | None:
    """The finished bundle of the engine `row`; None when there is none."""
    if row is None or row is not selected_row(report):
        return None
    return next(
        (
            other
            for other in report["rows"]
            if other["stage"] == "bundle" and other["variant"] == row["variant"] and other["status"] in DONE
        ),
        None,
    )


def drop(row: Row | None) -> float | None:
    """How much worse than the reference, in the metric's unit: positive is worse, whichever way the metric runs."""
    delta = dig(row, "drift", "metric_delta")
    if delta is None:
        return None
    return float(-delta if higher_is_better(row) else delta)


def drop_interval(row: Row | None) -> tuple[float, float] | None:
    """The 95 % interval of `drop`, (best case, worst case)."""
    interval = bounds(row, "drift", "ci95")
    if interval is None:
        return None
    low, high = interval
    return (-high, -low) if higher_is_better(row) else (low, high)


def higher_is_better(row: Row | None) -> bool:
    """Which way the row's metric runs; upwards when the row has none."""
    better = dig(row, "metric", "higher_is_better")
    return True if better is None else bool(better)


def float_parent(row: Row) -> Mapping[str, Any] | None:
    """The latency against the engine's float parent; None for what is no engine or has another kind of parent.

    A quantize row's stand-in runtime judges accuracy, not speed, and a bundle's parent is the engine inside it.
    """
    parent: Mapping[str, Any] | None = dig(row, "latency", "parent")
    if dig(row, "stage") != "compile" or parent is None or not re.match(r"(fp|bf)\d", str(parent["variant"])):
        return None
    return parent


def not_worth_it(row: Row) -> bool:
    """True when the engine's latency interval against its float parent does not lie below 1."""
    interval = bounds(float_parent(row), "ratio_ci95")
    return interval is not None and interval[1] >= 1.0


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other beats on both axes: (latency, lower is better; goodness, higher is better).

    [(1, 5), (2, 6), (3, 4)] -> [0, 1]. Sorted by latency; of equal points the first stays.
    """
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1], i)):
        if not front or points[index][1] > points[front[-1]][1]:
            front.append(index)
    return front


def path(report: Report) -> list[Row]:
    """The rows on the way to what ships, one per stage: the selected variant's, or the FP32 one it was made from."""
    chosen = selected_row(report)
    variant, backend = (chosen["variant"], chosen["backend"]) if chosen else ("fp32", None)
    found: list[Row] = []
    for stage in STAGES:
        rows = [row for row in report["rows"] if row["stage"] == stage]
        own = [row for row in rows if row["variant"] == variant]
        first = [row for row in rows if row["variant"] == "fp32"] if stage in ("train", "export") else []
        match = next((row for row in own if row["backend"] == backend), None) or next(iter(own or first), None)
        if match is not None:
            found.append(match)
    return found


@dataclass(frozen=True)
class Limit:
    """One line of the budget held against what ships. `passed` is None when it could not be measured."""

    key: str
    limit: float
    value: float | None
    passed: bool | None
    # The limit holds for the estimate, but the worse end of its 95 % interval lies beyond.
    uncertain: bool = False


def _size_mb(row: Row | None) -> float | None:
    size = dig(row, "artifact", "size_bytes")
    return None if size is None else size / 1e6


# key -> how it is read from a row
LIMITS: dict[str, Callable[[Row | None], float | None]] = {
    "metric_drop_max": drop,
    "sqnr_db_min": lambda row: dig(row, "drift", "sqnr_db"),
    "latency_p50_ms_max": lambda row: dig(row, "latency", "p50_ms"),
    "latency_p99_ms_max": lambda row: dig(row, "latency", "p99_ms"),
    "size_mb_max": _size_mb,
    "peak_rss_mb_max": lambda row: dig(row, "memory", "peak_rss_mb"),
}
# What the device itself must have measured.
MEASURED_THERE = ("latency_p50_ms_max", "latency_p99_ms_max", "peak_rss_mb_max")
# Read from the bundle where there is one: it is the bundle that an app stores and calls.
OF_THE_BUNDLE = (*MEASURED_THERE, "size_mb_max")


def limits(report: Report, row: Row | None) -> list[Limit]:
    """Every limit of the budget against the engine `row` and its bundle, in the budget's order; null limits left out.

    Accuracy and SQNR are the engine's; latency, size and memory the bundle's where there is one, else the engine's.
    A key ending in `_min` is a lower limit, every other one an upper limit. An emulated latency or memory settles
    nothing. A row identical to the reference (`max_abs` 0) passes any SQNR, which is infinite then.
    """
    found = []
    bundle = bundle_row(report, row)
    for key, limit in report["budget"].items():
        if limit is None:
            continue
        judged = bundle if bundle is not None and key in OF_THE_BUNDLE else row
        emulated = key in MEASURED_THERE and dig(judged, "emulated")
        value = None if emulated or key not in LIMITS else LIMITS[key](judged)
        if value is None:
            exact = key == "sqnr_db_min" and dig(row, "drift", "max_abs") == 0
            found.append(Limit(key, limit, None, True if exact else None))
            continue
        passed = within_limit(value, limit, least=key.endswith("_min"))
        worst = drop_interval(row) if key == "metric_drop_max" else None
        found.append(Limit(key, limit, value, passed, bool(passed and worst and not within_limit(worst[1], limit))))
    return found
