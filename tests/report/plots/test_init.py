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


@pytest.mark.parametrize("name", made.EVERY)
def test_every_sample_can_be_drawn(name):
    for svg in plots.all_plots(made.EVERY[name]()).values():
        assert "nan" not in svg and "None" not in svg


def test_axes_name_the_metric_its_unit_and_which_way_is_better():
    detect, align, restore = (plots.all_plots(make()) for make in (made.detect, made.align, made.restore))
    assert "mAP50 (higher is better)" in detect["trade"]
    assert "corner error, px (lower is better)" in align["trade"]
    assert "psnr, dB (higher is better)" in restore["trade"]
    assert ">change of mAP50<" in detect["drift"] and ">higher is better<" in detect["drift"]
    assert ">change of corner error<" in align["drift"] and ">px, lower is better<" in align["drift"]
    assert ">held-out psnr, dB<" in restore["training"]


def test_ticks_of_small_figures_stay_apart():
    """Coordinates are written to hundredths of a unit, the texts are not."""
    svg = plots.all_plots(made.detect())["drift"]
    ticks = re.findall(r">(\u2212?0\.\d+)<", svg)
    assert len(ticks) >= 3 and len(set(ticks)) == len(ticks)
    assert all(len(tick.lstrip("\u2212")) == 5 for tick in ticks)
    assert not re.search(r'="[^"]*\d\.\d{3}', svg)


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
