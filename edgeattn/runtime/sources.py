"""Where frames come from: an image, a folder of images, a video file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from edgeattn.errors import DataError
from edgeattn.imaging import IMAGE_SUFFIXES, Frame, printable, read_image
from edgeattn.opencv import cv2
from edgeattn.runtime.containers import cut_off

VIDEOS = frozenset((".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"))
_SPARE_FRAMES = 2  # by which the number that OpenCV works out may be wrong


@dataclass(frozen=True)
class Source:
    """Found, but not yet read. `images` are the files of an image or a folder, sorted by name; empty for a video."""

    kind: Literal["image", "folder", "video"]
    path: Path
    images: tuple[Path, ...] = ()

    def frames(self) -> Iterator[tuple[str, Frame]]:
        """A printable name and a uint8 BGR `(H, W, 3)` frame at a time. Raises DataError naming what cannot be read."""
        if self.kind == "video":
            yield from _video_frames(self.path)
        for image in self.images:
            yield printable(image.name), read_image(image)


def find(source: str) -> Source:
    """What `source` is. Raises DataError when it does not exist or cannot be read, or a folder holds no images."""
    path = Path(source)
    try:
        return _found(path)
    except OSError as error:
        raise DataError(
            f"The source {path} cannot be read ({error.strerror}); give an image, a folder of images or a video file."
        ) from error


def _found(path: Path) -> Source:
    if path.is_dir():
        # Hidden files are thumbnails and what macOS leaves beside each file on other disks (._name).
        shown = (file for file in path.iterdir() if not file.name.startswith("."))
        images = sorted(file for file in shown if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
        if not images:
            raise DataError(f"The folder {path} holds no images; expected files such as .jpg or .png in it.")
        return Source("folder", path, tuple(images))
    if not path.exists():
        raise DataError(f"There is no source {path}; give an image, a folder of images or a video file.")
    if path.suffix.lower() in VIDEOS:
        return Source("video", path)
    return Source("image", path, (path,))


def frames_per_second(video: Path) -> float:
    """What the file says; 25 where it says nothing."""
    capture = cv2.VideoCapture(str(video))
    try:
        rate = float(capture.get(cv2.CAP_PROP_FPS))
        return rate if 0 < rate < 1000 else 25.0
    finally:
        capture.release()


def quiet_opencv() -> None:
    """OpenCV and FFmpeg print lines of their own about a file that they cannot read; ours says it once.

    For programs, before the first video is opened; an application may want those lines.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET; read when the first video is opened
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def _video_frames(path: Path) -> Iterator[tuple[str, Frame]]:
    capture = cv2.VideoCapture(str(path))
    try:
        announced = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        index = 0
        while True:
            more, frame = capture.read()
            if not more:
                break
            yield f"{printable(path.name)}#{index}", np.asarray(frame, np.uint8)
            index += 1
    finally:
        capture.release()
    _check_whole(path, index, announced)


def _check_whole(path: Path, count: int, announced: int) -> None:
    """Raises DataError unless the `count` frames that were read are all there should be; 0 or less: nobody knows."""
    if count == 0 and not cut_off(path):
        raise DataError(f"{path} is not a video OpenCV can decode; convert it to MP4 or give images.")
    if count == 0:
        raise DataError(f"{path} is cut off before OpenCV finds a frame in it; copy or record it again.")
    # OpenCV ends at a cut as it ends at the end. Fewer frames alone are no proof: see `containers`.
    if announced - count > _SPARE_FRAMES and cut_off(path):
        raise DataError(f"{path} ends after {count} of {announced} frames; it is cut off, so copy or record it again.")
