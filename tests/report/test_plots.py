import re

import numpy as np
import pytest
import sample_reports as made

from edgeattn.report import canvas, facts, placing, plots


@pytest.fixture(scope="module")
def drawn():
    return plots.all_plots(made.report())


def test_every_plot_is_there_and_follows_the_theme(drawn):
    assert list(drawn) == ["trade", "drift", "latency", "size", "training"]
    for name, svg in drawn.items():
        assert svg.startswith("<svg") and svg.endswith("</svg>")
        assert "var(--accent)" in svg, name
        # No colour of its own, so that light and dark both work.
        assert not re.findall(r"#[0-9a-f]{6}", svg), name
        assert "http" not in svg and "<metadata" not in svg and "xmlns" not in svg
        assert "font:" not in svg and "font-family" not in svg and "font-size: 12px" in svg
        assert "<style" not in svg


def test_ids_of_different_plots_do_not_clash(drawn):
    ids = [set(re.findall(r'id="([^"]+)"', svg)) for svg in drawn.values()]
    assert sum(map(len, ids)) == len(set().union(*ids))
    for svg, own in zip(drawn.values(), ids, strict=True):
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg)) <= own


def test_plots_show_rows_and_figures_as_text(drawn):
    assert "compile/int8" in drawn["trade"] and "top-1, %" in drawn["trade"]
    assert ">exact<" in drawn["drift"] and ">budget<" in drawn["drift"]
    assert "418" in drawn["size"]


def test_nothing_measured_means_no_plot():
    older = plots.all_plots(made.older())
    assert list(older) == ["trade", "drift", "size"]
    report = made.failed()
    report["rows"] = report["rows"][1:]
    report["training"] = None
    assert plots.all_plots(report) == {}


def test_front_leaves_emulated_rows_out_and_follows_the_metrics_direction():
    report = made.report()
    points = plots.trade_points(report)
    assert [points[i][0] for i in plots.front(points)] == ["compile/int8", "compile/bf16"]
    made.find(report, "compile/int8")["emulated"] = True
    assert [points[i][0] for i in plots.front(points)] == ["compile/bf16"]
    for row in report["rows"]:
        row["metric"]["higher_is_better"] = False
        row["emulated"] = False
    assert [points[i][0] for i in plots.front(points)] == ["compile/int8"]


def test_p50_interval_is_the_ratios_scaled():
    row = {"latency": {"p50_ms": 2.0, "ratio_to_reference": 0.5, "ratio_ci95": [0.4, 0.6]}}
    assert plots.p50_interval(row) == pytest.approx((1.6, 2.4))
    row["latency"]["ratio_ci95"] = None
    assert plots.p50_interval(row) is None


def test_below():
    np.testing.assert_allclose(plots.below(2), [4 / 3, 4])


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0.3, 6, [0.5, 1, 2, 5]), (1, 10, [1, 2, 5, 10]), (0.5, 900, [1, 10, 100])],
)
def test_log_ticks(low, high, ticks):
    assert placing.log_ticks(low, high) == ticks


def test_names_of_crowded_lines_do_not_touch():
    with canvas.style():
        axes = canvas.place(canvas.figure(200), 40, 40, 100, 10)
        axes.set_xlim(1, 10)
        axes.set_ylim(0, 1)
        placing.name_lines(axes, [0.5, 0.5, 0.51], ["a", "b", "c"], [canvas.INK] * 3)
    heights = sorted(axes.transData.transform(text.get_position())[1] for text in axes.texts)
    assert min(np.diff(heights)) >= canvas.FONT


def test_the_report_is_not_changed():
    report, same = made.report(), made.report()
    plots.all_plots(report)
    assert report == same
    assert facts.selected_row(report) is not None
