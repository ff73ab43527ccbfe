"""report.md: the same facts, compact, for a pull request comment."""

from __future__ import annotations

import html
import re

from edgeattn.report import sections, sentences, timing, verdict, wording
from edgeattn.report.cells import every_figure, executed, host, notes, stage_row
from edgeattn.report.facts import Report, dig, labels, limits, path, reference_row, selected_row
from edgeattn.report.scale import scale_of


def comment(report: Report) -> str:
    """The verdict, the budget, one table, the host and the command, as Markdown."""
    row = selected_row(report)
    mark = "✅" if report["verdict"]["passed"] else "❌"
    drop_max = dig(report, "budget", "metric_drop_max")
    says = [sentences.accuracy(row, drop_max)] if row else []
    if row and row["latency"]:
        says.append(sentences.against_reference(row))
    says += [*verdict.worth_unsaid(report), sentences.stages(path(report)), *verdict.reasons(report)]
    parts = [
        f"## {mark} {escaped(sentences.headline(report))}",
        escaped(f"{report['recipe']} on {report['target']}, {wording.moment(report['created'])}"),
        escaped(wording.stopped(why)) if (why := verdict.why(report)) else "",
        "\n".join(f"- {escaped(wording.stopped(text))}" for text in dict.fromkeys(says)),
    ]
    # The first sentence above has said what an interval past the limit means.
    held = [
        [*sentences.limit_texts(limit, scale_of(row)), sentences.limit_state(limit, brief=True)]
        for limit in limits(report, row)
    ]
    if held:
        parts.append(_table(("budget", "limit", "measured", "result"), held))
    parts += [_rows(report), _further(report), _notes(report), escaped(timing.caption(report))]
    facts = [list(pair) for pair in host(report)]
    parts.append(f"<details><summary>Host and data</summary>\n\n{_table(('', ''), facts)}\n\n</details>")
    parts.append(f"Again: {_code(sentences.command(report))}")
    return "\n\n".join(part for part in parts if part) + "\n"


def _rows(report: Report) -> str:
    chosen = selected_row(report)
    scale = scale_of(chosen or reference_row(report))
    heads = (
        "row", "backend", "status", f"{escaped(scale.head)} (95 %)", "n", "change (95 %)", "p", "SQNR dB",
        "p50 ms", "p99 ms", "time ÷ reference (95 %)", "size", "peak memory", "executed",
    )  # fmt: skip
    lines = []
    for label, row in zip(labels(report["rows"]), report["rows"], strict=True):
        cells = stage_row(report, row)
        status = f"{cells['mark']} {cells['status']}" + (", emulated" if row["emulated"] else "")
        status += ", selected" if row is chosen else ""
        lines.append(
            [
                label, cells["backend"], status, _pair(cells["metric"]),
                every_figure(row)["n"], _pair(cells["delta"]), cells["p"], cells["sqnr"][0], cells["p50"], cells["p99"],
                _pair(cells["ratio"]), cells["size"], cells["memory"],
                ", ".join(f"{part['name']} {part['text']}" for part in executed(row)) or wording.NOTHING,
            ]
        )  # fmt: skip
    return _table(heads, lines)


def _further(report: Report) -> str:
    found = sections.further(report)
    if found is None:
        return ""
    lines = [
        [f"{line['name']} ({line['direction']})", *(_pair(cell) for cell in line["cells"])] for line in found["lines"]
    ]
    return _table(("further metric", *map(escaped, found["columns"])), lines)


def _notes(report: Report) -> str:
    """A line per row that has notes: beside the figures they would make the table too wide to read."""
    pairs = ((label, notes(report, row)) for label, row in zip(labels(report["rows"]), report["rows"], strict=True))
    return "\n".join(f"- {escaped(label)}: {escaped(' '.join(found))}" for label, found in pairs if found)


def _pair(cell: tuple[str, str]) -> str:
    return f"{cell[0]} ({cell[1]})" if cell[1] else cell[0]


def _table(heads: tuple[str, ...], lines: list[list[str]]) -> str:
    rows = [heads, ["---"] * len(heads)]
    body = [[escaped(cell) for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [*rows, *body])


def escaped(text: str) -> str:
    """One line in which nothing is markup: neither Markdown's nor HTML's."""
    line = " ".join(re.sub(r"[\x00-\x1f\x7f]", " ", text).split())
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", html.escape(line, quote=False))


def _code(text: str) -> str:
    line = " ".join(re.sub(r"[\x00-\x1f\x7f]", " ", text).split())
    fence = "`" * (max((len(run) for run in re.findall(r"`+", line)), default=0) + 1)
    return f"{fence} {line} {fence}" if "`" in line else f"`{line}`"
