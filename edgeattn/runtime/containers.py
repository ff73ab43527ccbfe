"""Whether a video file is as long as its own container says. The number of frames does not tell.

OpenCV gives that number for MP4 by the file's table, from which an edit list (a clip that was trimmed on a telephone)
leaves out what was trimmed, and for Matroska by duration and rate, which is wrong where frames come at uneven times: a
whole file may well hold fewer. Bytes are exact.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

# What the first box of an ISO or QuickTime file may be called.
_FIRST_BOXES = frozenset((b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"))
_BOXES = _FIRST_BOXES | {b"moof", b"mfra", b"sidx", b"styp", b"uuid", b"udta", b"meta"}
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def cut_off(video: Path) -> bool:
    """True when MP4, MOV, AVI, Matroska or WebM ends in the middle of what it announced; False where nothing says so.

    A file that was recorded without knowing its length, or is of another kind, announces nothing. Raises OSError.
    """
    with video.open("rb") as file:
        length = os.fstat(file.fileno()).st_size
        start = file.read(12)
        file.seek(0)
        if start[4:8] in _FIRST_BOXES:
            return _boxes_end(file, length) > length
        if start[:4] == b"RIFF" and start[8:] == b"AVI ":
            return _chunks_end(file, length) > length
        return start[:4] == _EBML and _segment_end(file) > length


def _boxes_end(file: BinaryIO, length: int) -> int:
    """Where the last box ends; boxes are ISO/IEC 14496-12, 4.2: a size of 1 says that 64 bits of it follow the name."""
    end = 0
    while end + 8 <= length:
        file.seek(end)
        size, name = int.from_bytes(file.read(4), "big"), file.read(4)
        if size == 1:
            size = int.from_bytes(file.read(8), "big")
        if size < 8 or name not in _BOXES:  # 0 is "to the end of the file"; what follows unknown names is anything
            break
        end += size
    return end


def _chunks_end(file: BinaryIO, length: int) -> int:
    """Where the last RIFF chunk ends; an AVI of more than 1 GB has several (OpenDML AVI, 1996)."""
    end = 0
    while end + 8 <= length:
        file.seek(end)
        if file.read(4) != b"RIFF":
            break
        size = int.from_bytes(file.read(4), "little")
        if size == 0:  # a recorder that was switched off never wrote it
            break
        end += 8 + size
    return end


def _segment_end(file: BinaryIO) -> int:
    """Where the segment that holds all frames ends, 0 when it does not say; elements are RFC 8794, 6."""
    file.seek(4)
    header = _size(file)
    if header is None:
        return 0
    file.seek(header, os.SEEK_CUR)
    if file.read(4) != _SEGMENT:
        return 0
    size = _size(file)
    return 0 if size is None else file.tell() + size


def _size(file: BinaryIO) -> int | None:
    """The leading zeros of the first byte tell how many more follow; all other bits 1 is "unknown"."""
    first = file.read(1)
    more = 8 - first[0].bit_length() if first else 8
    if more > 7:
        return None
    bits = 7 * (more + 1)
    value = int.from_bytes(first + file.read(more), "big") & ((1 << bits) - 1)
    return None if value == (1 << bits) - 1 else value
