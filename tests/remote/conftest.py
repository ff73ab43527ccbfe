"""Another machine on this one: an sshd of its own on loopback, a separate user, and a Python with three libraries.

Root alone may make a user and start an sshd for it; elsewhere these tests are skipped, saying so, or fail with
EDGEATTN_TEST_SSH=1.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from edgeattn.remote.host import Host

CAMERA = ("numpy", "numpy.libs", "numpy-*.dist-info", "cv2", "opencv_python_headless*")
OPENVINO = (*CAMERA, "openvino", "openvino_telemetry", "openvino-*.dist-info")
# What the stand-in for TensorRT computes with; nothing of ours imports it there.
ONNX_RUNTIME = ("onnx", "onnxruntime", "google", "ml_dtypes", "ml_dtypes.libs", "flatbuffers", "typing_extensions.py")
STAND_IN = "far_trt"
TESTS = Path(__file__).parents[1]
# While a file ~/hold names a module, a process that is to run it waits: a test may kill in the middle of a build.
HOLD = """
import os, sys, time
def _hold():
    place = os.path.expanduser("~/hold")
    def held():
        try:
            with open(place) as file:
                return file.read().strip() in " ".join(sys.orig_argv)
        except OSError:
            return False
    if held():
        open(place + ".reached", "w").close()
    while held():
        time.sleep(0.02)
_hold()
"""


@dataclass
class Box:
    """`host` is what edgeattn is given; `home` the home folder of the user there; `sshd` the daemon."""

    folder: Path
    user: str
    port: int
    sshd: subprocess.Popen[bytes]
    python: str
    more: list[str] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def root(self) -> Path:
        return self.home / ".cache/edgeattn/remote"

    @property
    def address(self) -> str:
        return f"{self.user}@127.0.0.1"

    @property
    def options(self) -> tuple[str, ...]:
        return (
            f"Port={self.port}",
            f"IdentityFile={self.folder}/client_key",
            "IdentitiesOnly=yes",
            f"UserKnownHostsFile={self.folder}/known_hosts",
            "GlobalKnownHostsFile=/dev/null",
        )

    def host(self) -> Host:
        return Host(self.address, self.options, self.python)

    def arguments(self, *more: str) -> list[str]:
        """The same for the command line."""
        words = ["--host", self.address, "--host-python", self.python]
        for option in (*more, *self.options):
            words += ["--ssh-option", option]
        return words

    def sessions(self) -> list[psutil.Process]:
        """The daemon's processes for connections."""
        return [p for p in psutil.Process(self.sshd.pid).children(recursive=True) if p.name().startswith("sshd")]

    def cut(self) -> None:
        """Every connection ends at once, as when a cable is pulled and the kernel has noticed."""
        for process in self.sessions():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def processes(self) -> list[psutil.Process]:
        """What runs there as the user, sshd's own aside."""
        every = psutil.process_iter(["username", "name"])
        return [p for p in every if p.info["username"] == self.user and not p.info["name"].startswith("sshd")]

    def records(self) -> dict[str, Path]:
        """`step name` -> its record, a letter appended where a name occurs again."""
        found: dict[str, Path] = {}
        for path in sorted(self.root.glob("steps/*.json"), key=lambda path: path.stat().st_mtime_ns):
            name = json.loads(path.read_text())["step"]
            while name in found:
                name += "+"
            found[name] = path
        return found

    def files(self) -> dict[str, int]:
        """Name -> inode of every file: a file that was written again has another."""
        return {path.name: path.stat().st_ino for path in (self.root / "files").glob("[0-9a-f]*")}

    def run(self, program: str) -> subprocess.CompletedProcess[str]:
        """A program of Python over ssh, as a person would."""
        words = [word for option in self.options for word in ("-o", option)]
        command = ["ssh", *words, "-o", "BatchMode=yes", self.address, f"{self.python} -"]
        return subprocess.run(command, input=program, capture_output=True, text=True, check=False, timeout=60)


def _python() -> Path | None:
    """A Python of this version that another user may start."""
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for path in (Path(sys.executable).resolve(), Path("/usr/bin") / name, Path("/usr/local/bin") / name):
        if path.exists() and all(parent.stat().st_mode & 0o001 for parent in (path, *path.parents)):
            return path
    return None


