"""What the page's optional sections show: examples, classes, training, the INT8 search. None when there is nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeattn.report import sentences, wording
from edgeattn.report.facts import Report, dig, labels, reference_name
from edgeattn.report.pictures import picture
from edgeattn.report.scale import scale_named, scale_per_label

_SHADED_PERCENT = 5.0  # a change of this much gets the full colour


def example(entry: Mapping[str, Any]) -> dict[str, Any]:
    """One sample whose result changed: its picture and those of two rows' results, where there are any."""
    return {
        "image": picture(entry.get("image_png_base64"), str(entry.get("name"))),
        "pictures": [picture(data, name) for name, data in (entry.get("pictures") or {}).items()],
        "name": entry.get("name"),
        "truth": entry.get("truth"),
        "reference": entry.get("reference"),
        "changed": list((entry.get("changed") or {}).items()),
    }


def per_class(report: Report) -> dict[str, Any] | None:
    """A line per class, a column per row; `shade` -1..1 is the change from the first column over 5 % of the scale."""
    found = report.get("per_class")
    if not found:
        return None
    columns: Mapping[str, Sequence[float | None]] = found["values"]
    scale = scale_per_label(report)
    digits, full = (1, _SHADED_PERCENT) if scale.unit else (3, _SHADED_PERCENT / 100)
    first = next(iter(columns), None)
    lines = []
    for index, label in enumerate(found["labels"]):
        values = [column[index] if index < len(column) else None for column in columns.values()]
        base = values[0] if values else None
        changes = [
            None if value is None or base is None or name == first else value - base
            for name, value in zip(columns, values, strict=True)
        ]
        cells = [
            {
                "value": wording.fixed(value, digits),
                "change": _changed(change, digits),
                "shade": 0.0 if change is None else round(max(-1.0, min(1.0, change / full)), 2),
            }
            for value, change in zip(values, changes, strict=True)
        ]
        lines.append({"label": label, "cells": cells})
    # Only labels divide the images between them.
    each = (dig(report, "data", "eval_n") or 0) / len(lines) if lines and sentences.predicts(report) else None
    return {
        "sentence": sentences.per_class(report),
        "columns": list(columns),
        "lines": lines,
        "unit": scale.unit,
        "what": "Percent right" if sentences.predicts(report) else f"{scale.head}, class by class",
        "each": wording.count(each) if each else None,
    }


def _changed(change: float | None, digits: int) -> str:
    """The change with its sign; empty when there is none to be seen."""
    return "" if change is None or wording.rounds_to_zero(change, digits) else wording.signed(change, digits)


def further(report: Report) -> dict[str, Any] | None:
    """The task's further metrics: a line per metric, a column per row that has them, the reference's first."""
    named = list(zip(labels(report["rows"]), report["rows"], strict=True))
    found = [(label, row) for label, row in named if dig(row, "metric", "others")]
    if not found:
        return None
    reference = reference_name(report)
    found.sort(key=lambda pair: pair[0] != reference)
    first = found[0][1] if found[0][0] == reference else None
    names = list(dict.fromkeys(name for _, row in found for name in row["metric"]["others"]))
    lines = []
    for name in names:
        scale = scale_named(report, name)
        cells = []
        for _, row in found:
            value, base = dig(row, "metric", "others", name), dig(first, "metric", "others", name)
            change = None if row is first or value is None or base is None else value - base
            cells.append((wording.fixed(value, scale.digits), _changed(change, scale.digits)))
        lines.append({"name": scale.head, "direction": scale.direction, "cells": cells})
    return {"columns": [label for label, _ in found], "lines": lines, "reference": reference if first else None}


def training(report: Report) -> dict[str, Any] | None:
    """The sentence and the figures beside the training curve."""
    found = report.get("training")
    if not found or not found.get("history"):
        return None
    facts = [("parameters", wording.large(found.get("params"))), ("multiply-adds", wording.large(found.get("macs")))]
    return {"sentence": sentences.training(report), "facts": facts}


def search(report: Report) -> dict[str, Any] | None:
    """A line per INT8 setting tried; `share` is its SQNR in percent of the best."""
    found = report.get("search")
    if not found:
        return None
    top = max((entry["sqnr_db"] for entry in found if dig(entry, "sqnr_db") is not None), default=1.0)
    return {
        "sentence": sentences.search(found),
        "lines": [
            {
                "setting": entry["setting"],
                "sqnr": wording.with_unit(wording.fixed(dig(entry, "sqnr_db"), 1), "dB"),
                "share": round(max(0.0, 100 * (dig(entry, "sqnr_db") or 0) / top), 1) if top > 0 else 0,
                "chosen": bool(entry.get("chosen")),
            }
            for entry in found
        ],
    }
