"""report.html: one file that holds everything it shows, readable offline, in light and dark, on a phone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeattn.report import cards, cells, pictures, plots, sections, sentences, timing, verdict, wording
from edgeattn.report.facts import (
    Report,
    Row,
    bundle_row,
    dig,
    labels,
    limits,
    path,
    reference_name,
    reference_row,
    selected_row,
)
from edgeattn.report.plots import trade
from edgeattn.report.scale import Scale, scale_of

TEMPLATES = Path(__file__).parent / "templates"
STATES = {True: "kept", False: "missed", None: "open"}
STATE_MARKS = {True: "✓", False: "✕", None: "…"}


def page(report: Report) -> str:
    """The whole page as text. Everything from the report is escaped; only the plots are markup."""
    from markupsafe import Markup

    drawn = {name: Markup(svg) for name, svg in plots.all_plots(report).items()}
    return fill("report.html.j2", plots=drawn, **view(report))


def fill(template: str, **values: Any) -> str:
    """A template of this room with `values`, each escaped unless it is markup."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def view(report: Report) -> dict[str, Any]:
    """Everything the template shows, as texts and lists: the template only lays out."""
    chosen = selected_row(report)
    return {
        "report": report,
        "nothing": wording.NOTHING,
        **_answer(report, chosen),
        **_table(report, chosen),
        **_sections(report),
        **_origin(report),
    }


def _answer(report: Report, chosen: Row | None) -> dict[str, Any]:
    """The verdict, the figures it stands on, and the way to what ships."""
    reference = reference_row(report)
    held = limits(report, chosen)
    budget = [_limit(limit, scale_of(chosen or reference)) for limit in held]
    lines = {line["key"]: line for line in budget}
    return {
        "pill": verdict.pill(report, chosen),
        "created": wording.moment(report["created"]),
        "headline": sentences.headline(report),
        "why": verdict.why(report),
        "reasons": verdict.reasons(report),
        "cards": cards.cards(chosen, bundle_row(report, chosen), reference, lines),
        "budget": budget,
        "budget_sentence": sentences.budget(held),
        "way": {
            "sentence": sentences.stages(path(report)),
            "steps": [_step(report, row, chosen) for row in path(report)],
        },
        "speeds": _speeds(chosen, sentences.worth(report)),
        "accuracy_sentence": _accuracy(report, chosen),
    }


def _table(report: Report, chosen: Row | None) -> dict[str, Any]:
    """The stage table, every figure below it, and which rows no other beats."""
    rows, points = report["rows"], trade.trade_points(report)
    named = list(zip(labels(rows), rows, strict=True))
    front = [points[i][0] for i in trade.front(points)]
    return {
        "reference": reference_name(report),
        "table_sentence": sentences.table(rows),
        "metric": _metric_head(chosen or reference_row(report)),
        "has_energy": any(row["energy"] for row in rows),
        "rows": [
            {
                **cells.stage_row(report, row),
                "name": name,
                "chosen": row is chosen,
                "front": len(points) > 1 and name in front,
            }
            for name, row in named
        ],
        "figures": [{"name": name, "cells": cells.every_figure(row)} for name, row in named],
        "figure_heads": list(cells.every_figure({})),
        "trade_sentence": sentences.trade(front, len(points)),
        "timing": timing.caption(report),
        "protocols": timing.lines(report),
    }


def _sections(report: Report) -> dict[str, Any]:
    return {
        "gallery": pictures.gallery(report),
        "further": sections.further(report),
        "samples": sentences.samples(report),
        "examples_title": "Changed predictions" if sentences.predicts(report) else "Results that differ most",
        "examples_sentence": sentences.examples(report),
        "examples": [sections.example(entry) for entry in report.get("examples") or []],
        "per_class": sections.per_class(report),
        "training": sections.training(report),
        "search": sections.search(report),
    }


def _origin(report: Report) -> dict[str, Any]:
    """Where the figures come from and how to get them again."""
    settings = (report.get("settings") or {}).items()
    return {
        "host": cells.host(report),
        "settings": [{"title": name, "lines": cells.flat(tree)} for name, tree in settings if tree],
        "bundle": report.get("bundle"),
        "bundle_size": wording.size(dig(report, "bundle", "size_bytes")),
        "command": sentences.command(report),
    }


def _accuracy(report: Report, row: Row | None) -> str:
    if row is None:
        return ""
    # The pill has said that the interval reaches past the limit.
    return sentences.accuracy(row, None if verdict.uncertain(report, row) else report["budget"].get("metric_drop_max"))


def _speeds(row: Row | None, worth: list[str]) -> list[str]:
    return worth if row is None or row["latency"] is None else [sentences.against_reference(row), *worth]


def _limit(limit: Any, scale: Scale) -> dict[str, str]:
    name, bound, value = sentences.limit_texts(limit, scale)
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
    scale = scale_of(row)
    drift = row["drift"] or {}
    interval = wording.interval(drift.get("ci95"), scale.digits, sign=True)
    name = f"{row['stage']}/{row['variant']}"
    lines = [
        scale.short(drift.get("metric_delta")),
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
        "metric": scale.value(dig(row, "metric", "value")),
        "lines": [line for line in lines if line],
        "chosen": row is chosen,
        "status": row["status"],
        "mark": cells.MARKS[row["status"]],
    }


def _metric_head(row: Row | None) -> dict[str, str]:
    scale = scale_of(row)
    return {
        "head": scale.head,
        "name": scale.name,
        "change": wording.delta_unit(scale.unit),
        "direction": scale.direction,
    }
