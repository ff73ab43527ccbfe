"""Whole deployments to a machine over ssh; one is cut off again and again, and resumed by the same command."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgeattn import host, report

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PROXY = Path(__file__).with_name("stalling_proxy.py")
TINY: dict[str, Any] = {
    "task": "classify",
    "model": {"name": "attention_cnn", "stages": [8, 16], "blocks": 1, "heads": 2},
    "input": {"height": 32, "width": 32},
    "data": {"format": "scenes", "size": 32, "train": 400, "evaluation": 120, "calibration": 60},
    "train": {"epochs": 2, "batch_size": 64, "optimizer": "adamw", "learning_rate": 0.003, "precision": "fp32"},
    "quantize": {"candidates": ["minmax"], "search_samples": 20},
    "variants": ["fp32", "int8"],
    "measure": {"latency_seconds": 0.05, "threads": 1},
}


class Running:
    """A command that has not ended yet, and what it has said."""

    def __init__(self, command: list[str], folder: Path, env: dict[str, str]) -> None:
        self._out, self._err = folder / "said.out", folder / "said.err"
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(command, cwd=folder, env=env, stdout=out, stderr=err)

    @property
    def err(self) -> str:
        return self._err.read_text()

    def end(self) -> tuple[int, str, str]:
        try:
            code = self.process.wait(900)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        assert "Traceback" not in self.err, self.err
        return code, self._out.read_text(), self.err


class Tool:
    """`edgeattn` in a folder, as a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))

    def start(self, *words: str) -> Running:
        own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "EDGEATTN_CACHE": str(self.folder / "cache")}
        # What was started in the background may be deaf to Ctrl-C, which a test is to give it.
        program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
        command = [sys.executable, "-c", f"{program}; from edgeattn.cli import main; main()", *words]
        return Running(command, self.folder, {**os.environ, **own})

    def __call__(self, *words: str) -> tuple[int, str, str]:
        return self.start(*words).end()

    def report(self, out: str = "out") -> dict[str, Any]:
        values = json.loads((self.folder / out / "report.json").read_text())
        report.validate(values)
        return values


