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
