import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import edgeattn
from edgeattn.backends.base import Specs, TensorSpec
from edgeattn.bundle.manifest import Tensor
from edgeattn.errors import DataError, StorageError
from edgeattn.imaging import encode_png, read_image
from edgeattn.runtime.run import json_line, line, run
from edgeattn.runtime.sources import find

BLUE = np.full((40, 60, 3), (200, 0, 0), np.uint8)


@pytest.fixture
def model(bundle: Path, backend: Any) -> edgeattn.runtime.Model:
    return edgeattn.load(bundle)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "images"
    path.mkdir()
    for name, frame in (("a", BLUE), ("b", BLUE[..., ::-1])):
        (path / f"{name}.png").write_bytes(encode_png(np.ascontiguousarray(frame)))
    return path


@pytest.fixture
def real_clip(tmp_path: Path) -> Path:
    """The first five frames of a real video, cut by OpenCV."""
    found = Path(os.environ.get("EDGEATTN_DATA", "")) / "video/bottle-detection.mp4"
    if "EDGEATTN_DATA" not in os.environ or not found.is_file():
        pytest.skip("there is no real video: EDGEATTN_DATA/video/bottle-detection.mp4")
    frames = [frame for _, frame in islice(find(str(found)).frames(), 5)]
    clip = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"mp4v"), 10, frames[0].shape[1::-1])
    for frame in frames:
        writer.write(frame)
    writer.release()
    return clip


def _run(model: Any, source: Path, out: Path | None = None) -> list[str]:
    lines: list[str] = []
    count = run(model, str(source), lambda name, result: lines.append(line(name, result)), out=out)
    assert count == len(lines)
    return lines


def test_one_line_per_frame(model: Any, folder: Path) -> None:
    first, second = _run(model, folder)
    assert first.startswith("a.png: blue 100.0%, ") and first.endswith(" ms)")
    assert second.startswith("b.png: red 100.0%, ")


def test_the_first_frames_of_a_real_video(onnx_bundle: Path, real_clip: Path, tmp_path: Path) -> None:
    """The results must follow the pictures, whose means are easily worked out."""
    frames = [frame for _, frame in find(str(real_clip)).frames()]
    results: list[Any] = []
    with edgeattn.load(onnx_bundle) as model:
        assert run(model, str(real_clip), lambda name, result: results.append(result), out=tmp_path / "o.mp4") == 5
    for frame, result in zip(frames, results, strict=True):
        channels = frame.reshape(-1, 3).mean(axis=0)
        assert result.labels[result.class_id[0]] == ("blue", "green", "red")[int(channels.argmax())]
    overlay = cv2.VideoCapture(str(tmp_path / "o.mp4"))
    assert int(overlay.get(cv2.CAP_PROP_FRAME_COUNT)) == 5


def test_a_line_of_json_holds_no_nan() -> None:
    class Odd:
        latency_ms, attention = 1.5, None

        def to_dict(self) -> dict[str, Any]:
            return {"corners": [[float("inf"), 1.0], (float("nan"), 2)], "label": "é", "in": {"x": -float("inf")}}

        def draw(self, frame: Any) -> Any:
            return frame

    text = json_line("a.png", Odd())
    assert text.isascii() and "\n" not in text
    assert json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON")) == {
        "name": "a.png",
        "corners": [[None, 1.0], [None, 2]],
        "label": "é",
        "in": {"x": None},
    }


@pytest.fixture
def pairing(make_bundle: Any, backend: Any) -> edgeattn.runtime.Model:
    """A model of two frames; its runner keeps the grey levels of each call."""
    specs = tuple(TensorSpec(name, (1, 8, 8, 3), "uint8") for name in ("before", "after"))
    backend.runner.specs = Specs(specs, backend.runner.specs.outputs)
    backend.runner.seen = []

    def infer(inputs: Any) -> Any:
        backend.runner.seen.append(tuple(int(inputs[name].max()) for name in ("before", "after")))
        return {"logits": inputs["after"].mean(axis=(1, 2))}

    backend.runner.infer = infer
    return edgeattn.load(make_bundle(inputs=tuple(Tensor(s.name, s.shape, s.dtype) for s in specs)))


