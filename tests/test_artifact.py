from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeattn import artifact
from edgeattn.artifact import Stage, Store, canonical_json, sha256_bytes, sha256_file, sha256_json, write_atomic
from edgeattn.errors import StorageError

INPUTS = {"a": 1, "b": {"x": [1, 2], "y": None}}


class Stop(Exception):
    pass


def writing(content=b"payload", calls=None):
    def make(work, out):
        if calls is not None:
            calls.append(out)
        (out / "sub").mkdir()
        (out / "model.bin").write_bytes(content)
        (out / "sub/notes.txt").write_text("notes")

    return make


def must_not_run(work, out):
    raise AssertionError("made again")


def finished(root):
    return sorted(p.relative_to(root).as_posix() for p in root.glob("artifacts/*/*"))


def test_hashes_by_hand(tmp_path):
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert sha256_bytes(b"") == empty
    large = b"x" * (3 << 20) + b"end"
    (tmp_path / "large").write_bytes(large)
    assert sha256_file(tmp_path / "large") == hashlib.sha256(large).hexdigest()
    assert canonical_json({"b": 1, "a": ["ä", None]}) == '{"a":["ä",null],"b":1}'
    assert sha256_json({"b": 1, "a": 2}) == sha256_json({"a": 2, "b": 1}) != sha256_json({"a": 2, "b": 2})
    for value in (float("nan"), float("inf"), {"deep": [float("-inf")]}):
        with pytest.raises(ValueError, match="not JSON compliant"):
            canonical_json(value)


def test_an_artifact_tells_what_it_is(tmp_path):
    made = Store(tmp_path).build(Stage.EXPORT, "fp32", INPUTS, writing())
    assert (made.stage, made.variant, made.cached) == ("export", "fp32", False)
    assert made.path == tmp_path / "artifacts/export" / made.key
    assert made.size_bytes == len(b"payload") + len("notes")
    files = {"model.bin": sha256_bytes(b"payload"), "sub/notes.txt": sha256_bytes(b"notes")}
    assert made.sha256 == sha256_json(files)
    manifest = made.json("manifest.json")
    assert manifest["schema"] == "edgeattn.artifact/1"
    assert manifest["inputs"] == INPUTS
    assert not list((tmp_path / "work").iterdir())


def test_unchanged_inputs_in_any_order_are_made_once(tmp_path):
    store = Store(tmp_path)
    made = store.build(Stage.EXPORT, "fp32", INPUTS, writing())
    again = store.build(Stage.EXPORT, "fp32", {"b": {"y": None, "x": [1, 2]}, "a": 1}, must_not_run)
    assert again.cached
    assert (again.path, again.sha256, again.seconds) == (made.path, made.sha256, made.seconds)
    others = [
        store.build(Stage.QUANTIZE, "fp32", INPUTS, writing()),
        store.build(Stage.EXPORT, "fp16", INPUTS, writing()),
        store.build(Stage.EXPORT, "fp32", {**INPUTS, "a": 2}, writing()),
    ]
    assert len({made.key, *(other.key for other in others)}) == 4
    assert {other.sha256 for other in others} == {made.sha256}  # content and origin are told apart


def test_what_make_raises_leaves_nothing_finished_and_its_work_to_resume(tmp_path):
    store = Store(tmp_path)

    def breaks(work, out):
        assert not list(out.iterdir())
        (work / "checkpoint").write_text("epoch 3")
        (out / "half.bin").write_bytes(b"half")
        raise Stop

    for _ in range(2):
        with pytest.raises(Stop):
            store.build(Stage.TRAIN, "fp32", INPUTS, breaks)
        assert finished(tmp_path) == []

    def resumes(work, out):
        assert (work / "checkpoint").read_text() == "epoch 3"
        assert not list(out.iterdir())
        (out / "whole.bin").write_bytes(b"whole")

    made = store.build(Stage.TRAIN, "fp32", INPUTS, resumes)
    assert sorted(made.json("manifest.json")["files"]) == ["whole.bin"]
    assert not list((tmp_path / "work").iterdir())


def cut(path):
    (path / "model.bin").write_bytes(b"payloa")


def change(path):
    (path / "model.bin").write_bytes(b"pAyload")


def remove(path):
    (path / "sub/notes.txt").unlink()


def add(path):
    (path / "more").write_bytes(b"")


def cut_manifest(path):
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text[: len(text) // 2])


def empty_manifest(path):
    (path / "manifest.json").write_text("[]")


def age_manifest(path):
    values = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**values, "schema": "edgeattn.artifact/0"}))


def drop_manifest(path):
    (path / "manifest.json").unlink()


