"""Bundles on a device with TensorRT: built there, found again, refused or built anew; through every version's stand-in.

They prove which calls are made and what becomes of the files. No engine was built, nothing ran on a GPU.
"""

import json
import os
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgeattn
from edgeattn.backends import _tensorrt_build, _tensorrt_progress
from edgeattn.backends import tensorrt as backend
from edgeattn.backends.tensorrt import BuildSettings
from edgeattn.bundle.golden import make_golden
from edgeattn.bundle.manifest import Manifest, Tensor
from edgeattn.bundle.reader import open_bundle
from edgeattn.bundle.writer import write_bundle
from edgeattn.errors import BundleError, InputError
from edgeattn.imaging import Preprocess
from edgeattn.runtime import __main__ as command
from edgeattn.runtime.build import build
from edgeattn.runtime.verify import verify

fake, world_of = sys.modules["trt_fake"], sys.modules["trt_world"]
Gpu = sys.modules["cudart_fake"].Gpu

INT8 = ("Thirty-two wide channel vectorized row major", "Int8")
HALF = ("Channel major", "FP16")
CONV = world_of.LayerOfNet(
    "CONVOLUTION", "conv1", ((1, 4, 10, 10),), (1, 6, 10, 10), {"kernel_size_nd": (3, 3), "num_groups": 2}
)


def means(frame):
    return {"logits": frame.astype(np.float32).mean(axis=(1, 2))}


MEANS = world_of.Net(
    {"frame": ("uint8", (1, 8, 8, 3))},
    {"logits": ("float32", (1, 3))},
    lambda given: means(given["frame"]),
    layers=(CONV,),
    engine_layers=(
        {
            **{"Name": "conv1 + relu1", "LayerType": "CaskConvolution", "TacticName": "i8i8", "Inputs": [INT8]},
            **{"Outputs": [INT8], "Metadata": "[ONNX Layer: conv1]\x1e[ONNX Layer: relu1]"},
        },
        {
            **{"Name": "__myl_SoftMax", "LayerType": "kgen", "Inputs": [HALF], "Outputs": [HALF]},
            "Metadata": "[ONNX Layer: softmax]",
        },
    ),
)
RED = np.full((30, 50, 3), (0, 10, 12), np.uint8)


def nets(path):
    return MEANS if path.read_text() == "means" else None


class Reference:
    def infer(self, inputs):
        return means(inputs["frame"])


def write(path, files=None, sign_key=None, **changes):
    """The bundle of a network that gives the mean of each colour; by default it must be built on the device."""
    frames = [np.full((1, 8, 8, 3), (10, 20, 200), np.uint8), np.full((1, 8, 8, 3), (90, 20, 0), np.uint8)]
    manifest = Manifest(
        task="classify",
        labels=("blue", "green", "red"),
        inputs=(Tensor("frame", (1, 8, 8, 3), "uint8", "bgr", (0.0, 255.0)),),
        outputs=(Tensor("logits", (1, 3), "float32"),),
        preprocess=Preprocess(8, 8, "stretch"),
        variant="int8",
        target="jetson-orin-nano",
        backend="tensorrt",
    )
    golden = make_golden(Reference(), [{"frame": frame} for frame in frames])
    content = {"model.onnx": b"means", "golden.npz": golden, **(files or {})}
    return write_bundle(path, replace(manifest, **changes), content, sign_key=sign_key)


@pytest.fixture(params=fake.VERSIONS)
def world(request, install_world):
    return install_world(request.param, nets)


@pytest.fixture
def one(install_world):
    return install_world("10.3.0", nets)


@pytest.fixture
def bundle(tmp_path):
    return write(tmp_path / "means.edgeattn")


def folder_of(tmp_path, path):
    return tmp_path / "cache" / open_bundle(path).sha256[:32]


def names(folder):
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def carried(install_world, tmp_path, version="10.3.0", gpu=None, **settings):
    """A bundle with an engine that was built by `version` on `gpu`; nothing of that machine is left."""
    install_world(version, nets, gpu)
    (tmp_path / "made").mkdir()
    model = tmp_path / "made" / "model.onnx"
    model.write_text("means")
    backend.build(model, tmp_path / "made", BuildSettings(**settings))
    files = {f"engine/{name}": (tmp_path / "made" / name).read_bytes() for name in ("engine.plan", "engine.json")}
    return write(tmp_path / "carried.edgeattn", files, engine_dir="engine")


