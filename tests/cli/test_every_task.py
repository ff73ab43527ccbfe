"""Every task from a recipe to pictures on a video, on tiny networks: what a camera app would do with the bundle."""

from __future__ import annotations

import json
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

import edgeattn

SIZE, FRAMES = 48, 4
TILED = {"height": 32, "width": 32, "fit": "tile", "overlap": 8}
SYSTEMS: dict[str, dict[str, Any]] = {
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


def frames(count: int) -> list[np.ndarray]:
    """Smooth noise that moves, 80 x 64 pixels: neither the network's size nor its shape."""
    wide = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (64, 80 + count, 3), np.uint8), (0, 0), 2)
    return [np.ascontiguousarray(wide[:, i : i + 80]) for i in range(count)]


def video(path, images) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (80, 64))
    for image in images:
        writer.write(image)
    writer.release()


def check(task: str, result: Any, frame: np.ndarray) -> None:
    """The contract's fields, in the frame's own coordinates."""
    high, wide = frame.shape[:2]
    if task == "segment":
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
def test_from_recipe_to_a_video_with_overlay(tool, task):
    (tool.folder / "own.yaml").write_text(yaml.safe_dump(recipe(task)))
    ended = tool("deploy", "own.yaml", "--store", "store", "--out", "out")
    assert ended.code == 0, ended.err
    report = json.loads((tool.folder / "out/report.json").read_text())
    assert report["gallery"]["attention"]  # input, attention, FP32 and INT8 results can be shown of every task
    assert {"train/fp32", "compile/int8"} <= report["gallery"]["results"].keys()
    drifts = {f"{row['stage']}/{row['variant']}": row["drift"] for row in report["rows"] if row["drift"]}
    assert {"export/fp32", "quantize/int8", "compile/int8"} <= drifts.keys()
    for drift in drifts.values():  # image by image against the reference, on the evaluation split
        assert (drift["reference"], drift["test"], drift["n"]) == ("train/fp32", "paired permutation", 12)
    bundle = tool.folder / "out/own-cpu.edgeattn"
    assert tool("verify", bundle).code == 0

    images = frames(FRAMES)
    video(tool.folder / "clip.avi", images)
    ended = tool("run", bundle, "--source", "clip.avi", "--out", "overlay.mp4")
    assert ended.code == 0, ended.err
    overlay = cv2.VideoCapture(str(tool.folder / "overlay.mp4"))
    assert int(overlay.get(cv2.CAP_PROP_FRAME_COUNT)) == FRAMES

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