def _reason_to_skip() -> str | None:
    if os.geteuid() != 0:
        return "only root can make a user and start an sshd for it"
    if not shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin") or not shutil.which("ssh"):
        return "there is no sshd here (apt-get install openssh-server openssh-client)"
    if not shutil.which("useradd"):
        return "there is no useradd here"
    return None if _python() else "no Python of this version that another user may start"


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _environment(folder: Path, libraries: tuple[str, ...], files: Sequence[Path] = ()) -> str:
    """A virtual environment with these libraries and files alone; returns its Python."""
    python = _python()
    assert python is not None
    subprocess.run([str(python), "-m", "venv", "--without-pip", str(folder)], check=True, capture_output=True)
    (place,) = folder.glob("lib/python*/site-packages")
    import numpy

    packages = Path(numpy.__file__).parents[1]
    for path in (path for pattern in libraries for path in packages.glob(pattern)):
        if path.is_dir():
            shutil.copytree(path, place / path.name, copy_function=_linked)
        else:
            shutil.copyfile(path, place / path.name)
    for path in files:
        (shutil.copytree if path.is_dir() else shutil.copyfile)(path, place / path.name)
    (place / "far_hold.py").write_text(HOLD)
    modules = ["far_hold", *(path.stem for path in files if path.stem == STAND_IN)]
    (place / "far.pth").write_text(f"import {', '.join(modules)}\n")  # no sitecustomize: a distribution may have one
    return str(folder / "bin/python")


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="session")
def box() -> Iterator[Box]:
    if reason := _reason_to_skip():
        # .ci/run asks for these tests: there a skip would pass for a proof.
        (pytest.fail if os.environ.get("EDGEATTN_TEST_SSH") == "1" else pytest.skip)(reason)
    folder = Path(tempfile.mkdtemp(prefix="edgeattn-far-", dir="/tmp"))
    folder.chmod(0o755)
    user = f"far{os.getpid()}"
    (folder / "home").mkdir()
    # "*" is no password that anybody could give, yet the account is not locked as with "!".
    home = ["--home-dir", str(folder / "home"), "--no-create-home", "--shell", "/bin/sh", "--password", "*"]
    subprocess.run(["useradd", *home, user], check=True, capture_output=True)
    started = None
    try:
        shutil.chown(folder / "home", user, user)
        for name in ("host_key", "other_host_key", "client_key", "other_client_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
        shutil.copyfile(folder / "client_key.pub", folder / "authorized_keys")
        port = _free_port()
        for name in ("host_key", "other_host_key"):
            kind, key = (folder / f"{name}.pub").read_text().split()[:2]
            hosts = "known_hosts" if name == "host_key" else "changed_hosts"
            (folder / hosts).write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
        (folder / "nobody_known").write_text("")
        (folder / "sshd_config").write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nPidFile {folder}/sshd.pid\n"
            f"AuthorizedKeysFile {folder}/authorized_keys\nUsePAM no\nPasswordAuthentication no\n"
            f"KbdInteractiveAuthentication no\nAllowUsers {user}\nStrictModes no\nMaxStartups 50\n"
        )
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
        log = str(folder / "sshd.log")
        started = subprocess.Popen([str(sshd), "-D", "-f", str(folder / "sshd_config"), "-E", log])
        made = Box(folder, user, port, started, _environment(folder / "venv", OPENVINO))
        give_up = time.monotonic() + 30
        while made.run("pass").returncode:
            assert time.monotonic() < give_up, Path(log).read_text()
            time.sleep(0.1)
        yield made
    finally:
        if started is not None:
            started.terminate()
            started.wait(10)
        for process in psutil.process_iter(["username"]):
            if process.info["username"] == user:
                process.kill()
        subprocess.run(["userdel", "--force", user], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def tensorrt_box(box: Box) -> Box:
    """The box with a Python that has TensorRT 10.3 as a stand-in (far_trt.py), no OpenVINO, on a board of its own."""
    backends = TESTS / "backends"
    files = [backends / name for name in ("trt_api", "trt_fake.py", "trt_world.py", "cudart_fake.py")]
    files.append(Path(__file__).with_name(f"{STAND_IN}.py"))
    python = _environment(box.folder / "venv-trt", (*CAMERA, *ONNX_RUNTIME), files)
    return dataclasses.replace(box, python=python)


@pytest.fixture
def fresh(box: Box) -> Box:
    """The box with nothing of edgeattn on it."""
    shutil.rmtree(box.root, ignore_errors=True)
    (box.home / "hold").unlink(missing_ok=True)
    (box.home / "hold.reached").unlink(missing_ok=True)
    return box


@pytest.fixture
def wait() -> Callable[..., None]:
    """`wait(lambda: happened)`; fails after `timeout_s`."""

    def until(happened: Callable[[], bool], timeout_s: float = 60.0) -> None:
        give_up = time.monotonic() + timeout_s
        while not happened():
            assert time.monotonic() < give_up, f"not within {timeout_s} s"
            time.sleep(0.01)

    return until