# Built by the command.


def test_what_is_built_is_what_load_uses(world, bundle, tmp_path):
    before, told = bundle.read_bytes(), []
    report = build(bundle, progress=lambda *said: told.append(said))
    assert (report.engine, report.passed) == ("built", True)
    assert names(folder_of(tmp_path, bundle)) == [
        "built-here.lock", "built-here/engine.json", "built-here/engine.plan", "model.onnx",
    ]  # fmt: skip
    with edgeattn.load(bundle, build=False, self_test=True) as model:
        assert str(model(RED)).startswith("red 88.1%")
        assert model.runner.rebuilt is None
    assert len(world.configs) == 1  # `load` built nothing
    assert any(text.startswith("building model.onnx with TensorRT") for _, _, text in told)
    assert bundle.read_bytes() == before
    assert world.cuda.leaks() == []


def test_the_summary_says_what_runs(world, bundle):
    report = build(bundle)
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert values["fingerprint"]["tensorrt"] == world.trt.__version__
    assert (values["layers"], values["macs"], values["precision"]) == ({"fp16": 1, "int8": 1}, {"int8": 10800}, "int8")
    assert [(layer["precision"], layer["nodes"]) for layer in values["executed"]] == [
        ("int8", ["conv1", "relu1"]),
        ("fp16", ["softmax"]),
    ]
    lines = report.lines()
    assert "fused: 2 nodes of the graph run in 1 of 2 layers" in lines
    assert "  int8    CaskConvolution 0.250 ms: conv1 + relu1" in lines
    assert list(values["layer_ms"].values()) == [0.25, 0.5]
    assert "precision: layers 1 fp16, 1 int8; multiply-adds 100 % int8" in lines


def test_options_reach_the_builder(world, bundle):
    world.dla_cores = 2
    report = build(bundle, options={"optimization_level": 5, "workspace_mb": 64, "dla_core": 1})
    config = world.configs[0]
    assert (config["builder_optimization_level"], config["pools"], config["DLA_core"]) == (
        5, {"WORKSPACE": 64 << 20}, 1,
    )  # fmt: skip
    assert report.notes[0].startswith("The DLA runs 0 of 2 layers")
    assert build(bundle).engine == "kept"  # whatever it was built with
    assert build(bundle, options={"optimization_level": 5}).engine == "kept"
    assert build(bundle, options={"optimization_level": 3}).engine == "built"
    with pytest.raises(InputError, match="optimization_level must be 0 to 5, got 9"):
        build(bundle, options={"optimization_level": 9})


def test_the_second_build_has_the_options_of_the_first(world, bundle):
    """Else a difference of settings would be called the spread of two equal builds."""
    build(bundle, options={"optimization_level": 5})
    assert build(bundle, twice=True).engine == "kept"
    assert [config["builder_optimization_level"] for config in world.configs] == [5, 5]


def test_two_builds_are_compared_and_the_second_measures_for_itself(world, bundle, monkeypatch, tmp_path):
    used = []

    class Recorded(_tensorrt_build.TimingCache):
        def __init__(self, path, config):
            used.append(path)
            super().__init__(path, config)

    monkeypatch.setattr(_tensorrt_build, "TimingCache", Recorded)
    report = build(bundle, twice=True)
    assert len(world.configs) == 2
    assert used == [backend.timing_cache()]
    spread = report.spread
    assert (spread.identical, spread.layers_differing) == (False, 0)  # the stand-in numbers its plans
    assert spread.outputs["logits"].max_abs == 0
    assert names(folder_of(tmp_path, bundle))[1:] == ["built-here/engine.json", "built-here/engine.plan", "model.onnx"]


# By load.


def test_load_builds_only_if_it_may(world, bundle, tmp_path):
    with pytest.raises(BundleError) as caught:
        edgeattn.load(bundle, build=False)
    assert str(caught.value) == (
        f"The bundle {bundle} has no engine for this machine (none was compiled for it), and none may be built "
        f"(build=False); build it, once, with: python -m edgeattn.runtime build {bundle}."
    )
    assert world.configs == []
    edgeattn.load(bundle, self_test=True).close()
    edgeattn.load(bundle, build=False).close()
    assert build(bundle).engine == "kept"
    assert len(world.configs) == 1


