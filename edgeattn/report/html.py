"""report.html: one file that holds everything it shows, readable offline, in light and dark, on a phone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeattn.report import cells, plots, sections, sentences, timing, verdict, wording
from edgeattn.report.facts import (
    Report,
    Row,
    dig,
    float_parent,
    higher_is_better,
    labels,
    limits,
    path,
    reference_name,
    reference_row,
    selected_row,
)

TEMPLATES = Path(__file__).parent / "templates"
STATES = {True: "kept", False: "missed", None: "open"}
STATE_MARKS = {True: "✓", False: "✕", None: "…"}


def page(report: Report) -> str:
    """The whole page as text. Everything from the report is escaped; only the plots are markup."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawn = {name: Markup(svg) for name, svg in plots.all_plots(report).items()}
    return environment.get_template("report.html.j2").render(plots=drawn, **view(report))


def view(report: Report) -> dict[str, Any]:
    """Everything the template shows, as texts and lists: the template only lays out."""
    rows, chosen = report["rows"], selected_row(report)
    names = labels(rows)
    points = plots.trade_points(report)
    front = [points[i][0] for i in plots.front(points)]
    reference = reference_row(report)
    unit = sentences.unit_of(chosen or reference)
    held = limits(report, chosen)
    budget = [_limit(limit, unit) for limit in held]
    return {
        "report": report,
        "pill": verdict.pill(report, chosen),
        "created": wording.moment(report["created"]),
        "headline": sentences.headline(report),
        "why": verdict.why(report),
        "reasons": verdict.reasons(report),
        "cards": cards(chosen, reference, {line["key"]: line for line in budget}),
        "budget": budget,
        "budget_sentence": sentences.budget(held),
        "way": {
            "sentence": sentences.stages(path(report)),
            "steps": [_step(report, row, chosen) for row in path(report)],
        },
        "reference": reference_name(report),
        "speeds": _speeds(chosen, sentences.worth(report)),
        "table_sentence": sentences.table(rows),
        "metric": _metric_head(chosen or reference),
        "has_energy": any(row["energy"] for row in rows),
        "rows": [
            {
                **cells.stage_row(report, row),
                "name": name,
                "chosen": row is chosen,
                "front": len(points) > 1 and name in front,
            }
            for name, row in zip(names, rows, strict=True)
        ],
        "figures": [{"name": name, "cells": cells.every_figure(row)} for name, row in zip(names, rows, strict=True)],
        "figure_heads": list(cells.every_figure({})),
        "trade_sentence": sentences.trade(front, len(points)),
        "accuracy_sentence": _accuracy(report, chosen),
        "timing": timing.caption(report),
        "protocols": timing.lines(report),
        "examples_sentence": sentences.examples(report),
        "examples": [sections.example(entry) for entry in report.get("examples") or []],
        "per_class": sections.per_class(report),
        "training": sections.training(report),
        "search": sections.search(report),
        "host": cells.host(report),
        "settings": [
            {"title": name, "lines": cells.flat(tree)} for name, tree in (report.get("settings") or {}).items() if tree
        ],
        "bundle": report.get("bundle"),
        "bundle_size": wording.size(dig(report, "bundle", "size_bytes")),
        "command": sentences.command(report),
        "nothing": wording.NOTHING,
    }


