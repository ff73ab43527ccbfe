"""On a terminal a live line and colours; in CI and in files plain lines. Folded to the width there is."""

from __future__ import annotations

import json
import os
import pty
import re
import struct
import sys
import termios
from fcntl import ioctl

import pytest


def on_a_terminal(command, folder, columns, env):
    """What a terminal of that width is sent, and the exit code."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execve(sys.executable, [sys.executable, *command], env)
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    data = b""
    try:
        while chunk := os.read(terminal, 65536):
            data += chunk
    except OSError:  # Linux: the other side has closed
        pass
    os.close(terminal)
    return data.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("columns", [80, 120])
def test_live_progress_and_a_summary_that_fits(deployed, tmp_path, columns):
    env = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CI")}
    env |= {"TERM": "xterm-256color", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    command = ["deploy", str(deployed.recipe), "--store", str(deployed.store), "--out", "out"]
    said, code = on_a_terminal(["-c", "from edgeattn.cli import main; main()", *command], tmp_path, columns, env)
    assert code == 0, said
    assert "\x1b[2K" in said or "\x1b[1A" in said or "\x1b[?25l" in said  # a line that is drawn again
    assert "\x1b[" in said.partition("stage/variant")[2]
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said).replace("\r\n", "\n")
    _, heading, summary = plain.partition("stage/variant")
    lines = (heading + summary).splitlines()
    assert len(lines) <= 40
    folded = [line for line in lines if not line.startswith(("bundle  ", "report  "))]
    assert max(map(len, folded)) <= columns, max(folded, key=len)
    for figure in ("compile/int8", "cached", "PASSED"):
        assert figure in summary
    assert "…" not in summary


@pytest.mark.parametrize(("options", "lines"), [((), 1), (("-q",), 0), (("-v",), 1)])
def test_how_much_is_said(deployed, within, options, lines):
    ended = within("train", deployed.recipe, "--store", deployed.store, "--out", "out", *options)
    assert ended.code == 0
    assert len(ended.err.splitlines()) == lines
    assert "train/fp32" in ended.out and "PASSED" in ended.out


def test_quiet_still_says_errors(within):
    ended = within("train", "none.yaml", "-q")
    assert (ended.code, ended.out) == (2, "")
    assert "none.yaml" in ended.error


@pytest.mark.parametrize("encoding", ["latin-1", "ascii:strict"])
def test_a_terminal_that_is_not_utf_8(deployed, tool, encoding):
    """The dash of the summary's empty cells is in neither of these."""
    arguments = (deployed.recipe, "--store", deployed.store, "--out", "out")
    ended = tool("deploy", *arguments, PYTHONIOENCODING=encoding)
    assert ended.code == 0, ended.err
    assert "PASSED" in ended.out and "Traceback" not in ended.err
    ended = tool("deploy", *arguments, "--json", PYTHONIOENCODING=encoding)
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["verdict"]["passed"] is True


def test_names_that_the_terminal_has_no_sign_for(tool):
    (tool.folder / "pipelines").mkdir()
    recipe = (tool.folder / "tiny.yaml").read_text().replace("format: scenes", "format: imagefolder\n  path: 猫")
    recipe = "\n".join(line for line in recipe.splitlines() if not re.match(r"  (size|train|evaluation):", line))
    (tool.folder / "pipelines/cats.yaml").write_text(recipe, encoding="utf-8")
    ended = tool("recipes", PYTHONIOENCODING="latin-1")
    assert (ended.code, ended.err) == (0, "")
    assert "imagefolder (?)" in ended.out
    ended = tool("recipes", "--json", PYTHONIOENCODING="latin-1")
    assert json.loads(ended.out)["cats"]["data"]["path"] == "猫"
    assert "猫" not in ended.out
