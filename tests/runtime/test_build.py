"""`python -m edgeattn.runtime build`: on a stand-in that builds in no time, and on OpenVINO for this CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeattn
from edgeattn import backends
from edgeattn.backends.base import Compiled
from edgeattn.bundle.manifest import Manifest
from edgeattn.bundle.reader import open_bundle
from edgeattn.bundle.writer import write_bundle
from edgeattn.errors import BundleError, InputError, MachineError, MissingLibrary, NoEngine, StorageError
from edgeattn.runtime import __main__ as command
from edgeattn.runtime import build as module
from edgeattn.runtime.build import build
from edgeattn.runtime.build_report import BuildReport
from edgeattn.runtime.verify import verify

RED = np.full((30, 50, 3), (0, 10, 12), np.uint8)
KEPT = ["engine.bin", "engine.json", "model.onnx"]


@dataclass
class Builder:
    """Builds an engine that holds the `gain` of the day; engines of another `machine` do not fit.

    `interrupt` is raised in the middle of a build, `builds` are what was asked for.
    """

    make_runner: Any
    BUILT_HERE: str = "built-here"
    machine: str = "here"
    gain: float = 1.0
    interrupt: BaseException | None = None
    runners: list[Any] = field(default_factory=list)
    builds: list[dict[str, Any]] = field(default_factory=list)

    def precisions(self) -> list[str]:
        return ["fp32", "int8"]

    def check_options(self, options: Any) -> None:
        if "colour" in options:
            raise InputError("There is no colour.")

    def build_here(self, model: Path, out: Path, **asked: Any) -> Compiled:
        assert model.read_bytes() == b"onnx"
        self.builds.append(asked)
        asked["progress"](1, 2, "building: phase")
        out.mkdir(exist_ok=True)
        (out / "engine.bin").write_text(str(self.gain))
        if self.interrupt:
            raise self.interrupt
        layers = [
            {"name": "a + b", "kind": "conv", "precision": "int8", "nodes": ["a", "b"], "macs": 30},
            {"name": "c", "kind": "", "precision": "fp32", "nodes": ["c"], "macs": 10},
        ]
        described = {
            **{"fingerprint": {"machine": self.machine}, "precision": "int8", "notes": ["as told"]},
            **{
                "telemetry": {"throttled": True},
                "settings": dict(asked["options"]),
                "layers": {"int8": 1, "fp32": 1},
                "macs": {"int8": 30, "fp32": 10},
            },
            "executed": [{**layer, "tactic": str(len(self.builds))} for layer in layers],
        }
        (out / "engine.json").write_text(json.dumps(described))
        return Compiled({}, {}, {})

    def load(
        self, folder: Path, *, threads: int, build: bool = True, trusted: bool = False, progress: Any = None
    ) -> Any:
        reason = "none was compiled for it"
        for place in (folder / self.BUILT_HERE, folder):
            if not (place / "engine.json").exists():
                continue
            engine = json.loads((place / "engine.json").read_text())
            if engine.get("fingerprint", {}).get("machine") == self.machine:
                runner = self.make_runner(float((place / "engine.bin").read_text()))
                runner.engine_folder = place
                self.runners.append(runner)
                return runner
            reason = "it is of another machine"
        if not build:
            raise NoEngine(reason)
        raise AssertionError("nothing may be built by `load` in these tests")


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch, runner_class: Any) -> Builder:
    made = Builder(runner_class)
    monkeypatch.setattr(backends, "find", lambda name: made)
    return made


@pytest.fixture
def empty(make_bundle: Any, files: dict[str, Any], manifest: Manifest, tmp_path: Path) -> Path:
    """A bundle without an engine."""
    content = {name: files[name] for name in ("model.onnx", "golden.npz")}
    return write_bundle(tmp_path / "empty.edgeattn", replace(manifest, engine_dir=None), content)


@pytest.fixture
def full(files: dict[str, Any], manifest: Manifest, tmp_path: Path) -> Path:
    """A bundle with an engine of this machine."""
    described = json.dumps({"fingerprint": {"machine": "here"}, "settings": {}}).encode()
    content = {name: files[name] for name in ("model.onnx", "golden.npz")}
    content |= {"engine/engine.json": described, "engine/engine.bin": b"1.0"}
    return write_bundle(tmp_path / "full.edgeattn", manifest, content)


def folder_of(cache: Path, path: Path) -> Path:
    return cache / open_bundle(path).sha256[:32]


def names(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


# What is built, and where it is found afterwards.


def test_load_finds_what_was_built(empty: Path, builder: Builder, cache: Path) -> None:
    before = empty.read_bytes()
    with pytest.raises(BundleError, match="none was compiled for it"):
        edgeattn.load(empty, build=False)
    report = build(empty)
    assert (report.engine, report.passed, report.self_test.passed) == ("built", True, True)
    assert report.folder == folder_of(cache, empty) / "built-here"
    assert names(report.folder.parent) == [
        "built-here.lock", "built-here/engine.bin", "built-here/engine.json", "model.onnx",
    ]  # fmt: skip
    model = edgeattn.load(empty, build=False, self_test=True)
    assert str(model(RED)).startswith("red 88.1%")
    assert empty.read_bytes() == before
    assert all(runner.closed for runner in builder.runners[:-1])


def test_the_builder_is_told_what_was_asked(empty: Path, builder: Builder) -> None:
    told: list[Any] = []
    build(empty, threads=3, options={"workspace_mb": 5}, progress=lambda *said: told.append(said))
    asked = builder.builds[0]
    assert (asked["precision"], asked["threads"], asked["options"], asked["fresh"]) == (
        "fp32", 3, {"workspace_mb": 5}, False,
    )  # fmt: skip
    assert (1, 2, "building: phase") in told


def test_what_fits_is_kept(empty: Path, builder: Builder) -> None:
    build(empty, options={"optimization_level": 1})
    for options in ({}, {"optimization_level": 1}):
        report = build(empty, options=options)
        assert (report.engine, report.build_s) == ("kept", None)
    assert len(builder.builds) == 1


@pytest.mark.parametrize("why", ["forced", "options", "machine"])
def test_what_does_not_fit_is_built_again(empty: Path, builder: Builder, why: str) -> None:
    build(empty, options={"optimization_level": 1})
    builder.machine = "elsewhere" if why == "machine" else builder.machine
    options = {"optimization_level": 2} if why == "options" else {}
    assert build(empty, options=options, force=why == "forced").engine == "built"
    assert len(builder.builds) == 2
    edgeattn.load(empty, build=False)


def test_the_bundles_own_engine_is_kept_where_it_fits(full: Path, builder: Builder, cache: Path) -> None:
    report = build(full)
    assert (report.engine, report.folder) == ("kept", folder_of(cache, full))
    assert builder.builds == []
    assert report.size_bytes == sum(len(open_bundle(full).read(f"engine/{name}")) for name in KEPT[:2])


def test_what_is_built_goes_before_the_bundles_own(full: Path, builder: Builder, cache: Path) -> None:
    report = build(full, force=True)
    assert report.engine == "built"
    assert edgeattn.load(full, build=False).runner.engine_folder == report.folder  # type: ignore[attr-defined]
    assert (folder_of(cache, full) / "engine.bin").read_text() == "1.0"


# What fails its test, and what is interrupted.


def test_an_engine_that_fails_its_test_is_not_kept(empty: Path, builder: Builder, cache: Path) -> None:
    builder.gain = 2.0
    report = build(empty)
    assert (report.engine, report.passed, report.self_test.passed) == ("refused", False, False)
    assert names(folder_of(cache, empty)) == ["built-here.lock", "model.onnx"]
    with pytest.raises(BundleError):
        edgeattn.load(empty, build=False)


def test_a_good_engine_is_not_replaced_by_a_bad_one(empty: Path, builder: Builder) -> None:
    build(empty)
    builder.gain = 2.0
    assert build(empty, force=True).engine == "refused"
    assert edgeattn.load(empty, build=False).self_test().passed


def test_an_engine_that_no_longer_passes_is_built_anew(empty: Path, builder: Builder) -> None:
    report = build(empty)
    (report.folder / "engine.bin").write_text("7.0")
    assert build(empty).engine == "built"
    assert edgeattn.load(empty, build=False).self_test().passed
    (report.folder / "engine.bin").write_text("7.0")
    builder.gain = 2.0
    assert build(empty).engine == "refused"
    assert not report.folder.exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), StorageError("No space is left on the disk.")])
def test_an_interrupted_build_leaves_nothing(empty: Path, builder: Builder, cache: Path, error: BaseException) -> None:
    builder.interrupt = error
    with pytest.raises(type(error)):
        build(empty)
    assert names(folder_of(cache, empty)) == ["built-here.lock", "model.onnx"]
    builder.interrupt = None
    assert build(empty).engine == "built"


def test_an_interrupted_build_leaves_the_engine_that_was_there(empty: Path, builder: Builder) -> None:
    build(empty)
    builder.interrupt = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        build(empty, force=True)
    assert edgeattn.load(empty, build=False).self_test().passed


def test_what_a_killed_build_left_is_cleared_away(empty: Path, builder: Builder, cache: Path) -> None:
    edgeattn_folder = folder_of(cache, empty) / ".building"
    edgeattn_folder.mkdir(parents=True)
    (edgeattn_folder / "engine.json").write_text("half")
    (edgeattn_folder / "engine.old").write_text("of another build")
    report = build(empty)
    assert names(report.folder) == ["engine.bin", "engine.json"]
    assert not edgeattn_folder.exists()


def test_two_builds_at_once_are_one(empty: Path, builder: Builder) -> None:
    """The second waits, and finds what the first one made."""
    reports: list[BuildReport] = []
    threads = [threading.Thread(target=lambda: reports.append(build(empty))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(report.engine for report in reports) == ["built", "kept", "kept"]
    assert len(builder.builds) == 1


# What is refused.


def test_a_precision_that_the_machine_lacks(make_bundle: Any, builder: Builder, cache: Path) -> None:
    path = make_bundle(variant="bf16")
    with pytest.raises(MachineError) as caught:
        build(path)
    assert str(caught.value) == (
        f"The bundle {path} is bf16, which this machine does not execute natively (it has fp32, int8); use a bundle of "
        "one of those, or another machine."
    )
    assert not cache.exists()


def test_a_mixed_variant_is_of_its_narrowest_precision(
    manifest: Manifest, files: Any, builder: Builder, tmp_path: Path
) -> None:
    content = {name: files[name] for name in ("model.onnx", "golden.npz")}
    path = write_bundle(tmp_path / "m.edgeattn", replace(manifest, variant="int8-mixed", engine_dir=None), content)
    assert build(path).passed
    assert builder.builds[0]["precision"] == "int8"


def test_a_wrong_option_is_refused_even_where_nothing_is_built(full: Path, builder: Builder, cache: Path) -> None:
    with pytest.raises(InputError, match="no colour"):
        build(full, options={"colour": 1})
    with pytest.raises(InputError, match="1 or more, got 0"):
        build(full, threads=0)
    assert not cache.exists()


def test_a_backend_that_builds_nothing(bundle: Path, backend: Any) -> None:
    with pytest.raises(InputError, match=r"runs on openvino, which opens the graph as it is; there is no engine"):
        build(bundle)
    edgeattn.load(bundle, build=False)  # and so nothing has to be built


def test_an_engine_that_cannot_be_kept(
    empty: Path, builder: Builder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGEATTN_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match=r"Engines cannot be kept in .*file: .* Name another folder with EDGEATTN_C"):
        build(empty)
    monkeypatch.delenv("EDGEATTN_CACHE")
    monkeypatch.setattr("edgeattn.host.cache_folder", lambda: None)
    with pytest.raises(StorageError, match="no home folder"):
        build(empty)
    assert builder.builds == []


def test_an_altered_bundle_never_reaches_the_builder(empty: Path, builder: Builder) -> None:
    empty.write_bytes(empty.read_bytes().replace(b"onnx", b"anna"))
    with pytest.raises(BundleError):
        build(empty)
    assert builder.builds == []


# Twice.


def test_two_engines_are_compared(
    empty: Path, builder: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    told: list[str] = []
    report = build(empty, twice=True, progress=lambda done, total, text: told.append(text))
    spread = report.spread
    assert spread is not None
    assert [asked["fresh"] for asked in builder.builds] == [False, True]
    assert (spread.identical, spread.layers_differing) == (True, 4)  # two layers of other tactics in each
    assert spread.outputs["logits"].max_abs == 0
    assert spread.latency_ratio_ci95[0] <= spread.latency_ratio <= spread.latency_ratio_ci95[1]
    values = report.to_dict()["spread"]
    assert (values["outputs"]["logits"], values["rounds"]) == ({"sqnr_db": None, "max_abs": 0.0}, 20)
    assert "a second time: building: phase" in told
    assert not list(tmp_path.glob("edgeattn-*"))
    assert all(runner.closed for runner in builder.runners)
    assert edgeattn.load(empty, build=False).runner.engine_folder == report.folder  # type: ignore[attr-defined]


def test_two_engines_that_differ(full: Path, builder: Builder) -> None:
    """The second gives 1 % more everywhere: 40 dB. The first is the bundle's own, which fits."""
    builder.gain = 1.01
    report = build(full, twice=True)
    assert report.engine == "kept" and report.spread is not None
    assert report.spread.outputs["logits"].sqnr_db == pytest.approx(40, abs=0.1)
    assert not report.spread.identical
    assert any("differs by 40.0 dB SQNR, at most 2" in line for line in report.lines())