def rows(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{row['stage']}/{row['variant']}": row for row in values["rows"]}


def hashes(values: dict[str, Any]) -> dict[str, str]:
    """Of every artifact, and of the bundle as a file."""
    found = {name: row["artifact"]["sha256"] for name, row in rows(values).items()}
    return {**found, "bundle": values["bundle"]["sha256"]}


def deploy(box, *more: str, out: str = "out") -> list[str]:
    return ["deploy", "tiny.yaml", "--store", "store", "--out", out, *box.arguments(*more)]


@pytest.fixture(scope="module")
def local(box, tmp_path_factory) -> Path:
    """A store in which the stages up to quantize are done."""
    folder = tmp_path_factory.mktemp("local")
    code, _, err = Tool(folder)("quantize", "tiny.yaml", "--store", "store", "--out", "quantized")
    assert code == 0, err
    return folder


@pytest.fixture(scope="module")
def deployed(box, local, tmp_path_factory):
    """A deployment that nothing disturbed, on a machine that had nothing of ours: the tool, and how it ended."""
    shutil.rmtree(box.root, ignore_errors=True)
    folder = tmp_path_factory.mktemp("deployed")
    shutil.copytree(local / "store", folder / "store")
    tool = Tool(folder)
    return tool, tool(*deploy(box))


def test_a_whole_deployment(box, deployed):
    tool, (code, out, err) = deployed
    assert code == 0, err
    values = tool.report()
    found = rows(values)
    assert {name: row["status"] for name, row in found.items() if row["stage"] in ("compile", "bundle")} == {
        "compile/fp32": "ok",
        "compile/int8": "ok",
        f"bundle/{values['selected']['variant']}": "ok",
    }
    device = values["host"]["device"]
    assert device["address"] == box.address and device["cpu"] == host.cpu_model()
    assert "torch" not in device["packages"] and "torch" in values["host"]["packages"]
    assert f"--host {box.address}" in values["command"]
    assert f"PASSED  {' '.join(values['verdict']['reasons'])}"[:60] in out.replace("\n", " ")
    for name in ("compile/fp32", "compile/int8", f"bundle/{values['selected']['variant']}"):
        row = found[name]
        assert row["metric"]["n"] == 120 and row["drift"]["reference"] == "train/fp32" and row["emulated"] is False
        assert row["latency"]["p50_ms"] > 0 and row["memory"]["peak_rss_mb"] > 10
        # PyTorch does not run there, so nothing there is compared with it in time.
        assert row["latency"]["ratio_to_reference"] is None and row["latency"]["ratio_ci95"] is None
        assert row["latency"]["device_ratio"]["reference"].startswith("compile/")
        assert any(note.startswith(f"compiled and measured on {box.address} (") for note in row["notes"])
    assert found["compile/fp32"]["drift"]["sqnr_db"] > 80
    assert found["compile/int8"]["latency"]["parent"]["variant"] == "fp32"
    assert "is not worth it against fp32" in values["selected"]["why"] or "int8 is faster" in values["selected"]["why"]
    for text in ("report.md", "report.html"):
        assert box.address in (tool.folder / "out" / text).read_text()
    for step in ("compiling the fp32 engine", "checking the accuracy of compile/fp32", "self-test of the bundle"):
        assert f"{step}, on {box.address}" in err


def test_the_far_side_keeps_what_is_whole_and_nothing_else(box, deployed):
    assert sorted(path.name for path in box.root.iterdir()) == ["files", "lock", "packages", "steps", "work"]
    assert list((box.root / "work").iterdir()) == []
    assert [name for name in box.records() if name.startswith("build")] == ["build", "build+"]
    assert not [path for path in (box.root / "files").iterdir() if path.name.startswith(".")]
    assert box.processes() == []


def test_a_second_time_everything_is_there(box, deployed):
    """In the store here nothing runs there but a question; without it, records there are enough."""
    tool, _ = deployed
    before = tool.report()
    code, _, err = tool(*deploy(box, out="second"))
    assert code == 0, err
    assert {row["status"] for row in tool.report("second")["rows"]} == {"cached"}
    assert f", on {box.address}" not in err
    for stage in ("compile", "check", "bundle"):
        for path in (tool.folder / "store/artifacts" / stage).iterdir():
            if stage != "check" or "run_by" in (path / "manifest.json").read_text():
                shutil.rmtree(path)
    records = {name: path.stat().st_ino for name, path in box.records().items() if name != "self_test"}
    code, _, err = tool(*deploy(box, out="third"))
    assert code == 0, err
    assert f"self-test of the bundle, on {box.address}" in err
    assert err.count(f", on {box.address}") == 1
    assert {n: p.stat().st_ino for n, p in box.records().items() if n != "self_test"} == records
    assert hashes(tool.report("third")) == hashes(before)
    measured = [(name, row["latency"]) for name, row in rows(before).items() if row["stage"] == "compile"]
    assert measured == [(n, r["latency"]) for n, r in rows(tool.report("third")).items() if r["stage"] == "compile"]


def test_cut_off_and_resumed(box, deployed, local, tmp_path, wait):
    """Killed while an engine is built, then while frames are copied: each time the same command goes on."""
    undisturbed = deployed[0].report()
    shutil.rmtree(box.root)
    shutil.copytree(local / "store", tmp_path / "store")
    tool, hold, armed = Tool(tmp_path), box.home / "hold", tmp_path / "armed"

    # The near side itself is killed while the second engine is built: what runs there must not stay.
    hold.write_text(" int8 ")
    running = tool.start(*deploy(box))
    wait(lambda: (box.home / "hold.reached").exists() or running.process.poll() is not None, 900)
    assert running.process.poll() is None, running.err
    assert box.processes()
    running.process.kill()
    running.process.wait()
    wait(lambda: not box.processes())
    (box.home / "hold.reached").unlink()

    # Ctrl-C at the same place: `ssh` is in a session of its own, and hears nothing of it.
    running = tool.start(*deploy(box))
    wait(lambda: (box.home / "hold.reached").exists() or running.process.poll() is not None, 900)
    running.process.send_signal(signal.SIGINT)
    assert running.end()[0] == 130
    wait(lambda: not box.processes())
    (box.home / "hold.reached").unlink()

    # The connection is killed at the same place; the engine that was begun is half there.
    running = tool.start(*deploy(box))
    wait(lambda: (box.home / "hold.reached").exists() or running.process.poll() is not None, 900)
    assert "compiling the fp32 engine" not in running.err, "the first engine was whole"
    (work,) = (box.root / "work").iterdir()
    (work / "out/engine.blob").write_bytes(b"half an engine")
    (work / "out/engine.json").write_text("{}")
    box.cut()
    code, _, err = running.end()
    assert code == 3
    (sentence,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert sentence.startswith(f"error: The connection to {box.address} was lost")
    assert "compiling the int8 engine" in sentence and "run the same command again" in sentence
    wait(lambda: not box.processes())
    hold.unlink()
    assert list(box.records()) == ["build"]

    # Gone from the store here, the first engine is fetched from there again, not built. Then the frames are cut off.
    for path in (tmp_path / "store/artifacts/compile").iterdir():
        shutil.rmtree(path)
    before = box.files()
    armed.touch()
    proxy = f"ProxyCommand={sys.executable} {PROXY} %h %p 200000 {armed}"
    running = tool.start(*deploy(box, proxy))
    wait(lambda: Path(f"{armed}.reached").exists() or running.process.poll() is not None, 900)
    wait(lambda: any(path.name.startswith(".") for path in (box.root / "files").iterdir()))
    box.cut()
    code, _, err = running.end()
    assert code == 3 and "while files were sent" in err, err
    assert "compiling the fp32 engine" not in err and "compiling the int8 engine" in err
    armed.unlink()
    wait(lambda: not box.processes())
    assert before.items() <= box.files().items(), "what was whole was sent or built again"
    assert list(box.records()) == ["build", "build+"]

    before, built = box.files(), {n: p.stat().st_ino for n, p in box.records().items()}
    code, _, err = tool(*deploy(box, proxy))
    assert code == 0, err
    assert "compiling the" not in err
    assert before.items() <= box.files().items()
    assert built.items() <= {n: p.stat().st_ino for n, p in box.records().items()}.items()
    assert not [path for path in (box.root / "files").iterdir() if path.name.startswith(".")]
    found = tool.report()
    engines = ("compile/fp32", "compile/int8")
    assert {n: hashes(found)[n] for n in engines} == {n: hashes(undisturbed)[n] for n in engines}
    if found["selected"]["variant"] == undisturbed["selected"]["variant"]:
        assert hashes(found) == hashes(undisturbed)
    for name in engines:
        assert rows(found)[name]["metric"] == rows(undisturbed)[name]["metric"]
        assert rows(found)[name]["drift"] == rows(undisturbed)[name]["drift"]


def test_a_machine_that_cannot_be_used_is_found_before_anything_is_made(box, tmp_path):
    tool = Tool(tmp_path)
    changed = [f"UserKnownHostsFile={box.folder}/nobody_known"]
    words = ["deploy", "tiny.yaml", "--store", "store", "--out", "out", *box.arguments()]
    at = words.index(f"UserKnownHostsFile={box.folder}/known_hosts")
    code, out, err = tool(*words[:at], *changed, *words[at + 1 :])
    assert (code, out) == (3, "")
    assert err.splitlines()[-1].startswith(f"error: The host key of {box.address} is not known here")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["said.err", "said.out", "tiny.yaml"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "a b"], "'a b' is no host"),
        (["--host", ""], "'' is no host"),
        (["--ssh-option", "Port=1"], "name it with --host"),
        (["--host", "box", "--ssh-option", "StrictHostKeyChecking=no"], "host keys are always checked"),
    ],
)
def test_what_is_no_use_of_the_options(tmp_path, words, said):
    code, _, err = Tool(tmp_path)("deploy", "tiny.yaml", "--store", "store", *words)
    assert code == 2 and said in err
