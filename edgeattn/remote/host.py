"""Another machine as the user names it: where it is, and how `ssh` and Python are to be called for it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgeattn.errors import InputError

# What is always so: a host that is not known is refused, nobody is asked for a password, nothing but a program runs.
FIXED = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    "UpdateHostKeys": "no",
    "NoHostAuthenticationForLocalhost": "no",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "ClearAllForwardings": "yes",
    "PermitLocalCommand": "no",
    "RemoteCommand": "none",
    "RequestTTY": "no",
    "EscapeChar": "none",
    "LogLevel": "INFO",  # below it ssh does not say that the other side no longer answers
}
_ADDRESS = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.\\+-]*@)?[A-Za-z0-9_:][A-Za-z0-9_.:%-]*")


@dataclass(frozen=True)
class Host:
    """`address`: `user@device`, as `ssh` takes it, or a name from `~/.ssh/config`.

    `options`: further `KEY=VALUE` for `ssh -o`, such as a port. `python`: the Python there that has the libraries.
    Raises InputError for an address or option that is none.
    """

    address: str
    options: tuple[str, ...] = ()
    python: str = "python3"

    def __post_init__(self) -> None:
        if re.fullmatch(r"[^:\[\]]+:\d+", self.address):
            name, _, port = self.address.rpartition(":")
            raise InputError(
                f"A host is named as for ssh, without the port: --host {name} --ssh-option Port={port}, or put the "
                "port into ~/.ssh/config."
            )
        if bracketed := re.fullmatch(r"(?:(.*)@)?\[([^\[\]]*)\](?::\d+)?", self.address):
            user = f"{bracketed[1]}@" if bracketed[1] else ""
            raise InputError(
                f"An IPv6 address is named as for ssh, without brackets: --host {user}{bracketed[2]} (a port goes into "
                "--ssh-option Port=...)."
            )
        if not _ADDRESS.fullmatch(self.address):
            raise InputError(f"'{self.address}' is no host; give user@device as for ssh, or a name from ~/.ssh/config.")
        for option in self.options:
            key, equals, value = option.partition("=")
            if not (key.isalpha() and equals and value.strip()) or "\n" in option:
                raise InputError(f"--ssh-option takes KEY=VALUE as in ssh_config, such as Port=2222; got '{option}'.")
            if key.lower() in {name.lower() for name in FIXED}:
                raise InputError(
                    f"--ssh-option {key} cannot be changed: host keys are always checked, no password is asked for "
                    "and nothing is forwarded."
                )
        if not self.python.strip() or "\n" in self.python:
            raise InputError("--host-python names the Python on the other machine, such as /opt/venv/bin/python.")
