"""The OpenSSH client's command line, and its failures as sentences."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence

from edgeattn.errors import ConnectionFailed, EdgeattnError, InputError, MachineError, MissingLibrary
from edgeattn.remote.host import FIXED, Host

# Two minutes: a small board that swaps, or a radio link, is silent for a while without being gone. The far side waits
# longer (bootstrap.PATIENCE_S), so that this side, which can say so, is the first to give up.
ALIVE_S, ALIVE_TIMES = 15, 8

_DEFAULTS = {"ConnectTimeout": "15", "ServerAliveInterval": str(ALIVE_S), "ServerAliveCountMax": str(ALIVE_TIMES)}
_ERROR = 255
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
_HIGHEST = 128
_NO_REASON = "ssh gave no reason"
# What ssh itself says in the end. Banners, libraries and the far program speak on the same standard error.
_OWN = re.compile(
    r"ssh: |Timeout, server|client_loop: |kex_exchange|banner exchange: |ssh_\w+: |packet_\w+: |Unable to negotiate"
    r"|Connection (to \S+ )?(closed|reset|timed out)|Received disconnect|Disconnected from|Host key verification failed"
    r"|Bad |command-line|\S+@\S+: Permission denied \(|no such identity"
)
# Only of a connection through another program, which here is mostly the ssh to a jump host.
_THROUGH = "UNKNOWN port"


def command(host: Host, program_bytes: int) -> list[str]:
    """Start the far side's Python on a program of so many bytes, which it takes from standard input."""
    # Of several -o for one key ssh takes the first: the fixed ones come before the user's, the defaults behind them.
    options = [f"{key}={value}" for key, value in FIXED.items()]
    options += [*host.options, *(f"{key}={value}" for key, value in _DEFAULTS.items())]
    # Python looks first where it was started, which is the home folder: a file there may be named as a module is.
    start = (
        "import sys; sys.path[:] = [place for place in sys.path if place]; "
        f"exec(compile(sys.stdin.buffer.read({program_bytes}), 'edgeattn-bootstrap', 'exec'))"
    )
    # `exec`: no shell stays between sshd and the program, so that its process group is all there is.
    remote = f"exec {_python(host.python)} -c {shlex.quote(start)}"
    return ["ssh", *(word for option in options for word in ("-o", option)), "--", host.address, remote]


def _python(path: str) -> str:
    """As a word for the shell there, which alone knows what "~" is."""
    return f"~/{shlex.quote(path[2:])}" if path.startswith("~/") and path[2:] else shlex.quote(path)


def environment() -> dict[str, str]:
    """For the `ssh` process: no window asks either. The ssh to a jump host does not take over BatchMode."""
    return {**os.environ, "SSH_ASKPASS": "false", "SSH_ASKPASS_REQUIRE": "never"}


def failure(host: Host, code: int | None, said: Sequence[str], *, doing: str | None) -> EdgeattnError:
    """Why the connection ended with `code`, having `said` so on standard error.

    `doing`: what was under way; None where the program there had not yet begun.
    """
    last = said[-1].strip().rstrip(".") if said else "it gave no reason"
    own = [line.strip().rstrip(".") for line in said if _OWN.match(line.strip())]
    # A higher code is that of a signal, such as a shell between gives it: memory was wanting, or nobody heard any more.
    if doing is not None and code is not None and 0 <= code <= _HIGHEST:
        return MachineError(
            f"The program on {host.address} broke off with code {code} while {doing} ({last}); if that does not say "
            "what to mend there, name another Python with --host-python, or report it."
        )
    if doing is not None:
        last = own[-1] if own else _NO_REASON
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
            f"{host.address} ended the program with code {code} before it had begun ({last}); check that this "
            f"works and names Python 3.10 or newer: {_by_hand(host)} {host.python} --version"
        )
    jump = any(_THROUGH in line for line in own)
    for pattern, make in _CASES:
        if lines := [line for line in said if re.search(pattern, line)]:
            return make(host, lines[-1].strip().rstrip("."), jump)
    return ConnectionFailed(
        f"{host.address} cannot be reached ({own[-1] if own else last}); check that this works: {_by_hand(host)}"
    )


def _by_hand(host: Host) -> str:
    """What a person types to go there."""
    return shlex.join(["ssh", *(word for option in host.options for word in ("-o", option)), host.address])


def _named(host: Host, jump: bool) -> str:
    return f"the jump host on the way to {host.address}" if jump else host.address


def _bad_option(host: Host, line: str, jump: bool) -> EdgeattnError:
    return InputError(f"ssh does not take these options ({line}); correct --ssh-option or ~/.ssh/config.")


def _changed_key(host: Host, line: str, jump: bool) -> EdgeattnError:
    return ConnectionFailed(
        f"The host key of {_named(host, jump)} is another than the one that is known here: that machine was set up "
        "anew, or it is another. Find out which; if it is the right one, forget the old key with: ssh-keygen -R HOST, "
        f"and connect once by hand: {_by_hand(host)}"
    )


def _unknown_key(host: Host, line: str, jump: bool) -> EdgeattnError:
    return ConnectionFailed(
        f"The host key of {_named(host, jump)} is not known here, so it is not certain which machine that is; connect "
        f"once by hand and compare the fingerprint: {_by_hand(host)} (there: ssh-keygen -lf "
        "/etc/ssh/ssh_host_ed25519_key.pub)."
    )


def _refused(host: Host, line: str, jump: bool) -> EdgeattnError:
    if jump:
        return ConnectionFailed(
            f"The jump host on the way to {host.address} does not accept this machine's key ({line}); put it there "
            "with ssh-copy-id, or name the right one in ~/.ssh/config under the jump host (no --ssh-option reaches it, "
            "and no password is ever asked for)."
        )
    options = " ".join(f"-o {shlex.quote(option)}" for option in host.options)
    return ConnectionFailed(
        f"{host.address} does not accept this machine's key ({line}); put it there with: ssh-copy-id "
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
    (r"Permission denied \(|Too many authentication failures|no such identity", _refused),
)
