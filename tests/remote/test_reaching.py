"""Real connections over loopback: what is said of a machine that is there, and of one that cannot be used."""

from __future__ import annotations

import subprocess

import pytest

from edgeattn import host
from edgeattn.errors import ConnectionFailed, InputError, MissingLibrary, ModelError, StorageError
from edgeattn.remote.device import connect
from edgeattn.remote.host import Host

TASK = "edgeattn.tasks.classify"


def said(case) -> str:
    assert "\n" not in str(case.value)
    return str(case.value)


def silent(done, total, text):
    pass


def reach(where: Host):
    return connect(where, "openvino", TASK, silent)


def test_the_far_side_has_three_libraries_and_no_more(box):
    assert box.run("import numpy, cv2, openvino").returncode == 0
    others = "torch pydantic click onnx onnxruntime nncf yaml filelock rich scipy edgeattn"
    tried = (
        f"for name in {others.split()}:\n"
        "    try:\n        __import__(name)\n"
        "    except ModuleNotFoundError as error:\n        assert error.name == name; print(name, end=' ')\n"
    )
    assert box.run(tried).stdout.strip() == others


def test_what_is_there(box):
    heard = []
    device = connect(box.host(), "openvino", TASK, lambda done, total, text: heard.append(text))
    assert device.cpu == host.cpu_model() and device.cores == host.cores()
    assert "fp32" in device.precisions and device.libraries["openvino"]
    described = device.describe()
    assert described["address"] == box.address and described["python"].startswith("3.")
    assert not {"torch", "onnx"} & set(described["packages"])
    assert heard[0] == f"connecting to {box.address}"


def changed(box, **changes):
    """The box's host with other values for some ssh options."""
    options = [o for o in box.options if o.partition("=")[0] not in changes]
    return Host(box.address, (*options, *(f"{k}={v}" for k, v in changes.items())), box.python)


def test_an_unknown_host_key_is_refused(box):
    with pytest.raises(ConnectionFailed) as case:
        reach(changed(box, UserKnownHostsFile=box.folder / "nobody_known"))
    assert said(case).startswith(f"The host key of {box.address} is not known here") and "ssh -o" in said(case)
    assert (box.folder / "nobody_known").read_text() == ""


def test_a_changed_host_key_is_refused(box):
    with pytest.raises(ConnectionFailed, match="is another than the one that is known here") as case:
        reach(changed(box, UserKnownHostsFile=box.folder / "changed_hosts"))
    assert "ssh-keygen -R" in said(case)


def test_a_key_that_is_not_accepted(box):
    with pytest.raises(ConnectionFailed, match=r"does not accept this machine's key .*ssh-copy-id") as case:
        reach(changed(box, IdentityFile=box.folder / "other_client_key"))
    assert "Permission denied (publickey)" in said(case)


def test_nobody_answers(box):
    with pytest.raises(
        ConnectionFailed, match=r"cannot be reached \(.*Connection refused\); check that this works: ssh"
    ):
        reach(changed(box, Port=1))


def test_a_name_that_nobody_has():
    with pytest.raises(ConnectionFailed, match=r"me@no-such-box.invalid cannot be reached \(.*resolve"):
        reach(Host("me@no-such-box.invalid"))


def test_an_option_that_ssh_does_not_know(box):
    with pytest.raises(InputError, match="ssh does not take these options"):
        reach(changed(box, Nonsense="yes"))


def test_no_python_there(box):
    with pytest.raises(MissingLibrary, match=r"cannot run '/nowhere/python' \(.*not found\); install Python 3.10"):
        reach(Host(box.address, box.options, "/nowhere/python"))


def test_a_missing_library_is_named_with_how_to_get_it(box):
    """The system's own Python has none of them."""
    with pytest.raises(MissingLibrary) as case:
        reach(Host(box.address, box.options, "/usr/bin/python3"))
    assert said(case).startswith(f"On {box.address}: /usr/bin/python3 lacks ")
    assert "openvino>=2026.4" in said(case)
    # It installs nothing itself on today's systems (PEP 668), or has no pip.
    assert "/usr/bin/python3 -m venv --system-site-packages ~/edgeattn && ~/edgeattn/bin/pip install '" in said(case)
    assert said(case).endswith("name it with --host-python '~/edgeattn/bin/python'")


@pytest.mark.parametrize("python", ["../venv/bin/python", "~/../venv/bin/python"])
def test_a_python_in_the_home_folder_there(box, python):
    assert reach(Host(box.address, box.options, python)).cores >= 1


def test_a_file_there_that_is_named_as_a_module(fresh):
    """The program starts in the home folder, and so would the processes that it starts with `-m`."""
    stray = [fresh.home / f"{name}.py" for name in ("zipfile", "hashlib", "threading", "numpy")]
    for path in stray:
        path.write_text("raise RuntimeError('stray')\n")
    try:
        device = reach(fresh.host())
        assert device.cores >= 1
    finally:
        for path in stray:
            path.unlink()


def test_a_jump_host_that_is_not_known_asks_nothing(box):
    """Its ssh reads this user's own files, in which there is nothing of the box."""
    with pytest.raises(ConnectionFailed, match=r"^The host key of the jump host on the way to .* is not known here"):
        reach(changed(box, ProxyJump=f"{box.user}@localhost:{box.port}"))


def test_it_does_not_answer_any_more(fresh):
    """As a board whose power fails: no connection is closed, and ssh itself must say so."""
    frozen = []

    def freeze(done, total, text):
        if text.startswith("sending") and not frozen:
            frozen.extend(fresh.sessions())
            for process in frozen:
                process.suspend()

    try:
        with pytest.raises(ConnectionFailed, match=r"was lost, .*\(Timeout, server \S+ not responding\)"):
            connect(changed(fresh, ServerAliveInterval=1, ServerAliveCountMax=2), "openvino", TASK, freeze)
        assert frozen
    finally:
        for process in frozen:
            process.kill()


def test_no_ssh_here(box, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingLibrary, match="The OpenSSH client is not installed here"):
        reach(box.host())


def test_a_login_script_that_greets(box):
    """`~/.profile` is not read for a command, but what sshd itself prints, or a shell's own file, may come first."""
    (box.home / ".ssh").mkdir(exist_ok=True)
    (box.home / ".ssh/rc").write_text("echo welcome to the box; echo have a look around >&2\n")
    try:
        assert reach(box.host()).cores >= 1
    finally:
        (box.home / ".ssh/rc").unlink()


def test_a_step_that_fails_there_says_so_in_its_own_words(fresh, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    device = reach(fresh.host())
    values = {"backend": "openvino", "precision": "fp32", "threads": 1}
    with pytest.raises(ModelError, match=rf"^On {fresh.address}: OpenVINO cannot compile .*model\.onnx"):
        device.step("build", "0" * 32, values, {"model/model.onnx": tmp_path / "model.onnx"}, tmp_path / "fetched")
    assert fresh.records() == {} and not (tmp_path / "fetched").exists()


def test_the_disk_there_is_full(fresh):
    """Too small for the package alone."""
    place = fresh.home / ".cache"
    place.mkdir(exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k,mode=777", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a file system of fixed size cannot be mounted here")
    try:
        with pytest.raises(StorageError, match=f"^On {fresh.address}: No space is left on the disk while ") as case:
            reach(fresh.host())
        assert "run the same command to resume" in said(case) and "--store" not in said(case)
        assert list((fresh.root / "files").iterdir()) == []
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