MISFITS = [
    ({"gpu": Gpu(name="Xavier")}, "gpu is 'Orin', the engine was built for 'Xavier'"),
    ({"version": "10.7.0"}, "the plan was built by TensorRT 10.7.0, here is 10.3.0"),
]


@pytest.mark.parametrize(("made", "says"), MISFITS)
def test_an_engine_of_another_machine_is_refused_or_built_again(install_world, tmp_path, made, says):
    bundle = carried(install_world, tmp_path, **made, optimization_level=1)
    world = install_world("10.3.0", nets)
    with pytest.raises(BundleError) as caught:
        edgeattn.load(bundle, build=False)
    assert f"has no engine for this machine ({says}" in str(caught.value)
    assert "(build=False)" in str(caught.value)
    assert world.events == []  # the library has not seen the plan
    with edgeattn.load(bundle) as model:
        assert says in model.runner.rebuilt
        assert str(model(RED)).startswith("red 88.1%")
    assert [config["builder_optimization_level"] for config in world.configs] == [1]  # as it was built
    with edgeattn.load(bundle, build=False) as model:
        assert says in model.runner.rebuilt
    assert verify(bundle).engine == "rebuilt"
    assert len(world.configs) == 1


def test_an_engine_that_is_no_plan_is_never_opened(install_world, tmp_path):
    bundle = carried(install_world, tmp_path)
    described = open_bundle(bundle).read("engine/engine.json")
    bundle = write(
        tmp_path / "no.edgeattn",
        {"engine/engine.json": described, "engine/engine.plan": b"\x7fELF" * 20},
        engine_dir="engine",
    )
    world = install_world("10.3.0", nets)
    with pytest.raises(BundleError, match="the plan is none of TensorRT's"):
        edgeattn.load(bundle, build=False)
    assert world.events == []


def test_an_engine_that_tensorrt_refuses_is_built_and_again_on_request(install_world, tmp_path):
    bundle = carried(install_world, tmp_path)
    world = install_world("10.3.0", nets)  # header and fingerprint fit, but this world does not know the other's plans
    with pytest.raises(BundleError, match=r"TensorRT 10\.3\.0 cannot open the engine"):
        edgeattn.load(bundle, build=False)
    assert build(bundle).engine == "built"
    report = build(bundle, force=True, options={"optimization_level": 4})
    assert report.folder.name == "built-here"
    with edgeattn.load(bundle, build=False) as model:
        assert model.runner.engine_folder == report.folder
        assert model.runner.rebuilt == "an engine was built here in its place"
    assert [config["builder_optimization_level"] for config in world.configs] == [3, 4]


