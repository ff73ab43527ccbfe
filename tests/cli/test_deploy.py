"""What a finished deployment leaves behind, and what a second one of the same says."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import edgeattn
from edgeattn import host, report
from edgeattn.backends import openvino

_FILE = Path(__file__).parents[1] / "report/sample_reports.py"
_SPEC = importlib.util.spec_from_file_location("sample_reports_of_a_deployment", _FILE)
made = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(made)

ROWS = [
    "train/fp32",
    "export/fp32",
    "quantize/fp16",
    "quantize/int8",
    "compile/fp32",
    "compile/bf16",
    "compile/fp16",
    "compile/int8",
]


def rows(values):
    return {f"{row['stage']}/{row['variant']}": row for row in values["rows"]}


@pytest.fixture(scope="module")
def without_torch(tmp_path_factory):
    """A folder that, first on the path, lets no library be imported that trains, exports or quantizes."""
    blocked = tmp_path_factory.mktemp("blocked")
    for name in ("torch", "lightning", "nncf", "onnxruntime"):
        (blocked / name).mkdir()
        (blocked / name / "__init__.py").write_text(f"raise ImportError('{name} was imported')")
    return blocked


def test_the_report_keeps_the_contract(deployed):
    report.validate(deployed.report)
    assert report.load(deployed.out) == deployed.report
    assert (deployed.report["recipe"], deployed.report["target"], deployed.report["seed"]) == ("tiny", "cpu", 0)
    data = deployed.report["data"]
    assert (data["train_n"], data["calibration_n"], data["eval_n"]) == (400, 60, 120)
    assert deployed.report["host"]["cpu"] == host.cpu_model()
    assert deployed.report["budget"] == dict.fromkeys(
        ["metric_drop_max", "latency_p99_ms_max", "size_mb_max", "sqnr_db_min"]
    )
    assert deployed.report["verdict"]["passed"] is True
    assert deployed.report["command"] == "edgeattn deploy tiny.yaml --target cpu"


def test_every_row_is_there_with_its_figures_beside_its_hash(deployed):
    found = rows(deployed.report)
    native = openvino.precisions()
    assert sorted(found) == sorted([*ROWS, f"bundle/{deployed.report['selected']['variant']}"])
    for name, row in found.items():
        if row["stage"] == "compile" and row["variant"] not in native:
            assert row["status"] == "unsupported"
            assert host.cpu_model() in row["reason"] and row["variant"] in row["reason"]
            assert [row[k] for k in ("artifact", "metric", "drift", "latency", "memory", "seconds")] == [None] * 6
            continue
        assert (row["status"], row["reason"]) == ("ok", None), name
        assert len(row["artifact"]["sha256"]) == 64 and row["artifact"]["size_bytes"] > 0
        assert (row["metric"]["name"], row["metric"]["n"]) == ("top1", 120)
        assert row["metric"]["ci95"][0] <= row["metric"]["value"] <= row["metric"]["ci95"][1]
        assert row["latency"]["n"] >= 200 and (row["latency"]["threads"], row["latency"]["batch"]) == (1, 1)
        assert 0 < row["latency"]["min_ms"] <= row["latency"]["p50_ms"] <= row["latency"]["p99_ms"]
        assert row["memory"]["peak_rss_mb"] > 10
        assert (row["emulated"], row["energy"]) == (False, None)
    assert found["train/fp32"]["drift"] is None
    assert found["train/fp32"]["latency"]["ratio_to_reference"] == 1.0
    assert {row["drift"]["reference"] for name, row in found.items() if row["drift"]} == {"train/fp32"}
    assert found["export/fp32"]["drift"]["sqnr_db"] > 80
    assert 15 < found["quantize/int8"]["drift"]["sqnr_db"] < found["quantize/fp16"]["drift"]["sqnr_db"]
    assert found["quantize/int8"]["notes"][0].endswith(
        "nodes kept in float by the attention-safe policy and the setting minmax"
    )


def test_the_hashes_are_those_of_the_files(deployed, listed):
    found = rows(deployed.report)
    for name, row in found.items():
        if row["artifact"] is None:
            continue
        folder = listed(deployed.store)[name]
        assert deployed.folder / row["artifact"]["path"] == folder
        sizes = [path.stat().st_size for path in folder.iterdir() if path.name != "manifest.json"]
        assert row["artifact"]["size_bytes"] == sum(sizes), name
    selected = deployed.report["selected"]
    assert selected["artifact_sha256"] == found[f"compile/{selected['variant']}"]["artifact"]["sha256"]
    assert deployed.report["bundle"]["size_bytes"] == deployed.bundle.stat().st_size


def test_the_other_forms_of_the_report(deployed):
    suite = ElementTree.parse(deployed.out / "junit.xml").getroot()
    cases = {case.get("name") for case in suite.iter("testcase")}
    assert any("compile/int8" in str(name) for name in cases), cases
    assert "<html" in (deployed.out / "report.html").read_text()
    assert "compile/int8" in (deployed.out / "report.md").read_text()
    names = {"report.json", "report.html", "report.md", "junit.xml", "tiny-cpu.edgeattn"}
    assert {path.name for path in deployed.out.iterdir()} == names


def test_the_bundle_classifies_a_frame(deployed, monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEATTN_CACHE", str(tmp_path))
    with edgeattn.load(deployed.bundle, threads=1, self_test=True) as model:
        result = model(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
    assert sorted(result.class_id.tolist()) == sorted(set(result.class_id.tolist()))
    assert (np.diff(result.confidence) <= 0).all()
    assert set(result.labels) <= set("0123456789")


def test_nothing_is_left_over(deployed):
    assert list((deployed.store / "work").iterdir()) == []
    assert {path.name for path in deployed.folder.iterdir() if path.is_dir()} <= {"store", "out", "cache"}


def test_the_summary_fits_a_screen(deployed):
    lines = deployed.ended.out.splitlines()
    assert len(lines) <= 40
    assert [line for line in lines if len(line) > 140] == []
    for name in ROWS:
        assert any(line.startswith(name) for line in lines), name
    assert any(line.startswith("PASSED  ") for line in lines)
    assert "bundle  out/tiny-cpu.edgeattn" in lines
    assert any(line.startswith("report  out/report.html") for line in lines)


def test_progress_goes_to_standard_error_in_plain_lines(deployed):
    assert "\x1b" not in deployed.ended.err + deployed.ended.out
    assert "Traceback" not in deployed.ended.err
    for step in ("preparing frames", "exporting to ONNX", "compiling the fp32 engine", "bundling"):
        assert f"  {step}" in deployed.ended.err
    assert [line.split()[1] for line in deployed.ended.err.splitlines() if line.startswith("         ok")][:2] == ROWS[
        :2
    ]


@pytest.mark.parametrize("options", [(), ("-q",), ("--json",)])
def test_a_second_time_everything_is_cached(deployed, tool, without_torch, options):
    """Torch cannot be imported here: what is cached needs none of it, which is why it is fast."""
    ended = tool(
        "deploy", deployed.recipe, "--store", deployed.store, "--out", "out", *options, FIRST=str(without_torch)
    )
    assert ended.code == 0, ended.err
    values = json.loads((tool.folder / "out/report.json").read_text())
    unsupported = {name for name, row in rows(values).items() if row["status"] == "unsupported"}
    assert {row["status"] for name, row in rows(values).items() if name not in unsupported} == {"cached"}
    changing = ("created", "wall_seconds", "bundle", "rows", "command", "git")
    assert {k: v for k, v in values.items() if k not in changing} == {
        k: v for k, v in deployed.report.items() if k not in changing
    }
    if "--json" in options:
        assert json.loads(ended.out) == values
    else:
        assert "PASSED" in ended.out
    if options:
        assert ended.err == ""
    else:
        assert ended.err.count("     cached  ") == len(rows(values)) - len(unsupported)


def test_the_default_folder_of_the_report(deployed, tool):
    ended = tool("train", deployed.recipe, "--store", deployed.store)
    assert ended.code == 0, ended.err
    (written,) = Path(tool.folder / "reports/tiny-cpu").iterdir()
    assert f"reports/tiny-cpu/{written.name}/report.html" in ended.out
    assert json.loads((written / "report.json").read_text())["selected"] is None


@pytest.mark.parametrize(
    ("command", "last"),
    [("export", "export/fp32"), ("compile", "compile/int8")],
)
def test_a_command_ends_at_its_stage(deployed, tool, command, last):
    ended = tool(command, deployed.recipe, "--store", deployed.store, "--out", "out", "--json")
    assert ended.code == 0, ended.err
    values = json.loads(ended.out)
    assert list(rows(values))[-1] == last
    assert values["verdict"]["passed"] is True and command in values["verdict"]["reasons"][0]
    assert (values["selected"], values["bundle"]) == (None, None)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("budget.size_mb_max=0.001", "MB large, at most 0.001 allowed"),
        ("budget.sqnr_db_min=400", "dB SQNR, at least 400 asked"),
    ],
)
def test_a_missed_budget_is_a_verdict_with_its_reasons(deployed, tool, override, said):
    ended = tool("deploy", deployed.recipe, "--store", deployed.store, "--out", "out", "--set", override)
    assert ended.code == 1, ended.err
    assert "NOT PASSED" in ended.out and "error" not in ended.err
    values = json.loads((tool.folder / "out/report.json").read_text())
    assert values["verdict"]["passed"] is False
    assert any(said in reason for reason in values["verdict"]["reasons"])
    assert (values["selected"], values["bundle"]) == (None, None)
    assert not (tool.folder / "out/tiny-cpu.edgeattn").exists()
    report.validate(values)


def test_a_stage_that_proves_itself_wrong_is_a_verdict_too(deployed, tool, store):
    """No export keeps 400 dB: the row says so, and nothing is built on it."""
    ended = tool("deploy", "tiny.yaml", "--store", store, "--out", "out", "--set", "export.parity_db_min=400")
    assert ended.code == 1, ended.err
    values = json.loads((tool.folder / "out/report.json").read_text())
    assert [(name, row["status"]) for name, row in rows(values).items()] == [
        ("train/fp32", "cached"),
        ("export/fp32", "failed"),
    ]
    assert "at least 400 dB expected" in values["verdict"]["reasons"][0]
    assert "export/fp32: " + rows(values)["export/fp32"]["reason"] == values["verdict"]["reasons"][0]
    assert "NOT PASSED" in ended.out


def test_json_on_standard_output_knows_no_nan(within, monkeypatch):
    """As in report.json: a figure that is none is null."""
    values = made.detect()
    values["rows"][0]["metric"]["value"] = math.nan
    monkeypatch.setattr("edgeattn.pipeline.validate.validate", lambda context, until: None)
    monkeypatch.setattr("edgeattn.pipeline.run", lambda context, on_row, until: values | {"bundle": None})
    ended = within("deploy", "tiny.yaml", "--json", "--out", "out")
    assert json.loads(ended.out, parse_constant=pytest.fail)["rows"][0]["metric"]["value"] is None
