"""What the page's optional sections show: examples, classes, training, the INT8 search. None when there is nothing."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from edgeattn.report import sentences, wording
from edgeattn.report.facts import Report, dig

SMALL_IMAGE = 160  # pixels; below this an enlarged image keeps its hard pixel edges


def example(entry: Mapping[str, Any]) -> dict[str, Any]:
    """One image whose prediction changed; `image` is None when the data is no PNG."""
    data = str(entry.get("image_png_base64") or "")
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    is_png = raw.startswith(b"\x89PNG\r\n\x1a\n")
    return {
        "image": f"data:image/png;base64,{data}" if is_png else None,
        "small": is_png and int.from_bytes(raw[16:20], "big") <= SMALL_IMAGE,
        "name": entry.get("name"),
        "truth": entry.get("truth"),
        "reference": entry.get("reference"),
        "changed": list((entry.get("changed") or {}).items()),
    }


def per_class(report: Report) -> dict[str, Any] | None:
    """A line per class, a column per row; `shade` -1..1 is the change from the first column over 5 points."""
    found = report.get("per_class")
    if not found:
        return None
    columns: Mapping[str, Sequence[float | None]] = found["values"]
    first = next(iter(columns), None)
    lines = []
    for index, label in enumerate(found["labels"]):
        values = [column[index] if index < len(column) else None for column in columns.values()]
        base = values[0] if values else None
        cells = []
        for name, value in zip(columns, values, strict=True):
            change = None if value is None or base is None or name == first else value - base
            cells.append(
                {
                    "value": wording.fixed(value, 1),
                    "change": "" if change is None or abs(change) < 0.05 else wording.signed(change, 1),
                    "shade": 0.0 if change is None else round(max(-1.0, min(1.0, change / 5)), 2),
                }
            )
        lines.append({"label": label, "cells": cells})
    each = None if not found["labels"] else (dig(report, "data", "eval_n") or 0) / len(found["labels"])
    return {
        "sentence": sentences.per_class(report),
        "columns": list(columns),
        "lines": lines,
        "each": wording.count(each) if each else None,
    }


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
