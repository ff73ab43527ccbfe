"""junit.xml: a test case per row and per limit of the budget, so that a CI system shows them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from edgeattn.report import sentences, wording
from edgeattn.report.facts import DONE, Report, Row, labels, limits, selected_row
from edgeattn.report.scale import scale_of


def suites(report: Report) -> str:
    """The file's text: suite `stages` has a case per row, suite `budget` one per limit and the verdict."""
    root = ET.Element("testsuites", name=_clean(f"edgeattn {report['recipe']} {report['target']}"))
    _suite(root, report, "stages", _row_cases(report))
    _suite(root, report, "budget", [*_limit_cases(report), _verdict_case(report)])
    for key in ("tests", "failures", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(root: ET.Element, report: Report, name: str, cases: list[ET.Element]) -> None:
    counts = {tag: sum(case.find(tag) is not None for case in cases) for tag in ("failure", "skipped")}
    prefix = _clean(f"edgeattn.{report['recipe']}.{report['target']}.{name}")
    seconds = sum(float(case.get("time", "0")) for case in cases)
    suite = ET.SubElement(
        root, "testsuite", name=prefix, tests=str(len(cases)), failures=str(counts["failure"]), errors="0",
        skipped=str(counts["skipped"]), time=f"{seconds:.3f}", timestamp=_clean(report["created"].removesuffix("Z")),
    )  # fmt: skip
    for case in cases:
        case.set("classname", prefix)
        suite.append(case)


def _row_cases(report: Report) -> list[ET.Element]:
    cases = []
    for label, row in zip(labels(report["rows"]), report["rows"], strict=True):
        case = _case(label, row["seconds"] or 0.0)
        reason = wording.prose(row["reason"] or row["status"])
        if row["status"] == "failed":
            _result(case, "failure", reason)
        elif row["status"] not in DONE:
            _result(case, "skipped", f"{row['status']}: {reason}")
        else:
            ET.SubElement(case, "system-out").text = _clean(_figures(row))
        cases.append(case)
    return cases


def _figures(row: Row) -> str:
    texts = [sentences.accuracy(row, None)]
    if row["latency"]:
        texts.append(f"p50 {wording.ms(row['latency']['p50_ms'])} ms, p99 {wording.ms(row['latency']['p99_ms'])} ms")
    return "\n".join([*texts, *(wording.sentence(note) for note in row["notes"])])


def _limit_cases(report: Report) -> list[ET.Element]:
    row = selected_row(report)
    cases = []
    for limit in limits(report, row):
        name, bound, value = sentences.limit_texts(limit, scale_of(row))
        case = _case(limit.key)
        if limit.passed is None:
            _result(case, "skipped", f"{name} was not measured; the limit is {bound}")
        elif not limit.passed:
            _result(case, "failure", f"{name} is {value}, the limit is {bound}")
        else:
            ET.SubElement(case, "system-out").text = f"{name} is {value}, the limit is {bound}"
        cases.append(case)
    return cases


def _verdict_case(report: Report) -> ET.Element:
    case = _case("verdict")
    if not report["verdict"]["passed"]:
        _result(case, "failure", wording.prose(" ".join(report["verdict"]["reasons"])) or sentences.headline(report))
    return case


def _case(name: str, seconds: float = 0.0) -> ET.Element:
    return ET.Element("testcase", name=_clean(name), time=f"{seconds:.3f}")


def _result(case: ET.Element, tag: str, message: str) -> None:
    ET.SubElement(case, tag, message=_clean(message))


def _clean(text: str) -> str:
    """`text` with the characters that XML 1.0 cannot hold written as \\xNN."""
    illegal = r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
    return re.sub(illegal, lambda match: f"\\x{ord(match.group()):02x}", text)
