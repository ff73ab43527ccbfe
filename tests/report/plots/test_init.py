import re

import pytest
import sample_reports as made

from edgeattn.report import facts, plots


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


def test_the_report_is_not_changed():
    report, same = made.report(), made.report()
    plots.all_plots(report)
    assert report == same
    assert facts.selected_row(report) is not None
