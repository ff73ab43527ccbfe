"""The command line in processes of its own, and one small real deployment that most tests look at."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml

ROOT = Path(__file__).parents[2]
LAUNCH = "from edgeattn.cli import main; main()"

# One thread each: with two, on a machine that others keep busy, threads wait for each other most of the time.
TINY: dict[str, Any] = {
    "task": "classify",
    "model": {"name": "attention_cnn", "stages": [8, 16], "blocks": 1, "heads": 2},
    "input": {"height": 32, "width": 32},
    "data": {"format": "scenes", "size": 32, "train": 400, "evaluation": 120, "calibration": 60},
    "train": {"epochs": 2, "batch_size": 64, "optimizer": "adamw", "learning_rate": 0.003, "precision": "fp32"},
    "quantize": {"candidates": ["minmax"], "search_samples": 20},
    "measure": {"latency_seconds": 0.05, "threads": 1},
}


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that says what was wrong; fails when there is none, or more than that."""
        assert "Traceback" not in self.err, self.err
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1 and self.err.rstrip().endswith(lines[0]), self.err
        return lines[0].removeprefix("error: ")


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


class Running:
    """A command that has not ended yet; the leader of a process group of its own, as a shell would start it."""

    def __init__(self, command: list[str], folder: Path, env: dict[str, str]) -> None:
        self._out, self._err = folder / f"{time.monotonic_ns()}.out", folder / f"{time.monotonic_ns()}.err"
        with self._out.open("w") as out, self._err.open("w") as err:
            self._process = subprocess.Popen(
                command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
            )

    def wait_for(self, happened: Callable[[], bool] | str, timeout_s: float = 400.0) -> None:
        """Until the command has said the text, or the function says so; fails when the command ends first."""
        said = (lambda: happened in self._err.read_text()) if isinstance(happened, str) else happened
        give_up = time.monotonic() + timeout_s
        while not said():
            assert self._process.poll() is None, f"it ended first:\n{self._err.read_text()}"
            assert time.monotonic() < give_up, f"not within {timeout_s} s:\n{self._err.read_text()}"
            time.sleep(0.005)

    def kill(self) -> None:
        """kill -9 of the main process alone: what it started must notice by itself."""
        self._process.kill()
        self._process.wait()

    def interrupt(self) -> None:
        """Ctrl-C on a terminal: SIGINT to the whole process group."""
        os.killpg(self._process.pid, signal.SIGINT)

    def pause(self) -> None:
        """The main process stands still, with its locks, until `go_on`."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def all_gone(self, timeout_s: float = 90.0) -> bool:
        """Whether every process that the command started ends by itself within that time."""
        give_up = time.monotonic() + timeout_s
        while any(_session(pid) == self._process.pid for pid in psutil.pids()):
            if time.monotonic() > give_up:
                return False
            time.sleep(0.1)
        return True

    def end(self, timeout_s: float = 900.0) -> Ended:
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            raise
        return Ended(code, self._out.read_text(), self._err.read_text())


@dataclass(frozen=True)
class Tool:
    """`tool("deploy", ...)` runs the command line in `folder`; `launch` is the Python that starts it."""

    folder: Path

    def start(self, *arguments: str | Path, launch: str = LAUNCH, **env: str) -> Running:
        cleaned = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "FORCE_COLOR", "EDGEATTN_DATA", "TERM")}
        paths = [*filter(None, [env.pop("FIRST", "")]), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH", "")])]
        merged = {
            **cleaned,
            "PYTHONPATH": os.pathsep.join(paths),
            "OMP_NUM_THREADS": "1",
            "EDGEATTN_CACHE": str(self.folder / "cache"),
            **env,
        }
        return Running([sys.executable, "-c", launch, *map(str, arguments)], self.folder, merged)

    def __call__(self, *arguments: str | Path, launch: str = LAUNCH, **env: str) -> Ended:
        return self.start(*arguments, launch=launch, **env).end()


@dataclass(frozen=True)
class Deployed:
    """A finished deployment of TINY: its working folder, and what it said and wrote."""

    folder: Path
    recipe: Path
    store: Path
    out: Path
    ended: Ended
    report: dict[str, Any]

    @property
    def bundle(self) -> Path:
        return self.out / "tiny-cpu.edgeattn"


def artifacts(store: Path) -> dict[str, Path]:
    """`stage/variant` -> folder of every finished artifact; a letter is appended where a name occurs again."""
    found: dict[str, Path] = {}
    for manifest in sorted(store.glob("artifacts/*/*/manifest.json"), key=lambda path: path.stat().st_mtime_ns):
        values = json.loads(manifest.read_text())
        name = f"{values['stage']}/{values['variant']}"
        while name in found:
            name += "+"
        found[name] = manifest.parent
    return found


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file below `folder`."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="session")
def listed() -> Callable[[Path], dict[str, Path]]:
    return artifacts


@pytest.fixture(scope="session")
def state() -> Callable[[Path], dict[str, tuple[int, int]]]:
    return snapshot


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    folder = tmp_path_factory.mktemp("deployed")
    recipe = folder / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(TINY))
    ended = Tool(folder)("deploy", "tiny.yaml", "--store", "store", "--out", "out")
    assert ended.code == 0, ended.err
    report = json.loads((folder / "out/report.json").read_text())
    return Deployed(folder, recipe, folder / "store", folder / "out", ended, report)


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    """Runs in `tmp_path`, where `tiny.yaml` is the recipe of `deployed`."""
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    return Tool(tmp_path)


@pytest.fixture(scope="session")
def tools() -> Callable[[Path], Tool]:
    """The tool in another folder, for what several tests look at."""
    return Tool


@pytest.fixture
def within(tool: Tool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """As `tool`, but in this process: ten times as fast where nothing heavy happens."""
    from edgeattn.cli import main

    monkeypatch.chdir(tool.folder)
    monkeypatch.delenv("EDGEATTN_DATA", raising=False)
    monkeypatch.setenv("EDGEATTN_CACHE", str(tool.folder / "cache"))

    def run(*arguments: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["edgeattn", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return Ended(ended.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def store(deployed: Deployed, tmp_path: Path) -> Path:
    """A copy of the finished deployment's store, to be spoilt."""
    return Path(shutil.copytree(deployed.store, tmp_path / "store"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of twelve different images each, as `imagefolder` takes them."""
    import cv2

    random = np.random.default_rng(0)
    for label in ("bird", "cat"):
        folder = tmp_path / "photos" / label
        folder.mkdir(parents=True)
        for number in range(12):
            cv2.imwrite(str(folder / f"{number:02d}.png"), random.integers(0, 256, (40, 50, 3), np.uint8))
    return tmp_path / "photos"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """`small_disk("256k")` mounts a file system of that size; root alone may do so."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("a file system of fixed size cannot be mounted here")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
