"""Building and opening engines, through stand-ins for every version of TensorRT that the backend works with.

They prove which calls are made, with what, and what becomes of the answers; no engine was built, nothing ran on a GPU.
"""

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeattn import backends
from edgeattn.artifact import sha256_bytes, sha256_file
from edgeattn.backends import _cuda, _tensorrt_progress
from edgeattn.backends import _tensorrt_library as lib
from edgeattn.backends import tensorrt as backend
from edgeattn.backends.tensorrt import BuildSettings
from edgeattn.errors import InputError, MachineError, MissingLibrary, ModelError, NoEngine, StorageError
from edgeattn.runtime import on_device

fake, world_of = sys.modules["trt_fake"], sys.modules["trt_world"]
Gpu = sys.modules["cudart_fake"].Gpu
Net, Layer = world_of.Net, world_of.LayerOfNet

INT8 = ("Thirty-two wide channel vectorized row major", "Int8")
HALF, FLOAT = ("Channel major", "FP16"), ("Row major linear", "FP32")
CONV = Layer(
    "CONVOLUTION", "conv1", ((1, 4, 10, 10),), (1, 6, 10, 10), {"kernel_size_nd": (3, 3), "num_groups": 2}
)  # 600 outputs of 2 channels x 9
UP = Layer(
    "DECONVOLUTION", "up", ((1, 6, 5, 5),), (1, 4, 10, 10), {"kernel_size_nd": (2, 2), "num_groups": 1}, on_dla=False
)  # 150 inputs into 4 channels x 4


def product(trt, name, left, right, out, *, turned=False):
    operation = trt.MatrixOperation.TRANSPOSE if turned else trt.MatrixOperation.NONE
    return Layer("MATRIX_MULTIPLY", name, (left, right), out, {"op0": operation, "op1": trt.MatrixOperation.NONE})


ENGINE_LAYERS = (
    {"Name": "Reformatting CopyNode", "LayerType": "Reformat", "Inputs": [FLOAT], "Outputs": [INT8]},
    {
        **{
            "Name": "conv1 + relu1",
            "LayerType": "CaskConvolution",
            "ParameterType": "Convolution",
            "TacticName": "i8i8",
        },
        **{"Inputs": [INT8, HALF], "Outputs": [INT8], "Weights": {"Type": "Int8", "Count": 108}},
        "Metadata": "[ONNX Layer: conv1]\x1e[ONNX Layer: relu1]",
    },
    {
        **{"Name": "__myl_Up_myl0_1", "LayerType": "conv", "Inputs": [HALF], "Outputs": [HALF], "TacticName": "f16"},
        "Metadata": "[ONNX Layer: up]\x1f[ONNX Layer: cast]",
    },
    {
        **{"Name": "__myl_SoftMax_myl0_2", "LayerType": "kgen", "Inputs": [INT8, HALF], "Outputs": [FLOAT]},
        "Metadata": "[ONNX Layer: softmax]",
    },
)
TWICE = Net(
    {"x": ("float32", (1, 3))},
    {"y": ("float32", (1, 3))},
    lambda given: {"y": 2 * given["x"]},
    layers=(CONV, UP),
    engine_layers=ENGINE_LAYERS,
)
ANY_BATCH = Net(
    {"x": ("float32", (-1, 3))},
    {"y": ("float32", (-1, 3))},
    lambda given: {"y": 2 * given["x"]},
    shapes=lambda given: {"y": given["x"]},
    engine_layers=ENGINE_LAYERS,
)
NETS = {"twice": TWICE, "batch": ANY_BATCH}


def nets(path):
    """An "ONNX file" of these tests holds a network's name."""
    return NETS.get(path.read_text())


@pytest.fixture(params=fake.VERSIONS)
def world(request, install_world):
    """Each version of TensorRT in turn."""
    return install_world(request.param, nets)


@pytest.fixture
def one(install_world):
    """One version, where the version makes no difference."""
    return install_world("10.3.0", nets)


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model" / "model.onnx"
    path.parent.mkdir()
    path.write_text("twice")
    return path


@pytest.fixture
def engine(one, model, tmp_path):
    """An engine's folder, to be damaged."""
    backend.build(model, tmp_path / "engine", BuildSettings())
    return tmp_path / "engine"


def edit(folder, **values):
    path = folder / "engine.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def described(folder):
    return json.loads((folder / "engine.json").read_text())


# What is made.


def test_an_engine_is_built_opened_and_run(world, model, tmp_path):
    said = backend.compile(model, tmp_path / "out", precision="int8", threads=2)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["engine.json", "engine.plan"]
    runner = backend.load(tmp_path / "out", threads=2)
    assert runner.rebuilt is None
    assert [(spec.name, spec.shape, spec.dtype) for spec in runner.specs.inputs + runner.specs.outputs] == [
        ("x", (1, 3), "float32"),
        ("y", (1, 3), "float32"),
    ]
    assert runner.infer({"x": np.float32([[1, 2, 3]])})["y"].tolist() == [[2, 4, 6]]
    runner.close()
    assert said.fingerprint == backend.fingerprint()
    assert world.cuda.leaks() == []


def test_the_description_says_what_was_asked_and_what_runs(world, model, tmp_path):
    said = backend.compile(model, tmp_path, precision="int8", threads=1)
    made = described(tmp_path)
    assert made["schema"] == "edgeattn.engine/1"
    assert (made["backend"], made["asked_precision"], made["precision"]) == ("tensorrt", "int8", "int8")
    assert made["plan_sha256"] == sha256_file(tmp_path / "engine.plan")
    assert made["onnx_sha256"] == sha256_file(model)
    assert made["layers"] == said.layers == {"fp16": 1, "fp32": 1, "int8": 1}
    assert made["macs"] == said.macs == {"int8": 600 * 18, "fp16": 150 * 16}
    assert made["settings"] == {**BuildSettings().to_json()}
    assert made["notes"] == list(said.notes) == ["18.2 % of the multiply-adds are not quantized."]
    conv = made["executed"][0]
    assert (conv["name"], conv["nodes"], conv["device"]) == ("conv1 + relu1", ["conv1", "relu1"], "gpu")
    assert (conv["precision"], conv["tactic"], conv["macs"]) == ("int8", "i8i8", 10800)


