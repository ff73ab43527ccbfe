"""What may be given as another machine, and the command line that is made of it."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from edgeattn.errors import ConnectionFailed, InputError, MachineError, MissingLibrary
from edgeattn.remote import ssh
from edgeattn.remote.host import Host


@pytest.mark.parametrize("address", ["user@device", "jetson", "me@192.168.1.20", "a.b@box.local", "me@fe80::1%eth0"])
def test_addresses(address):
    assert Host(address).address == address


@pytest.mark.parametrize("address", ["", "-oProxyCommand=x", "user@-x", "a b", "user@", "box;reboot", "box\n"])
def test_what_is_no_address(address):
    with pytest.raises(InputError, match="is no host; give user@device"):
        Host(address)


def test_a_port_is_told_where_to_go():
    with pytest.raises(InputError, match="--host user@device --ssh-option Port=2222"):
        Host("user@device:2222")


@pytest.mark.parametrize(
    ("address", "right"), [("user@[::1]", "user@::1"), ("[fe80::1%eth0]", "fe80::1%eth0"), ("a@[::1]:22", "a@::1")]
)
def test_brackets_that_ssh_does_not_take(address, right):
    with pytest.raises(InputError, match="is named as for ssh, without brackets") as case:
        Host(address)
    assert f"--host {right} (" in str(case.value)
    assert Host(right).address == right


@pytest.mark.parametrize("option", ["Port", "=1", "Port=", "Port=1\nX=2", "a b=c"])
def test_what_is_no_option(option):
    with pytest.raises(InputError, match="--ssh-option takes KEY=VALUE"):
        Host("box", (option,))


@pytest.mark.parametrize(
    "key", ["StrictHostKeyChecking", "stricthostkeychecking", "BatchMode", "UpdateHostKeys", "ForwardAgent"]
)
def test_what_protects_cannot_be_changed(key):
    with pytest.raises(InputError, match="host keys are always checked, no password is asked for"):
        Host("box", (f"{key}=no",))


def test_the_command_line():
    command = ssh.command(Host("me@box", ("Port=22", "ConnectTimeout=1"), "/opt/my env/python"), 7)
    options = [command[i + 1] for i, word in enumerate(command) if word == "-o"]
    # Of several values ssh takes the first.
    first = {}
    for option in options:
        first.setdefault(option.partition("=")[0], option.partition("=")[2])
    assert (first["StrictHostKeyChecking"], first["BatchMode"], first["ConnectTimeout"]) == ("yes", "yes", "1")
    assert command[-3:-1] == ["--", "me@box"]
    assert command[-1].startswith("exec '/opt/my env/python' -c ") and ".read(7)" in command[-1]
    assert not any("assword" in word for word in command)


@pytest.mark.skipif(not shutil.which("ssh"), reason="there is no ssh here")
def test_no_configuration_changes_what_is_always_so(tmp_path):
    """As ssh itself reads it."""
    (tmp_path / "config").write_text(
        "BatchMode no\nStrictHostKeyChecking no\nNoHostAuthenticationForLocalhost yes\nUpdateHostKeys yes\n"
        "LocalForward 8080 localhost:80\nRemoteForward 8081 localhost:80\nForwardAgent yes\nForwardX11 yes\n"
        "PermitLocalCommand yes\nLocalCommand touch made\nRemoteCommand reboot\nRequestTTY force\n"
    )
    words = ssh.command(Host("box"), 7)
    at = words.index("--")
    asked = ["ssh", "-G", "-F", str(tmp_path / "config"), *words[1:at], "box"]
    said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    found = dict(line.partition(" ")[::2] for line in said.splitlines())
    for key in ("batchmode", "stricthostkeychecking", "clearallforwardings"):
        assert found[key] in ("yes", "true"), key
    never = ("nohostauthenticationforlocalhost", "updatehostkeys", "forwardagent", "forwardx11", "permitlocalcommand")
    for key in never:
        assert found[key] in ("no", "false"), key
    assert found["requesttty"] in ("no", "false") and "reboot" not in found.get("remotecommand", "")


@pytest.mark.parametrize(
    ("python", "word"),
    [
        ("python3", "python3"),
        ("~/edgeattn/bin/python", "~/edgeattn/bin/python"),
        ("~/my env/bin/python", "~/'my env/bin/python'"),
        ("~/$(reboot)", "~/'$(reboot)'"),
        ("~", "'~'"),
    ],
)
def test_the_home_folder_there_is_known_to_the_shell_there(python, word):
    assert ssh.command(Host("box", (), python), 7)[-1].startswith(f"exec {word} -c ")


def test_nothing_is_asked_in_a_window(monkeypatch):
    monkeypatch.setenv("SSH_ASKPASS", "/usr/bin/ksshaskpass")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    found = ssh.environment()
    assert (found["SSH_ASKPASS"], found["SSH_ASKPASS_REQUIRE"]) == ("false", "never")
    assert found["SSH_AUTH_SOCK"] == "/run/agent"


@pytest.mark.parametrize(
    ("code", "said", "doing", "kind", "words"),
    [
        (255, "ssh: Could not resolve hostname box: Name unknown", None, ConnectionFailed, "cannot be rea"),
        (255, "Host key verification failed.", None, ConnectionFailed, "host key of box is not known here"),
        (255, "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.", None,
         ConnectionFailed, "host key of box is another"),
        (255, "me@box: Permission denied (publickey,password).", None, ConnectionFailed, "ssh-copy-id box"),
        (255, "command-line: line 0: Bad configuration option: x", None, InputError, "does not take these options"),
        (127, "sh: 1: exec: python3: not found", None, MissingLibrary, "cannot run 'python3'"),
        (1, "", None, ConnectionFailed, "code 1 before it had begun (it gave no reason)"),
        (255, "client_loop: send disconnect: Broken pipe", "files were sent", ConnectionFailed, "was lost, or"),
        (None, "", "'x' was under way", ConnectionFailed,
         "while 'x' was under way (ssh gave no reason); run the same command again"),
        (255, "All use of this box is recorded.\nTimeout, server box not responding.", "'x' was under way",
         ConnectionFailed, "(Timeout, server box not responding)"),
        (255, "All use of this box is recorded.", "'x' was under way", ConnectionFailed, "(ssh gave no reason)"),
        (255, "Permission denied to strangers.\nConnection closed by 10.0.0.1 port 22", None, ConnectionFailed,
         "box cannot be reached (Connection closed by 10.0.0.1 port 22)"),
        (255, "Host key verification failed.\nConnection closed by UNKNOWN port 65535", None, ConnectionFailed,
         "The host key of the jump host on the way to box is not known here"),
        (255, "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.\n"
         "Connection closed by UNKNOWN port 65535", None, ConnectionFailed,
         "The host key of the jump host on the way to box is another"),
        (255, "me@gate: Permission denied (publickey).\nConnection closed by UNKNOWN port 65535", None,
         ConnectionFailed, "The jump host on the way to box does not accept this machine's key (me@gate: Permission"),
        (1, "Traceback\nRuntimeError: boom", "it looked for what is there already", MachineError,
         "The program on box broke off with code 1 while it looked for what is there already (RuntimeError: boom)"),
        (137, "Killed", "'x' was under way", ConnectionFailed, "ended for want of memory"),
        (-9, "", "'x' was under way", ConnectionFailed, "ended for want of memory"),
        (1, "SyntaxError: invalid syntax", None, ConnectionFailed, "names Python 3.10 or newer: ssh box python3 --ver"),
    ],
)  # fmt: skip
def test_why_a_connection_ended(code, said, doing, kind, words):
    error = ssh.failure(Host("box"), code, said.splitlines(), doing=doing)
    assert type(error) is kind and words in str(error) and "\n" not in str(error)
