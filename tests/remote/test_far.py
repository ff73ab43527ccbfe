"""The far side of a step with steps that do nothing: records, the lock, and what is said when something fails."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from edgeattn.artifact import sha256_bytes
from edgeattn.errors import ModelError, StorageError
from edgeattn.remote import far
from edgeattn.remote.steps import STEPS


class Heard:
    """A channel that keeps what is said."""

    def __init__(self) -> None:
        self.records: list[dict] = []
        self.files: dict[str, bytes] = {}

    def tell(self, **record):
        self.records.append(record)

    def send(self, name, sha256, path):
        self.files[name] = path.read_bytes()
        assert sha256_bytes(self.files[name]) == sha256


@pytest.fixture
def place(tmp_path):
    for name in ("files", "steps", "work", "packages"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def ask(place, monkeypatch):
    """`ask(step, ...)` runs a function as a step and returns the channel."""

    def run(step, key="k", force=False, have=(), files=()):
        monkeypatch.setitem(STEPS, "step", step)
        listed = {}
        for name, content in dict(files).items():
            (place / "files" / sha256_bytes(content)).write_bytes(content)
            listed[name] = {"sha256": sha256_bytes(content), "size": len(content)}
        channel = Heard()
        request = {"step": "step", "key": key, "values": {"n": 1}, "files": listed, "force": force, "have": list(have)}
        far.serve(channel, place, request)
        return channel

    return run


def engine(job):
    (job.out / "sub").mkdir()
    (job.out / "sub/engine.blob").write_bytes(b"engine of " + (job.files / "model/model.onnx").read_bytes())
    return {"n": job.values["n"] + 1}


def test_a_step_is_done_once(ask, place):
    first = ask(engine, files={"model/model.onnx": b"graph"})
    assert first.files == {"sub/engine.blob": b"engine of graph"}
    assert first.records[-1]["result"]["values"] == {"n": 2} and first.records[-1]["result"]["cached"] is False
    assert list((place / "work").iterdir()) == []

    def never(job):
        raise AssertionError

    second = ask(never)
    assert second.files == first.files and second.records[-1]["result"]["cached"] is True
    sha256 = first.records[-1]["result"]["files"]["sub/engine.blob"]["sha256"]
    assert ask(never, have=[sha256]).files == {}
    assert ask(engine, force=True, files={"model/model.onnx": b"G"}).files == {"sub/engine.blob": b"engine of G"}


def test_a_question_is_answered_anew(ask, place):
    answers = iter("ab")
    for letter in "ab":
        assert ask(lambda job: {"said": next(answers)}, key=None).records[-1]["result"]["values"] == {"said": letter}
    assert list((place / "steps").iterdir()) == []


def test_what_a_killed_step_left_is_not_used(ask, place):
    (place / "work/k/out/sub").mkdir(parents=True)
    (place / "work/k/out/sub/engine.blob").write_bytes(b"half an eng")
    (place / "work/other/out").mkdir(parents=True)
    (place / "files" / f".{'0' * 64}.77.tmp").write_bytes(b"half a file")
    made = ask(engine, files={"model/model.onnx": b"graph"})
    assert made.files == {"sub/engine.blob": b"engine of graph"}
    assert list((place / "work").iterdir()) == []


def test_an_altered_file_makes_the_step_again(ask, place):
    made = ask(engine, files={"model/model.onnx": b"graph"}).records[-1]["result"]["files"]["sub/engine.blob"]
    (place / "files" / made["sha256"]).write_bytes(b"engine of nobody")
    again = ask(engine, files={"model/model.onnx": b"graph"})
    assert again.records[-1]["result"]["cached"] is False and again.files == {"sub/engine.blob": b"engine of graph"}


def test_its_own_sentence_comes_back(ask):
    def fails(job):
        raise ModelError("OpenVINO cannot compile it: no.")

    assert ask(fails).records == [{"error": {"kind": "ModelError", "message": "OpenVINO cannot compile it: no."}}]
    assert ask(lambda job: 1 / 0).records[0]["error"]["message"].startswith("Running it raised ZeroDivisionError")


def test_a_full_disk_is_told_without_options_that_are_not_for_it(ask):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x/engine.blob")

    def translated(job):
        raise StorageError("choose another folder with --store") from full

    def plain(job):
        raise full

    for step in (translated, plain):
        (record,) = ask(step).records
        assert record["error"]["kind"] == "StorageError"
        assert record["error"]["message"].startswith("No space is left on the disk while writing /x/engine.blob; free")
        assert "--store" not in record["error"]["message"]


def test_what_is_no_fault_of_the_disk_is_not_told_as_one(ask):
    def fails(job):
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    (record,) = ask(fails).records
    assert record["error"]["kind"] == "MachineError" and "Cannot allocate memory" in record["error"]["message"]


def test_temporary_files_lie_with_the_step(ask, place, monkeypatch):
    """So that they go although the process was killed: with the next step, or the next question."""
    before = tempfile.gettempdir()
    seen = []

    def step(job):
        seen.append(Path(tempfile.mkdtemp(prefix="edgeattn-")))
        said = subprocess.run([sys.executable, "-c", "import tempfile; print(tempfile.gettempdir())"],
                              capture_output=True, text=True, check=True).stdout  # fmt: skip
        seen.append(Path(said.strip()))
        return {}

    ask(step)
    assert seen[0].parent == seen[1] == place / "work/k/tmp" and not seen[0].exists()
    assert tempfile.gettempdir() == before


def test_a_question_clears_what_a_killed_step_left(ask, place):
    left = place / "work/other/tmp/edgeattn-x/0.npz"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"frames")
    with (place / "lock").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ask(lambda job: {}, key=None)
        assert left.exists(), "somebody may be at it"
    ask(lambda job: {}, key=None)
    assert list((place / "work").iterdir()) == []


def test_an_unknown_step(place):
    channel = Heard()
    far.serve(channel, place, {"step": "dance", "key": "k", "values": {}, "files": {}, "force": False, "have": []})
    assert "There is no step 'dance'" in channel.records[0]["error"]["message"]


def test_one_at_a_time(ask, place):
    """What is measured side by side would disturb each other; waiting is told."""
    held = (place / "lock").open("wb")
    fcntl.flock(held, fcntl.LOCK_EX)
    done = []
    thread = threading.Thread(target=lambda: done.append(ask(lambda job: {})))
    thread.start()
    time.sleep(0.3)
    assert not done
    held.close()
    thread.join(20)
    assert done[0].records[0] == {"progress": [0, 1, "waiting for another run"]}
    assert "result" in done[0].records[-1]


def test_what_nobody_used_for_two_weeks_goes(ask, place):
    old, new = place / "files" / ("0" * 64), place / "files" / ("1" * 64)
    for path in (old, new):
        path.write_bytes(b"x")
    (place / "packages/0/edgeattn").mkdir(parents=True)
    long_ago = time.time() - 15 * 24 * 3600
    for path in (old, place / "packages/0"):
        os.utime(path, (long_ago, long_ago))
    ask(lambda job: {})
    assert not old.exists() and new.exists() and not (place / "packages/0").exists()