def test_the_fingerprint_names_gpu_and_software(world, tmp_path):
    assert backend.fingerprint() == {
        **{"tensorrt": world.trt.__version__, "cuda": "12.6", "gpu": "Orin", "compute_capability": "8.7"},
        **{"multiprocessors": "8", "l4t": "none", "module": "none"},
    }
    for folder in ("etc", "proc/device-tree"):
        (tmp_path / folder).mkdir(parents=True)
    release = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n"
    (tmp_path / "etc/nv_tegra_release").write_text(release)
    compatible = b"nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234\0"
    (tmp_path / "proc/device-tree/compatible").write_bytes(compatible)
    assert (backend.fingerprint()["l4t"], backend.fingerprint()["module"]) == ("36.4.3", "p3767-0005")


@pytest.mark.parametrize(
    ("capability", "known"),
    [((8, 7), ["fp32", "bf16", "fp16", "int8"]), ((7, 5), ["fp32", "fp16", "int8"]), ((6, 1), ["fp32"])],
)
def test_precisions_are_those_of_the_gpu(install_world, model, tmp_path, capability, known):
    install_world("10.3.0", nets, Gpu(capability=capability, name="Some GPU"))
    assert backend.precisions() == known
    with pytest.raises(MachineError, match=r"This GPU \(Some GPU\) does not execute fp4 natively; choose one of fp32"):
        backend.compile(model, tmp_path / "out", precision="fp4", threads=1)
    assert not (tmp_path / "out").exists()


def test_a_precision_that_is_not_in_the_graph_is_reported(one, model, tmp_path):
    said = backend.compile(model, tmp_path, precision="bf16", threads=1)
    assert said.notes == (
        "bf16 was asked for, but 0 % of the multiply-adds run in it: 81.8 % in int8, 18.2 % in fp16. TensorRT takes "
        "the precision from the graph; give one that was converted to it.",
    )


# What the builder is told.


def test_by_default_nothing_but_the_graph_decides(world, model, tmp_path):
    backend.build(model, tmp_path, BuildSettings())
    config = world.configs[0]
    assert config["flags"] == []  # TF32 is on in TensorRT unless it is cleared
    assert config["builder_optimization_level"] == 3
    assert config["pools"] == {}
    assert config["profiling_verbosity"] == world.trt.ProfilingVerbosity.DETAILED
    assert "avg_timing_iterations" not in config


def test_every_setting_reaches_the_builder(world, model, tmp_path):
    settings = BuildSettings(
        **{"workspace_mb": 512, "optimization_level": 5, "version_compatible": True, "refittable": True, "tf32": True},
        avg_timing_iterations=4,
    )
    said = backend.build(model, tmp_path, settings)
    config = world.configs[0]
    assert config["flags"] == ["REFIT", "TF32", "VERSION_COMPATIBLE"]
    assert (config["builder_optimization_level"], config["avg_timing_iterations"]) == (5, 4)
    assert config["pools"] == {"WORKSPACE": 512 << 20}
    assert said.notes == ("FP32 products run with 10-bit mantissas (TF32).",)
    made = described(tmp_path)
    assert made["settings"] == settings.to_json()
    assert BuildSettings.from_json(made["settings"], timing_cache=None) == settings


@pytest.mark.parametrize(("memory", "expected"), [(8 << 30, 2048), (4 << 30, 1024), (100 << 20, 64)])
def test_a_board_that_shares_its_memory_gives_a_quarter(install_world, model, tmp_path, memory, expected):
    world = install_world("10.3.0", nets, Gpu(integrated=True, memory=memory))
    backend.build(model, tmp_path, BuildSettings())
    assert world.configs[0]["pools"] == {"WORKSPACE": expected << 20}
    assert described(tmp_path)["workspace_mb"] == expected


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"optimization_level": 6}, "optimization_level must be 0 to 5, got 6"),
        ({"workspace_mb": 0}, "workspace_mb must be 1 or more, got 0"),
        ({"dla_core": -1}, "dla_core must be 0 or more, got -1"),
        ({"avg_timing_iterations": 0}, "avg_timing_iterations must be 1 or more"),
        ({"profiles": {"x": ((1, 3), (4, 3), (2, 3))}}, r"profile of input 'x' .* got \(1, 3\), \(4, 3\), \(2, 3\)"),
        ({"profiles": {"x": ((1, 3), (1, 3), (1, 3, 1))}}, "profile of input 'x'"),
        ({"profiles": {"x": ((0, 3), (1, 3), (1, 3))}}, "profile of input 'x'"),
    ],
)
def test_settings_out_of_range(wrong, says):
    with pytest.raises(InputError, match=says):
        BuildSettings(**wrong)


def test_a_dynamic_batch_has_a_range(world, model, tmp_path):
    model.write_text("batch")
    said = backend.build(model, tmp_path, BuildSettings())
    assert world.configs[0]["profile"] == {"x": ((1, 3), (1, 3), (8, 3))}
    assert said.notes == ("Input 'x' takes batches of 1 to 8 and is fastest at 1; a profile says other.",)
    profile = {"x": ((1, 3), (4, 3), (16, 3))}
    said = backend.build(model, tmp_path, BuildSettings(profiles=profile))
    assert world.configs[1]["profile"] == profile
    assert said.notes == ()


@pytest.mark.parametrize(
    ("profiles", "says"),
    [
        ({"z": ((1,), (1,), (1,))}, r"has no input \['z'\]; its inputs are \['x'\]"),
        ({"x": ((1, 4), (1, 4), (1, 4))}, r"must fit its shape \(-1, 3\) \(-1 is dynamic\)"),
        ({"x": ((1,), (1,), (1,))}, r"must fit its shape \(-1, 3\)"),
    ],
)
def test_a_profile_must_fit_the_model(one, model, tmp_path, profiles, says):
    model.write_text("batch")
    with pytest.raises(ModelError, match=says):
        backend.build(model, tmp_path / "out", BuildSettings(profiles=profiles))
    assert not (tmp_path / "out").exists()


