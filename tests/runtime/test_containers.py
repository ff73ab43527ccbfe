"""Containers written byte by byte: what they announce against how long they are."""

from pathlib import Path

import pytest

from edgeattn.runtime.containers import cut_off


def box(name: bytes, body: int, size: int | None = None) -> bytes:
    return (8 + body if size is None else size).to_bytes(4, "big") + name + bytes(body)


def chunk(body: int, kind: bytes = b"AVI ", size: int | None = None) -> bytes:
    return b"RIFF" + (4 + body if size is None else size).to_bytes(4, "little") + kind + bytes(body)


LONG = (1).to_bytes(4, "big") + b"mdat" + (116).to_bytes(8, "big") + bytes(100)
EBML = b"\x1a\x45\xdf\xa3\x84" + bytes(4)  # 84: four bytes follow
SEGMENT = b"\x18\x53\x80\x67"
WHOLE = {
    "MP4": box(b"ftyp", 8) + box(b"moov", 100) + box(b"mdat", 500),
    "MOV, the table last": box(b"ftyp", 12) + box(b"wide", 0) + box(b"mdat", 500) + box(b"moov", 90),
    "a box of 64 bits": box(b"ftyp", 8) + LONG,
    "two fragments": box(b"ftyp", 8) + box(b"moov", 50) + (box(b"moof", 9) + box(b"mdat", 90)) * 2,
    "AVI": chunk(600),
    "AVI in two parts": chunk(600) + chunk(300, b"AVIX"),
    "Matroska": EBML + SEGMENT + b"\x41\x2c" + bytes(300),  # 41 2c: 0x12c = 300 in two bytes
    "Matroska, its size in eight bytes": EBML + SEGMENT + b"\x01" + (300).to_bytes(7, "big") + bytes(300),
}
SILENT = {
    "empty": b"",
    "three bytes": b"RIF",
    "garbage": b"hello" * 50,
    "another kind of RIFF": b"RIFF" + (999).to_bytes(4, "little") + b"WAVE" + bytes(100),
    "MPEG transport stream": (b"\x47" + bytes(187)) * 4,
    "to the end of the file": box(b"ftyp", 8) + box(b"mdat", 500, size=0),
    "what somebody appended": box(b"ftyp", 8) + box(b"mdat", 50) + b"\xff\xff\xff\xffqqqq",
    "a size that cannot be": box(b"ftyp", 8) + box(b"mdat", 50, size=3),
    "AVI of a recorder that was switched off": chunk(600, size=0),
    "a live Matroska": EBML + SEGMENT + b"\x01" + b"\xff" * 7 + bytes(300),
    "a live Matroska, in one byte": EBML + SEGMENT + b"\xff" + bytes(300),
    "no segment": EBML + b"\xec\x81\x00" + bytes(50),
    "no size": b"\x1a\x45\xdf\xa3\x00" + bytes(50),
    "nothing after the mark": b"\x1a\x45\xdf\xa3",
}


@pytest.mark.parametrize("content", [*WHOLE.values(), *SILENT.values()], ids=[*WHOLE, *SILENT])
def test_a_whole_file_and_one_that_announces_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "v").write_bytes(content)
    assert not cut_off(tmp_path / "v")


@pytest.mark.parametrize("lost", [1, 40])
@pytest.mark.parametrize("content", WHOLE.values(), ids=WHOLE)
def test_bytes_are_missing(tmp_path: Path, content: bytes, lost: int) -> None:
    (tmp_path / "v").write_bytes(content[:-lost])
    assert cut_off(tmp_path / "v")
