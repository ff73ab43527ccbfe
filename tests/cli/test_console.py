"""The console and the closing summary, without a run behind them."""

from __future__ import annotations

import pytest

from edgeattn.artifact import Artifact, Stage
from edgeattn.cli import summary
from edgeattn.cli.console import RunConsole, describe
from edgeattn.pipeline.rows import Row

ROW = Row(
    Stage.COMPILE,
    "int8",
    "openvino",
    "ok",
    seconds=2.0,
    metric={"name": "top1", "unit": "%", "value": 97.5, "ci95": [96.0, 98.5]},
    drift={"sqnr_db": 31.25, "metric_delta": -0.5, "ci95": [-1.0, 0.25]},
    latency={"p50_ms": 1.5, "ratio_to_reference": 0.25, "ratio_ci95": [0.2, 0.3]},
)


def test_a_row_in_one_line():
    assert describe(ROW) == ("top1 97.50 % (96.00 to 98.50); 31.2 dB; p50 1.500 ms, x0.250 (0.200 to 0.300); 2.0 s")
    assert describe(Row(Stage.COMPILE, "fp16", "openvino", "unsupported", reason="[no] fp16")) == "[no] fp16"
    assert describe(Row(Stage.TRAIN, "fp32", "pytorch", "cached", seconds=9.0)) == ""


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        ("%", "m 0.12 % (0.10 to 0.15)"),
        ("dB", "m 0.12 dB (0.10 to 0.15)"),
        ("", "m 0.1235 (0.1000 to 0.1500)"),  # of a share of 1 two decimals would say little
    ],
)
def test_figures_have_the_decimals_of_their_unit(unit, said, capsys, tmp_path):
    metric = {"name": "m", "unit": unit, "value": 0.12345, "ci95": [0.1, 0.15]}
    row = Row(Stage.TRAIN, "fp32", "pytorch", "ok", metric=metric)
    assert describe(row) == said
    drift = {"sqnr_db": None, "max_abs": 0.0, "metric_delta": -0.00512, "ci95": [-0.01, 0.002]}
    row = Row(Stage.EXPORT, "fp32", "onnxruntime", "ok", metric=metric, drift=drift)
    report = {"rows": [row.to_dict()], "verdict": {"passed": True, "reasons": []}, "wall_seconds": 1.0}
    summary.show(report, tmp_path, None)
    line = " ".join(capsys.readouterr().out.splitlines()[1].split())
    if unit:
        assert line == "export/fp32 ok 0.12 (0.10 to 0.15) -0.01 (-0.01 to +0.00) exact – – –"
    else:
        assert line == "export/fp32 ok 0.1235 (0.1000 to 0.1500) -0.0051 (-0.0100 to +0.0020) exact – – –"


def test_figures_that_are_not_numbers_have_no_interval():
    metric = {"name": "psnr", "unit": "dB", "value": 30.0, "ci95": [None, 31.0]}
    assert describe(Row(Stage.TRAIN, "fp32", "pytorch", "ok", metric=metric)) == "psnr 30.00 dB"


@pytest.mark.parametrize("status", ["ok", "cached", "deferred", "unsupported", "failed"])
def test_every_status_has_a_line(capsys, status):
    RunConsole().row(Row(Stage.EXPORT, "fp32", "onnxruntime", status, reason="because of [this]"))
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"{status:>11}  export/fp32     because of [this]\n")


def test_plain_progress_is_a_line_per_step(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("edgeattn.cli.console.time.monotonic", lambda: now[0])
    with RunConsole() as console:
        for second, text in enumerate(["hashing", "hashing", "epoch 1/9, loss 2", "epoch 1/9, loss 1", "exporting"]):
            now[0] = 100.0 + second
            console.progress(second, 5, text)
        now[0] = 120.0
        console.progress(1, 1, "exporting")
        now[0] = 131.0
        console.progress(3, 5, "epoch 2/9, loss 0.5")
    assert capsys.readouterr().err.splitlines() == [
        "  hashing 0/5",
        "  exporting 4/5",
        "  exporting",
        "  epoch 2/9, loss 0.5 3/5",
    ]


def test_verbose_says_every_step_and_quiet_none(capsys):
    for console in (RunConsole(verbose=True), RunConsole(quiet=True)):
        with console:
            for done in range(3):
                console.progress(done, 3, "hashing")
            console.note("waiting")
            console.row(ROW)
    err = capsys.readouterr().err.splitlines()
    assert err[:3] == ["  hashing 0/3", "  hashing 1/3", "  hashing 2/3"]
    assert err[3] == "waiting" and len(err) == 5


def test_the_summary(capsys, tmp_path):
    artifact = Artifact(tmp_path, "compile", "int8", "k", "s", 2_500_000, 1.0, False)
    rows = [
        Row(Stage.TRAIN, "fp32", "pytorch", "ok"),
        Row(Stage.COMPILE, "fp16", "openvino", "unsupported", reason="no fp16 " * 30),
        Row(**{**ROW.__dict__, "artifact": artifact}),
    ]
    report = {
        "rows": [row.to_dict() for row in rows],
        "verdict": {"passed": False, "reasons": ["one " * 40, "[two]"]},
        "wall_seconds": 12.34,
    }
    summary.show(report, tmp_path / "out", None)
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if line.startswith("compile/int8"))
    assert " ".join(row.split()) == (
        "compile/int8 ok 97.50 (96.00 to 98.50) -0.50 (-1.00 to +0.25) 31.2 dB 1.500 0.250 (0.200 to 0.300) 2.50"
    )
    assert " ".join(lines[1].split()) == "train/fp32 ok – – – – – –"
    text = "\n".join(lines)
    assert "NOT PASSED  one one" in text and "[two]" in text and "compile/fp16: no fp16" in text
    assert [line for line in lines if len(line) > 140 and not line.startswith("report  ")] == []
    assert lines[-1] == f"report  {tmp_path}/out/report.html   (12.3 s)"
    assert not any(line.startswith("bundle") for line in lines)