def test_any_size_needs_a_profile(one, model, tmp_path, monkeypatch):
    monkeypatch.setitem(
        NETS, "sizes", Net({"x": ("uint8", (1, -1, -1, 3))}, {"y": ("float32", (1,))}, lambda given: {})
    )
    model.write_text("sizes")
    with pytest.raises(ModelError, match=r"dynamic sizes besides its batch, \(1, -1, -1, 3\); give a profile"):
        backend.build(model, tmp_path, BuildSettings())


def test_the_dla_takes_what_it_can_and_the_rest_is_named(world, model, tmp_path, monkeypatch):
    world.dla_cores = 2
    on_dla = {"Name": "{ForeignNode[conv1]}", "LayerType": "DLA", "Inputs": [INT8], "Outputs": [INT8]}
    monkeypatch.setitem(NETS, "dla", replace(TWICE, engine_layers=(on_dla, *ENGINE_LAYERS[2:])))
    model.write_text("dla")
    said = backend.build(model, tmp_path, BuildSettings(dla_core=1))
    config = world.configs[0]
    assert (config["DLA_core"], config["default_device_type"]) == (1, world.trt.DeviceType.DLA)
    assert config["flags"] == ["GPU_FALLBACK"]
    assert said.notes == (
        "1 of 2 layers cannot run on the DLA and fall back to the GPU: up.",
        "The DLA runs 1 of 3 layers, the GPU 2: __myl_Up_myl0_1, __myl_SoftMax_myl0_2.",
    )
    assert [layer["device"] for layer in described(tmp_path)["executed"]] == ["dla", "gpu", "gpu"]
    backend.load(tmp_path, threads=1).close()  # on that core again: the stand-in sees to it


def test_a_dla_that_is_not_there(world, model, tmp_path):
    with pytest.raises(MachineError, match=r"There is no DLA core 0 here .* it sees 0; build without dla_core"):
        backend.build(model, tmp_path, BuildSettings(dla_core=0))


def test_multiply_adds_worked_by_hand(world, model, tmp_path, monkeypatch):
    layers = (
        CONV,
        UP,
        product(world.trt, "qk", (2, 5, 8), (2, 8, 5), (2, 5, 5)),  # 50 outputs, 8 each
        product(world.trt, "turned", (7, 4), (7, 3), (4, 3), turned=True),  # 12 outputs, 7 each
        Layer("EINSUM", "einsum", ((4, 7), (4, 7)), (4, 4), {"equation": "ij,kj->ik"}),
        Layer("SOFTMAX", "softmax", ((4, 4),), (4, 4)),
    )
    monkeypatch.setitem(NETS, "many", Net(TWICE.inputs, TWICE.outputs, TWICE.compute, layers=layers))
    model.write_text("many")
    assert backend.build(model, tmp_path, BuildSettings()).macs == {"unknown": 10800 + 2400 + 400 + 84 + 112}


def test_layers_that_cannot_be_counted_cost_no_engine(world, model, tmp_path, monkeypatch):
    """A size that TensorRT does not know has -1 dimensions in some versions, and is a RuntimeError in others."""
    unknown = replace(CONV, name="lost", inputs=(None,))
    monkeypatch.setitem(NETS, "unknown", replace(TWICE, layers=(CONV, unknown, UP)))
    model.write_text("unknown")
    said = backend.build(model, tmp_path, BuildSettings())
    assert said.macs == {"int8": 10800, "fp16": 2400}
    assert said.notes[0].startswith("The multiply-adds of 1 of 3 layers could not be counted (")


def test_names_that_are_no_text_cost_no_engine(world, model, tmp_path):
    broken = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
    world.answers |= {"ILayer.metadata": broken, "EngineInspector.get_engine_information": broken}
    said = backend.build(model, tmp_path / "out", BuildSettings(), precision="int8")
    assert [note.partition(" (")[0] for note in said.notes] == [
        "The multiply-adds of 2 of 2 layers could not be counted",
        "What the engine executes, and in which precision, is not known: TensorRT's inspector gives no text on the "
        "engine",
    ]
    assert (said.layers, said.macs, described(tmp_path / "out")["executed"]) == ({}, {}, [])
    with pytest.raises(ModelError, match=r"gives no text on the engine \(UnicodeDecodeError: "):
        backend.open_engine(tmp_path / "out").information()


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"Layers": 3}', '{"Layers": [{"Name": "a "quoted" name"}]}'])
def test_an_inspector_that_says_nothing_readable_costs_no_engine(one, model, tmp_path, text):
    one.answers["EngineInspector.get_engine_information"] = text
    one.dla_cores = 1
    said = backend.build(model, tmp_path, BuildSettings(dla_core=0), precision="int8")
    assert [note for note in said.notes if "what" in note.lower()] == [said.notes[-1]]
    assert said.notes[-1].startswith("What the engine executes, and in which precision, is not known: TensorRT's insp")
    assert (said.layers, said.macs) == ({}, {"unknown": 13200})
    backend.load(tmp_path, threads=1).close()


# The timing cache.


def test_times_are_kept_for_the_next_build(world, model, tmp_path):
    path = tmp_path / "caches" / "orin.cache"
    world.timed = {"first"}
    assert backend.build(model, tmp_path, BuildSettings(timing_cache=path)).notes == ()
    world.timed = {"second"}
    assert backend.build(model, tmp_path, BuildSettings(timing_cache=path)).notes == ()
    assert json.loads(path.read_text())["timed"] == ["first", "second"]
    assert sorted(file.name for file in path.parent.iterdir()) == ["orin.cache", "orin.cache.lock"]


