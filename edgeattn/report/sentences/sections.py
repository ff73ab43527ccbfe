"""What the tables and plots of the report show, one sentence above each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from edgeattn.report import wording
from edgeattn.report.facts import DONE, Report, Row, dig, reference_name, selected_row
from edgeattn.report.scale import scale_of, scale_per_label, task_of
from edgeattn.report.sentences.metric import compared


def table(rows: Sequence[Row]) -> str:
    """What became of the rows: "All 8 rows were built and checked", "7 rows: 4 measured, 3 deferred"."""
    count = Counter("checked" if row["status"] in DONE else row["status"] for row in rows)
    order = [key for key in ("checked", "deferred", "unsupported", "failed") if count[key]]
    text = f"{wording.plural(len(rows), 'row')}: " + ", ".join(f"{count[key]} {key}" for key in order)
    if order == ["checked"] and len(rows) > 1:
        text = f"All {len(rows)} rows were built and checked"
    emulated = sum(bool(row["emulated"]) for row in rows)
    return f"{text}, {emulated} of them emulated" if emulated else text


def trade(front: Sequence[str], total: int) -> str:
    """Which rows no other beats on accuracy and latency at once."""
    if not total:
        return "No row has both an accuracy and a latency"
    if total == 1:
        return f"Only {front[0] if front else 'one emulated row'} has both an accuracy and a latency"
    if not front:
        return "Every latency is emulated, so no row can be said to be the better one"
    verb = "is" if len(front) == 1 else "are"
    return f"{wording.listed(list(front))} {verb} beaten by no other row on accuracy and latency at once"


def predicts(report: Report) -> bool:
    """True where a result is a label, which changes or does not; other results differ more or less."""
    task = task_of(report)
    return task is not None and task.target == "label"


def samples(report: Report) -> str:
    """What the data hold, in the plural: "images", "pairs of images"."""
    task = task_of(report)
    return "pairs of images" if task is not None and len(task.inputs) > 1 else "images"


def examples(report: Report) -> str:
    """How many predictions changed, or results differ, as far as examples of them were collected."""
    found, label = report.get("examples"), predicts(report)
    if found is None:
        return "Changed predictions were not collected" if label else "Results that differ were not collected"
    total = wording.count(dig(report, "data", "eval_n"))
    among = "" if total == wording.NOTHING else f" among {total} {samples(report)}"
    if not any(compared(row) for row in report["rows"]):
        return f"No {'predictions' if label else 'results'} were compared"
    if not found:
        return _none_kept(report, f"No {'prediction changed' if label else 'result differs'} in any row{among}")
    if label:
        return f"{wording.plural(len(found), 'example prediction')} that changed in some row"
    if len(found) == 1:
        return f"The one of the {samples(report)} whose result differs from the reference's"
    return f"The {len(found)} {samples(report)} whose results differ most from the reference's"


def _none_kept(report: Report, text: str) -> str:
    """`text` when all rows agree with the reference, else how far they do."""
    agreements = [dig(row, "drift", "agreement") for row in report["rows"]]
    lowest = min((a for a in agreements if a is not None), default=1.0)
    if lowest < 1:
        return f"No example was kept; the lowest agreement with the reference is {wording.fixed(100 * lowest, 2)} %"
    return text


def per_class(report: Report) -> str:
    """The class that lost most between the first column and the row that ships (or the last column)."""
    scale = scale_per_label(report)
    digits = 1 if scale.unit else 3
    columns: Mapping[str, Sequence[float | None]] = report["per_class"]["values"]
    names: Sequence[Any] = report["per_class"]["labels"]
    row = selected_row(report)
    shipped = f"{row['stage']}/{row['variant']}" if row else ""
    first, last = next(iter(columns), ""), shipped if shipped in columns else next(reversed(list(columns)), "")
    changes = [
        (b - a, index)
        for index, (a, b) in enumerate(zip(columns.get(first, []), columns.get(last, []), strict=False))
        if a is not None and b is not None
    ]
    if first == last or not changes:
        return f"{wording.plural(len(names), 'class', 'classes')}"
    change, index = min(changes)
    if change >= 0:
        return f"No class lost from {first} to {last}"
    a, b = (wording.with_unit(wording.fixed(columns[at][index], digits), scale.unit) for at in (first, last))
    return f"“{names[index]}” lost most from {first} to {last}: {a} to {b}"


def search(settings: Sequence[Mapping[str, Any]]) -> str:
    """Which INT8 setting was chosen, and how far it lies above the weakest, in dB."""
    chosen = [entry for entry in settings if entry.get("chosen")]
    measured = [entry["sqnr_db"] for entry in settings if dig(entry, "sqnr_db") is not None]
    if not chosen or dig(chosen[0], "sqnr_db") is None:
        return f"{wording.plural(len(settings), 'INT8 setting')} tried on the calibration images"
    gain = chosen[0]["sqnr_db"] - min(measured)
    return (
        f"“{chosen[0]['setting']}” was chosen: {wording.fixed(chosen[0]['sqnr_db'], 1)} dB on the calibration images, "
        f"{wording.fixed(gain, 1)} dB above the weakest of {wording.plural(len(settings), 'setting')}"
    )


def setting(report: Report, row: Row) -> str | None:
    """The quantization setting that the search chose; None for rows other than the quantized INT8 model."""
    if f"{row['stage']}/{row['variant']}" != "quantize/int8" or row["status"] not in DONE:
        return None
    return next((str(entry["setting"]) for entry in report.get("search") or [] if entry.get("chosen")), None)


def training(report: Report) -> str:
    """How long the training took and where it ended."""
    history = report["training"]["history"]
    row = next((row for row in report["rows"] if f"{row['stage']}/{row['variant']}" == reference_name(report)), None)
    last = dig(history[-1], "eval_metric")
    seconds = dig(report["training"], "seconds")
    when = "trained before this run," if seconds is None else f"in {wording.duration(seconds)},"
    text = f"{wording.plural(len(history), 'epoch')} {when}"
    if last is None:
        return text.rstrip(",")
    return f"{text} ending at {scale_of(row).value(last)}"


def command(report: Report) -> str:
    """The command line that makes this report again."""
    if report.get("command"):
        return str(report["command"])
    seed = "" if report["seed"] is None else f" --seed {report['seed']}"
    return f"edgeattn deploy {report['recipe']} --target {report['target']}{seed}"
