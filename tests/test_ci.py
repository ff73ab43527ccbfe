"""`.ci/run` up to its first `make`: where deploying over SSH cannot be tested it fails, unless it is told not to."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci/run"
REACHED = 7  # what the stand-in of make ends with


@pytest.fixture
def ci(tmp_path):
    """`ci(user, apt)`: the script with programs that only pretend; `apt` is what apt-get does."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (tmp_path / ".ci").mkdir()
    shutil.copy(SCRIPT, tmp_path / ".ci/run")
    for name in ("bash", "dirname", "touch", "chmod"):
        (programs / name).symlink_to(str(shutil.which(name)))

    def pretend(name, does):
        (programs / name).write_text(f"#!{programs}/bash\n{does}\n")
        (programs / name).chmod(0o755)

    def run(user=0, apt="exit 100", **env):
        pretend("id", f"echo {user}")
        pretend("apt-get", apt)
        pretend("make", f"echo asks for them: ${{EDGEATTN_TEST_SSH:-no}}; exit {REACHED}")
        command, paths = [str(programs / "bash"), ".ci/run"], {"PATH": str(programs)}
        return subprocess.run(
            command, cwd=tmp_path, env={**paths, **env}, capture_output=True, text=True, check=False, timeout=60
        )

    return run


INSTALLS = "cd {} && touch ssh sshd && chmod +x ssh sshd"


@pytest.mark.parametrize(
    ("given", "because"),
    [
        ({}, "openssh-server and openssh-client are not here and apt-get cannot install them"),
        ({"apt": "exit 0"}, "openssh-server and openssh-client are not here and apt-get cannot install them"),
        ({"user": 1000}, "only root can make a user and start an sshd for it"),
    ],
    ids=["apt-get fails", "apt-get installs nothing", "not root"],
)
def test_what_cannot_be_tested_fails_unless_it_is_allowed_to(ci, given, because):
    ended = ci(**given)
    assert ended.returncode == 1
    assert ended.stderr == (
        f"error: deploying over SSH cannot be tested: {because}; EDGEATTN_CI_WITHOUT_SSH=1 leaves it untested\n"
    )
    assert ci(**given, EDGEATTN_CI_WITHOUT_SSH="0").returncode == 1
    allowed = ci(**given, EDGEATTN_CI_WITHOUT_SSH="1")
    assert (allowed.returncode, allowed.stdout) == (REACHED, "asks for them: no\n")
    assert allowed.stderr == f"EDGEATTN_CI_WITHOUT_SSH=1: deploying over SSH is NOT tested ({because})\n"


def test_what_is_missing_is_installed(ci, tmp_path):
    ended = ci(apt=INSTALLS.format(tmp_path / "bin"))
    assert (ended.returncode, ended.stdout, ended.stderr) == (REACHED, "asks for them: 1\n", "")
    again = ci(apt="echo asked again >&2")
    assert (again.returncode, again.stderr) == (REACHED, "")
