import hashlib
import io
import struct
import zipfile
from pathlib import Path

import pytest

from edgeattn.bundle.archive import Archive, unsafe_names, write_zip
from edgeattn.errors import BundleError

ENTRIES: list[tuple[str, Path | bytes]] = [("a.txt", b"hello"), ("dir/b.bin", bytes(range(256)))]


def _bytes(entries: list[tuple[str, Path | bytes]]) -> bytes:
    file = io.BytesIO()
    write_zip(file, entries)
    return file.getvalue()


def test_the_format_is_pinned_byte_by_byte(tmp_path: Path) -> None:
    data = _bytes([("a.txt", b"hello")])
    # local header: version 20, no flags, stored, 1980-01-01 00:00, CRC-32, 5 bytes, 5 bytes, name of 5, no extra field
    assert data[:35] == b"PK\x03\x04" + struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 0x21, 0x3610A686, 5, 5, 5, 0) + b"a.txt"
    assert data[35:40] == b"hello"
    assert len(data) == 30 + 5 + 5 + 46 + 5 + 22


def test_a_file_on_disk_gives_the_same_bytes_as_its_content(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"hello")
    assert _bytes([("a.txt", path)]) == _bytes([("a.txt", b"hello")])


def test_order_is_part_of_the_bytes() -> None:
    assert hashlib.sha256(_bytes(ENTRIES)).digest() != hashlib.sha256(_bytes(ENTRIES[::-1])).digest()


def test_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(_bytes(ENTRIES))
    with Archive(path) as archive:
        assert archive.sizes == {"a.txt": 5, "dir/b.bin": 256}
        assert archive.read("dir/b.bin") == bytes(range(256))
        assert archive.size_bytes == path.stat().st_size


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("model.onnx", True),
        ("engine/deep/a.blob", True),
        ("..a/b..", True),
        ("größe.bin", True),
        ("../evil", False),
        ("engine/../../evil", False),
        ("/etc/passwd", False),
        ("engine\\evil", False),
        ("C:evil", False),
        ("./a", False),
        ("a//b", False),
        ("folder/", False),
        ("", False),
        ("a\n", False),
        ("a\x00b", False),
        (" a", False),
    ],
)
def test_unsafe_names(name: str, safe: bool) -> None:
    assert unsafe_names([name]) == ([] if safe else [name])


def test_a_name_cannot_be_file_and_folder_at_once() -> None:
    assert unsafe_names(["engine", "Engine/a"]) == ["engine"]


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.999])
def test_cut_short(tmp_path: Path, keep: float) -> None:
    data = _bytes(ENTRIES)
    path = tmp_path / "x.edgeattn"
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(BundleError, match=r"x\.edgeattn is cut short"):
        Archive(path)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda data: b"", "does not begin as a zip"),
        (lambda data: b"hello there", "does not begin as a zip"),
        (lambda data: b"#!/bin/sh\n" + data, "does not begin as a zip"),
        (lambda data: data + b"more", "4 bytes behind its end"),
        (lambda data: data.replace(b"PK\x01\x02", b"PK\x01\x03", 1), "damaged"),
        (lambda data: data[:-10] + b"\xff\xff" + data[-8:], "cut short or altered"),
    ],
    ids=["empty", "text", "bytes before", "bytes behind", "directory", "end record"],
)
def test_not_a_sound_zip(tmp_path: Path, make: object, says: str) -> None:
    path = tmp_path / "x.edgeattn"
    path.write_bytes(make(_bytes(ENTRIES)))  # type: ignore[operator]
    with pytest.raises(BundleError, match=says):
        Archive(path)


@pytest.mark.parametrize("path", ["missing.edgeattn", "."])
def test_missing_or_a_folder(tmp_path: Path, path: str) -> None:
    with pytest.raises(BundleError, match="cannot be read"):
        Archive(tmp_path / path)


def test_names_twice_even_in_capitals(tmp_path: Path) -> None:
    path = tmp_path / "x.edgeattn"
    path.write_bytes(_bytes([("a", b"1"), ("A", b"2")]))
    with pytest.raises(BundleError, match="'A' twice"):
        Archive(path)


def test_other_compression_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.edgeattn"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a", b"1" * 100)
    with pytest.raises(BundleError, match="compressed in a way"):
        Archive(path)


def test_a_declared_size_beyond_the_limit(tmp_path: Path) -> None:
    """Two entries of 3 GiB each, declared only: refused from the directory alone."""
    data = bytearray(_bytes(ENTRIES))
    for at in [i for i in range(len(data)) if data[i : i + 4] == b"PK\x01\x02"]:
        data[at + 24 : at + 28] = struct.pack("<I", 3 << 30)
    path = tmp_path / "x.edgeattn"
    path.write_bytes(data)
    with pytest.raises(BundleError, match="limit is 4294967296"):
        Archive(path)


def test_changed_content_does_not_pass_the_checksum(tmp_path: Path) -> None:
    path = tmp_path / "x.edgeattn"
    path.write_bytes(_bytes(ENTRIES).replace(b"hello", b"jello"))
    with Archive(path) as archive, pytest.raises(BundleError, match=r"'a\.txt'.*is damaged"):
        archive.read("a.txt")
