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
    values = json.loads(within("targets", "--json").out)
    assert values["cpu"]["backend"] == "openvino" and values["cpu"]["precisions"][0] == "fp32"


def test_models(within):
    ended = within("models")
    assert (ended.code, ended.err) == (0, "")
    assert [line.split()[0] for line in ended.out.splitlines()] == models.names()
    values = json.loads(within("models", "--json").out)
    assert values["se_resnet"] == {
        "task": "classify",
        "settings": {"depth": 20, "width": 16, "reduction": 8, "stem_stride": 1},
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
