"""The figures at the top of the page: accuracy, speed against reference and parent, latency, size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeattn.report import sentences, wording
from edgeattn.report.facts import Row, bounds, dig, float_parent
from edgeattn.report.scale import scale_of

Card = dict[str, Any]


def cards(row: Row | None, bundle: Row | None, reference: Row | None, budget: Mapping[str, Any]) -> list[Card]:
    """A card per figure of the engine `row`, each with its interval and its line of the `budget`.

    Latency and size are those of `bundle` where there is one, since the budget judges these.
    """
    if row is None:
        return []
    return [
        _accuracy(row, reference, budget.get("metric_drop_max")),
        *_speeds(row),
        _latency(row, bundle, budget.get("latency_p99_ms_max") or budget.get("latency_p50_ms_max")),
        _size(row, bundle, reference, budget.get("size_mb_max")),
    ]


def _accuracy(row: Row, reference: Row | None, limit: Any) -> Card:
    scale = scale_of(row)
    interval = wording.interval(dig(row, "drift", "ci95"), scale.digits, sign=True)
    lines = [_interval_line(interval, dig(row, "metric", "n"))]
    before, after = dig(reference, "metric", "value"), dig(row, "metric", "value")
    if before is not None and after is not None:
        lines.insert(0, f"{scale.name} {wording.fixed(before, scale.digits)} → {scale.value(after)}")
    return _card("Change of accuracy", scale.short(dig(row, "drift", "metric_delta")), lines, limit)


def _interval_line(interval: str, n: Any) -> str:
    parts = [
        f"{wording.CI} {interval}" if interval else "",
        f"n{wording.NBSP}={wording.NBSP}{wording.count(n)}" if n is not None else "",
    ]
    return ", ".join(part for part in parts if part)


def _speeds(row: Row) -> list[Card]:
    latency = row["latency"] or {}
    against = dig(row, "drift", "reference") or "the reference"
    title = "Speed against the reference"
    made = [_speed(title, latency.get("ratio_to_reference"), bounds(latency, "ratio_ci95"), against)]
    if row["emulated"]:
        made[0]["lines"].append("emulated, not the device")
    if parent := float_parent(row):
        other = wording.precision(str(parent["variant"]))
        span = bounds(parent, "ratio_ci95")
        made.append(_speed(f"Speed against {other}", dig(parent, "ratio"), span, f"{other}, its float parent"))
    return made


def _speed(title: str, ratio: float | None, span: Sequence[float] | None, other: str) -> Card:
    if not ratio:
        return _card(title, wording.NOTHING, ["not measured"])
    if span is None or span[0] <= 0:
        return _card(title, wording.times(1 / ratio), ["without interval", f"as fast as {other}"])
    beyond = "no difference beyond chance" if span[0] <= 1 <= span[1] else ""
    interval = f"{wording.CI} {sentences.speeds(span)}"
    return _card(title, wording.times(1 / ratio), [interval, f"as fast as {other}", beyond])


def _latency(row: Row, bundle: Row | None, limit: Any) -> Card:
    judged = bundle or row
    latency = judged["latency"] or {}
    lines = ["not measured"]
    if latency:
        calls = f"{wording.count(latency.get('n'))} calls, batch {wording.count(latency.get('batch'))}"
        p99 = wording.with_unit(wording.ms(latency.get("p99_ms")), "ms")
        lines = [f"p99 {p99}", calls + (", emulated" if judged["emulated"] else "")]
    if bundle:
        alone = dig(row, "latency", "p50_ms")
        engine = "" if alone is None else f"; the engine alone {wording.with_unit(wording.ms(alone), 'ms')}"
        lines.append(f"the bundle's whole call{engine}")
    return _card("Latency, p50", wording.with_unit(wording.ms(latency.get("p50_ms")), "ms"), lines, limit)


def _size(row: Row, bundle: Row | None, reference: Row | None, limit: Any) -> Card:
    size, full = dig(row, "artifact", "size_bytes"), dig(reference, "artifact", "size_bytes")
    share = ""
    if size and full and reference:
        share = f"{wording.fixed(100 * size / full, 0)} % of {reference['stage']}/{reference['variant']}"
    if bundle is None:
        return _card("Size", wording.size(size), [share], limit)
    engine = ", ".join(text for text in (f"its engine {wording.size(size)}", share) if text)
    return _card("Size", wording.size(dig(bundle, "artifact", "size_bytes")), ["the bundle", engine], limit)


def _card(title: str, figure: str, lines: Sequence[str], limit: Any = None) -> Card:
    return {"title": title, "figure": figure, "lines": [line for line in lines if line], "limit": limit}
