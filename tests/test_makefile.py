"""What the targets of the Makefile call, with a tool that only notes it; a benchmark without its bundle or its GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = "zoo --pages --into README.md --into docs/models.md"


@pytest.fixture
def make(tmp_path):
    """`make(target)` in a folder whose environment is set up; returns the calls of `edgeattn` in order."""
    shutil.copyfile(ROOT / "Makefile", tmp_path / "Makefile")
    for name in ("pyproject.toml", "constraints.txt", ".venv/bin/edgeattn", ".venv/.complete"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('#!/bin/sh\necho "$@" >> calls\n')
    (tmp_path / ".venv/bin/edgeattn").chmod(0o755)

    def run(*arguments, **env):
        command = ["make", "--silent", *arguments]
        subprocess.run(
            command, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60, env={**os.environ, **env}
        )
        calls = tmp_path / "calls"
        return calls.read_text().splitlines() if calls.exists() else []

    return run


@pytest.mark.parametrize(
    ("reports", "calls"),
    [
        ([], []),
        (["a"], ["report reports/a"]),
        (["zoo/b", "zoo/c"], ["report reports/zoo/b", "report reports/zoo/c", PAGES]),
        (["a", "zoo/b"], ["report reports/a", "report reports/zoo/b", PAGES]),
        (["jetson/d"], ["report reports/jetson/d"]),
    ],
)
def test_every_report_is_rendered_again_and_the_pages_of_the_zoo(make, tmp_path, reports, calls):
    for name in reports:
        (tmp_path / "reports" / name).mkdir(parents=True)
        (tmp_path / "reports" / name / "report.json").write_text("{}")
    assert make("report") == calls


def test_another_machine_is_named_to_deploy(make):
    assert make("deploy", "TARGET=cpu", "HOST=user@device", "ARGS=--seed 1") == [
        "deploy digit_scenes --target cpu --host user@device --seed 1"
    ]


def test_the_name_that_a_shell_gives_this_machine_is_no_device(make):
    assert make("deploy", HOST="workstation") == ["deploy digit_scenes --target cpu"]


def test_an_empty_name_is_handed_on_to_be_refused(make):
    assert make("deploy", "HOST=") == ["deploy digit_scenes --target cpu --host "]


@pytest.mark.parametrize("name", ['a"; touch made; "', "$(shell touch made)", "`touch made`", "$$PWD", "a'b", "a b"])
def test_no_name_is_read_as_shell(make, tmp_path, name):
    assert make("deploy", f"HOST={name}") == [f"deploy digit_scenes --target cpu --host {name}"]
    assert not (tmp_path / "made").exists()


def test_without_a_bundle_the_alignment_benchmark_says_so_and_is_no_failure(tmp_path):
    script = ROOT / "benchmarks/alignment_against_sift.py"
    ended = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == (
        "There is no bundle in reports/zoo/bsds_align; name one, or make it with: edgeattn zoo bsds_align\n"
    )


def test_without_a_gpu_its_benchmark_says_so_and_is_no_failure(tmp_path):
    script, hidden = ROOT / "benchmarks/cuda_recording.py", {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(script), "--out", "figures.json"]
    ended = subprocess.run(command, cwd=tmp_path, env=hidden, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "torch finds no GPU here, and what a recorded call saves is to be seen on one alone.\n"
    assert not list(tmp_path.iterdir())
