"""report.md: the same facts, compact, for a pull request comment."""

from __future__ import annotations

import html
import re

from edgeattn.report import sentences, wording
from edgeattn.report.cells import every_figure, executed, host, stage_row
from edgeattn.report.facts import Report, dig, labels, limits, path, selected_row


def comment(report: Report) -> str:
    """The verdict, the budget, one table, the host and the command, as Markdown."""
    row = selected_row(report)
    unit = sentences.unit_of(row)
    mark = "✅" if report["verdict"]["passed"] else "❌"
    drop_max = dig(report, "budget", "metric_drop_max")
    says = [sentences.accuracy(row, drop_max)] if row else []
    if row and row["latency"]:
        says.append(sentences.against_reference(row))
    says += [*sentences.worth(report), sentences.stages(path(report)), *report["verdict"]["reasons"]]
    if why := dig(report, "selected", "why"):
        says.append(why)
    parts = [
        f"## {mark} {_escaped(sentences.headline(report))}",
        _escaped(f"{report['recipe']} on {report['target']}, {report['created']}"),
        "\n".join(f"- {_escaped(_stopped(text))}" for text in dict.fromkeys(says)),
    ]
    held = [(*sentences.limit_texts(limit, unit), sentences.limit_state(limit)) for limit in limits(report, row)]
    if held:
        parts.append(_table(("budget", "limit", "measured", ""), [list(line) for line in held]))
    parts.append(_rows(report))
    facts = [list(pair) for pair in host(report)]
    parts.append(f"<details><summary>Host and data</summary>\n\n{_table(('', ''), facts)}\n\n</details>")
    parts.append(f"Again: {_code(sentences.command(report))}")
    return "\n\n".join(parts) + "\n"


def _rows(report: Report) -> str:
    chosen = selected_row(report)
    head = sentences.unit_of(chosen)
    name = str(dig(chosen, "metric", "name") or "metric")
    heads = (
        "row", "backend", "status", f"{name}{f', {head}' if head else ''} (95 %)", "n", "change (95 %)", "p", "SQNR dB",
        "p50 ms", "p99 ms", "time ÷ reference (95 %)", "size", "peak memory", "executed", "notes",
    )  # fmt: skip
    lines = []
    for label, row in zip(labels(report["rows"]), report["rows"], strict=True):
        cells = stage_row(row)
        marks = ("**selected** " if row is chosen else "") + ("emulated" if row["emulated"] else "")
        lines.append(
            [
                label, cells["backend"], f"{cells['mark']} {cells['status']}", _pair(cells["metric"]),
                every_figure(row)["n"], _pair(cells["delta"]), cells["p"], cells["sqnr"][0], cells["p50"], cells["p99"],
                _pair(cells["ratio"]), cells["size"], cells["memory"],
                ", ".join(f"{part['name']} {part['text']}" for part in executed(row)) or wording.NOTHING,
                " ".join([*([marks.strip()] if marks else []), *cells["notes"]]),
            ]
        )  # fmt: skip
    return _table(heads, lines).replace("\\*\\*selected\\*\\*", "**selected**")


def _pair(cell: tuple[str, str]) -> str:
    return f"{cell[0]} ({cell[1]})" if cell[1] else cell[0]


def _stopped(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else text + "."


def _table(heads: tuple[str, ...], lines: list[list[str]]) -> str:
    rows = [heads, ["---"] * len(heads)]
    body = [[_escaped(cell) for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [*rows, *body])


def _escaped(text: str) -> str:
    """One line in which nothing is markup: neither Markdown's nor HTML's."""
    line = " ".join(re.sub(r"[\x00-\x1f\x7f]", " ", text).split())
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", html.escape(line, quote=False))


def _code(text: str) -> str:
    line = " ".join(re.sub(r"[\x00-\x1f\x7f]", " ", text).split())
    fence = "`" * (max((len(run) for run in re.findall(r"`+", line)), default=0) + 1)
    return f"{fence} {line} {fence}" if "`" in line else f"`{line}`"