def test_two_frames_are_each_and_the_one_before(pairing: Any, backend: Any, tmp_path: Path) -> None:
    """The first has none before it but itself."""
    folder = tmp_path / "grey"
    folder.mkdir()
    for level in (10, 20, 30, 40):
        (folder / f"{level}.png").write_bytes(encode_png(np.full((40, 60, 3), level, np.uint8)))
    lines = _run(pairing, folder, tmp_path / "o")
    assert backend.runner.seen == [(10, 10), (10, 20), (20, 30), (30, 40)]
    assert [text.split(":")[0] for text in lines] == ["10.png", "20.png", "30.png", "40.png"]
    # What is drawn on is the later frame.
    assert all((read_image(tmp_path / f"o/{level}.png")[:240] == level).all() for level in (10, 20, 30, 40))


def test_two_frames_of_a_single_image(pairing: Any, backend: Any, folder: Path) -> None:
    assert len(_run(pairing, folder / "a.png")) == 1
    assert backend.runner.seen == [(200, 200)]


def test_overlays_of_a_folder(model: Any, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    _run(model, folder, out)
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png"]
    overlay = read_image(out / "a.png")
    # 60 pixels wide is enlarged six times; the band of text lies below, so the picture itself is untouched.
    assert overlay.shape[1] == 360 and overlay.shape[0] > 240
    assert (overlay[:240] == (200, 0, 0)).all()


@pytest.mark.parametrize(
    ("out", "written"), [("x.png", "x.png"), ("x.jpg", "x.jpg"), ("some/x.png", "some/x.png"), ("dir", "dir/a.png")]
)
def test_overlay_of_one_image(model: Any, folder: Path, tmp_path: Path, out: str, written: str) -> None:
    _run(model, folder / "a.png", tmp_path / "o" / out)
    assert [path for path in (tmp_path / "o").rglob("*") if path.is_file()] == [tmp_path / "o" / written]
    assert read_image(tmp_path / "o" / written).shape[1] == 360


def test_overlay_of_an_image_without_suffix(model: Any, folder: Path, tmp_path: Path) -> None:
    _run(model, (folder / "a.png").rename(folder / "frame"), tmp_path / "o")
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["frame.png"]
    assert read_image(tmp_path / "o/frame.png").shape[1] == 360


@pytest.mark.parametrize("suffix", [".pgm", ".heic"])
def test_an_overlay_opencv_cannot_write_under_its_suffix_is_a_png(
    model: Any, folder: Path, tmp_path: Path, suffix: str
) -> None:
    """A .pgm is grey, an overlay is not."""
    single = (folder / "b.png").rename(folder / f"b{suffix}")
    _run(model, single, tmp_path / "o")
    _run(model, folder, tmp_path / "all")
    assert [path.name for path in (tmp_path / "o").iterdir()] == [f"b{suffix}.png"]
    written = ["a.png", *(["b.pgm.png"] if suffix == ".pgm" else [])]
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == written
    assert read_image(tmp_path / f"o/b{suffix}.png").shape[1] == 360


def test_an_image_whose_name_is_not_utf_8(model: Any, folder: Path, tmp_path: Path) -> None:
    (folder / "b.png").rename(folder / os.fsdecode(b"b\xff.png"))
    lines = _run(model, folder, tmp_path / "o")
    assert [text.split(":")[0] for text in lines] == ["a.png", "b\\xff.png"]
    assert sorted(os.listdir(os.fsencode(tmp_path / "o"))) == [b"a.png", b"b\xff.png"]  # noqa: PTH208


def test_overlay_of_a_video(model: Any, tmp_path: Path) -> None:
    source = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 24))
    for _ in range(3):
        writer.write(np.full((24, 32, 3), (200, 0, 0), np.uint8))
    writer.release()
    lines = _run(model, source, tmp_path / "o")
    assert [text.split(":")[0] for text in lines] == ["clip.avi#0", "clip.avi#1", "clip.avi#2"]
    read = list(find(str(tmp_path / "o/clip.mp4")).frames())
    assert len(read) == 3 and read[0][1].shape[1] == 320
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["clip.mp4"]


