"""The OpenSSH client's command line, and its failures as sentences."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from edgeattn.errors import ConnectionFailed, EdgeattnError, InputError, MissingLibrary
from edgeattn.remote.host import FIXED, Host

ALIVE_S, ALIVE_TIMES = 5, 3

_DEFAULTS = {"ConnectTimeout": "15", "ServerAliveInterval": str(ALIVE_S), "ServerAliveCountMax": str(ALIVE_TIMES)}
_ERROR = 255
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126


def command(host: Host, program_bytes: int) -> list[str]:
    """Start the far side's Python on a program of so many bytes, which it takes from standard input."""
    # Of several -o for one key ssh takes the first: the fixed ones come before the user's, the defaults behind them.
    options = [f"{key}={value}" for key, value in FIXED.items()]
    options += [*host.options, *(f"{key}={value}" for key, value in _DEFAULTS.items())]
    start = f"import sys; exec(compile(sys.stdin.buffer.read({program_bytes}), 'edgeattn-bootstrap', 'exec'))"
    # `exec`: no shell stays between sshd and the program, so that its process group is all there is.
    remote = f"exec {shlex.quote(host.python)} -c {shlex.quote(start)}"
    return ["ssh", *(word for option in options for word in ("-o", option)), "--", host.address, remote]


def failure(host: Host, code: int | None, said: Sequence[str], *, doing: str | None) -> EdgeattnError:
    """Why the connection ended with `code`, having `said` so on standard error.

    `doing`: what was under way; None where the program there had not yet begun.
    """
    text, last = "\n".join(said), said[-1].strip().rstrip(".") if said else "ssh gave no reason"
    if doing is not None:
        return ConnectionFailed(
            f"The connection to {host.address} was lost, or the program there was ended for want of memory, while "
            f"{doing} ({last}); run the same command again, it goes on with what is whole there."
        )
    if code in (_NOT_FOUND, _NOT_EXECUTABLE):
        return MissingLibrary(
            f"{host.address} cannot run '{host.python}' ({last}); install Python 3.10 or newer there, or name it with "
            "--host-python."
        )
    if code != _ERROR:
        return ConnectionFailed(
            f"{host.address} ended the program with code {code} before it had begun ({last}); check that this works: "
            f"{_by_hand(host)} {host.python} --version"
        )
    return next(
        (found for pattern, make in _CASES if re.search(pattern, text) for found in [make(host, last)]), None
    ) or (ConnectionFailed(f"{host.address} cannot be reached ({last}); check that this works: {_by_hand(host)}"))


def _by_hand(host: Host) -> str:
    """What a person types to go there."""
    return shlex.join(["ssh", *(word for option in host.options for word in ("-o", option)), host.address])


def _bad_option(host: Host, last: str) -> EdgeattnError:
    return InputError(f"ssh does not take these options ({last}); correct --ssh-option or ~/.ssh/config.")


def _changed_key(host: Host, last: str) -> EdgeattnError:
    return ConnectionFailed(
        f"{host.address} shows another host key than the one that is known here: it was set up anew, or it is another "
        "machine. Find out which; if it is the device, forget the old key with: ssh-keygen -R HOST, and connect once "
        f"by hand: {_by_hand(host)}"
    )


def _unknown_key(host: Host, last: str) -> EdgeattnError:
    return ConnectionFailed(
        f"The host key of {host.address} is not known here, so it is not certain which machine that is; connect once "
        f"by hand and compare the fingerprint: {_by_hand(host)} (on the device: ssh-keygen -lf "
        "/etc/ssh/ssh_host_ed25519_key.pub)."
    )


def _refused(host: Host, last: str) -> EdgeattnError:
    options = " ".join(f"-o {shlex.quote(option)}" for option in host.options)
    return ConnectionFailed(
        f"{host.address} does not accept this machine's key ({last}); put it there with: ssh-copy-id "
        f"{f'{options} ' if options else ''}{host.address}, or name the right one in ~/.ssh/config (a key with a "
        "passphrase must be in ssh-agent: no password is ever asked for)."
    )


_CASES = (
    (
        r"Bad configuration option|command-line line \d+|keyword .* extra arguments|bad configuration options",
        _bad_option,
    ),
    (r"IDENTIFICATION HAS CHANGED", _changed_key),
    (r"Host key verification failed|host key is known", _unknown_key),
    (r"Permission denied|Too many authentication failures|no such identity", _refused),
)
