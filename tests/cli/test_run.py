"""`edgeattn run`: a bundle on images, and sources that are none."""

from __future__ import annotations

import json

import cv2
import pytest


def test_a_folder_of_images(deployed, tool, photos):
    ended = tool("run", deployed.bundle, "--source", photos / "cat", "--out", "drawn", "--threads", "1")
    assert (ended.code, ended.err) == (0, "")
    assert [line.split(":")[0] for line in ended.out.splitlines()] == [f"{i:02d}.png" for i in range(12)]
    assert len(list((tool.folder / "drawn").iterdir())) == 12


def test_one_image_as_json(deployed, tool, photos):
    ended = tool("run", deployed.bundle, "--source", photos / "cat/00.png", "--json", "--out", "drawn.png")
    assert (ended.code, ended.err) == (0, "")
    (values,) = [json.loads(line) for line in ended.out.splitlines()]
    assert values["name"] == "00.png" and len(values["class_id"]) == len(values["confidence"])
    assert cv2.imread(str(tool.folder / "drawn.png")) is not None


def missing(photos):
    return photos / "dog", ["There is no source", "dog"]


def empty(photos):
    (photos / "dog").mkdir()
    return photos / "dog", ["holds no images"]


def corrupt(photos):
    (photos / "cat/02.png").write_bytes(b"not a picture")
    return photos / "cat", ["cat/02.png"]


def not_an_image(photos):
    (photos / "notes.txt").write_text("hello")
    return photos / "notes.txt", ["notes.txt"]


def not_a_video(photos):
    (photos / "clip.mp4").write_bytes(b"hello")
    return photos / "clip.mp4", ["clip.mp4", "video"]


@pytest.mark.parametrize("spoil", [missing, empty, corrupt, not_an_image, not_a_video], ids=lambda f: f.__name__)
def test_a_source_that_cannot_be_read(deployed, within, photos, spoil):
    source, parts = spoil(photos)
    ended = within("run", deployed.bundle, "--source", source)
    assert ended.code == 2, ended.err
    said = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1 and "Traceback" not in ended.err
    for part in parts:
        assert part in said[0]


def test_overlays_that_cannot_be_written(deployed, tool, photos):
    ended = tool("run", deployed.bundle, "--source", photos / "cat", "--out", "tiny.yaml/below")
    assert ended.code in (2, 3), ended.err
    assert "tiny.yaml" in ended.error
    assert "task: classify" in (tool.folder / "tiny.yaml").read_text()
