"""Every task from a recipe to pictures on a video, on tiny networks: what a camera app would do with the bundle.

The videos are drawn here, and a real one where there is one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

import edgeattn

SIZE, BUNDLE = 48, "own-cpu.edgeattn"
TILED = {"height": 32, "width": 32, "fit": "tile", "overlap": 8}
SYSTEMS: dict[str, dict[str, Any]] = {
    "classify": {
        "model": {
            "name": "region_attention",
            "stages": [8, 8],
            "grids": [2, 4],
            "hidden": 8,
            "attention_output": True,
        },
        "input": {"height": 32, "width": 32},
        "data": {},
    },
    "segment": {
        "model": {"name": "attention_unet", "widths": [4, 8], "attention_output": True},
        "input": TILED,
        "data": {"target": "mask", "digits": 2},
    },
    "detect": {
        "model": {
            "name": "attention_rcnn",
            "anchor_sizes": [12, 20, 28, 36],
            "candidates": 32,
            "proposals": 12,
            "detections": 6,
            "attention_output": True,
        },
        "input": {"height": 64, "width": 64},
        "data": {"target": "boxes", "digits": 2},
    },
    "align": {
        "model": {"name": "attention_align", "attention_output": True},
        "input": {"height": 64, "width": 64},
        "data": {"target": "homography", "digits": 2},
    },
    "restore": {
        "model": {
            "name": "restore_unet",
            "widths": [8, 16],
            "blocks": [1, 1],
            "attention_heads": 2,
            "attention_output": True,
        },
        "input": {"height": 48, "width": 48},
        "data": {"target": "image", "noise": 30, "digits": 2},
    },
}


def recipe(task: str) -> dict[str, Any]:
    system = SYSTEMS[task]
    side = SIZE if system["input"] is TILED else system["input"]["height"]
    return {
        "task": task,
        "model": system["model"],
        "input": system["input"],
        "data": {"format": "scenes", "size": side, "train": 48, "evaluation": 12, "calibration": 9, **system["data"]},
        "train": {"epochs": 1, "batch_size": 8, "optimizer": "adamw", "learning_rate": 0.001, "label_smoothing": 0.0},
        "quantize": {"candidates": ["minmax"], "search_samples": 3},
        "leave_out": {"openvino": ["fp16"]},  # see tests/backends/test_openvino_never_ends.py
        "measure": {"latency_seconds": 0.05, "threads": 1},
    }


@dataclass(frozen=True)
class Clip:
    """A video file, and what is to be read from it."""

    path: Path
    count: int
    size: tuple[int, int]  # width, height

    def frames(self) -> list[np.ndarray]:
        capture = cv2.VideoCapture(str(self.path))
        found = []
        while (read := capture.read())[0]:
            found.append(read[1])
        return found


def noise(count: int = 4) -> list[np.ndarray]:
    """Smooth noise that moves, 80 x 64 pixels: neither the network's size nor its shape."""
    wide = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (64, 80 + count, 3), np.uint8), (0, 0), 2)
    return [np.ascontiguousarray(wide[:, i : i + 80]) for i in range(count)]


def camera(count: int = 10) -> list[np.ndarray]:
    """The first frames of a real video, 768 x 432 pixels, as OpenCV decodes them."""
    path = Path(os.environ.get("EDGEATTN_DATA", "")) / "video/car-detection.mp4"
    if not (os.environ.get("EDGEATTN_DATA") and path.is_file()):
        pytest.skip("there is no video/car-detection.mp4 in EDGEATTN_DATA")
    capture = cv2.VideoCapture(str(path))
    read = [capture.read() for _ in range(count)]
    assert all(ok for ok, _ in read), f"{path} is shorter than {count} frames, or cannot be decoded"
    return [frame for _, frame in read]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Callable[..., Clip]:
    """`clip(noise)` is those frames as a video file, written once."""

    @cache
    def written(source: Callable[[], list[np.ndarray]]) -> Clip:
        images = source()
        path, size = tmp_path_factory.mktemp("clip") / "clip.avi", images[0].shape[1::-1]
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, size)
        for image in images:
            writer.write(image)
        writer.release()
        return Clip(path, len(images), size)

    return written


@pytest.fixture(scope="module")
def own(tools, tmp_path_factory) -> Callable[[str], Path]:
    """`own(task)`: what its tiny network was deployed to, once for all tests."""

    @cache
    def deployed(task: str) -> Path:
        folder = tmp_path_factory.mktemp(task)
        (folder / "own.yaml").write_text(yaml.safe_dump(recipe(task)))
        ended = tools(folder)("deploy", "own.yaml", "--store", "store", "--out", "out")
        assert ended.code == 0, ended.err
        return folder / "out"

    return deployed


