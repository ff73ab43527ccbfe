"""The program for a Python that has nothing: what it keeps, what it refuses, when it ends."""

from __future__ import annotations

import ast
import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeattn.artifact import sha256_bytes
from edgeattn.bundle.archive import write_zip
from edgeattn.remote import bootstrap

SOURCE = Path(bootstrap.__file__)


class Bytes(io.BytesIO):
    """A connection."""


def put(folder: Path, content: bytes) -> Path:
    path = folder / sha256_bytes(content)
    path.write_bytes(content)
    return path


def test_an_old_python_can_read_it_and_it_needs_nothing():
    tree = ast.parse(SOURCE.read_text(), feature_version=(3, 6))
    imported = {a.name.partition(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {str(n.module).partition(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert imported <= set(sys.stdlib_module_names)


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / sha256_bytes(b"content")
    assert bootstrap.receive(Bytes(b"content and more"), path, 7)
    assert path.read_bytes() == b"content" and list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_cut_off_leaves_nothing(tmp_path):
    with pytest.raises(EOFError):
        bootstrap.receive(Bytes(b"cont"), tmp_path / sha256_bytes(b"content"), 7)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_another_leaves_nothing(tmp_path):
    assert not bootstrap.receive(Bytes(b"CONTENT"), tmp_path / sha256_bytes(b"content"), 7)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_does_not_go_on_ends_the_process(tmp_path):
    """A cable that was pulled: the stream does not end."""
    program = (
        f"import sys; sys.path.insert(0, {str(SOURCE.parent)!r})\n"
        "import bootstrap, pathlib\nbootstrap.PATIENCE_S = 1\n"
        f"bootstrap.receive(sys.stdin.buffer, pathlib.Path({str(tmp_path)!r}) / 'x', 7)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)
    process.stdin.write(b"cont")
    process.stdin.flush()
    try:
        assert process.wait(20) == -signal.SIGALRM
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left", "/x/a"),
            "StorageError",
            "No space is left on the disk while writing /x/a",
        ),
        (OSError(errno.EDQUOT, "Quota", "/x/a"), "StorageError", "No space is left on the disk while writing /x/a"),
        (OSError(errno.EROFS, "Read-only file system", "/x/a"), "StorageError", "/x/a cannot be written (Read-only"),
        (PermissionError(errno.EACCES, "Permission denied"), "StorageError", "/root-of-it cannot be written"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "MachineError", "([Errno 12] Cannot allocate memory); mend"),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "MachineError", "Too many open files"),
        (OSError("libcudart.so.12: cannot open shared object file"), "MachineError", "(libcudart.so.12: cannot open"),
        (TimeoutError("timed out"), "MachineError", "(timed out)"),
        (TimeoutError(), "MachineError", "(TimeoutError)"),
        (RuntimeError("boom.\nmore"), "MachineError", "(RuntimeError: boom)"),
    ],
)
def test_only_what_is_the_disks_fault_is_told_as_such(error, kind, words):
    found, message = bootstrap.described(error, Path("/root-of-it"))
    assert found == kind and words in message and "\n" not in message


def test_what_is_not_what_its_name_says_is_removed(tmp_path):
    path = put(tmp_path, b"engine")
    assert bootstrap.whole(path)
    path.write_bytes(b"engin")
    assert not bootstrap.whole(path) and not path.exists()
    assert not bootstrap.whole(path)


def test_a_record_counts_only_with_all_its_files(tmp_path):
    for name in ("files", "steps"):
        (tmp_path / name).mkdir()
    path = put(tmp_path / "files", b"engine")
    record = {"values": {}, "files": {"engine.blob": {"sha256": path.name, "size": 6}}}
    (tmp_path / "steps/k.json").write_text(json.dumps(record))
    assert bootstrap.finished(tmp_path, "k") == record
    assert bootstrap.finished(tmp_path, "other") is None and bootstrap.finished(tmp_path, None) is None
    path.write_bytes(b"ENGINE")  # a disk that lost something
    assert bootstrap.finished(tmp_path, "k") is None
    (tmp_path / "steps/k.json").write_text(json.dumps(record)[:-3])
    assert bootstrap.finished(tmp_path, "k") is None


def test_the_package_is_unpacked_whole_and_mended(tmp_path):
    archive, folder = tmp_path / "zip", tmp_path / "code"
    with archive.open("wb") as file:
        write_zip(file, [("edgeattn/a.py", b"A = 1\n"), ("edgeattn/b.py", b"B = 2\n")])
    bootstrap.unpack(archive, folder)
    before = (folder / "edgeattn/a.py").stat().st_ino
    bootstrap.unpack(archive, folder)
    assert (folder / "edgeattn/a.py").stat().st_ino == before
    (folder / "edgeattn/b.py").write_bytes(b"")
    bootstrap.unpack(archive, folder)
    assert (folder / "edgeattn/b.py").read_bytes() == b"B = 2\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["code", "zip"]


@pytest.mark.parametrize("how", ["closed", "silent"])
def test_it_ends_with_all_it_started_when_nobody_is_there(how):
    """The near side's process is gone, or its cable: no end of the stream then, but no sign of life either."""
    program = (
        "import os, subprocess, sys, threading\n"
        f"sys.path.insert(0, {str(SOURCE.parent)!r})\n"
        "import bootstrap\nbootstrap.PATIENCE_S = 1\nos.setsid()\n"
        "child = subprocess.Popen(['sleep', '100'])\nprint(child.pid, flush=True)\n"
        "threading.Thread(target=bootstrap.watch).start()\nchild.wait()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child = Path("/proc") / process.stdout.readline().decode().strip()
    for _ in range(8):
        time.sleep(0.3)
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.poll() is None, "a sign of life every now and then is enough"
    if how == "closed":
        process.stdin.close()
    assert process.wait(20) == -signal.SIGKILL
    give_up = time.monotonic() + 20
    while child.exists() and "Z" not in (child / "status").read_text().split("State:")[1][:4]:
        assert time.monotonic() < give_up
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("release", "old"),
    [
        (b"# R35 (release), REVISION: 4.1, GCID: 33958178", True),  # JetPack 5.1.2
        (b"# R36 (release), REVISION: 3.0, GCID: 36106755", True),  # JetPack 6.0
        (b"# R36 (release), REVISION: 4.3, GCID: 38968081", False),  # JetPack 6.2
        (b"# R39 (release), REVISION: 2.1", False),
        (b"something else", False),
        (None, False),
    ],
)
def test_a_jetson_with_tensorrt_8_is_told_so_before_anything_else(release, old):
    assert bootstrap.old_jetson(release) is old


@pytest.mark.parametrize(
    ("module", "requirement", "there"),
    [
        ("numpy", "numpy>=1.26", True),
        ("numpy", "numpy>=999.1", False),
        ("numpy", "a-name-that-no-package-has>=999", True),
        ("a_module_that_is_nowhere", "numpy>=1.26", False),
        ("numpy", "numpy>=1.26,<999", True),
    ],
)
def test_what_is_there_must_be_new_enough(module, requirement, there):
    assert bootstrap.satisfied(module, requirement) is there
