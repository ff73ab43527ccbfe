import xml.etree.ElementTree as ET

import pytest
import sample_reports as made

from edgeattn.report.junit import suites


def cases(report):
    root = ET.fromstring(suites(report).encode())
    return root, {case.get("name"): case for case in root.iter("testcase")}


@pytest.mark.parametrize("name", made.EVERY)
def test_counts_are_those_of_the_cases(name):
    root, found = cases(made.EVERY[name]())
    for tag, key in (("failure", "failures"), ("skipped", "skipped")):
        assert int(root.get(key)) == sum(case.find(tag) is not None for case in found.values())
    assert int(root.get("tests")) == len(list(root.iter("testcase")))


def test_a_case_per_row_and_limit():
    root, found = cases(made.report())
    assert [suite.get("tests") for suite in root] == ["8", "5"]
    assert root.get("failures") == root.get("skipped") == "0"
    assert "metric_drop_max" in found and "verdict" in found and "energy_mj_max" not in found
    assert found["compile/int8"].get("classname") == "edgeattn.digit_scenes.cpu.stages"
    assert found["train/fp32"].get("time") == "212.000"


def test_missed_budget_fails():
    _, found = cases(made.missed())
    failed = {
        name: case.find("failure").get("message") for name, case in found.items() if case.find("failure") is not None
    }
    assert set(failed) == {"metric_drop_max", "sqnr_db_min", "latency_p99_ms_max", "verdict"}
    assert failed["metric_drop_max"].replace("\u00a0", " ") == (
        "accuracy lost is 1.40 points, the limit is at most 0.50 point"
    )
    assert failed["verdict"] == "The metric drops by 1.40 points, the budget allows 0.50."


def test_a_drop_exactly_on_the_limit_passes():
    report = made.report()
    report["budget"] = {"metric_drop_max": 0.2}
    made.find(report, "compile/int8")["drift"]["metric_delta"] = 98.35 - 98.55  # -0.20000000000000284
    root, found = cases(report)
    assert root.get("failures") == "0"
    assert "0.20 point, the limit is at most 0.20" in found["metric_drop_max"].find("system-out").text.replace(
        "\xa0", " "
    )


def test_the_bundles_size_is_judged():
    report = made.report()
    report["budget"] = {"size_mb_max": 0.5}
    _, found = cases(report)
    message = found["size_mb_max"].find("failure").get("message").replace("\u00a0", " ")
    assert message == "size is 0.80 MB, the limit is at most 0.50 MB"


def test_deferred_and_unsupported_are_skipped_failed_fails():
    _, found = cases(made.deferred())
    assert found["compile/int8"].find("skipped").get("message") == "deferred: TensorRT builds on the device itself."
    assert found["compile/fp32"].find("skipped").get("message").startswith("unsupported: ")
    assert found["latency_p99_ms_max"].find("skipped") is not None
    _, found = cases(made.failed())
    assert found["export/fp32"].find("failure").get("message").startswith("Parity failed: 12 dB")
    assert found["metric_drop_max"].find("skipped") is not None


def test_control_characters_are_written_out():
    text = suites(made.hostile())
    assert "\x07" not in text and "\\x07" in text
    assert "<script>" not in text


def test_units_of_other_tasks():
    _, found = cases(made.align())
    message = found["metric_drop_max"].find("failure").get("message").replace("\u00a0", " ")
    assert message == "accuracy lost is 0.12 px, the limit is at most 0.10 px"
    _, found = cases(made.detect())
    said = found["metric_drop_max"].find("system-out").text.replace("\u00a0", " ")
    assert said == "accuracy lost is 0.0031 of mAP50, the limit is at most 0.0100 of mAP50"
