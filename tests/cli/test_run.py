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


def cut_off(photos):
    clip = photos / "clip.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"MJPG"), 10, (50, 40))
    for name in sorted((photos / "cat").iterdir()):
        writer.write(cv2.imread(str(name)))
    writer.release()
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size * 6 // 10])
    return clip, ["clip.avi ends after ", " of 12 frames; it is cut off"]


SPOILT = [missing, empty, corrupt, not_an_image, not_a_video, cut_off]


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda f: f.__name__)
def test_a_source_that_cannot_be_read(deployed, tool, photos, spoil):
    """In a process of its own: FFmpeg writes where no test within this one would see it."""
    source, parts = spoil(photos)
    ended = tool("run", deployed.bundle, "--source", source, "--out", "drawn")
    assert ended.code == 2, ended.err
    assert ended.err == f"error: {ended.error}\n"
    for part in parts:
        assert part in ended.error
    assert not (tool.folder / "drawn").exists()


def test_overlays_that_cannot_be_written(deployed, tool, photos):
    ended = tool("run", deployed.bundle, "--source", photos / "cat", "--out", "tiny.yaml/below")
    assert ended.code in (2, 3), ended.err
    assert "tiny.yaml" in ended.error
    assert "task: classify" in (tool.folder / "tiny.yaml").read_text()