def test_what_another_build_wrote_meanwhile_is_kept_too(world, model, tmp_path):
    path = tmp_path / "orin.cache"
    world.while_building = lambda monitor: path.write_text(json.dumps({"origin": world.origin(), "timed": ["other"]}))
    backend.build(model, tmp_path, BuildSettings(timing_cache=path))
    assert json.loads(path.read_text())["timed"] == ["conv", "other"]


@pytest.mark.parametrize("content", ['{"origin": "8.6.1 Xavier", "timed": ["old"]}', "no cache at all"])
def test_a_foreign_cache_is_not_used(world, model, tmp_path, content):
    path = tmp_path / "orin.cache"
    path.write_text(content)
    said = backend.build(model, tmp_path, BuildSettings(timing_cache=path))
    assert said.notes == (f"The timing cache {path} is not of this GPU and TensorRT; a new one takes its place.",)
    assert json.loads(path.read_text()) == {"origin": world.origin(), "timed": ["conv"]}


def test_a_cache_that_cannot_be_kept_costs_no_engine(one, model, tmp_path):
    (tmp_path / "file").write_text("in the way")
    said = backend.build(model, tmp_path / "out", BuildSettings(timing_cache=tmp_path / "file" / "orin.cache"))
    assert said.notes[0].startswith("The timing cache was not kept: ")
    backend.load(tmp_path / "out", threads=1).close()


def test_compiling_uses_this_users_cache(one, model, tmp_path):
    backend.compile(model, tmp_path / "out", precision="int8", threads=1)
    assert backend.timing_cache().parent == tmp_path / "cache"
    assert json.loads(backend.timing_cache().read_text())["timed"] == ["conv"]


def add_to(path, name, start):
    from edgeattn.file_lock import locked

    start.wait()
    for _ in range(20):
        with locked(path):
            path.write_text(path.read_text() + name)


def test_only_one_process_at_a_time_holds_a_lock(tmp_path):
    path, context = tmp_path / "file", multiprocessing.get_context("fork")
    path.write_text("")
    start = context.Event()
    workers = [context.Process(target=add_to, args=(path, name, start)) for name in "ab"]
    for worker in workers:
        worker.start()
    start.set()
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    assert sorted(path.read_text()) == ["a"] * 20 + ["b"] * 20


# How far it is, and stopping it.


def test_progress_names_the_phase(world, model, tmp_path, monkeypatch):
    monkeypatch.setattr(_tensorrt_progress, "_TOLD_EVERY_S", 0.001)
    told, heard = [], threading.Event()

    def listen(done, total, text):
        told.append((done, total, text.rpartition(": ")[2]))
        heard.set()

    def wait_for_listener(monitor):
        heard.clear()
        heard.wait(0.5)

    world.while_building = wait_for_listener
    backend.build(model, tmp_path, BuildSettings(), listen)
    phases = {phase for _, _, phase in told}
    assert {"Tactics", "Building Engine"} <= phases
    assert all(0 <= done <= total for done, total, _ in told)
    assert told[-1] != told[0]


def interrupted(world, how):
    """Interrupts at the first step, and goes on long enough for the interrupt to be noticed."""
    steps = []

    def while_building(monitor):
        if not steps:
            how()
        steps.append(1)
        threading.Event().wait(0.05)

    world.phases = [("Building Engine", None, 20)]
    world.while_building = while_building


def test_ctrl_c_stops_the_build_and_leaves_nothing(world, model, tmp_path, monkeypatch):
    monkeypatch.setattr(_tensorrt_progress, "_TOLD_EVERY_S", 0.001)
    answers = []
    interrupted(world, lambda: os.kill(os.getpid(), signal.SIGINT))
    told = world._told
    monkeypatch.setattr(world, "_told", lambda monitor: answers.append(told(monitor)) or answers[-1])
    with pytest.raises(KeyboardInterrupt):
        backend.build(model, tmp_path / "out", BuildSettings(timing_cache=tmp_path / "orin.cache"))
    assert answers == [False]  # the builder was told to stop, and was waited for
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "orin.cache").exists()


def test_a_listener_that_fails_stops_the_build(one, model, tmp_path, monkeypatch):
    monkeypatch.setattr(_tensorrt_progress, "_TOLD_EVERY_S", 0.001)

    def listen(done, total, text):
        if done:
            raise BrokenPipeError("nobody reads")

    interrupted(one, lambda: None)
    one.phases = [("Building Engine", None, 4)]
    with pytest.raises(BrokenPipeError, match="nobody reads"):
        backend.build(model, tmp_path / "out", BuildSettings(), listen)
    assert not (tmp_path / "out").exists()


UNDER_A_BUILDER = """
import atexit, os, signal, sys, threading, time
atexit.register(print, "Python is taken down")
from edgeattn.backends import _tensorrt_progress as progress

watch, told = progress.Watch(), threading.Event()

def build():
    told.set()
    while True:  # a step that takes its time: it is asked to stop, and does not look
        time.sleep(0.01)

def interrupt():
    told.wait()
    for _ in range(int(sys.argv[1])):
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
try:
    progress.watched(build, watch, lambda *told: None, "building")
except KeyboardInterrupt:
    print("interrupted")
    sys.exit(130)
"""