@contextmanager
def files_up_to(size_bytes: int) -> Iterator[None]:
    """As on a disk with that much room: what is written beyond is refused."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", ["o.mp4", "o.avi", "o.mkv", "o.mov", "o.m4v"])
def test_a_video_that_does_not_fit_is_refused_and_leaves_nothing(model: Any, tmp_path: Path, name: str) -> None:
    random = np.random.default_rng(0)
    source = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240))
    for _ in range(12):
        writer.write(random.integers(0, 256, (240, 320, 3), np.uint8))
    writer.release()
    assert len(_run(model, source, tmp_path / "whole" / name)) == 12
    assert len(list(find(str(tmp_path / "whole" / name)).frames())) == 12
    with files_up_to(60_000), pytest.raises(StorageError, match=rf"Only \d+ of the 12 frames written for .*{name}"):
        _run(model, source, tmp_path / "o" / name)
    assert not (tmp_path / "o").exists()


def test_a_video_where_nothing_can_be_written(model: Any, tmp_path: Path) -> None:
    source = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 24))
    writer.write(np.zeros((24, 32, 3), np.uint8))
    writer.release()
    with pytest.raises(StorageError, match=r"/proc/o\.mp4 cannot be written"):
        _run(model, source, Path("/proc/o.mp4"))


def test_a_broken_video_leaves_nothing(model: Any, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"x" * 100)
    with pytest.raises(DataError, match="not a video"):
        _run(model, tmp_path / "clip.mp4", tmp_path / "new/o")
    assert not (tmp_path / "new").exists()


def test_a_video_that_is_cut_off_leaves_nothing(model: Any, tmp_path: Path) -> None:
    clip, random = tmp_path / "clip.avi", np.random.default_rng(0)
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"MJPG"), 10, (160, 120))
    for _ in range(20):
        writer.write(random.integers(0, 256, (120, 160, 3), np.uint8))
    writer.release()
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    (tmp_path / "o").mkdir()
    (tmp_path / "o/clip.mp4").write_text("of yesterday")
    with pytest.raises(DataError, match=r"clip\.avi ends after \d+ of 20 frames; it is cut off"):
        _run(model, clip, tmp_path / "o")
    assert [(path.name, path.read_text()) for path in (tmp_path / "o").iterdir()] == [("clip.mp4", "of yesterday")]


@pytest.mark.parametrize("broken", ["a.png", "b.png", "c.png"])
def test_a_folder_with_a_corrupt_image_leaves_nothing(model: Any, folder: Path, tmp_path: Path, broken: str) -> None:
    (folder / "c.png").write_bytes((folder / "a.png").read_bytes())
    (folder / broken).write_bytes(b"not a picture")
    with pytest.raises(DataError, match=broken):
        _run(model, folder, tmp_path / "new/o")
    assert not (tmp_path / "new").exists()
    # What was there before is neither replaced nor removed.
    (tmp_path / "o").mkdir()
    (tmp_path / "o/a.png").write_text("of yesterday")
    with pytest.raises(DataError, match=broken):
        _run(model, folder, tmp_path / "o")
    assert [(path.name, path.read_text()) for path in (tmp_path / "o").iterdir()] == [("a.png", "of yesterday")]


def test_overlays_of_a_folder_replace_earlier_ones_and_nothing_else(model: Any, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "o").mkdir()
    for name in ("a.png", "notes.txt"):
        (tmp_path / "o" / name).write_text("of yesterday")
    _run(model, folder, tmp_path / "o")
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["a.png", "b.png", "notes.txt"]
    assert read_image(tmp_path / "o/a.png").shape[1] == 360
    assert (tmp_path / "o/notes.txt").read_text() == "of yesterday"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("source", "out", "says"),
    [
        ("images", "images", "would replace the images"),
        ("images/a.png", "images/a.png", "would replace"),
        ("images/a.png", "images", "would replace"),
        ("images", "file.txt", "but .*file.txt is a file"),
        ("images/a.png", "file.txt", "--out is the file"),
    ],
)
def test_the_source_is_never_overwritten(model: Any, tmp_path: Path, source: str, out: str, says: str) -> None:
    (tmp_path / "file.txt").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match=says):
        _run(model, tmp_path / source, tmp_path / out)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_an_out_that_cannot_be_written(model: Any, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        _run(model, folder, tmp_path / "file" / "out")
