"""Many reports as one table: what each system kept from PyTorch to the engine that ships."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeattn.report import wording
from edgeattn.report.facts import Report, Row, dig, float_parent, selected_row

HEADS = (
    "recipe", "task", "model", "parameters", "MACs", "metric", "PyTorch FP32 (95 %)", "ONNX", "INT8 graph",
    "engine that ships", "change (95 %)", "SQNR dB", "time ÷ PyTorch (95 %)", "INT8 ÷ float engine (95 %)", "passed",
    "why this one",
)  # fmt: skip


def table(reports: Sequence[Report], links: Mapping[str, str] | None = None) -> str:
    """Markdown: a line per report, in their order; `links` lead from a recipe's name to its report."""
    lines = [_line(report, (links or {}).get(str(report["recipe"]))) for report in reports]
    rows = [HEADS, ["---"] * len(HEADS), *lines]
    return "\n".join("| " + " | ".join(_cell(text) for text in row) + " |" for row in rows) + "\n"


def _line(report: Report, link: str | None) -> list[str]:
    rows = {f"{row['stage']}/{row['variant']}": row for row in report["rows"]}
    reference, chosen = rows.get("train/fp32"), selected_row(report)
    unit = str(dig(reference, "metric", "unit") or "")
    name = str(report["recipe"])
    return [
        f"[{name}]({link})" if link else name,
        str(report["task"]),
        str(report["model"]),
        wording.count(dig(report, "training", "params")),
        wording.count(dig(report, "training", "macs")),
        f"{dig(reference, 'metric', 'name') or wording.NOTHING}{f', {unit}' if unit else ''}",
        _metric(reference, unit),
        _metric(rows.get("export/fp32"), unit, interval=False),
        _metric(rows.get("quantize/int8"), unit, interval=False),
        f"{chosen['variant'].upper()} {_metric(chosen, unit)}" if chosen else "none",
        _change(chosen, unit),
        _sqnr(chosen),
        _ratio(dig(chosen, "latency", "ratio_to_reference"), dig(chosen, "latency", "ratio_ci95")),
        _against_float(rows.get("compile/int8")),
        "yes" if report["verdict"]["passed"] else "no",
        str(dig(report, "selected", "why") or " ".join(report["verdict"]["reasons"])),
    ]


def _metric(row: Row | None, unit: str, *, interval: bool = True) -> str:
    digits = wording.digits_of(unit)
    text = wording.fixed(dig(row, "metric", "value"), digits)
    bounds = dig(row, "metric", "ci95") if interval else None
    return f"{text} ({wording.interval(bounds, digits)})" if bounds and None not in bounds else text


def _change(row: Row | None, unit: str) -> str:
    digits = wording.digits_of(unit)
    text = wording.signed(dig(row, "drift", "metric_delta"), digits)
    bounds = dig(row, "drift", "ci95")
    return f"{text} ({wording.interval(bounds, digits, sign=True)})" if bounds and None not in bounds else text


def _sqnr(row: Row | None) -> str:
    return "exact" if dig(row, "drift", "max_abs") == 0 else wording.fixed(dig(row, "drift", "sqnr_db"), 1)


def _against_float(row: Row | None) -> str:
    parent = float_parent(row) if row else None
    return _ratio(parent["ratio"], parent["ratio_ci95"]) if parent else wording.NOTHING


def _ratio(value: float | None, bounds: Any) -> str:
    text = wording.fixed(value, 2)
    return f"{text} ({wording.interval(bounds, 2)})" if value is not None and bounds else text


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
