"""A whole deployment to a "Jetson" over ssh: the road is real, TensorRT and the board at its end are stand-ins.

So nothing here says anything about speed or accuracy on a Jetson; it says that every step is asked for, in an order and
with arguments that NVIDIA's own lists of TensorRT 10.3 allow, and that what a board tells arrives in the report.
"""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.slow


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found
    spec.loader.exec_module(found)
    return found


boards = module(Path(__file__).parents[1] / "board/conftest.py")
deploying = module(Path(__file__).with_name("test_deploying.py"))


@pytest.fixture(scope="module")
def deployed(tensorrt_box, tmp_path_factory):
    """The tool, and how the deployment ended."""
    box = tensorrt_box
    shutil.rmtree(box.root, ignore_errors=True)
    boards.orin_nano(boards.Tree(box.home / "board"))
    tool = deploying.Tool(tmp_path_factory.mktemp("jetson"))
    words = ["deploy", "tiny.yaml", "--store", "store", "--out", "out", "--target", "jetson", *box.arguments()]
    yield tool, tool(*words, "--set", "variants=[fp16,int8]", "--twice")
    shutil.rmtree(box.root, ignore_errors=True)


def test_engines_are_built_proven_and_timed_there(tensorrt_box, deployed):
    tool, (code, _, err) = deployed
    assert code == 0, err
    values = tool.report()
    rows = deploying.rows(values)
    assert values["target"] == "jetson-orin-nano"
    assert shlex.split(values["command"])[-3:] == ["--twice", "--set", "variants=[fp16,int8]"]
    for name in ("compile/fp16", "compile/int8", f"bundle/{values['selected']['variant']}"):
        row = rows[name]
        assert (row["status"], row["backend"], row["emulated"]) == ("ok", "tensorrt", False)
        assert row["metric"]["n"] == 120 and row["drift"]["reference"] == "train/fp32"
        assert row["latency"]["p50_ms"] > 0
        assert f"compiled and measured on {tensorrt_box.address}" in " ".join(row["notes"])
    assert rows["compile/fp16"]["drift"]["sqnr_db"] > 50
    assert rows["compile/int8"]["latency"]["parent"]["variant"] == "fp16"
    assert "with TensorRT 10.3.0" in err, "the build tells how far it is"
    assert f"self-test of the bundle, on {tensorrt_box.address}" in err
    assert not (tensorrt_box.home / "violations").exists(), (tensorrt_box.home / "violations").read_text()


def test_what_the_board_tells_is_in_the_report(tensorrt_box, deployed):
    tool, _ = deployed
    values = tool.report()
    device, rows = values["host"]["device"], deploying.rows(values)
    assert (device["address"], device["module"], device["jetpack"]) == (tensorrt_box.address, "p3767-0005", "6.2")
    assert (device["power_mode"], device["clocks_mhz"]["17000000.gpu"]) == ("15W", 306.0)
    assert (device["fingerprint"]["tensorrt"], device["fingerprint"]["module"]) == ("10.3.0", "p3767-0005")
    for name in ("compile/fp16", "compile/int8"):
        row = rows[name]
        assert row["energy"]["mean_w"] == pytest.approx(6.0) and "VDD_IN" in row["energy"]["source"]
        meanwhile = row["latency"]["meanwhile"]
        assert meanwhile["before"]["power_mode"] == meanwhile["after"]["power_mode"] == "15W"
        assert meanwhile["throttled"] is False and row["latency"]["throttled"] is False
        said = "while engines were loaded and timed the board was in power mode 15W, clocks free, at most 51.2 °C"
        assert any(note.startswith(said) and note.endswith("not slowed down") for note in row["notes"])
    assert "15W" in (tool.folder / "out/report.html").read_text()


def test_a_second_build_is_compared_with_the_first(deployed):
    rows = deploying.rows(deployed[0].report())
    for name in ("compile/fp16", "compile/int8"):
        spread = rows[name]["spread"]
        assert spread["identical"] is False, "the stand-in never writes the same plan twice, as TensorRT may"
        assert spread["rounds"] >= 20 and spread["latency_ratio"] > 0 and spread["second_build_s"] > 0
        assert all(found["max_abs"] == 0 for found in spread["outputs"].values())
        assert any(note.startswith("second build: ") for note in rows[name]["notes"])


def test_a_second_time_everything_is_there(tensorrt_box, deployed):
    tool, _ = deployed
    words = ["deploy", "tiny.yaml", "--store", "store", "--out", "again", "--target", "jetson"]
    code, _, err = tool(*words, *tensorrt_box.arguments(), "--set", "variants=[fp16,int8]", "--twice")
    assert code == 0, err
    assert {row["status"] for row in tool.report("again")["rows"]} == {"cached"}
    assert f", on {tensorrt_box.address}" not in err


def test_a_board_of_another_kind_is_refused(tensorrt_box, deployed):
    tool, _ = deployed
    words = ["deploy", "tiny.yaml", "--store", "store", "--out", "thor", "--target", "jetson-thor"]
    code, _, err = tool(*words, *tensorrt_box.arguments())
    assert code == 3
    assert f"error: {tensorrt_box.address} is p3767-0005, the target jetson-thor is p3834" in err
    assert not (tool.folder / "thor").exists()
