import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeattn.errors import DataError
from edgeattn.runtime.sources import find, frames_per_second

BLUE = np.full((6, 10, 3), (200, 0, 0), np.uint8)


def _image(path: Path, frame: np.ndarray = BLUE) -> Path:
    path.write_bytes(cv2.imencode(path.suffix.lower(), frame)[1].tobytes())
    return path


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 24))
    for level in (0, 100, 200):
        writer.write(np.full((24, 32, 3), level, np.uint8))
    writer.release()
    return path


def test_an_image(tmp_path: Path) -> None:
    ((name, frame),) = find(str(_image(tmp_path / "a.png"))).frames()
    assert name == "a.png"
    assert (frame == BLUE).all()


def test_an_image_of_an_unusual_name(tmp_path: Path) -> None:
    path = _image(tmp_path / "a.png").rename(tmp_path / "frame")
    assert find(str(path)).kind == "image"
    assert next(find(str(path)).frames())[0] == "frame"


def test_a_folder_is_sorted_and_other_files_are_left_out(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "c.bmp"):
        _image(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "._a.png").write_bytes(b"what macOS leaves on other disks")
    assert [name for name, _ in find(str(tmp_path)).frames()] == ["a.png", "b.JPG", "c.bmp"]


def test_a_video(video: Path) -> None:
    read = list(find(str(video)).frames())
    assert [name for name, _ in read] == ["clip.avi#0", "clip.avi#1", "clip.avi#2"]
    assert [round(float(frame.mean()), -1) for _, frame in read] == [0, 100, 200]
    assert read[0][1].shape == (24, 32, 3)
    assert frames_per_second(video) == 10


def test_frames_per_second_of_nothing(tmp_path: Path) -> None:
    assert frames_per_second(tmp_path / "missing.mp4") == 25


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.png", None, "There is no source .*missing.png"),
        ("broken.jpg", b"\xff\xd8\xff", "broken.jpg is not an image OpenCV can decode"),
        ("empty.png", b"", r"empty.png is not an image OpenCV can decode \(0 bytes\)"),
        ("notes.txt", b"hello", "notes.txt is not an image"),
        ("broken.mp4", b"hello", "broken.mp4 is not a video"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says):
        list(find(str(tmp_path / name)).frames())


def test_a_truncated_image_in_a_folder_is_named(tmp_path: Path) -> None:
    _image(tmp_path / "a.png")
    bad = _image(tmp_path / "b.png", np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8))
    bad.write_bytes(bad.read_bytes()[:3000])
    source = find(str(tmp_path)).frames()
    next(source)
    with pytest.raises(DataError, match=r"b\.png is not an image"):
        next(source)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no images"):
        find(str(tmp_path)).frames()


CARS = Path(os.environ.get("EDGEATTN_DATA") or "data") / "video/car-detection.mp4"


@pytest.mark.skipif(not CARS.is_file(), reason="$EDGEATTN_DATA/video/car-detection.mp4 is not there")
def test_a_cut_off_mp4_says_where_it_ends(tmp_path: Path) -> None:
    (tmp_path / "cars.mp4").write_bytes(CARS.read_bytes()[:1_200_000])
    names: list[str] = []
    with pytest.raises(DataError) as caught:
        names += [name for name, _ in find(str(tmp_path / "cars.mp4")).frames()]
    assert str(caught.value) == (
        f"{tmp_path}/cars.mp4 ends after 151 of 377 frames; it is cut off, so copy or record it again."
    )


def _noise(path: Path) -> Path:
    """Twenty frames that take far more room than the file's tables."""
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter.fourcc(*("MJPG" if path.suffix == ".avi" else "mp4v")), 10, (160, 120)
    )
    random = np.random.default_rng(0)
    for _ in range(20):
        writer.write(random.integers(0, 256, (120, 160, 3), np.uint8))
    writer.release()
    return path


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])


@pytest.mark.parametrize("name", ["clip.avi", "clip.mkv", "clip.mp4", "clip.mov"])
def test_a_cut_off_video_is_no_finished_one(tmp_path: Path, name: str) -> None:
    """An MP4 or MOV whose table comes last has lost it."""
    path = _noise(tmp_path / name)
    assert len(list(find(str(path)).frames())) == 20
    _cut(path)
    with pytest.raises(DataError, match=rf"{name} (ends after \d+ of 20 frames; it )?is cut off"):
        list(find(str(path)).frames())


def test_fewer_frames_than_announced_are_no_cut_when_no_byte_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a clip trimmed on a telephone, and of Matroska with frames at uneven times."""
    monkeypatch.setattr("edgeattn.runtime.sources.cv2.CAP_PROP_FRAME_COUNT", cv2.CAP_PROP_FRAME_WIDTH)  # 160
    path = _noise(tmp_path / "clip.avi")
    assert len(list(find(str(path)).frames())) == 20
    _cut(path)
    with pytest.raises(DataError, match=r"ends after \d+ of 160 frames"):
        list(find(str(path)).frames())


@pytest.mark.parametrize("content", ["garbage", "cut off"])
def test_a_program_hears_of_a_bad_video_once(tmp_path: Path, content: str) -> None:
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (160, 120))
    writer.write(np.zeros((120, 160, 3), np.uint8))
    writer.release()
    path.write_bytes(b"hello" if content == "garbage" else path.read_bytes()[:300])
    code = "import sys; from edgeattn.runtime.sources import find, quiet_opencv; quiet_opencv()\n"
    code += (
        "from edgeattn.errors import DataError\ntry: list(find(sys.argv[1]).frames())\nexcept DataError: print('no')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("no\n", "")