def cards(row: Row | None, reference: Row | None, budget: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The figures at the top: accuracy, speed against reference and parent, latency, size. Each with its interval."""
    if row is None:
        return []
    unit = sentences.unit_of(row)
    digits = wording.digits_of(unit)
    change, bounds = dig(row, "drift", "metric_delta"), dig(row, "drift", "ci95")
    lines = [_interval_line(wording.interval(bounds, digits, sign=True), dig(row, "metric", "n"))]
    before, after = dig(reference, "metric", "value"), dig(row, "metric", "value")
    if before is not None and after is not None:
        name = row["metric"]["name"]
        lines.insert(
            0, f"{name} {wording.fixed(before, digits)} → {wording.with_unit(wording.fixed(after, digits), unit)}"
        )
    made = [_card("Change of accuracy", wording.delta(change, unit), lines, budget.get("metric_drop_max"))]
    against = dig(row, "drift", "reference") or "the reference"
    latency = row["latency"] or {}
    made.append(
        _speed("Speed against the reference", latency.get("ratio_to_reference"), latency.get("ratio_ci95"), against)
    )
    if row["emulated"]:
        made[-1]["lines"].append("emulated, not the device")
    parent = float_parent(row)
    if parent:
        other = wording.precision(str(parent["variant"]))
        made.append(
            _speed(
                f"Speed against {other}", dig(parent, "ratio"), dig(parent, "ratio_ci95"), f"{other}, its float parent"
            )
        )
    p99 = wording.with_unit(wording.ms(latency.get("p99_ms")), "ms")
    calls = f"{wording.count(latency.get('n'))} calls, batch {wording.count(latency.get('batch'))}"
    made.append(
        _card(
            "Latency, p50",
            wording.with_unit(wording.ms(latency.get("p50_ms")), "ms"),
            [f"p99 {p99}", calls + (", emulated" if row["emulated"] else "")] if latency else ["not measured"],
            budget.get("latency_p99_ms_max") or budget.get("latency_p50_ms_max"),
        )
    )
    size, full = dig(row, "artifact", "size_bytes"), dig(reference, "artifact", "size_bytes")
    share = (
        f"{wording.fixed(100 * size / full, 0)} % of {reference['stage']}/{reference['variant']}"
        if (size and full and reference)
        else ""
    )
    made.append(_card("Size", wording.size(size), [share], budget.get("size_mb_max")))
    return made


def _accuracy(report: Report, row: Row | None) -> str:
    if row is None:
        return ""
    # The pill has said that the interval reaches past the limit.
    return sentences.accuracy(row, None if verdict.uncertain(report, row) else report["budget"].get("metric_drop_max"))


def _speeds(row: Row | None, worth: list[str]) -> list[str]:
    return worth if row is None or row["latency"] is None else [sentences.against_reference(row), *worth]


def _card(title: str, figure: str, lines: Sequence[str], limit: Any = None) -> dict[str, Any]:
    return {"title": title, "figure": figure, "lines": [line for line in lines if line], "limit": limit}


def _interval_line(interval: str, n: Any) -> str:
    parts = [
        f"{wording.CI} {interval}" if interval else "",
        f"n{wording.NBSP}={wording.NBSP}{wording.count(n)}" if n is not None else "",
    ]
    return ", ".join(part for part in parts if part)


def _speed(title: str, ratio: float | None, bounds: Sequence[float] | None, other: str) -> dict[str, Any]:
    if not ratio:
        return _card(title, wording.NOTHING, ["not measured"])
    if bounds is None or bounds[0] <= 0:
        return _card(title, wording.times(1 / ratio), ["without interval", f"as fast as {other}"])
    beyond = "no difference beyond chance" if bounds[0] <= 1 <= bounds[1] else ""
    return _card(
        title, wording.times(1 / ratio), [f"{wording.CI} {sentences.speeds(bounds)}", f"as fast as {other}", beyond]
    )


def _limit(limit: Any, unit: str) -> dict[str, str]:
    name, bound, value = sentences.limit_texts(limit, unit)
    return {
        "key": limit.key,
        "name": name,
        "bound": bound,
        "value": value,
        "state": sentences.limit_state(limit),
        "brief": sentences.limit_state(limit, brief=True),
        "tone": STATES[limit.passed],
        "mark": STATE_MARKS[limit.passed],
    }


def _step(report: Report, row: Row, chosen: Row | None) -> dict[str, Any]:
    unit = sentences.unit_of(row)
    digits = wording.digits_of(unit)
    drift = row["drift"] or {}
    metric = wording.with_unit(wording.fixed(dig(row, "metric", "value"), digits), unit)
    interval = wording.interval(drift.get("ci95"), digits, sign=True)
    name = f"{row['stage']}/{row['variant']}"
    lines = [
        wording.delta(drift.get("metric_delta"), unit),
        f"{wording.CI} {interval}" if interval else "",
        f"SQNR {cells.sqnr(row)}",
        sentences.setting(report, row) or "",
    ]
    if name == reference_name(report):
        lines = ["reference"]
    elif not drift:
        lines = ["not compared"]
    return {
        "name": name,
        "metric": metric,
        "lines": [line for line in lines if line],
        "chosen": row is chosen,
        "status": row["status"],
        "mark": cells.MARKS[row["status"]],
    }


def _metric_head(row: Row | None) -> dict[str, str]:
    unit = sentences.unit_of(row)
    name = str(dig(row, "metric", "name") or "metric")
    return {
        "name": name,
        "unit": unit,
        "change": wording.delta_unit(unit),
        "direction": "higher is better" if higher_is_better(row) else "lower is better",
    }
