"""What there is: recipes, targets, models, tasks, this machine; and the help of every command."""

from __future__ import annotations

import json
import re

import pytest

from edgeattn import __version__, backends, host, models, tasks
from edgeattn.backends import openvino
from edgeattn.cli import group
from edgeattn.recipe import target_names

COMMANDS = group.list_commands(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(within, command):
    ended = within(command, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"Usage: edgeattn {command} ")
    assert re.search(rf"^ +(\w+=\S+ )?edgeattn {command}\b", ended.out.partition("Example")[2], re.MULTILINE)
    assert max(map(len, ended.out.splitlines())) <= 110


def test_run_says_what_a_model_of_two_frames_gets(within):
    said = " ".join(within("run", "--help").out.split())
    assert "gets each frame together with the one before it, the first one with itself" in said


def test_the_commands(within):
    ended = within("--help")
    assert ended.code == 0
    for command in COMMANDS:
        assert re.search(rf"^  {command} +\w", ended.out, re.MULTILINE), command
    for code in ("0 done", "1 done, but", "2 wrong", "3 this machine", "130 interrupted"):
        assert code in " ".join(ended.out.split())
    assert {"deploy", "train", "export", "quantize", "compile", "bundle", "report", "verify", "run"} < set(COMMANDS)
    assert not {"console", "options", "stages", "summary", "__main__"} & set(COMMANDS)
    alone = within()
    assert (alone.code, alone.out) == (2, "") and "Commands:" in alone.err
    assert within("--version").out == f"edgeattn, version {__version__}\n"
    assert within("-h").out == ended.out


def test_recipes(tool, within):
    ended = within("recipes")
    assert ended.code == 2
    assert "There is no recipe in pipelines/" in ended.error
    (tool.folder / "pipelines").mkdir()
    (tool.folder / "tiny.yaml").rename(tool.folder / "pipelines/tiny.yaml")
    ended = within("recipes")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.split()[:4] == ["tiny", "classify", "attention_cnn", "scenes"]
    assert json.loads(within("recipes", "--json").out)["tiny"]["train"]["epochs"] == 2
    (tool.folder / "pipelines/bad.yaml").write_text("task: [")
    ended = within("recipes")
    assert ended.code == 2
    assert "pipelines/bad.yaml is not valid YAML" in ended.error


def test_targets(within):
    ended = within("targets")
    assert (ended.code, ended.err) == (0, "")
    assert [line.split()[0] for line in ended.out.splitlines()] == target_names()
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in ended.out.splitlines()}
    assert lines["cpu"] == "openvino fp32, bf16, fp16, int8"
    assert lines["jetson"] == "tensorrt the same as jetson-orin-nano"
    assert lines["jetson-thor"] == "tensorrt fp32, fp16, int8 TensorRT 10.13 to 11.4.1, JetPack 7.0 to 7.2.2"
    assert lines["nvidia"] == "tensorrt fp32, fp16, int8 TensorRT 10.3 to 11.4"
    values = json.loads(within("targets", "--json").out)
    assert list(values) == target_names()
    assert values["cpu"]["backend"] == "openvino" and values["cpu"]["precisions"][0] == "fp32"
    assert (values["cpu"]["hardware"], values["cpu"]["releases"]) == (None, [])


def test_one_target(within):
    ended = within("targets", "jetson")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == within("targets", "jetson-orin-nano").out
    lines = ended.out.splitlines()
    assert [line.partition(" ")[0] for line in lines[:5]] == ["name", "title", "backend", "precisions", "TensorRT"]
    assert lines[4].split(maxsplit=1)[1] == "10.3 to 10.16.2, which all read ONNX up to opset 20"
    assert "JetPack      6.2 (L4T 36.4.3): TensorRT 10.3.0, CUDA 12.6, Python 3.10" in lines
    assert (
        "super peaks  INT8 33.43 TOPS, FP16 16.72 TFLOPS, FP32 2.09 TFLOPS, memory 102.4 GB/s, dense, at 1020 MHz"
    ) in lines
    assert "power modes  7W, 15W, 25W (super), MAXN_SUPER (super)" in lines
    thor, card = within("targets", "jetson-thor").out, within("targets", "nvidia").out
    assert "JetPack      7.2.2: TensorRT 11.4.1, CUDA 13.2, Python 3.12" in thor.splitlines()
    assert "peaks        INT8 not published, FP16 258.1 TFLOPS" in thor
    assert "memory       not published, not shared with the CPU" in card.splitlines()
    assert "peaks        not published" in card.splitlines()
    assert within("targets", "cpu").out.splitlines()[:2] == ["name         cpu", "title        CPU (OpenVINO)"]
    values = json.loads(within("targets", "jetson", "--json").out)
    assert (values["name"], values["hardware"]["modules"]) == ("jetson-orin-nano", ["p3767-0003", "p3767-0005"])
    assert values["releases"][0] == {
        "jetpack": "6.1", "l4t": ["36.4.0", "36.4.2"], "tensorrt": "10.3.0", "cuda": "12.6", "python": "3.10",
        "devices": "Orin",
    }  # fmt: skip
    ended = within("targets", "jetsn")
    assert ended.code == 2 and "There is no target 'jetsn'; did you mean 'jetson'; known: cpu, " in ended.error