@pytest.mark.parametrize(
    "harm",
    [cut, change, remove, add, cut_manifest, empty_manifest, age_manifest, drop_manifest],
    ids=lambda f: f.__name__,
)
def test_an_altered_artifact_is_not_found_and_made_again(harm, tmp_path):
    store = Store(tmp_path)
    made = store.build(Stage.EXPORT, "fp32", INPUTS, writing())
    harm(made.path)
    assert store.find(Stage.EXPORT, made.key) is None
    again = store.build(Stage.EXPORT, "fp32", INPUTS, writing())
    assert not again.cached
    assert again.sha256 == made.sha256
    assert store.find(Stage.EXPORT, made.key) is not None
    assert not list((tmp_path / "work").iterdir())


def test_force_replaces(tmp_path):
    store = Store(tmp_path)
    first = store.build(Stage.EXPORT, "fp32", INPUTS, writing(b"old"))
    second = store.build(Stage.EXPORT, "fp32", INPUTS, writing(b"new"), force=True)
    assert second.path == first.path
    assert (second.path / "model.bin").read_bytes() == b"new"
    assert not second.cached
    assert second.sha256 != first.sha256


def test_a_failed_force_keeps_what_there_was(tmp_path):
    store = Store(tmp_path)
    made = store.build(Stage.EXPORT, "fp32", INPUTS, writing(b"old"))

    def breaks(work, out):
        raise Stop

    with pytest.raises(Stop):
        store.build(Stage.EXPORT, "fp32", INPUTS, breaks, force=True)
    assert store.find(Stage.EXPORT, made.key) is not None


def test_what_a_failed_force_left_goes_once_the_old_artifact_is_asked_for(tmp_path):
    store = Store(tmp_path)
    store.build(Stage.EXPORT, "fp32", INPUTS, writing(b"old"))

    def breaks(work, out):
        (work / "checkpoint").write_text("epoch 3")
        raise Stop

    with pytest.raises(Stop):
        store.build(Stage.EXPORT, "fp32", INPUTS, breaks, force=True)
    assert store.build(Stage.EXPORT, "fp32", INPUTS, must_not_run).cached
    assert not list((tmp_path / "work").iterdir())


BUILD = """
import os, signal, sys, time
from pathlib import Path
from edgeattn.artifact import Stage, Store
root, mode = Path(sys.argv[1]), sys.argv[2]
def make(work, out):
    (root / "started").touch()
    (work / "checkpoint").write_text("kept")
    (out / "half").write_text("x")
    if mode == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    while not (root / "go").exists():
        time.sleep(0.01)
made = Store(root, on_wait=print).build(Stage.EXPORT, "fp32", {"a": 1}, make, force=mode == "force")
print("cached" if made.cached else "made")
"""


def start(root, mode="wait"):
    command = [sys.executable, "-c", BUILD, str(root), mode]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path, process):
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_second_process_waits_and_then_finds_it(tmp_path):
    first = start(tmp_path)
    wait_for(tmp_path / "started", first)

    def arrived(message):
        assert message == "export/fp32 is being built by another process; waiting for it"
        (tmp_path / "go").touch()  # only now may the first one finish

    found = Store(tmp_path, on_wait=arrived).build(Stage.EXPORT, "fp32", {"a": 1}, must_not_run)
    assert (tmp_path / "go").exists()
    assert found.cached
    assert first.communicate(timeout=60) == ("made\n", "")


def test_a_forced_build_keeps_its_work_while_others_use_the_old_artifact(tmp_path):
    old = Store(tmp_path).build(Stage.EXPORT, "fp32", {"a": 1}, writing())
    forced = start(tmp_path, "force")
    work = tmp_path / "work" / old.key
    wait_for(work / "out/half", forced)
    found = Store(tmp_path).build(Stage.EXPORT, "fp32", {"a": 1}, must_not_run)
    assert (found.cached, found.sha256) == (True, old.sha256)
    assert (work / "checkpoint").read_text() == "kept"
    (tmp_path / "go").touch()
    assert forced.communicate(timeout=60) == ("made\n", "")
    new = Store(tmp_path).find(Stage.EXPORT, old.key)
    assert sorted(new.json("manifest.json")["files"]) == ["half"]


def test_killed_then_run_again(tmp_path):
    killed = start(tmp_path, "kill")
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert finished(tmp_path) == []

    def make(work, out):
        assert (work / "checkpoint").read_text() == "kept"
        assert not list(out.iterdir())
        (out / "whole").write_text("x")

    waits = []
    made = Store(tmp_path, on_wait=waits.append).build(Stage.EXPORT, "fp32", {"a": 1}, make)
    assert sorted(made.json("manifest.json")["files"]) == ["whole"]
    assert waits == []  # the lock died with its holder


def test_killed_between_taking_the_old_away_and_putting_the_new_in_place(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.build(Stage.EXPORT, "fp32", INPUTS, writing(b"old"))
    replace = Path.replace

    def dies(self, target):
        if self.name == "out":
            raise Stop
        return replace(self, target)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Path, "replace", dies)
        store.build(Stage.EXPORT, "fp32", INPUTS, writing(b"new"), force=True)
    assert finished(tmp_path) == []
    assert (store.build(Stage.EXPORT, "fp32", INPUTS, writing(b"new")).path / "model.bin").read_bytes() == b"new"
    assert not list((tmp_path / "work").iterdir())


