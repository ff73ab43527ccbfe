"""The disk fills up at every stage: one sentence, exit code 3, nothing lost, and running again resumes."""

from __future__ import annotations

import json
import shutil

import pytest

# What is made again on a disk that has this much room left, in kilobytes.
STAGES = {
    "data": (["check/data"], 0),
    "frames": (["train/fp32"], 300),
    "checkpoint": (["train/fp32"], 1668),
    "export": (["export/fp32"], 12),
    "compile": (["compile/int8"], 12),
    "bundle": (["bundle/fp32", "bundle/bf16", "bundle/int8"], 12),
    "accuracy": (["check/accuracy-export/fp32"], 8),
    "latency": (["check/latency-export"], 4),
}


def fill(disk, kilobytes_left):
    free = shutil.disk_usage(disk).free - kilobytes_left * 1024
    (disk / "filler").write_bytes(b"\0" * free)


@pytest.mark.parametrize(("missing", "left"), STAGES.values(), ids=STAGES)
def test_a_store_that_fills_up(deployed, tool, small_disk, listed, state, missing, left):
    disk = small_disk("24m")
    store = disk / "store"
    shutil.copytree(deployed.store, store)
    for name in missing:
        shutil.rmtree(listed(store).get(name, disk / "none"), ignore_errors=True)
    before = state(store / "artifacts")
    fill(disk, left)
    ended = tool("deploy", "tiny.yaml", "--store", store, "--out", "out")
    assert ended.code == 3, ended.err
    assert f"No space is left on the disk while writing {disk}" in ended.error and "--store" in ended.error
    now = state(store / "artifacts")
    assert {name: now.get(name) for name in before} == before
    assert not (tool.folder / "out").exists()
    (disk / "filler").unlink()
    if missing != ["compile/int8"]:
        return  # running again is the same everywhere; one of them will do
    ended = tool("deploy", "tiny.yaml", "--store", store, "--out", "out")
    assert ended.code == 0, ended.err
    values = json.loads((tool.folder / "out/report.json").read_text())
    assert [row["artifact"] for row in values["rows"] if row["artifact"]] == [
        {**row["artifact"], "path": row["artifact"]["path"].replace("store/", f"{store}/", 1)}
        for row in deployed.report["rows"]
        if row["artifact"]
    ]


@pytest.mark.parametrize("size", ["8k", "240k"])
def test_a_report_folder_that_fills_up(deployed, tool, small_disk, size):
    disk = small_disk(size)
    ended = tool("deploy", "tiny.yaml", "--store", deployed.store, "--out", disk / "out")
    assert ended.code == 3, ended.err
    assert "No space is left on the disk" in ended.error and str(disk) in ended.error and "--out" in ended.error
    for path in disk.rglob("report.json"):
        json.loads(path.read_text())
    assert list(disk.rglob("*.tmp")) == []


def test_room_for_temporary_files_runs_out(deployed, tool, store, small_disk, listed):
    """Frames on their way to the processes that are timed go through the system's folder for temporary files."""
    shutil.rmtree(listed(store)["check/latency-export"])
    disk = small_disk("16k")
    ended = tool("deploy", "tiny.yaml", "--store", store, "--out", "out", TMPDIR=str(disk))
    assert ended.code == 3, ended.err
    assert "No space is left" in ended.error and str(disk) in ended.error
