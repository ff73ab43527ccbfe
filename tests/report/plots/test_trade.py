import pytest
import sample_reports as made

from edgeattn.report.plots import trade


def test_front_leaves_emulated_rows_out_and_follows_the_metrics_direction():
    report = made.report()
    points = trade.trade_points(report)
    assert [points[i][0] for i in trade.front(points)] == ["compile/int8", "compile/bf16"]
    made.find(report, "compile/int8")["emulated"] = True
    assert [points[i][0] for i in trade.front(points)] == ["compile/bf16"]
    for row in report["rows"]:
        row["metric"]["higher_is_better"] = False
        row["emulated"] = False
    assert [points[i][0] for i in trade.front(points)] == ["compile/int8"]


def test_p50_interval_is_the_ratios_scaled():
    row = {"latency": {"p50_ms": 2.0, "ratio_to_reference": 0.5, "ratio_ci95": [0.4, 0.6]}}
    assert trade.p50_interval(row) == pytest.approx((1.6, 2.4))
    row["latency"]["ratio_ci95"] = None
    assert trade.p50_interval(row) is None


def test_latencies_of_two_machines_are_not_compared():
    report = made.report()
    report["host"]["device"] = {"jetpack": "6.2"}  # this machine is the device
    assert len(trade.trade_points(report)) == len(trade.trade_points(made.report()))
    report["host"]["device"] = {"address": "me@box"}
    labels = [label for label, _ in trade.trade_points(report)]
    assert labels and all(label.startswith("compile/") for label in labels)


def test_p50_interval_by_the_ratio_on_another_machine():
    there = {"reference": "compile/fp32", "ratio": 0.5, "ratio_ci95": [0.4, 0.6]}
    latency = {"p50_ms": 2.0, "ratio_to_reference": None, "ratio_ci95": None, "device_ratio": there}
    assert trade.p50_interval({"latency": latency}) == pytest.approx((1.6, 2.4))


def test_the_front_of_an_error_is_its_lower_side():
    report = made.align()
    points = trade.trade_points(report)
    # INT8 is the fastest, BF16 the one with the smallest error; FP32 is beaten by BF16 on both.
    assert [points[i][0] for i in trade.front(points)] == ["compile/int8", "compile/bf16"]
    made.find(report, "compile/bf16")["metric"]["value"] = 2.6
    assert [points[i][0] for i in trade.front(points)] == ["compile/int8", "export/fp32"]


def test_a_metric_without_value_is_no_point():
    assert "compile/bf16" not in [label for label, _ in trade.trade_points(made.restore())]
