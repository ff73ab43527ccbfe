from pathlib import Path

import sample_reports as made

from edgeattn.measure import latency
from edgeattn.measure.candidate import Candidate
from edgeattn.report import timing
from edgeattn.report.html import page
from edgeattn.report.markdown import comment
from edgeattn.report.wording import NBSP


def timed():
    """Three rows with protocols that differ in the calls alone; the bundle's whole call among them."""
    report = made.report()
    report["rows"] = [made.find(report, f"{name}/int8") for name in ("quantize", "compile", "bundle")]
    for row, calls in zip(report["rows"], (10, 100, 100), strict=True):
        row["latency"] = made.latency(0.4, 0.2) | {
            "n": 50 * calls,
            "engine_only": False,
            "protocol": f"50 rounds of {calls} calls; threads: 2; batch 1; outputs on the host; no call removed.",
        }
    return report


def test_what_rows_share_is_said_once():
    assert timing.caption(timed()) == (
        "500 to 5,000 calls per row, 2 threads, batch 1. "
        "Inside the measured span: the call and the copies to and from the engine; for bundle/int8 also frame "
        "preparation and decoding. Outputs on the host; no call removed. "
        "An interval beside a ratio holds for this run, in this state of the machine, not for changes between runs."
    )
    assert [line["name"] for line in timing.lines(timed())] == ["quantize/int8", "compile/int8", "bundle/int8"]
    assert timing.lines(timed())[1]["protocol"].startswith("50 rounds of 100 calls; threads: 2;")
    text = page(timed())
    caption = text[text.index("<figcaption>Dots are p50") :].split("</figcaption>")[0]
    assert "rounds of" not in caption and caption.count("no call removed") == 1
    assert text.count("50 rounds of 100 calls") == 2  # a line per row, in the table below


def test_where_a_frame_is_several_calls_frames_are_counted():
    report = timed()
    row = report["rows"][0]["latency"]
    row["protocol"] = row["protocol"].replace(
        "batch 1;", "batch 1; each in 16 engine calls (its tiles) that are timed;"
    )
    assert timing.caption(report).startswith("500 to 5,000 frames per row, 2 threads, batch 1. ")


def test_the_measurement_says_so_in_these_words():
    candidate, plan = Candidate("a", "module:load", Path(), 1), latency.Plan(20, {"a": 10})
    warm = {"steady": True, "durations_ns": [1]}
    tiled, whole = (
        latency._protocol(plan, candidate, warm, quiet=True, frames=[({},) * calls], seed=0) for calls in (4, 1)
    )
    assert timing._TILED in tiled and timing._TILED not in whole


def test_one_protocol_for_all_needs_no_table():
    report = made.report()
    assert timing.lines(report) == []
    assert "in random order, after 20 warm-up calls. An interval beside a ratio" in timing.caption(report)
    assert "How each row was timed" not in page(report)


def test_how_far_an_interval_reaches_is_said_where_there_is_one():
    report = made.report()
    said = "An interval beside a ratio holds for this run, in this state of the machine, not for changes between runs."
    assert said in page(report) and comment(report).count(said) == 1
    for row in report["rows"]:
        if row["latency"]:
            row["latency"] |= {"ratio_ci95": None, "parent": None}
    assert said not in page(report) + comment(report)
    report = made.report()
    report["rows"] = report["rows"][:1]  # the reference alone: there is nothing it is compared with
    assert said not in timing.caption(report) != ""


def test_span_follows_the_rows():
    report = timed()
    report["rows"][0]["latency"]["engine_only"] = True
    assert "; for quantize/int8 the engine alone; for bundle/int8 also frame preparation" in timing.span(report)
    for row in report["rows"]:
        row["latency"]["engine_only"] = True
    assert timing.span(report) == "Inside the measured span: the engine alone"
    for row in report["rows"]:
        row["latency"]["engine_only"] = None
    assert timing.span(report) == ""


def test_nothing_timed_nothing_said():
    report = made.report()
    for row in report["rows"]:
        row["latency"] = None
    assert timing.caption(report) == timing.span(report) == "" and timing.lines(report) == []


def test_whole_call():
    row = {"stage": "bundle", "latency": {"parent": {"variant": "int8", "ratio": 1.08, "ratio_ci95": [1.06, 1.11]}}}
    assert timing.whole_call(row).replace(NBSP, " ") == (
        "The whole call takes 1.08× the engine's time (95 % 1.06 to 1.11)."
    )
    assert timing.whole_call(row | {"stage": "compile"}) is None
    assert timing.whole_call(row | {"latency": None}) is None
    row["latency"]["parent"]["ratio_ci95"] = None
    assert timing.whole_call(row) == "The whole call takes 1.08× the engine's time."