DAY_S = 24 * 3600


def age(folder, days):
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (time.time() - days * DAY_S,) * 2)


def left(store, name, days):
    """What an interrupted build of that name left so many days ago; its folder."""

    def breaks(work, out):
        (work / "logs").mkdir()
        (work / "logs/checkpoint").write_text(name)
        raise Stop

    with pytest.raises(Stop):
        store.build(Stage.TRAIN, name, INPUTS, breaks)
    work = store.root / "work" / artifact.artifact_key(Stage.TRAIN, name, INPUTS)
    age(work, days)
    return work


def test_abandoned_work_is_removed_when_something_new_is_made(tmp_path):
    store = Store(tmp_path)
    young, old, touched = left(store, "young", 13), left(store, "old", 15), left(store, "touched", 15)
    os.utime(touched / "logs/checkpoint")
    store.build(Stage.EXPORT, "fp32", INPUTS, writing())
    assert [work.exists() for work in (young, old, touched)] == [True, False, True]
    assert (young / "logs/checkpoint").read_text() == "young"
    age(young, 15)
    assert store.build(Stage.EXPORT, "fp32", INPUTS, must_not_run).cached
    assert young.exists()  # nothing new was made


def test_who_comes_back_after_all_resumes(tmp_path):
    store = Store(tmp_path)
    work = left(store, "fp32", 100)

    def resumes(given, out):
        assert (given / "logs/checkpoint").read_text() == "fp32"
        (out / "whole").write_text("x")

    assert not store.build(Stage.TRAIN, "fp32", INPUTS, resumes).cached
    assert not work.exists()


def test_work_that_another_process_is_at_is_never_removed(tmp_path):
    other = start(tmp_path)
    wait_for(tmp_path / "started", other)
    (work,) = (tmp_path / "work").iterdir()
    wait_for(work / "out/half", other)
    age(work, 100)
    Store(tmp_path).build(Stage.EXPORT, "fp16", INPUTS, writing())
    assert (work / "checkpoint").read_text() == "kept"
    (tmp_path / "go").touch()
    assert other.communicate(timeout=60) == ("made\n", "")


def test_abandoned_work_of_another_user_stands_in_nobodys_way(tmp_path, monkeypatch):
    store = Store(tmp_path)
    work = left(store, "old", 15)
    lock = tmp_path / "locks" / f"{work.name}.lock"
    lock.unlink(missing_ok=True)
    lock.mkdir()  # cannot be opened for writing, by root neither
    assert not store.build(Stage.EXPORT, "fp32", INPUTS, writing()).cached
    assert work.exists()


@pytest.mark.parametrize("blocked", ["root is a file", "no permission", "file system is read-only"])
def test_a_folder_that_cannot_be_written(blocked, tmp_path, monkeypatch):
    root = tmp_path / "store"
    if blocked == "root is a file":
        root.write_text("")
    else:
        number = errno.EACCES if blocked == "no permission" else errno.EROFS

        def refuse(self, *arguments, **options):
            raise OSError(number, os.strerror(number), str(self))

        monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StorageError, match=r"store.* cannot be written .*--store") as caught:
        Store(root).build(Stage.EXPORT, "fp32", INPUTS, must_not_run)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("call", ["fsync", "make", "mkdir"])
def test_a_full_disk(call, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    make = full if call == "make" else writing()
    if call == "fsync":
        monkeypatch.setattr(artifact.os, "fsync", full)
    elif call == "mkdir":
        monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(
        StorageError, match=r"No space is left .* --store or --out, then run the same command"
    ) as caught:
        Store(tmp_path).build(Stage.EXPORT, "fp32", INPUTS, make)
    assert caught.value.exit_code == 3
    assert finished(tmp_path) == []
    assert not [p for p in tmp_path.rglob("*") if p.name.endswith(".tmp") or p.name == "manifest.json"]
    monkeypatch.undo()
    assert not Store(tmp_path).build(Stage.EXPORT, "fp32", INPUTS, writing()).cached


def test_other_errors_of_make_are_not_blamed_on_the_disk(tmp_path):
    def missing(work, out):
        Path("/nowhere/at/all").read_text()

    with pytest.raises(FileNotFoundError):
        Store(tmp_path).build(Stage.EXPORT, "fp32", INPUTS, missing)


def test_write_atomic(tmp_path, monkeypatch):
    path = tmp_path / "new" / "file.txt"
    write_atomic(path, "früh")
    assert path.read_bytes() == "früh".encode()
    write_atomic(path, b"\x00late")
    assert path.read_bytes() == b"\x00late"

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(artifact.os, "fsync", full)
    with pytest.raises(StorageError, match="No space is left"):
        write_atomic(path, "half")
    assert path.read_bytes() == b"\x00late"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]