def test_a_second_ctrl_c_does_not_take_python_down_under_the_builder():
    """The builder's thread would call its monitor in an interpreter that is being taken down: SIGABRT or SIGSEGV."""
    command = [sys.executable, "-c", UNDER_A_BUILDER, "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("interrupted\n", "", 130)


def test_a_builder_of_a_thread_that_nobody_waits_for_is_stopped_at_the_end():
    """And a forked process, which has no builder, does not wait for one."""
    program = """
import os, threading, time
from edgeattn.backends import _tensorrt_progress as progress
watch, began = progress.Watch(), threading.Event()

def build():
    began.set()
    while watch.step("Tactics", 0):
        time.sleep(0.01)
    print("stopped", flush=True)

threading.Thread(
    target=lambda: progress.watched(build, watch, lambda *told: None, "building"), daemon=True
).start()
began.wait()
child = os.fork()
if child:
    assert os.waitpid(child, 0)[1] == 0
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("stopped\n", "", 0)


# What goes wrong while building.


PARSER_ERRORS = [
    (
        [("UNSUPPORTED_NODE", "Assertion failed: no importer.", "/head/Attention", "Attention")],
        r"cannot read .*model.onnx: node '/head/Attention' \(Attention\): Assertion failed: no importer; this version "
        r"cannot take the node as it is: change it in the model, or use a newer TensorRT; 'edgeattn inspect MODEL",
    ),
    (
        [
            ("INVALID_GRAPH", "bad\n  input"),
            ("INVALID_NODE", "no such input 'x'", "conv", "Conv"),
            ("INVALID_NODE", "b"),
        ],
        r"node 'conv' \(Conv\): no such input 'x', and 2 more such errors; the graph is wrong there, export the model",
    ),
    (
        [("MODEL_DESERIALIZE_FAILED", "Failed to parse the ONNX model.")],
        r"model.onnx: Failed to parse the ONNX model; the file is no readable ONNX model, export it again",
    ),
]


@pytest.mark.parametrize(("errors", "says"), PARSER_ERRORS)
def test_a_parsers_errors_are_one_sentence(world, model, tmp_path, errors, says):
    world.parser_errors = [world_of.ParserError(*error) for error in errors]
    with pytest.raises(ModelError, match=says) as caught:
        backend.build(model, tmp_path / "out", BuildSettings())
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None
    assert not (tmp_path / "out").exists()


def test_a_build_without_a_plan_says_what_tensorrt_said(world, model, tmp_path):
    world.build_fails = True
    world.build_says = [
        ("WARNING", "Half of the weights are zero."),
        ("ERROR", "10: Could not find any implementation for node\n {ForeignNode[a...b]}."),
        ("INTERNAL_ERROR", "Assertion failed."),
    ]
    with pytest.raises(ModelError) as caught:
        backend.build(model, tmp_path / "out", BuildSettings())
    assert str(caught.value) == (
        f"TensorRT {world.trt.__version__} cannot build {model}: 10: Could not find any implementation for node "
        "{ForeignNode[a...b]}; Assertion failed."
    )
    assert not (tmp_path / "out").exists()


def test_a_build_that_runs_out_of_memory_says_what_to_do(one, model, tmp_path):
    one.build_fails, one.build_says = True, [("ERROR", "Requested amount of GPU memory could not be allocated.")]
    with pytest.raises(ModelError, match=r"could not be allocated\. Close other programs that use the GPU"):
        backend.build(model, tmp_path, BuildSettings())


def test_what_is_said_while_building_is_said_of_that_build(one, model, tmp_path):
    """The builder has a thread of its own; whoever runs an engine meanwhile does not hear of it."""
    one.build_fails, one.build_says = True, [("ERROR", "Out of everything.")]
    running, built, other = threading.Event(), threading.Event(), lib.Operation()

    def run():
        with other.heard():
            running.set()
            built.wait()

    thread = threading.Thread(target=run)
    thread.start()
    running.wait()
    with pytest.raises(ModelError, match="Out of everything"):
        backend.build(model, tmp_path, BuildSettings())
    built.set()
    thread.join()
    assert other.errors == []


def test_warnings_are_kept_once_each(one, model, tmp_path):
    one.build_says = [("WARNING", "TensorRT will use INT8 instead."), ("INFO", "chat")] * 3
    backend.build(model, tmp_path, BuildSettings())
    assert described(tmp_path)["warnings"] == ["TensorRT will use INT8 instead."]


def test_a_plan_that_does_not_open_is_not_written(one, model, tmp_path):
    one.opens = False
    with pytest.raises(ModelError, match="cannot open the engine: IRuntime::deserializeCudaEngine"):
        backend.build(model, tmp_path / "out", BuildSettings())
    assert not (tmp_path / "out").exists()


def test_tensorrt_that_does_not_start(one, model, tmp_path):
    one.starts = False
    with pytest.raises(
        MachineError, match="cannot start its builder: CUDA initialization failure with error: 35; check"
    ):
        backend.build(model, tmp_path, BuildSettings())


@pytest.mark.parametrize(
    ("name", "answer", "says"),
    [
        ("Builder.create_network", None, "cannot create a network: it gave no reason"),
        ("INetworkDefinition.num_outputs", 0, r"model.onnx holds no graph"),
        ("IBuilderConfig.add_optimization_profile", -1, r"profiles of \['x'\] do not fit together"),
        ("OnnxParser.parse_from_file", False, "cannot read .*model.onnx: it gave no reason"),
    ],
)
def test_whatever_else_tensorrt_refuses(world, model, tmp_path, name, answer, says):
    model.write_text("batch")
    world.answers[name] = answer
    with pytest.raises(ModelError, match=says):
        backend.build(model, tmp_path / "out", BuildSettings())
    assert not (tmp_path / "out").exists()


def test_no_model(one, tmp_path):
    with pytest.raises(ModelError, match=r"There is no ONNX file .*none.onnx; export the model first"):
        backend.build(tmp_path / "none.onnx", tmp_path / "out", BuildSettings())


@pytest.mark.parametrize("at", [1, 2])
def test_a_full_disk_leaves_the_engine_that_was_there(engine, model, monkeypatch, at):
    before = {file.name: file.read_bytes() for file in engine.iterdir()}
    calls, real = [], os.fsync

    def full(descriptor):
        calls.append(1)
        if len(calls) == at:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space is left on the disk"):
        backend.build(model, engine, BuildSettings(optimization_level=5))
    assert {file.name: file.read_bytes() for file in engine.iterdir()} == before
    backend.load(engine, threads=1).close()


def test_a_build_that_is_killed_between_the_two_files_leaves_no_engine(engine, tmp_path, monkeypatch):
    """The plan comes first: a plan without a description is no engine, a description without a plan a broken one."""
    out, real = tmp_path / "out", Path.replace

    def killed(path, target):
        if (out / "engine.json") == target or (out / "engine.plan").exists():
            raise KeyboardInterrupt
        return real(path, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", killed)
        backend.folders.write(out, (engine / "engine.plan").read_bytes(), described(engine))
    assert [file.name for file in out.iterdir()] == ["engine.plan"]
    with pytest.raises(ModelError, match="There is neither engine"):
        backend.load(out, threads=1)


# Opening.


def test_what_is_released_comes_in_order(world, model, tmp_path):
    backend.build(model, tmp_path, BuildSettings())
    world.events.clear()
    runner = backend.load(tmp_path, threads=1)
    other = runner.engine.context()
    runner.close()
    runner.close()
    assert world.events[:2] == ["runtime made", "engine made"]
    assert sorted(world.events[2:6]) == ["context made"] * 2 + ["context released"] * 2
    assert world.events[6:] == ["engine released", "runtime released"]
    assert world.cuda.leaks() == []
    for closed in (runner, other):
        with pytest.raises(ModelError, match="This runner is closed; load the model again"):
            closed.infer({"x": np.ones((1, 3), np.float32)})
    with pytest.raises(ModelError, match="This engine is closed"):
        runner.engine.context()


def head(version=(10, 3, 0, 26), tag=b"ftrt", layout=0):
    return tag + layout.to_bytes(4, "little") + bytes(16) + bytes(version) + b"rest"


def put(content):
    def damage(folder):
        (folder / "engine.plan").write_bytes(content)
        edit(folder, plan_sha256=sha256_bytes(content))

    return damage


def truncate(folder):
    plan = folder / "engine.plan"
    plan.write_bytes(plan.read_bytes()[:-3])


def alter(folder):
    plan = folder / "engine.plan"
    data = bytearray(plan.read_bytes())
    data[40] ^= 1
    plan.write_bytes(data)


def differ(**values):
    return lambda folder: edit(folder, fingerprint={**backend.fingerprint(), **values})


UNUSABLE = [
    (differ(gpu="Xavier"), "gpu is 'Orin', the engine was built for 'Xavier'"),
    (
        differ(l4t="36.4.0", multiprocessors="16"),
        "l4t is 'none', the engine was built for '36.4.0'; multiprocessors is '8', the engine was built for '16'",
    ),
    (truncate, "engine.plan is truncated or was altered"),
    (alter, "engine.plan is truncated or was altered"),
    (put(b""), "the plan is truncated (0 bytes, its header alone has 28)"),
    (put(head()[:27]), "the plan is truncated (27 bytes"),
    (put(head(tag=b"\x7fELF")), "the plan is none of TensorRT's (it does not begin with 'ftrt')"),
    (put(head(layout=7)), "the plan has an unknown layout (7, known is 0)"),
    (put(head(version=(10, 13, 3, 9))), "the plan was built by TensorRT 10.13.3, here is 10.3.0"),
    (put(head(version=(8, 6, 2, 3))), "the plan was built by TensorRT 8.6.2, here is 10.3.0"),
    (put(head()), "TensorRT 10.3.0 cannot open the engine: IRuntime::deserializeCudaEngine"),
    (lambda folder: (folder / "engine.plan").unlink(), "engine.plan cannot be read (No such file or directory)"),
]


@pytest.mark.parametrize(("damage", "says"), UNUSABLE)
def test_an_unusable_engine_alone_is_refused(engine, damage, says):
    damage(engine)
    for opened in (lambda: backend.load(engine, threads=1), lambda: backend.open_engine(engine)):
        with pytest.raises(ModelError) as caught:
            opened()
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="beside it to build it from again"):
        backend.load(engine, threads=1)


@pytest.mark.parametrize(("damage", "says"), UNUSABLE)
def test_an_unusable_engine_is_built_again_from_the_graph_beside_it(one, engine, model, damage, says):
    (engine / "model.onnx").write_text("twice")
    edit(engine, settings=BuildSettings(optimization_level=1).to_json())
    damage(engine)
    before = {file.name: file.read_bytes() for file in engine.iterdir()}
    runner = backend.load(engine, threads=1)
    assert says in runner.rebuilt
    assert runner.infer({"x": np.ones((1, 3), np.float32)})["y"].tolist() == [[2, 2, 2]]
    assert one.configs[-1]["builder_optimization_level"] == 1  # as the engine was built
    runner.close()
    after = {file.name: file.read_bytes() for file in engine.iterdir() if file.is_file()}
    assert {name: after[name] for name in before} == before  # the bundle's own files are the bundle's


def test_which_libcudart_was_found_first_changes_no_engine(engine, model):
    """It depends on what else the process has loaded; neither engine nor timings are of another machine for it."""
    timings = backend.timing_cache()
    edit(engine, fingerprint={**backend.fingerprint(), "cuda": "13.0"})
    backend.load(engine, threads=1).close()
    _cuda.runtime()._functions["cudaRuntimeGetVersion"] = lambda version: setattr(version._obj, "value", 13000) or 0
    assert backend.fingerprint()["cuda"] == "13.0"
    assert backend.timing_cache() == timings


def test_what_was_built_here_is_used_from_then_on(one, tmp_path):
    (tmp_path / "model.onnx").write_text("twice")
    for _ in range(2):
        runner = backend.load(tmp_path, threads=1)
        assert runner.rebuilt is None
        runner.close()
    assert len(one.configs) == 1
    (tmp_path / "model.onnx").write_text("batch")  # another model, another engine
    backend.load(tmp_path, threads=1).close()
    assert len(one.configs) == 2
    alter(tmp_path / "built-here")
    backend.load(tmp_path, threads=1).close()
    assert len(one.configs) == 3


def test_what_somebody_built_there_with_their_own_settings_is_used(one, tmp_path):
    (tmp_path / "model.onnx").write_text("twice")
    backend.build(tmp_path / "model.onnx", tmp_path / backend.BUILT_HERE, BuildSettings(optimization_level=5))
    backend.load(tmp_path, threads=1).close()
    assert [config["builder_optimization_level"] for config in one.configs] == [5]


def test_a_rebuild_tells_how_far_it_is(one, tmp_path):
    (tmp_path / "model.onnx").write_text("twice")
    told = []
    backend.load(tmp_path, threads=1, progress=lambda *said: told.append(said)).close()
    assert told[0][2].startswith("building model.onnx with TensorRT 10.3.0")


def test_nothing_is_added_to_a_finished_artifact(one, tmp_path):
    (tmp_path / "model.onnx").write_text("twice")
    (tmp_path / "manifest.json").write_text("{}")
    runner = backend.load(tmp_path, threads=1)
    assert "is a finished artifact; compile it to keep the engine" in runner.notes[-1]
    runner.close()
    assert sorted(file.name for file in tmp_path.iterdir() if file.is_file()) == ["manifest.json", "model.onnx"]
    assert not (tmp_path / "built-here").exists()


@pytest.mark.parametrize("when", ["locked", "written"])
def test_a_folder_that_cannot_be_written_costs_the_next_start(one, tmp_path, monkeypatch, when):
    (tmp_path / "model.onnx").write_text("twice")

    def refuse(*arguments):
        raise StorageError("No space is left on the disk.")

    if when == "locked":
        monkeypatch.setattr(backend, "locked", refuse)
    else:
        monkeypatch.setattr(backend.folders, "write", refuse)
    runner = backend.load(tmp_path, threads=1)
    assert runner.notes[-1] == (
        "The engine was not kept and is built again at the next start: No space is left on the disk."
    )
    assert len(one.configs) == 1
    runner.close()


def test_a_version_compatible_plan_may_be_opened_by_a_newer_release(install_world, model, tmp_path):
    old = install_world("10.3.0", nets)
    backend.build(model, tmp_path / "exact", BuildSettings())
    backend.build(model, tmp_path / "compatible", BuildSettings(version_compatible=True))
    new = install_world("10.13.3", nets)
    new._plans = old._plans
    runner = backend.load(tmp_path / "compatible", threads=1, trusted=True)
    assert runner.rebuilt is None
    runner.close()
    with pytest.raises(ModelError, match=r"built by TensorRT 10\.3\.0, here is 10\.13\.3\.9"):
        backend.load(tmp_path / "exact", threads=1)
    edit(tmp_path / "compatible", fingerprint={**backend.fingerprint(), "gpu": "Thor"})
    with pytest.raises(ModelError, match="gpu is 'Orin', the engine was built for 'Thor'"):
        backend.load(tmp_path / "compatible", threads=1)
    install_world("10.3.0", nets)
    put(head(version=(10, 13, 3, 9)))(tmp_path / "compatible")
    with pytest.raises(ModelError, match=r"built by TensorRT 10.13.3, here is 10.3.0"):  # never backwards
        backend.load(tmp_path / "compatible", threads=1)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "cannot be read as a description"),
        ("[]", "is no description of an engine, which is a JSON object"),
        ("[" * 100_000, "cannot be read as a description"),
        ('{"schema": "edgeattn.engine/1"}', "no complete edgeattn.engine/1"),
        ('{"schema": "edgeattn.engine/9"}', "no complete edgeattn.engine/1"),
    ],
)
def test_a_broken_description_is_refused(engine, content, says):
    (engine / "engine.json").write_text(content)
    with pytest.raises(ModelError, match=says):
        backend.load(engine, threads=1)


@pytest.mark.parametrize(
    "settings",
    [
        *(
            {"optimization_level": 9},
            {"optimization_level": 3.0},
            {"workspace_mb": True},
            {"avg_timing_iterations": "2"},
        ),
        *({"tf32": None}, {"dla_core": "a"}, {"version_compatible": 1}, {"version_compatible": "no"}),
        *({"profiles": {"x": [[1]]}}, {"profiles": {"x": [[1], [1.5], [2]]}}, {"profiles": {"x": [["1"]] * 3}}),
        *({"profiles": []}, {"profiles": {"x": 1}}, {"profiles": {"x": [[True]] * 3}}),
    ],
)
def test_broken_settings_are_refused(one, engine, settings):
    edit(engine, settings=settings)
    one.events.clear()
    with pytest.raises(ModelError, match="no usable settings"):
        backend.load(engine, threads=1)
    assert one.events == []


ODD = [
    {"fingerprint": "Orin"},
    {"fingerprint": {"gpu": 8}},
    {"notes": 3},
    {"notes": [None]},
    {"macs": {"int8": 0.5}},
    {"layers": ["int8"]},
    {"executed": [1]},
    {"executed": [{"name": "conv", "kind": None, "precision": "int8"}]},
    {"executed": [{"name": "conv", "kind": "conv", "precision": "int8", "nodes": "conv"}]},
    {"settings": []},
    {"plan_sha256": 7},
]


@pytest.mark.parametrize("values", ODD, ids=str)
def test_a_description_with_a_value_of_another_kind_is_refused(engine, values):
    edit(engine, **values)
    (name,) = values
    for read in (lambda: backend.load(engine, threads=1), lambda: on_device.read_description(engine)):
        with pytest.raises(ModelError, match=rf"is no description of an engine \('{name}' must be ") as caught:
            read()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("values", [*ODD, {"settings": {"tf32": "no"}}, {"schema": "other"}, None], ids=str)
def test_an_odd_description_of_what_was_built_here_is_that_of_no_engine(one, tmp_path, values):
    (tmp_path / "model.onnx").write_text("twice")
    backend.load(tmp_path, threads=1).close()
    if values is None:
        (tmp_path / "built-here" / "engine.json").write_text("[" * 100_000)
    else:
        edit(tmp_path / "built-here", **values)
    with pytest.raises(NoEngine, match="what was built here does not fit: "):
        backend.load(tmp_path, threads=1, build=False)
    backend.load(tmp_path, threads=1).close()
    assert len(one.configs) == 2


def test_options_that_tensorrt_does_not_have():
    backend.check_options({"optimization_level": 5, "tf32": True})
    for options, says in (
        ({"foo": 1}, "TensorRT has no build option foo; it has avg_timing_iterations, dla_core, optimization_level"),
        ({"timing_cache": 1}, "TensorRT has no build option timing_cache"),
        ({"workspace_mb": 1.5}, "workspace_mb must be a whole number, got 1.5"),
        ({"tf32": 1}, "tf32 must be True or False, got 1"),
    ):
        with pytest.raises(InputError, match=says):
            backend.check_options(options)


def test_code_in_a_plan_runs_only_for_somebody_who_is_trusted(world, model, tmp_path):
    backend.build(model, tmp_path / "engine", BuildSettings(version_compatible=True))
    backend.build(model, tmp_path / "exact", BuildSettings())
    world.events.clear()
    world.host_code.clear()  # when it was built it was opened once
    for opened in (
        lambda: backend.load(tmp_path / "engine", threads=1),
        lambda: backend.open_engine(tmp_path / "engine"),
    ):
        with pytest.raises(ModelError, match="it may hold code for the CPU, and nobody is known to vouch for it"):
            opened()
    assert world.events == []  # TensorRT has not seen the plan
    backend.load(tmp_path / "engine", threads=1, trusted=True).close()
    backend.open_engine(tmp_path / "engine", trusted=True).close()
    assert world.host_code == [True, True]
    backend.load(tmp_path / "exact", threads=1, trusted=True).close()
    assert world.host_code == [True, True]  # never allowed where no plan needs it
    (tmp_path / "engine" / "model.onnx").write_text("twice")
    runner = backend.load(tmp_path / "engine", threads=1)
    assert "it may hold code" in runner.rebuilt  # as it was built, but here
    runner.close()
    backend.load(tmp_path / "engine", threads=1, build=False).close()
    assert len(world.configs) == 3


def test_neither_engine_nor_model(one, tmp_path):
    with pytest.raises(ModelError, match="There is neither engine"):
        backend.load(tmp_path, threads=1)


# Where it cannot be used.


def test_without_tensorrt_a_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    said = backend.missing()
    assert "sudo apt install nvidia-jetpack" in said
    assert "pip install tensorrt" in said
    assert "\n" not in said
    with pytest.raises(MissingLibrary, match="TensorRT cannot be used"):
        backends.find("tensorrt")


def test_tensorrt_8_is_refused(install_world):
    install_world("8.6.1", nets)
    said = backend.missing()
    assert said == (
        "TensorRT 8.6.1 is too old: edgeattn takes the precision from the graph (strongly typed networks), by the API "
        "of 10.3; install TensorRT 10.3 or newer: on a Jetson that is JetPack 6.1 or newer, JetPack 5 and 6.0 have "
        "only TensorRT 8."
    )


@pytest.mark.parametrize(("version", "taken"), [("10.0.1", False), ("10.2.0.post1", False), ("10.3.0", True)])
def test_tensorrt_before_10_3_is_refused(install_world, monkeypatch, version, taken):
    monkeypatch.setattr(install_world("10.3.0", nets).trt, "__version__", version)
    assert (backend.missing() is None) is taken


def told(root, name, text):
    """A file in which a board says what it is."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_on_an_old_jetpack_it_is_the_jetpack_that_is_refused(install_world, monkeypatch, tmp_path):
    install_world("8.6.1", nets)
    told(tmp_path, "etc/nv_tegra_release", "# R36 (release), REVISION: 3.0, GCID: 36106755, BOARD: generic\n")
    sentence = (
        "JetPack 6.0 (L4T 36.3.0) has TensorRT 8.6.2, which has no strongly typed networks, and every edgeattn engine "
        "takes its precision from the graph; install JetPack 6.1 or newer, which brings TensorRT 10.3 or newer."
    )
    assert backend.missing() == sentence
    with pytest.raises(MissingLibrary, match=r"JetPack 6\.0"):
        backends.find("tensorrt")
    # Without its Python package as well: what `apt install nvidia-jetpack` brings there would be no help.
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert backend.missing() == sentence
    told(tmp_path, "etc/nv_tegra_release", "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref\n")
    told(tmp_path, "proc/device-tree/compatible", "nvidia,p3668-0000\0nvidia,tegra194\0")
    assert "JetPack 5.1.2 (L4T 35.4.1) has TensorRT 8.5.2" in backend.missing()
    assert backend.missing().endswith("use an Orin or Thor with JetPack 6.1 or newer.")


def test_a_newer_tensorrt_on_an_old_jetpack_is_taken(install_world, tmp_path):
    install_world("10.3.0", nets)
    told(tmp_path, "etc/nv_tegra_release", "# R36 (release), REVISION: 3.0, GCID: 36106755, BOARD: generic\n")
    assert backend.missing() is None


def test_without_a_gpu(install_world):
    install_world("10.3.0", nets, Gpu(count=0))
    said = backend.missing()
    assert said.startswith("TensorRT 10.3.0 is installed, but CUDA cannot be used: CUDA cannot find a GPU: ")
    assert "cudaErrorNoDevice" in said


def test_with_all_of_it(world):
    assert backend.missing() is None
    assert backends.find("tensorrt") is backend
    assert backends.find_compiler("tensorrt") is backend
    assert world.cuda.wrong_signatures() == []


def test_doctor_lists_it(monkeypatch):
    from click.testing import CliRunner

    from edgeattn.cli.doctor import command

    monkeypatch.setitem(sys.modules, "tensorrt", None)
    shown = CliRunner().invoke(command, [])
    assert shown.exit_code == 0
    assert "TensorRT cannot be used" in shown.output


def test_a_user_without_a_home_builds_without_a_cache(one, monkeypatch):
    monkeypatch.delenv("EDGEATTN_CACHE")

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert backend.timing_cache() is None
    assert _cuda.runtime().version() == "12.6"
