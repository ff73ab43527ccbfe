"""One connection with another program in the place of `ssh`: what is sent, and what is not believed."""

from __future__ import annotations

import json
import os
import sys

import pytest

from edgeattn.artifact import sha256_bytes
from edgeattn.errors import ConnectionFailed, EdgeattnError, ModelError
from edgeattn.remote.conversation import Request, converse
from edgeattn.remote.host import Host
from edgeattn.remote.package import pack

REQUEST = Request("describe", None, {"backend": "openvino"}, b"package", [])


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """`ssh(program)` puts a Python program in its place, whose words the far side's are."""

    def place(program: str) -> None:
        (tmp_path / "bin").mkdir(exist_ok=True)
        path = tmp_path / "bin/ssh"
        path.write_text(f"#!{sys.executable}\n{program}")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}")

    return place


def tells(*records, code: int = 0, raw: str = "b''") -> str:
    """A far side that says these records whatever it is asked."""
    lines = "".join("\x1e" + json.dumps(record) + "\n" for record in records)
    return (
        "import sys\n"
        f"sys.stdout.buffer.write({lines!r}.encode()); sys.stdout.buffer.write({raw}); sys.stdout.flush()\n"
        f"sys.exit({code})\n"
    )


def listen(into=None, progress=lambda done, total, text: None):
    return converse(Host("box"), REQUEST, into, progress)


def test_progress_goes_to_one_listener_without_signs_that_steer_a_terminal(ssh):
    heard = []
    ssh(tells({"hello": {}}, {"progress": [1, 3, "round\x1b[2J 1"]}, {"result": {"values": {"a": 1}, "files": {}}}))
    result = listen(progress=lambda *told: heard.append(told))
    assert result["values"] == {"a": 1} and heard == [(1, 3, "round [2J 1, on box")]


def test_an_error_keeps_its_class(ssh):
    ssh(tells({"hello": {}}, {"error": {"kind": "ModelError", "message": "it is wrong."}}))
    with pytest.raises(ModelError, match=r"^On box: it is wrong\.$"):
        listen()


@pytest.mark.parametrize("kind", ["Nonsense", "reason", "annotations", "Path"])
def test_a_class_that_is_no_error_of_ours(ssh, kind):
    ssh(tells({"error": {"kind": kind, "message": "x"}}))
    with pytest.raises(EdgeattnError, match=r"^On box: x$"):
        listen()


@pytest.mark.parametrize("name", ["../engine.blob", "/etc/passwd", "a/../../b"])
def test_a_name_that_leaves_its_folder_is_refused(ssh, tmp_path, name):
    entry = {"name": name, "sha256": sha256_bytes(b"x"), "size": 1}
    ssh(tells({"file": entry}, raw="b'x'"))
    with pytest.raises(ConnectionFailed, match="names that no step gives"):
        listen(tmp_path / "into")
    ssh(tells({"result": {"values": {}, "files": {name: entry}}}))
    with pytest.raises(ConnectionFailed, match="names that no step gives"):
        listen(tmp_path / "into")


def test_a_hash_that_is_a_path_is_refused(ssh, tmp_path):
    ssh(tells({"file": {"name": "a", "sha256": "../../a", "size": 1}}, raw="b'x'"))
    with pytest.raises(ConnectionFailed, match="names that no step gives"):
        listen(tmp_path / "into")
    assert not (tmp_path / "a").exists()


def test_a_file_that_is_another_is_not_kept(ssh, tmp_path):
    ssh(tells({"file": {"name": "a", "sha256": sha256_bytes(b"x"), "size": 1}}, raw="b'y'"))
    with pytest.raises(ConnectionFailed, match="'a' arrived from box other than it was sent"):
        listen(tmp_path / "into")
    assert [path.name for path in (tmp_path / "into").iterdir() if not path.name.startswith(".")] == []


def test_a_file_that_is_cut_off(ssh, tmp_path):
    ssh(tells({"hello": {}}, {"file": {"name": "a", "sha256": sha256_bytes(b"xy"), "size": 2}}, code=255, raw="b'x'"))
    with pytest.raises(ConnectionFailed, match=r"was lost, .* while results were fetched"):
        listen(tmp_path / "into")


def test_a_record_that_is_cut_off(ssh):
    ssh('import os; os.write(1, b\'\\x1e{"hello": {}}\\n\\x1e{"resu\'); raise SystemExit(255)')
    with pytest.raises(ConnectionFailed, match="while it looked for what is there already"):
        listen()


def test_the_far_side_itself_in_its_place(ssh, tmp_path, monkeypatch):
    """Without sshd: the command that it would be given, run by a shell here."""
    monkeypatch.setenv("HOME", str(tmp_path))
    ssh("import os, sys\nprint('welcome', flush=True)\nos.execvp('sh', ['sh', '-c', sys.argv[-1]])")
    request = Request("describe", None, {"backend": "openvino"}, pack("edgeattn.tasks.classify"), [])
    values = converse(Host("box", (), sys.executable), request, None, lambda *told: None)["values"]
    assert values["precisions"] and values["identity"]["cores"] >= 1
    assert (tmp_path / ".cache/edgeattn/remote/packages").is_dir()
