"""Many reports side by side, as a table and as a page of pictures: what each system kept from PyTorch to its engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from edgeattn.report import cells, pictures, sentences, verdict, wording
from edgeattn.report.facts import Report, Row, bounds, dig, float_parent, reference_name, reference_row, selected_row
from edgeattn.report.markdown import escaped
from edgeattn.report.pictures import Picture
from edgeattn.report.scale import Scale, scale_of

HEADS = (
    "recipe", "task", "model", "parameters", "MACs", "metric", "n", "PyTorch FP32 (95 %)", "ONNX (95 %)",
    "INT8 graph (95 %)",
    "engine that ships (95 %)", "change (95 %)", "SQNR dB", "time ÷ PyTorch (95 %)", "INT8 ÷ fastest float (95 %)",
    "passed", "why this one",
)  # fmt: skip
# What a page about something else has room for.
BRIEF = (
    "recipe", "task", "model", "parameters", "MACs", "metric", "n", "PyTorch → ONNX → INT8 graph",
    "engine that ships (95 %)", "change (95 %)", "time ÷ PyTorch (95 %)", "INT8 ÷ fastest float (95 %)", "passed",
)  # fmt: skip
BEGIN, END = "<!-- zoo: this table is made by `edgeattn zoo --into` -->", "<!-- zoo ends -->"
BEGIN_WHOLE = "<!-- zoo: this whole table is made by `edgeattn zoo --into` -->"
_PASSED = {"yes": "yes", "wait": "so far", "no": "no"}


def table(reports: Mapping[str, Report], heads: tuple[str, ...] = HEADS, base: str = "") -> str:
    """Markdown: a line per report, in their order, with the columns `heads`.

    The keys are the reports' folders, which the recipes' names link to, below the path `base`.
    """
    lines = [_line(report, base + folder) for folder, report in reports.items()]
    rows = [list(heads), ["---"] * len(heads), *([line[head] for head in heads] for line in lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def placed(document: str, reports: Mapping[str, Report], base: str = "") -> str | None:
    """`document` with the table between its lines BEGIN, or BEGIN_WHOLE for all columns, and END.

    None when it has no such lines, in this order. Links go below the path `base`.
    """
    for begin, heads in ((BEGIN_WHOLE, HEADS), (BEGIN, BRIEF)):
        before, found, rest = document.partition(begin)
        _, end, after = rest.partition(END)
        if found and end:
            return f"{before}{begin}\n{table(reports, heads, base)}{END}{after}"
    return None


def left_out(reasons: Mapping[str, str]) -> str:
    """Below the table: who has no line in it, and why; "" when there is nobody."""
    if not reasons:
        return ""
    lines = [f"- {escaped(name)}: {escaped(wording.stopped(reason))}" for name, reason in reasons.items()]
    return "\nWithout a report that could be shown:\n\n" + "\n".join(lines) + "\n"


def gallery(reports: Mapping[str, Report]) -> str:
    """A page of its own: per report input, attention map, FP32 result, INT8 result and, if another, what ships."""
    from edgeattn.report.html import fill

    return fill("gallery.html.j2", systems=[_system(report, folder) for folder, report in reports.items()])


def _line(report: Report, folder: str) -> dict[str, str]:
    """Every column that a table may have, by its head."""
    rows = {f"{row['stage']}/{row['variant']}": row for row in report["rows"]}
    reference, chosen = reference_row(report), selected_row(report)
    scale = scale_of(reference)
    ships = f"{wording.precision(str(chosen['variant']))} {_metric(chosen, scale)}" if chosen else "none"
    graphs = (rows.get("export/fp32"), rows.get("quantize/int8"))
    plain = {
        "task": str(report["task"]),
        "model": str(report["model"] or wording.NOTHING),
        "parameters": wording.large(dig(report, "training", "params")),
        "MACs": wording.large(dig(report, "training", "macs")),
        "metric": scale.head if dig(reference, "metric") else wording.NOTHING,
        "n": _samples(reference),
        "PyTorch FP32 (95 %)": _metric(reference, scale),
        "ONNX (95 %)": _metric(graphs[0], scale),
        "INT8 graph (95 %)": _metric(graphs[1], scale),
        "PyTorch → ONNX → INT8 graph": " → ".join(
            wording.fixed(dig(row, "metric", "value"), scale.digits) for row in (reference, *graphs)
        ),
        "engine that ships (95 %)": ships,
        "change (95 %)": _with(
            wording.signed(dig(chosen, "drift", "metric_delta"), scale.digits),
            wording.interval(bounds(chosen, "drift", "ci95"), scale.digits, sign=True),
        ),
        "SQNR dB": cells.sqnr(chosen, "") if chosen else wording.NOTHING,
        "time ÷ PyTorch (95 %)": _ratio(dig(chosen, "latency"), "ratio_to_reference"),
        "INT8 ÷ fastest float (95 %)": _against_float(rows.get("compile/int8")),
        "passed": _PASSED[verdict.pill(report, chosen)[0]]
        + (", interval past limit" if _doubtful(report, chosen) else ""),
        "why this one": _why(report),
    }
    link = f"[{escaped(str(report['recipe']))}]({quote(folder)}/report.md)"
    return {"recipe": link, **{head: escaped(text) for head, text in plain.items()}}


def _samples(row: Row | None) -> str:
    """How many samples, and of how many independent sources where these are fewer."""
    n, sources = dig(row, "metric", "n"), dig(row, "metric", "sources")
    if n is None:
        return wording.NOTHING
    return f"{n:,} of {sources:,}" if sources is not None and sources < n else f"{n:,}"


def _metric(row: Row | None, scale: Scale) -> str:
    text = wording.fixed(dig(row, "metric", "value"), scale.digits)
    return _with(text, wording.interval(bounds(row, "metric", "ci95"), scale.digits))


def _doubtful(report: Report, chosen: Row | None) -> bool:
    return bool(report["verdict"]["passed"]) and verdict.uncertain(report, chosen)


def _ratio(latency: Mapping[str, Any] | None, key: str) -> str:
    return _with(wording.ratio(dig(latency, key)), wording.ratios(bounds(latency, "ratio_ci95")))


def _against_float(engine: Row | None) -> str:
    parent = float_parent(engine) if engine else None
    text = _ratio(parent, "ratio")
    return text if parent is None else f"{text} of {wording.precision(str(parent['variant']))}"


def _with(text: str, interval: str) -> str:
    return f"{text} ({interval})" if interval and text != wording.NOTHING else text


def _why(report: Report) -> str:
    return verdict.why(report) or " ".join(wording.sentence(reason) for reason in report["verdict"]["reasons"])


def _system(report: Report, folder: str) -> dict[str, Any]:
    """What the page shows of one report: its pictures in order, and both metrics below the results."""
    reference, chosen = reference_row(report), selected_row(report)
    results = dig(report, "gallery", "results") or {}
    shown = pictures.inputs(report)
    if reference is not None:
        shown.append(_result(results, reference_name(report), reference, ""))
    int8 = next((row for row in report["rows"] if (row["stage"], row["variant"]) == ("compile", "int8")), None)
    engines = {id(row): row for row in (int8, chosen) if row is not None and row is not reference}
    for row in engines.values():
        change = dig(row, "drift", "metric_delta")
        notes = [
            "" if change is None else scale_of(row).short(change),
            "ships" if row is chosen and len(engines) > 1 else "",
        ]
        shown.append(_result(results, f"{row['stage']}/{row['variant']}", row, ", ".join(filter(None, notes))))
    tone, mark, text = verdict.pill(report, chosen)
    return {
        "name": report["recipe"],
        "link": f"{quote(folder)}/report.html",
        "what": ", ".join(str(text) for text in (report["task"], report["model"], report["target"]) if text),
        "pill": (tone, mark, text),
        "headline": sentences.headline(report),
        "shots": shown if report.get("gallery") else [],
        "metrics": [] if report.get("gallery") else [f"{shot['title']}: {shot['note']}" for shot in shown],
    }


def _result(results: Mapping[str, Any], name: str, row: Row, change: str) -> Picture:
    scale = scale_of(row)
    measured = f"{scale.name} {scale.value(dig(row, 'metric', 'value'))}" if row["metric"] else "not measured"
    return pictures.picture(results.get(name), name, ", ".join(text for text in (measured, change) if text))
