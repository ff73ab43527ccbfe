"""The verdict in words, each sentence once. Pure functions."""

from __future__ import annotations

import re

from edgeattn.report import sentences, wording
from edgeattn.report.facts import Report, Row, dig, float_parent, limits, selected_row


def pill(report: Report, row: Row | None) -> tuple[str, str, str]:
    """The verdict in a few words: tone, mark, text. An interval that reaches past its limit is said here."""
    if not report["verdict"]["passed"]:
        return "no", "✕", "Not shippable"
    doubt = ", though the interval of the accuracy reaches past its limit" if uncertain(report, row) else ""
    if row is None or sentences.unmeasured(row):
        return "wait", "…", f"Passed so far{doubt}"
    return "yes", "✓", f"Shippable{doubt}"


def uncertain(report: Report, row: Row | None) -> bool:
    """True when a limit holds for the estimate alone: the worse end of the interval lies beyond it."""
    return any(limit.uncertain for limit in limits(report, row))


def why(report: Report) -> str | None:
    """Why this variant was selected; None when none was."""
    text = dig(report, "selected", "why")
    return wording.prose(text) if text else None


def reasons(report: Report) -> list[str]:
    """The verdict's reasons that neither `why` nor the headline already gives, each once."""
    said = f"{_bare(why(report) or '')} {sentences.headline(report)}".lower()
    found = (wording.sentence(reason) for reason in report["verdict"]["reasons"])
    return [reason for reason in dict.fromkeys(found) if _bare(reason).lower() not in said]


def worth_unsaid(report: Report) -> list[str]:
    """A sentence per engine against its float parent, without the pairs that a sentence of `why` weighs already."""
    weighed = re.split(r"(?<=[.!?])\s+", why(report) or "")
    found, chosen = [], selected_row(report)
    for row in report["rows"]:
        text, parent = sentences.against_parent(row, ships=row is chosen), float_parent(row)
        if text is None or parent is None:
            continue
        names = (wording.precision(row["variant"]), wording.precision(str(parent["variant"])))
        if not any(all(re.search(rf"\b{re.escape(name)}\b", part) for name in names) for part in weighed):
            found.append(text)
    return found


def _bare(text: str) -> str:
    return " ".join(text.split()).rstrip(".!? ")