def test_what_fails_its_test_is_not_compared(empty: Path, builder: Builder) -> None:
    builder.gain = 3.0
    assert build(empty, twice=True).spread is None


# What is said.


def test_lines_for_a_person(empty: Path, builder: Builder) -> None:
    report = build(empty)
    lines = report.lines()
    assert lines[0] == f"bundle: {empty}, classify, fp32 for cpu"
    assert lines[1].startswith("engine: openvino, built here in 0.") and lines[1].endswith("MB")
    assert f"kept in {report.folder}" in lines[1]
    assert lines[2:8] == [
        "built for: machine here",
        "precision: layers 1 int8, 1 fp32; multiply-adds 75 % int8, 25 % fp32",
        "fused: 2 nodes of the graph run in 1 of 2 layers",
        "  int8    conv: a + b",
        "  fp32    layer: c",
        "note: as told",
    ]
    assert lines[8] == "self-test: passed on 2 golden samples"


def test_values_for_a_program(empty: Path, builder: Builder) -> None:
    report = build(empty, options={"workspace_mb": 9})
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert (values["schema"], values["engine"], values["passed"]) == ("edgeattn.build/1", "built", True)
    assert values["fingerprint"] == {"machine": "here"}
    assert values["settings"] == {"workspace_mb": 9}
    assert [layer["nodes"] for layer in values["executed"]] == [["a", "b"], ["c"]]
    assert values["build_s"] >= 0 and values["size_bytes"] > 0
    assert (values["device"], values["spread"]) == (None, None)
    assert values["self_test"]["outputs"]["logits"]["passed"] is True
    builder.gain = 2.0
    values = build(empty, force=True).to_dict()
    assert (values["engine"], values["folder"], values["passed"]) == ("refused", None, False)