def test_the_bundles_own_engine_fits(one, tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    (made / "model.onnx").write_text("means")
    backend.build(made / "model.onnx", made, BuildSettings())
    files = {f"engine/{name}": (made / name).read_bytes() for name in ("engine.plan", "engine.json")}
    bundle = write(tmp_path / "own.edgeattn", files, engine_dir="engine")
    assert build(bundle).engine == "kept"
    edgeattn.load(bundle, build=False).close()
    assert verify(bundle).engine == "compiled"
    assert len(one.configs) == 1


@pytest.mark.parametrize("signed", [False, True])
def test_code_in_a_bundles_engine_needs_the_signers_key(one, tmp_path, signed):
    made, keys = tmp_path / "made", {}
    if signed:
        serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        secret, plain = Ed25519PrivateKey.generate(), serialization.NoEncryption()
        pem, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        keys = {"secret": tmp_path / "secret.pem", "public": tmp_path / "public.pem"}
        keys["secret"].write_bytes(secret.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
        keys["public"].write_bytes(secret.public_key().public_bytes(pem, form))
    made.mkdir()
    (made / "model.onnx").write_text("means")
    backend.build(made / "model.onnx", made, BuildSettings(version_compatible=True))
    files = {f"engine/{name}": (made / name).read_bytes() for name in ("engine.plan", "engine.json")}
    bundle = write(tmp_path / "own.edgeattn", files, engine_dir="engine", sign_key=keys.get("secret"))
    one.events.clear()
    with pytest.raises(BundleError, match=r"it may hold code for the CPU.*\(build=False\)"):
        edgeattn.load(bundle, build=False)
    assert one.events == []
    if signed:
        edgeattn.load(bundle, build=False, key=keys["public"]).close()
        assert build(bundle, keys["public"]).engine == "kept"
    assert build(bundle, options={"version_compatible": True}).engine == "built"
    assert build(bundle, options={"version_compatible": True}).engine == "kept"  # what was built here is trusted
    edgeattn.load(bundle, build=False).close()


def test_what_was_built_here_for_older_software_is_built_again(install_world, bundle):
    install_world("10.3.0", nets)
    build(bundle)
    world = install_world("10.7.0", nets)
    with pytest.raises(BundleError, match=r"does not fit: the plan was built by TensorRT 10\.3\.0, here is 10\.7\.0"):
        edgeattn.load(bundle, build=False)
    assert world.events == []
    assert build(bundle).engine == "built"
    edgeattn.load(bundle, build=False).close()
    assert len(world.configs) == 1


def test_an_engine_built_here_that_was_altered(one, bundle):
    folder = build(bundle).folder
    plan = folder / "engine.plan"
    plan.write_bytes(plan.read_bytes() + b"x")
    with pytest.raises(BundleError, match=r"built here does not fit: engine\.plan is truncated or was altered"):
        edgeattn.load(bundle, build=False)
    assert build(bundle).engine == "built"
    assert len(one.configs) == 2


def test_an_engine_built_here_of_another_model(one, bundle):
    described = build(bundle).folder / "engine.json"
    described.write_text(json.dumps({**json.loads(described.read_text()), "onnx_sha256": "0" * 64}))
    with pytest.raises(BundleError, match="what was built here is of another model"):
        edgeattn.load(bundle, build=False)
    edgeattn.load(bundle).close()
    assert len(one.configs) == 2


# Machines and mishaps, by the command's code.


def run(capsys, *arguments):
    code = command.main(["build", *map(str, arguments)])
    captured = capsys.readouterr()
    assert captured.out == "" or code in (0, 1)
    return code, captured.err.splitlines()[-1] if captured.err else ""


def test_no_tensorrt(bundle, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    code, said = run(capsys, bundle)
    assert code == 3
    assert "sudo apt install nvidia-jetpack" in said


def test_jetpack_5(install_world, bundle, capsys):
    install_world("8.6.1", nets)
    code, said = run(capsys, bundle)
    assert code == 3
    assert "JetPack 5 and 6.0 have only TensorRT 8" in said


def test_no_gpu(install_world, bundle, capsys):
    install_world("10.3.0", nets, Gpu(count=0))
    code, said = run(capsys, bundle)
    assert code == 3
    assert "CUDA cannot find a GPU" in said


def test_a_gpu_without_the_precision(install_world, bundle, capsys):
    install_world("10.3.0", nets, Gpu(capability=(6, 1)))
    code, said = run(capsys, bundle)
    assert code == 3
    assert "is int8, which this machine does not execute natively (it has fp32)" in said


def test_no_dla(world, bundle, capsys):
    code, said = run(capsys, bundle, "--dla", "0")
    assert code == 3
    assert "There is no DLA core 0 here" in said
    assert world.configs == []


def test_a_graph_that_tensorrt_refuses(one, tmp_path, capsys):
    bundle = write(tmp_path / "other.edgeattn", {"model.onnx": b"something else"})
    code, said = run(capsys, bundle)
    assert code == 2
    assert "cannot read" in said
    assert names(folder_of(tmp_path, bundle)) == ["built-here.lock", "model.onnx"]


def test_a_full_disk(one, bundle, tmp_path, capsys, monkeypatch):
    real, seen = os.fsync, []

    def full(descriptor):
        seen.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        if ".building" in seen[-1]:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    code, said = run(capsys, bundle)
    assert (code, any(".building" in path for path in seen)) == (3, True)
    assert said.startswith("edgeattn: No space is left on the disk")
    assert names(folder_of(tmp_path, bundle)) == ["built-here.lock", "model.onnx"]


def test_ctrl_c_stops_the_builder_and_leaves_nothing(world, bundle, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(_tensorrt_progress, "_TOLD_EVERY_S", 0.001)
    steps, answers, told = [], [], world._told

    def while_building(monitor):
        if not steps:
            os.kill(os.getpid(), signal.SIGINT)
        steps.append(1)
        threading.Event().wait(0.05)

    world.phases, world.while_building = [("Building Engine", None, 20)], while_building
    monkeypatch.setattr(world, "_told", lambda monitor: answers.append(told(monitor)) or answers[-1])
    assert run(capsys, bundle) == (130, "edgeattn: interrupted.")
    assert answers == [False]  # it was asked to stop, and waited for
    assert names(folder_of(tmp_path, bundle)) == ["built-here.lock", "model.onnx"]
    world.while_building = lambda monitor: None
    assert command.main(["build", str(bundle)]) == 0
    edgeattn.load(bundle, build=False).close()


def test_another_process_that_loads_meanwhile_waits_and_finds_it(one, bundle):
    """`load` builds too; it does not build beside the command."""
    loaded, thread = [], None

    def load_beside(monitor):
        nonlocal thread
        if thread is None:
            thread = threading.Thread(target=lambda: loaded.append(edgeattn.load(bundle)))
            thread.start()
            threading.Event().wait(0.1)
            assert loaded == []

    one.while_building = load_beside
    build(bundle)
    thread.join()
    assert len(one.configs) == 1
    loaded[0].close()


@pytest.mark.parametrize("kept", [True, False])
def test_what_an_app_hears_of_an_engine_that_load_builds(kept, one, bundle, tmp_path, monkeypatch):
    """Minutes of silence look like a hang; and where the cache cannot be written, it is so at every start."""
    if not kept:
        (tmp_path / "file").touch()
        monkeypatch.setenv("EDGEATTN_CACHE", str(tmp_path / "file"))
    heard = []
    with edgeattn.load(bundle, progress=lambda done, total, text: heard.append(text)) as model:
        notes = model.notes
    assert any("TensorRT 10.3.0" in text for text in heard)
    assert any("name a folder with EDGEATTN_CACHE=FOLDER" in note for note in notes) == (not kept)
    report = verify(bundle)
    assert any("EDGEATTN_CACHE" in line for line in report.lines()) == (not kept)


def a_board(root, mode, highest="1510400"):
    """A Jetson whose clocks are free to change between 729.6 MHz and `highest` kHz, in power mode `mode`."""
    for name, content in {
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 1",
        "sys/devices/system/cpu/cpufreq/policy0/scaling_min_freq": "729600",
        "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": highest,
        "usr/sbin/nvpmodel": f"#!/bin/sh\necho 'NV Power Mode: {mode}'; echo 0",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    (root / "usr/sbin/nvpmodel").chmod(0o755)


def test_kernels_are_chosen_anew_for_another_setting_of_the_board(one, bundle, tmp_path):
    """Times of 15 W and free clocks are not taken for those of MAXN and held ones; the engine says how it was built."""
    a_board(tmp_path, "15W")
    built = build(bundle, root=tmp_path)
    assert built.description["board"]["power_mode"] == "15W"
    assert any("hold them with: sudo jetson_clocks" in note for note in built.notes)
    a_board(tmp_path, "MAXN_SUPER", highest="729600")
    kept = build(bundle, root=tmp_path)
    assert kept.engine == "kept"
    assert kept.notes[-1] == (
        "The board was in power mode 15W, now it is MAXN_SUPER: other kernels may be the fastest; build again with "
        "--force."
    )
    again = build(bundle, root=tmp_path, force=True)
    assert (again.engine, again.description["board"]["clocks_held"]) == ("built", True)
    assert not any("--force" in note for note in again.notes)


def test_each_setting_of_the_board_has_a_timing_cache_of_its_own(one, tmp_path):
    names = set()
    for mode, highest in (("15W", "1510400"), ("15W", "729600"), ("MAXN_SUPER", "1510400")):
        a_board(tmp_path, mode, highest)
        names.add(backend.timing_cache())
    assert len(names) == 3


def test_a_board_that_is_slowed_down_while_it_builds(one, bundle, tmp_path):
    a_board(tmp_path, "15W")
    for name, content in {"type": "gpu-throttle-alert", "cur_state": "1"}.items():
        path = tmp_path / "sys/class/thermal/cooling_device0" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    report = build(bundle)
    assert any("slowed down while it built (gpu-throttle-alert)" in note for note in report.notes)
    assert report.to_dict()["telemetry"]["throttled"] is True
