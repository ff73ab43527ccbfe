import pytest
import sample_reports as made

from edgeattn.report import facts, verdict


@pytest.mark.parametrize(
    ("name", "limit", "expected"),
    [
        ("passed", 0.5, ("yes", "Shippable")),
        ("passed", 0.3, ("yes", "Shippable, though the interval of the accuracy reaches past its limit")),
        ("missed", 0.5, ("no", "Not shippable")),
        ("deferred", 0.5, ("wait", "Passed so far")),
        ("failed", 0.5, ("no", "Not shippable")),
    ],
)
def test_pill(name, limit, expected):
    report = made.EVERY[name]()
    report["budget"]["metric_drop_max"] = limit
    tone, _, text = verdict.pill(report, facts.selected_row(report))
    assert (tone, text) == expected


def test_reasons_leave_out_what_why_says():
    report = made.report()
    report["selected"]["why"] = "bf16 is faster than fp32. int8 is the fastest."
    report["verdict"]["reasons"] = [
        "bf16 is faster than fp32.",
        "int8 is the fastest",
        "the bundle is kept",
        "the bundle is kept.",
    ]
    assert verdict.why(report) == "BF16 is faster than FP32. INT8 is the fastest."
    assert verdict.reasons(report) == ["The bundle is kept."]
    report["selected"] = None
    assert verdict.why(report) is None
    assert verdict.reasons(report) == ["BF16 is faster than FP32.", "INT8 is the fastest."]  # the headline has the last


def test_reasons_leave_out_what_the_headline_says():
    report = made.report()
    report["verdict"] = {"passed": False, "reasons": ["The bundle is unmeasured.", "it waits"]}
    assert verdict.reasons(report) == ["It waits."]


def test_worth_is_unsaid_until_one_sentence_of_why_weighs_the_pair():
    report = made.report()
    assert len(verdict.worth_unsaid(report)) == 1
    report["selected"]["why"] = "int8 ships. bf16 does not."
    assert len(verdict.worth_unsaid(report)) == 1
    report["selected"]["why"] = "int8 is faster than bf16 (ratio 0.76)."
    assert verdict.worth_unsaid(report) == []