def test_a_long_list_is_cut(empty: Path, builder: Builder) -> None:
    report = build(empty)
    layer = {"name": "n", "kind": "conv", "precision": "int8", "nodes": list("abcdef"), "macs": 1, "device": "dla"}
    many = replace(report, description={**report.description, "executed": [layer] * 45})
    lines = many.lines()
    assert "  int8    conv on the DLA: a + b + c + d + 2 more" in lines
    assert "  ... and 5 more (--json lists all)" in lines
    assert any(line.startswith("precision: layers unknown") for line in replace(report, description={}).lines())


def test_a_board_is_described_beside_its_engine(empty: Path, builder: Builder, tmp_path: Path) -> None:
    root = tmp_path / "board"
    for name, content in {
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 1",
        "sys/devices/system/cpu/cpufreq/policy0/scaling_min_freq": "729600",
        "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": "1510400",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    report = build(empty, root=root)
    assert "JetPack 6.2 (L4T 36.4.3), power mode unknown, clocks free" in "\n".join(report.lines())
    assert report.to_dict()["telemetry"] == {"throttled": True}, "the backend watched, and wrote it down"
    kept = build(empty, root=root)
    assert (kept.notes, kept.to_dict()["telemetry"]) == (["as told"], None)
    assert [job["fresh"] for job in builder.builds] == [False]
    build(empty, root=root, force=True)
    assert builder.builds[-1]["fresh"], "what was timed before may be what --force is to cure"


# The command.


def test_the_command(empty: Path, builder: Builder, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["build", str(empty)]) == 0
    shown = capsys.readouterr()
    assert "self-test: passed" in shown.out
    assert shown.err.startswith("building: phase, 50%, 0:00\n")
    arguments = ["--json", "--force", "--twice", "--threads", "2", "--workspace-mb", "64", "--dla", "1"]
    arguments += ["--version-compatible", "--refittable", "--optimization-level", "5"]
    assert command.main(["build", str(empty), *arguments]) == 0
    values = json.loads(capsys.readouterr().out)
    switches = {"version_compatible": True, "refittable": True}
    assert values["settings"] == {"workspace_mb": 64, "dla_core": 1, "optimization_level": 5, **switches}
    assert values["spread"]["identical"] is True
    builder.gain = 2.0
    assert command.main(["build", str(empty), "--force"]) == 1
    assert "NOT kept: its self-test failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (MissingLibrary("TensorRT cannot be used."), 3, "edgeattn: TensorRT cannot be used.\n"),
        (MachineError("There is no DLA core 0 here."), 3, "edgeattn: There is no DLA core 0 here.\n"),
        (KeyboardInterrupt(), 130, "edgeattn: interrupted.\n"),
    ],
)
def test_codes_of_the_command(
    empty: Path, builder: Builder, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, says: str
) -> None:
    builder.interrupt = error
    assert command.main(["build", str(empty)]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith(says)


# For real, on this CPU.


@pytest.fixture
def stale(onnx_bundle: Path, make_bundle: Any, unusable_engine: bytes) -> Path:
    """A bundle whose engine was compiled for another machine."""
    return make_bundle(
        {"model.onnx": open_bundle(onnx_bundle).read("model.onnx"), "engine/engine.json": unusable_engine}
    )


def test_openvino_builds_what_load_uses(onnx_bundle: Path, cache: Path) -> None:
    with pytest.raises(BundleError) as caught:
        edgeattn.load(onnx_bundle, build=False)
    assert str(caught.value) == (
        f"The bundle {onnx_bundle} has no engine for this machine (none was compiled for it), and none may be built "
        f"(build=False); build it, once, with: python -m edgeattn.runtime build {onnx_bundle}."
    )
    assert edgeattn.load(onnx_bundle, threads=1)(RED).labels[0] == "blue"  # by default it may be built
    report = build(onnx_bundle, threads=1, twice=True)
    assert (report.engine, report.description["asked_precision"]) == ("built", "fp32")
    assert report.spread is not None and report.spread.identical
    assert names(report.folder) == ["engine.blob", "engine.json"]
    with edgeattn.load(onnx_bundle, threads=1, build=False, self_test=True) as model:
        result: Any = model(RED)
        assert result.class_id.tolist() == [2, 1, 0]
    assert verify(onnx_bundle).engine == "built here"
    assert build(onnx_bundle).engine == "kept"
    blob = report.folder / "engine.blob"
    blob.write_bytes(blob.read_bytes()[:-9])
    with pytest.raises(BundleError, match=r"compiled here does not fit: engine\.blob is truncated or was altered"):
        edgeattn.load(onnx_bundle, build=False)
    assert edgeattn.load(onnx_bundle, threads=1).runner.engine_folder is None  # type: ignore[attr-defined]
    assert build(onnx_bundle).engine == "built"


def test_openvino_builds_in_the_place_of_another_machines_engine(stale: Path) -> None:
    with pytest.raises(BundleError, match=r"cpu is '.*', the engine was compiled for 'another'.*build=False"):
        edgeattn.load(stale, build=False)
    assert "compiled for 'another'" in edgeattn.load(stale, threads=1).runner.rebuilt  # type: ignore[attr-defined]
    build(stale, threads=1)
    with edgeattn.load(stale, threads=1, build=False) as model:
        assert "compiled for 'another'" in model.runner.rebuilt  # type: ignore[attr-defined]
        assert model.self_test().passed
    assert verify(stale).engine == "rebuilt"


def test_openvino_has_none_of_tensorrts_options(onnx_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["build", str(onnx_bundle), "--dla", "0"]) == 2
    assert "OpenVINO has no dla_core" in capsys.readouterr().err


PROGRAM = """
import os, sys
from pathlib import Path
from edgeattn.backends import openvino
real = openvino.compile
def compile(model, out, **asked):
    made = real(model, out, **asked)
    print("in the middle", flush=True)
    if sys.argv[1] == "kill":
        os.kill(os.getpid(), 9)
    import time; time.sleep(60)
openvino.compile = compile
from edgeattn.runtime.__main__ import main
sys.exit(main(["build", sys.argv[2]]))
"""


@pytest.mark.parametrize(("how", "code"), [("kill", -signal.SIGKILL), ("interrupt", 130)])
def test_a_process_that_ends_in_the_middle(onnx_bundle: Path, cache: Path, how: str, code: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, how, str(onnx_bundle)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout and process.stderr
        assert process.stdout.readline() == "in the middle\n"
        if how == "interrupt":
            process.send_signal(signal.SIGINT)
        error = process.stderr.read()
    assert process.returncode == code, error
    assert not (folder_of(cache, onnx_bundle) / "built-here").exists()
    assert "Traceback" not in error
    if how == "interrupt":
        assert names(folder_of(cache, onnx_bundle)) == ["built-here.lock", "model.onnx"]
    with pytest.raises(BundleError):
        edgeattn.load(onnx_bundle, build=False)
    assert build(onnx_bundle, threads=1).engine == "built"
    assert not (folder_of(cache, onnx_bundle) / ".building").exists()


def test_the_command_loads_nothing_a_device_lacks(onnx_bundle: Path) -> None:
    program = (
        "import sys\nfrom edgeattn.runtime.__main__ import main\n"
        "code = main(['build', sys.argv[1]])\n"
        "heavy = ('torch', 'onnx', 'onnxruntime', 'nncf', 'pydantic', 'click', 'yaml', 'filelock', 'rich', 'scipy')\n"
        "print(code, *[name for name in heavy if sys.modules.get(name)])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(onnx_bundle)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "0"


def test_the_description_must_be_readable(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"engine\.json cannot be read as a description of an engine; build it again"):
        module.read_description(tmp_path)


def test_load_tells_of_what_it_builds(onnx_bundle: Path) -> None:
    heard: list[str] = []
    edgeattn.load(onnx_bundle, threads=1, progress=lambda done, total, text: heard.append(text))
    assert heard and heard[0].startswith("compiling model.onnx with OpenVINO 20")
