import pytest
import sample_reports as made

from edgeattn.report import sentences


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("passed", "INT8 is ready to ship"),
        ("missed", "Not ready to ship: INT8 misses the budget for accuracy, SQNR and p99 latency"),
        ("not_worth_it", "BF16 is ready to ship; INT8 is not worth it"),
        ("deferred", "INT8 passes every check that can run here; the device is still to be measured"),
        ("failed", "Nothing to ship: export/fp32 failed"),
    ],
)
def test_headline(name, text):
    assert sentences.headline(made.EVERY[name]()) == text


def test_headline_of_rarer_ends():
    report = made.not_worth_it()
    row = made.find(report, "compile/int8")
    row["latency"]["parent"]["ratio_ci95"] = [0.7, 0.8]
    row["drift"]["sqnr_db"] = 12.0
    assert sentences.headline(report) == "BF16 is ready to ship; INT8 drifts past the budget"
    report["rows"].remove(row)
    assert sentences.headline(report) == "BF16 is ready to ship"

    report = made.report()
    report["verdict"] = {"passed": False, "reasons": []}
    assert sentences.headline(report) == "Not ready to ship: INT8 did not pass"
    report["selected"] = None
    assert sentences.headline(report) == "Nothing to ship: no variant was selected"
    report["rows"][3]["status"] = "deferred"
    assert sentences.headline(report) == "Nothing to ship yet: 1 row must be measured on the device"


def test_a_headline_without_a_missed_limit_gives_the_verdicts_reason():
    report = made.report()
    reasons = ["The bundle is outside the budget: int8 takes an unmeasured amount ms at p99. More."]
    report["verdict"] = {"passed": False, "reasons": reasons}
    assert sentences.headline(report) == (
        "Not ready to ship: the bundle is outside the budget: INT8 takes an unmeasured amount ms at p99"
    )
    made.find(report, "compile/bf16").update(status="failed", reason="It overflows.")
    made.find(report, "bundle/int8").update(status="failed", reason="It fails its self-test.")
    report["verdict"]["reasons"] = ["compile/bf16: It overflows.", "bundle/int8: It fails its self-test."]
    assert sentences.headline(report) == "Not ready to ship: bundle/int8 failed"


def test_the_headline_of_nothing_selected_gives_the_verdicts_reason():
    report = made.report() | {"selected": None}
    why = ["int8 loses 1.4 of the metric, at most 0.5 allowed.", "No engine is inside the budget."]
    report["verdict"] = {"passed": False, "reasons": why}
    assert sentences.headline(report) == "Nothing to ship: no engine is inside the budget"
    made.find(report, "compile/bf16")["status"] = "failed"
    assert sentences.headline(report) == "Nothing to ship: no engine is inside the budget"
    report["verdict"]["reasons"] = ["A CPU does not execute fp16 natively.", "No engine could be built here."]
    assert sentences.headline(report) == "Nothing to ship: no engine could be built here"
    report["verdict"]["reasons"] = ["compile/bf16: It overflows."]
    assert sentences.headline(report) == "Nothing to ship: compile/bf16 failed"


def test_a_bundle_past_the_budget_is_said_though_its_engine_is_inside():
    report = made.report()
    report["budget"] = {"size_mb_max": 0.5}
    report["verdict"] = {"passed": False, "reasons": ["The bundle is outside the budget: int8 is 0.803 MB large."]}
    assert sentences.headline(report) == "Not ready to ship: INT8 misses the budget for size"


def test_int8_that_failed_is_said_beside_what_ships():
    report = made.not_worth_it()
    made.find(report, "quantize/int8")["status"] = "failed"
    report["rows"].remove(made.find(report, "compile/int8"))
    assert sentences.headline(report) == "BF16 is ready to ship; INT8 failed"
