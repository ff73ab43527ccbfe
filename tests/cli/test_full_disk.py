"""The disk fills up at every stage: one sentence, exit code 3, nothing lost, and running again resumes."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
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


@pytest.fixture
def clip(tmp_path):
    """Noise, which takes far more room than the small disk has."""
    random = np.random.default_rng(0)
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240))
    for _ in range(20):
        writer.write(random.integers(0, 256, (240, 320, 3), np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize("name", ["drawn.mp4", "drawn.avi", "drawn.mkv"])
def test_a_video_overlay_that_fills_up(deployed, tool, small_disk, clip, name):
    """OpenCV says nothing; a cut-off .avi or .mkv still names the full number of frames in its header."""
    disk = small_disk("128k")
    ended = tool("run", deployed.bundle, "--source", clip, "--out", disk / name)
    assert ended.code == 3, ended.err
    assert "of the 20 frames" in ended.error and str(disk / name) in ended.error and "--out" in ended.error
    assert list(disk.iterdir()) == []


@pytest.mark.parametrize("full", [True, False])
def test_a_place_that_takes_no_video_is_not_an_unknown_format(deployed, tool, small_disk, clip, full):
    disk = small_disk("64k")
    if full:
        fill(disk, 0)
    place = disk if full else "/proc"
    ended = tool("run", deployed.bundle, "--source", clip, "--out", f"{place}/drawn.mp4")
    assert (ended.code, ended.out) == (3, ""), ended.err
    assert str(place) in ended.error and "--out" in ended.error and "format" not in ended.error
