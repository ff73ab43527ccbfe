"""Whole deployments to a machine over ssh, also with the connection cut in the middle, each resumed by the same command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

import edgeattn
from edgeattn import report

ROOT = Path(__file__).parents[2]
TINY = {
    "task": "classify",
    "model": {"name": "attention_cnn", "stages": [8, 16], "blocks": 1, "heads": 2},
    "input": {"height": 32, "width": 32},
    "data": {"format": "scenes", "size": 32, "train": 400, "evaluation": 120, "calibration": 60},
    "train": {"epochs": 2, "batch_size": 64, "optimizer": "adamw", "learning_rate": 0.003, "precision": "fp32"},
    "quantize": {"candidates": ["minmax"], "search_samples": 20},
    "variants": ["fp32", "int8"],
    "measure": {"latency_seconds": 0.05, "threads": 1},
}


class Tool:
    """`edgeattn` in a folder, as a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))

    def start(self, *words: str) -> subprocess.Popen[str]:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "EDGEATTN_CACHE": str(self.folder / "cache")}
        command = [sys.executable, "-c", "from edgeattn.cli import main; main()", *words]
        return subprocess.Popen(
            command, cwd=self.folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def __call__(self, *words: str) -> tuple[int, str, str]:
        process = self.start(*words)
        out, err = process.communicate(timeout=400)
        assert "Traceback" not in err, err
        return process.returncode, out, err


def rows(folder: Path) -> dict[str, dict]:
    values = json.loads((folder / "report.json").read_text())
    return {f"{row['stage']}/{row['variant']}": row for row in values["rows"]}


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Path:
    """A store in which the stages up to quantize are done."""
    folder = tmp_path_factory.mktemp("local")
    code, _, err = Tool(folder)("quantize", "tiny.yaml", "--store", "store", "--out", "quantized")
    assert code == 0, err
    return folder


@pytest.fixture
def tool(local, tmp_path) -> Tool:
    shutil.copytree(local / "store", tmp_path / "store")
    return Tool(tmp_path)


def deploy(box, *more: str, out: str = "out") -> list[str]:
    return ["deploy", "tiny.yaml", "--store", "store", "--out", out, *box.arguments(), *more]


def test_a_whole_deployment(fresh, tool):
    code, out, err = tool(*deploy(fresh))
    assert code == 0, err
    values = json.loads((tool.folder / "out/report.json").read_text())
    report.validate(values)
    print(err, out)
