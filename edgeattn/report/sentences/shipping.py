"""Is it shippable, and which variant: the headline."""

from __future__ import annotations

import re
from collections import Counter

from edgeattn.report import wording
from edgeattn.report.facts import DONE, Report, Row, dig, limits, not_worth_it, selected_row
from edgeattn.report.sentences.limits import limit_name


def headline(report: Report) -> str:
    """The answer: is it shippable, and which variant."""
    row = selected_row(report)
    if row is None:
        return _nothing(report)
    name = wording.precision(row["variant"])
    if not report["verdict"]["passed"]:
        return f"Not ready to ship: {_refusal(report, row)}"
    if unmeasured(row):
        return f"{name} passes every check that can run here; the device is still to be measured"
    return f"{name} is ready to ship{_why_not_int8(report, row)}"


def _refusal(report: Report, row: Row) -> str:
    name = wording.precision(row["variant"])
    if missed := [limit_name(limit.key) for limit in limits(report, row) if limit.passed is False]:
        return f"{name} misses the budget for {wording.listed(missed)}"
    if failed := [r for r in _failed(report) if r.startswith("bundle/")]:
        return f"{wording.listed(failed)} failed"
    reasons = [reason for reason in report["verdict"]["reasons"] if not reason.startswith(tuple(_failed(report)))]
    return _inside(reasons[0]) if reasons else f"{name} did not pass"


def _failed(report: Report) -> list[str]:
    return [f"{row['stage']}/{row['variant']}" for row in report["rows"] if row["status"] == "failed"]


def _inside(reason: str) -> str:
    """The first sentence of a reason, as the end of another one."""
    first = re.split(r"(?<=[.!?])\s+", wording.prose(reason.strip()))[0].rstrip(".")
    # Any other first word may be a name.
    return re.sub(r"^(The|No|None|Every|An?|It)\b", lambda match: match.group().lower(), first)


def unmeasured(row: Row) -> bool:
    """True when the row's latency is not that of the device it is for: emulated, or not taken at all."""
    return bool(row["emulated"]) or dig(row, "latency", "p50_ms") is None


def _nothing(report: Report) -> str:
    count = Counter(row["status"] for row in report["rows"])
    failed, reasons = _failed(report), report["verdict"]["reasons"]
    # Failures are told first: a last reason that is none weighed the rows that did not fail.
    if failed and (not reasons or reasons[-1].startswith(tuple(failed))):
        return f"Nothing to ship: {wording.listed(failed)} failed"
    if count["deferred"]:
        return f"Nothing to ship yet: {wording.plural(count['deferred'], 'row')} must be measured on the device"
    return f"Nothing to ship: {_inside(reasons[-1]) if reasons else 'no variant was selected'}"


def _why_not_int8(report: Report, row: Row) -> str:
    if row["variant"].startswith("int8"):
        return ""
    if any(name.partition("/")[2].startswith("int8") for name in _failed(report)):
        return "; INT8 failed"
    tried = [
        r for r in report["rows"] if r["stage"] == "compile" and r["variant"].startswith("int8") and r["status"] in DONE
    ]
    if tried and all(not_worth_it(r) for r in tried):
        return "; INT8 is not worth it"
    accuracy = ("metric_drop_max", "sqnr_db_min")
    if tried and all(any(c.key in accuracy and c.passed is False for c in limits(report, r)) for r in tried):
        return "; INT8 drifts past the budget"
    return ""
