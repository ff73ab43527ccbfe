"""The pictures of a report, made safe to show: what is no PNG or JPEG is None. The gallery in words."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from edgeattn.report import wording
from edgeattn.report.facts import Report, Row, dig, labels, reference_name, selected_row

SMALL_IMAGE = 160  # pixels; below this an enlarged image keeps its hard pixel edges

_STARTS = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff"}

Picture = dict[str, Any]


def picture(data: Any, title: str, note: str = "") -> Picture:
    """`data` is base64; `image` is its data URI, None when it is no picture; `title` and `note` go below it."""
    text = data if isinstance(data, str) else ""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    kind = next((name for name, start in _STARTS.items() if raw.startswith(start)), None)
    return {
        "image": f"data:image/{kind};base64,{text}" if kind else None,
        "small": kind == "png" and int.from_bytes(raw[16:20], "big") <= SMALL_IMAGE,
        "title": title,
        "note": note,
    }


def gallery(report: Report) -> dict[str, Any] | None:
    """One sample from input to what ships: `main` pictures in that order, `more` the other rows'; None without any.

    `name` is the sample's. Where nothing ships, `main` ends with the reference.
    """
    found = report.get("gallery")
    if not found:
        return None
    results: Mapping[str, Any] = found["results"]
    reference, ships = reference_name(report), shipped(report)
    main = inputs(report)
    if reference in results:
        main.append(picture(results[reference], reference, _what(report, reference)))
    if ships is not None and ships in results and ships != reference:
        main.append(picture(results[ships], ships, _what(report, ships)))
    more = [
        picture(data, name, _what(report, name)) for name, data in results.items() if name not in (reference, ships)
    ]
    return {"name": found["name"], "main": main, "more": more}


def inputs(report: Report) -> list[Picture]:
    """The gallery's frames and, where the network gives one, its attention map."""
    found = report.get("gallery") or {}
    frames = found.get("frames") or []
    titles = ["Input"] if len(frames) == 1 else [f"Input {chr(ord('a') + index)}" for index in range(len(frames))]
    shown = [picture(data, title) for data, title in zip(frames, titles, strict=True)]
    if found.get("attention"):
        shown.append(picture(found["attention"], "Attention", f"of {reference_name(report)}; bright is much"))
    return shown


def shipped(report: Report) -> str | None:
    """`stage/variant` of the engine that ships, by which pictures are named; None when there is none."""
    row = selected_row(report)
    return None if row is None else f"{row['stage']}/{row['variant']}"


def _what(report: Report, name: str) -> str:
    """What a row is, below its picture: the reference, what ships, or the runtime it ran in."""
    row = _row(report, name)
    runs = f"{wording.precision(str(row['variant']))} in {row['backend']}" if row and row["backend"] else ""
    role = "the reference" if name == reference_name(report) else ""
    if name == shipped(report):
        role = "ships" if dig(report, "verdict", "passed") else "selected"
    return ", ".join(text for text in (role, runs) if text)


def _row(report: Report, name: str) -> Row | None:
    named = zip(labels(report["rows"]), report["rows"], strict=True)
    return next((row for label, row in named if name in (label, f"{row['stage']}/{row['variant']}")), None)