def test_a_target_that_says_little(within, tmp_path, monkeypatch):
    from edgeattn import recipe

    folder = tmp_path / "targets"
    folder.mkdir()
    monkeypatch.setattr(recipe, "TARGETS", folder)
    (folder / "ours.yaml").write_text(
        "{title: Ours, backend: tensorrt, precisions: [fp16], threads: 2, tensorrt: {min: '10.9', opset_max: 22},"
        " hardware: {memory_shared: true, multiprocessors: 3, dla_cores: 1, peaks: {fp16_tflops: 3}}}"
    )
    assert within("targets").out.split(maxsplit=2)[2] == "fp16                    TensorRT 10.9 and newer\n"
    assert within("targets", "ours").out.splitlines() == [
        "name         ours",
        "title        Ours",
        "backend      tensorrt",
        "precisions   fp16",
        "threads      2",
        "TensorRT     10.9 and newer, which all read ONNX up to opset 22",
        "GPU          3 multiprocessors",
        "memory       not published, shared by CPU and GPU",
        "DLA          1 core",
        "peaks        INT8 not published, FP16 3 TFLOPS, FP32 not published, memory not published, dense",
    ]
    (folder / "ours.yaml").write_text("{title: Ours, backend: tensorrt, precision: [fp16]}")
    ended = within("targets")
    assert ended.code == 2 and "unknown field 'precision'; did you mean 'precisions'" in ended.error


def test_models(within):
    ended = within("models")
    assert (ended.code, ended.err) == (0, "")
    assert [line.split()[0] for line in ended.out.splitlines()] == models.names()
    values = json.loads(within("models", "--json").out)
    assert values["se_resnet"] == {
        "task": "classify",
        "settings": {"depth": 20, "width": None, "reduction": 8, "stem_stride": 1},
    }


def test_tasks(within):
    ended = within("tasks")
    assert (ended.code, ended.err) == (0, "")
    assert [line.split()[0] for line in ended.out.splitlines()] == tasks.names()
    assert "classify   top1 (%, higher is better)" in ended.out.splitlines()
    values = json.loads(within("tasks", "--json").out)
    assert values["classify"] == {
        "metric": "top1",
        "unit": "%",
        "metrics": [{"name": "top1", "unit": "%", "higher_is_better": True}],
    }
    assert all(task["metrics"][0]["name"] == task["metric"] for task in values.values())


def test_doctor(tool, within):
    ended = tool("doctor", EDGEATTN_DATA=str(tool.folder))
    assert (ended.code, ended.err) == (0, "")
    assert host.cpu_model() in ended.out and f"{tool.folder} (found)" in ended.out
    values = json.loads(within("doctor", "--json").out)
    assert set(values["backends"]) == set(backends.names())
    assert values["backends"]["openvino"] == {"usable": True, "reason": None, "precisions": openvino.precisions()}
    assert values["data"] == {"path": "data", "exists": False}


def test_doctor_says_what_is_missing(tool):
    (tool.folder / "blocked/openvino").mkdir(parents=True)
    (tool.folder / "blocked/openvino/__init__.py").write_text("raise ImportError('no openvino here')")
    ended = tool("doctor", FIRST=str(tool.folder / "blocked"))
    assert (ended.code, ended.err) == (0, "")
    assert 'pip install "edgeattn[openvino]"' in ended.out
    entry = json.loads(tool("doctor", "--json", FIRST=str(tool.folder / "blocked")).out)["backends"]["openvino"]
    assert (entry["usable"], entry["precisions"]) == (False, []) and "no openvino here" in entry["reason"]


def test_doctor_names_the_board(monkeypatch):
    from click.testing import CliRunner

    from edgeattn.cli import doctor

    board = {
        **{"model": "NVIDIA Jetson Orin Nano", "module": "p3767-0005", "l4t": "36.4.3", "jetpack": "6.2"},
        **{"power_mode": "15W", "clocks_held": True},
    }
    monkeypatch.setattr(doctor, "describe_device", lambda: board)
    shown = CliRunner().invoke(doctor.command, [])
    assert "board    NVIDIA Jetson Orin Nano, JetPack 6.2 (L4T 36.4.3), power mode 15W, clocks held\n" in shown.output
    assert json.loads(CliRunner().invoke(doctor.command, ["--json"]).output)["host"]["device"] == board
    monkeypatch.setattr(doctor, "describe_device", lambda: None)
    assert "board" not in CliRunner().invoke(doctor.command, []).output
    assert json.loads(CliRunner().invoke(doctor.command, ["--json"]).output)["host"]["device"] == {}