def check(task: str, result: Any, frame: np.ndarray) -> None:
    """The contract's fields, in the frame's own coordinates."""
    high, wide = frame.shape[:2]
    if task == "classify":
        assert sorted(result.class_id) == list(range(len(result.labels)))
        assert result.confidence.sum() == pytest.approx(1.0, abs=1e-5) and (np.diff(result.confidence) <= 0).all()
    elif task == "segment":
        assert result.mask.shape == result.confidence.shape == (high, wide)
        assert result.mask.max() < len(result.labels) and 0 <= result.confidence.min() <= result.confidence.max() <= 1
    elif task == "detect":
        count = len(result.xyxy)
        assert result.xyxy.shape == (count, 4) and len(result.confidence) == len(result.class_id) == count
        assert not count or (result.xyxy.min() >= 0 and result.xyxy[:, [0, 2]].max() <= wide)
    elif task == "align":
        assert result.homography.shape == (3, 3) and result.homography[2, 2] == pytest.approx(1.0)
        assert result.warped.shape == frame.shape
    else:
        assert result.image.shape == frame.shape and result.image.dtype == np.uint8
    assert result.attention.ndim == 2 and 0 <= result.attention.min() <= result.attention.max() <= 1
    assert result.latency_ms > 0
    json.dumps(result.to_dict(), allow_nan=False)
    drawn = result.draw(frame)
    assert drawn.dtype == np.uint8 and drawn.shape[0] >= high and drawn.shape[1] >= wide


@pytest.mark.slow
@pytest.mark.parametrize("task", SYSTEMS)
def test_from_recipe_to_a_bundle(own, tool, task):
    report = json.loads((own(task) / "report.json").read_text())
    assert report["gallery"]["attention"]  # input, attention, FP32 and INT8 results can be shown of every task
    assert {"train/fp32", "compile/int8"} <= report["gallery"]["results"].keys()
    drifts = {f"{row['stage']}/{row['variant']}": row["drift"] for row in report["rows"] if row["drift"]}
    assert {"export/fp32", "quantize/int8", "compile/int8"} <= drifts.keys()
    test = "mcnemar exact" if task == "classify" else "paired permutation"
    for drift in drifts.values():  # image by image against the reference, on the evaluation split
        assert (drift["reference"], drift["test"], drift["n"]) == ("train/fp32", test, 12)
    assert tool("verify", own(task) / BUNDLE).code == 0


@pytest.mark.slow
@pytest.mark.parametrize("source", [noise, camera], ids=["noise", "a real video"])
@pytest.mark.parametrize("task", SYSTEMS)
def test_a_video_with_overlay(own, clip, tool, task, source):
    video, bundle = clip(source), own(task) / BUNDLE
    ended = tool("run", bundle, "--source", video.path, "--out", "overlay.mp4")
    assert ended.code == 0, ended.err
    assert sum(line.endswith(" ms)") for line in ended.out.splitlines()) == video.count
    overlays = Clip(tool.folder / "overlay.mp4", video.count, video.size).frames()
    assert len(overlays) == video.count
    assert all(drawn.shape[1] >= video.size[0] and drawn.shape[0] >= video.size[1] for drawn in overlays)

    images = video.frames()
    with edgeattn.load(bundle) as model:
        taken = images[:2] if task == "align" else images[:1]
        check(task, model(*taken), taken[-1])


@pytest.mark.slow
def test_four_times_as_large_in_tiles(within, tool, listed):
    """Training steps on tiles of 16 pixels and clean ones of 64, then frames of 24 x 32 restored to 96 x 128."""
    (tool.folder / "clean").mkdir()
    random = np.random.default_rng(0)
    for number in range(8):  # smooth, so that what is enlarged bilinearly is near to it
        image = cv2.GaussianBlur(random.integers(0, 256, (96, 128, 3), np.uint8), (0, 0), 6)
        cv2.imwrite(str(tool.folder / f"clean/{number}.png"), cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX))
    values = {
        "task": "restore",
        "model": {"name": "restore_unet", "widths": [8, 8], "blocks": [1, 1], "stem": 1, "scale": 4},
        "input": {"height": 16, "width": 16, "fit": "tile", "overlap": 4},
        "data": {"format": "clean", "path": "clean", "scale": 4, "eval_last": 2, "calibration": 1},
        "train": {"epochs": 1, "batch_size": 2, "optimizer": "adamw", "learning_rate": 0.001, "label_smoothing": 0.0},
        "measure": {"latency_seconds": 0.05, "threads": 1},
    }
    (tool.folder / "own.yaml").write_text(yaml.safe_dump(values))
    ended = within("train", "own.yaml", "--store", "store")
    assert ended.code == 0, ended.err
    check = listed(tool.folder / "store")["check/accuracy-train/fp32"]
    with np.load(check / "outputs.npz") as outputs:
        assert {outputs[name].shape for name in outputs.files} == {(2, 3, 96, 128)}
    metric = json.loads((check / "check.json").read_text())["metric"]
    assert (metric["name"], metric["n"]) == ("psnr", 2)
    assert 20 < metric["value"] < 60  # hardly trained, it gives nearly the frame enlarged bilinearly
