"""What may be given as another machine, and the command line that is made of it."""

from __future__ import annotations

import pytest

from edgeattn.errors import ConnectionFailed, InputError, MissingLibrary
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


@pytest.mark.parametrize(
    ("code", "said", "doing", "kind", "words"),
    [
        (255, "ssh: Could not resolve hostname box: Name unknown", None, ConnectionFailed, "cannot be rea"),
        (255, "Host key verification failed.", None, ConnectionFailed, "host key of box is not known here"),
        (255, "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.", None,
         ConnectionFailed, "another host key than"),
        (255, "me@box: Permission denied (publickey,password).", None, ConnectionFailed, "ssh-copy-id box"),
        (255, "command-line: line 0: Bad configuration option: x", None, InputError, "does not take these options"),
        (127, "sh: 1: exec: python3: not found", None, MissingLibrary, "cannot run 'python3'"),
        (1, "", None, ConnectionFailed, "code 1 before it had begun (ssh gave no reason)"),
        (255, "client_loop: send disconnect: Broken pipe", "files were sent", ConnectionFailed, "was lost, or"),
        (None, "", "'x' was under way", ConnectionFailed,
         "while 'x' was under way (ssh gave no reason); run the same command again"),
    ],
)  # fmt: skip
def test_why_a_connection_ended(code, said, doing, kind, words):
    error = ssh.failure(Host("box"), code, said.splitlines(), doing=doing)
    assert type(error) is kind and words in str(error) and "\n" not in str(error)
