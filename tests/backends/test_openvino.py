import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeattn.backends import _openvino_graph as graph
from edgeattn.backends import openvino as backend
from edgeattn.errors import MachineError, ModelError

if reason := backend.missing():
    pytest.skip(reason, allow_module_level=True)

FLOAT = 1  # onnx.TensorProto.FLOAT
needs_bf16 = pytest.mark.skipif("bf16" not in backend.precisions(), reason="this processor has no BF16 arithmetic")
needs_int8 = pytest.mark.skipif("int8" not in backend.precisions(), reason="this processor has no INT8 arithmetic")


@pytest.fixture(scope="module")
def compiled(zoo, tmp_path_factory):
    """compiled(name, precision) -> (folder, Compiled), each made once."""
    made = {}

    def make(name, precision):
        if (name, precision) not in made:
            folder = tmp_path_factory.mktemp(f"{name}-{precision}")
            model = zoo[name].write(folder / "model") / "model.onnx"
            made[name, precision] = (
                folder / "out",
                backend.compile(model, folder / "out", precision=precision, threads=1),
            )
        return made[name, precision]

    return make


@pytest.fixture
def engine(compiled, tmp_path):
    """A copy of the FP32 convolution's engine, to be damaged."""
    for file in compiled("conv", "fp32")[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def edit(folder, **values):
    path = folder / "engine.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_an_engine_computes_what_the_graph_says(compiled, zoo):
    runner = backend.load(compiled("conv", "fp32")[0], threads=2)
    assert runner.rebuilt is None
    assert [spec.name for spec in runner.specs.inputs + runner.specs.outputs] == ["x", "y"]
    expected = zoo["conv"].expected["y"]
    assert np.abs(runner.infer(zoo["conv"].inputs)["y"] - expected).max() <= 2e-6 * expected.max()


def test_the_description_says_what_was_asked_and_what_runs(compiled):
    folder, said = compiled("conv", "fp32")
    engine = json.loads((folder / "engine.json").read_text())
    assert sorted(file.name for file in folder.iterdir()) == ["engine.blob", "engine.json"]
    assert {
        key: engine[key] for key in ("schema", "backend", "asked_precision", "precision", "inference_precision")
    } == {
        "schema": "edgeattn.engine/1",
        "backend": "openvino",
        "asked_precision": "fp32",
        "precision": "fp32",
        "inference_precision": "f32",
    }
    assert engine["fingerprint"] == said.fingerprint == backend.fingerprint()
    assert (engine["layers"], engine["macs"], engine["notes"]) == (said.layers, said.macs, [])


@needs_int8
def test_the_same_graph_gives_the_same_bytes(compiled, zoo, tmp_path):
    model = zoo["quantized_conv"].write(tmp_path / "elsewhere") / "model.onnx"
    first = compiled("quantized_conv", "int8")[0]
    for threads, same in ((1, ["engine.blob", "engine.json"]), (2, ["engine.blob"])):
        backend.compile(model, tmp_path / "out", precision="int8", threads=threads)
        for name in same:
            assert (tmp_path / "out" / name).read_bytes() == (first / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "precision", "macs"),
    [
        ("conv", "fp32", {"fp32": 3 * 5 * 6 * 2 * 9}),
        ("attention", "fp32", {"fp32": 3 * 5 * 8 * 8 + 2 * 5 * 5 * 8}),
        ("norm_gelu", "fp32", {}),
        pytest.param("conv", "bf16", {"bf16": 3 * 5 * 6 * 2 * 9}, marks=needs_bf16),
        pytest.param("quantized_conv", "int8", {"int8": 8 * 6 * 6 * 8 * 9}, marks=needs_int8),
    ],
)
def test_the_precision_that_executes_is_read_back(compiled, name, precision, macs):
    said = compiled(name, precision)[1]
    assert said.macs == macs
    assert said.layers[precision] >= 1
    assert said.notes == ()


def test_the_layers_that_execute_are_listed(compiled):
    """With what was fused into each: of the convolution its ReLU; of attention's products each is found once."""
    for name, products in (("conv", 1), ("attention", 5)):
        folder, said = compiled(name, "fp32")
        executed = json.loads((folder / "engine.json").read_text())["executed"]
        assert len(executed) == sum(said.layers.values())
        assert sum(layer["macs"] for layer in executed) == said.macs["fp32"]
        assert sum(layer["macs"] > 0 for layer in executed) <= products
        assert all(layer["nodes"] and layer["name"] and layer["kind"] for layer in executed)
    nodes = [
        layer["nodes"] for layer in json.loads((compiled("conv", "fp32")[0] / "engine.json").read_text())["executed"]
    ]
    assert any({"conv", "y"} <= set(fused) for fused in nodes)


@needs_bf16
def test_bf16_is_really_rounded(compiled, zoo):
    got = backend.load(compiled("conv", "bf16")[0], threads=1).infer(zoo["conv"].inputs)["y"]
    error = np.abs(got - zoo["conv"].expected["y"]).max() / zoo["conv"].expected["y"].max()
    assert 2**-16 < error < 2**-6


@needs_int8
def test_int8_asked_of_a_float_graph_is_reported(compiled):
    folder, said = compiled("conv", "int8")
    assert "int8" not in said.macs
    assert len(said.notes) == 1
    assert "int8 was asked for, but 0 % of the multiply-adds run in it: 100 % in" in said.notes[0]
    assert "QuantizeLinear" in said.notes[0]
    assert json.loads((folder / "engine.json").read_text())["precision"] != "int8"


@needs_int8
def test_fp32_asked_of_a_quantized_graph_is_reported(compiled):
    assert (
        "fp32 was asked for, but 0 % of the multiply-adds run in it: 100 % in int8"
        in (compiled("quantized_conv", "fp32")[1].notes[0])
    )


def test_a_precision_the_processor_lacks_is_refused(zoo, tmp_path):
    model = zoo["conv"].write(tmp_path) / "model.onnx"
    with pytest.raises(MachineError, match=r"does not execute fp4 natively; choose one of fp32"):
        backend.compile(model, tmp_path / "out", precision="fp4", threads=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [None, b"not a graph"])
def test_what_cannot_be_compiled_leaves_nothing_behind(tmp_path, content, capfd):
    if content:
        (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        backend.compile(tmp_path / "model.onnx", tmp_path / "out", precision="fp32", threads=1)
    assert str(tmp_path / "model.onnx") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("ends", "says"),
    [("import os; os.kill(os.getpid(), 11)", "ended with code -11 while compiling"), ("1 / 0", "ZeroDivisionError")],
)
def test_a_crash_of_the_compiler_is_a_sentence(zoo, tmp_path, monkeypatch, ends, says):
    monkeypatch.setattr(backend, "_CHILD", ends)
    with pytest.raises(ModelError, match=says):
        backend.compile(zoo["conv"].write(tmp_path) / "model.onnx", tmp_path / "out", precision="fp32", threads=1)


def other_machine(folder):
    edit(folder, fingerprint={**backend.fingerprint(), "cpu": "Another"})


def truncate(folder):
    blob = folder / "engine.blob"
    blob.write_bytes(blob.read_bytes()[:-20])


def alter(folder):
    blob = folder / "engine.blob"
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)


def refuse(folder):
    (folder / "engine.blob").write_bytes(b"not an engine")
    edit(folder, blob_sha256=backend.sha256_bytes(b"not an engine"))


UNUSABLE = [
    (other_machine, "the engine was compiled for 'Another'"),
    (truncate, "engine.blob is truncated or was altered"),
    (alter, "engine.blob is truncated or was altered"),
    (refuse, "OpenVINO refuses engine.blob"),
    (lambda folder: (folder / "engine.blob").unlink(), "engine.blob cannot be read"),
]


@pytest.mark.parametrize(("damage", "says"), UNUSABLE)
def test_an_unusable_engine_is_built_again_from_the_graph_beside_it(engine, zoo, damage, says):
    zoo["conv"].write(engine)
    damage(engine)
    runner = backend.load(engine, threads=1)
    assert says in runner.rebuilt
    expected = zoo["conv"].expected["y"]  # to FP32's precision: the settings of engine.json were kept
    assert np.abs(runner.infer(zoo["conv"].inputs)["y"] - expected).max() <= 2e-6 * expected.max()


@pytest.mark.parametrize(("damage", "says"), UNUSABLE)
def test_an_unusable_engine_alone_is_refused(engine, damage, says):
    damage(engine)
    with pytest.raises(ModelError) as caught:
        backend.load(engine, threads=1)
    assert says in str(caught.value)
    assert "no model.onnx beside it" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mistake_of_ours_is_no_reason_to_build_it_again(engine, zoo, monkeypatch):
    """OpenVINO refuses with a RuntimeError; of wrong arguments its binding makes a TypeError."""
    zoo["conv"].write(engine)
    monkeypatch.setattr(backend, "settings", lambda threads, hint: "no dictionary")
    with pytest.raises(TypeError, match="import_model"):
        backend.load(engine, threads=1)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "cannot be read as a description"),
        ("[]", "is no description of an engine, which is a JSON object"),
        ('{"schema": "edgeattn.engine/1"}', "no complete edgeattn.engine/1"),
        ('{"schema": "edgeattn.engine/9"}', "no complete edgeattn.engine/1"),
    ],
)
def test_a_broken_description_is_refused(engine, content, says):
    (engine / "engine.json").write_text(content)
    with pytest.raises(ModelError, match=says):
        backend.load(engine, threads=1)


def test_multiply_adds_worked_by_hand(make_model, make_node, tmp_path):
    weights = {
        "grouped": np.ones((6, 2, 3, 3), np.float32),  # 4 channels in 2 groups -> 6; 5x5 pixels, stride 2, no padding
        "up": np.ones((6, 4, 2, 2), np.float32),  # transposed, 6 -> 4 channels, stride 2
        "rows": np.array([4, 16], np.int64),
        "turned": np.ones((16, 7), np.float32),
    }
    nodes = [
        make_node("Conv", ["x", "grouped"], ["a"], group=2, strides=[2, 2], name="conv"),
        make_node("ConvTranspose", ["a", "up"], ["b"], strides=[2, 2], name="up"),
        make_node("Reshape", ["b", "rows"], ["c"]),
        make_node("Gemm", ["c", "turned"], ["d"], name="gemm"),
        make_node("Einsum", ["d", "d"], ["y"], equation="ij,kj->ik", name="einsum"),
    ]
    x = {"x": (FLOAT, [1, 4, 5, 5])}
    path = tmp_path / "model.onnx"
    path.write_bytes(make_model(nodes, x, {"y": (FLOAT, [4, 4])}, weights).SerializeToString())
    network = backend.read(path)
    by_hand = {
        "conv": 6 * 2 * 2 * (2 * 3 * 3),  # 24 outputs, 18 weights each
        "up": 6 * 2 * 2 * (4 * 2 * 2),  # 24 inputs, each into 16 outputs
        "gemm": 4 * 7 * 16,
        "einsum": 4 * 4 * 7,
    }
    assert sorted(graph.multiply_adds(network).values()) == sorted(by_hand.values())
    running = backend.core().compile_model(network, "CPU", backend.settings(1, "f32")).get_runtime_model()
    assert graph.read_back(network, graph.layers(network, running))[1] == {"fp32": sum(by_hand.values())}


def test_a_missing_library_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert 'pip install "edgeattn[openvino]"' in backend.missing()


def test_nothing_is_reported_to_anyone(zoo, tmp_path):
    """OpenVINO's import leaves a client identifier in the home folder when it is about to send an event."""
    home = tmp_path / "home"
    home.mkdir()
    folder = zoo["conv"].write(tmp_path / "model")
    code = (
        "import sys; from pathlib import Path; from edgeattn.backends import openvino as b; "
        f"b.load(Path({str(folder)!r}), threads=1).close(); "
        "sys.exit('openvino_telemetry.main' in sys.modules)"
    )
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("CI", "TF_BUILD", "JENKINS"))}
    environment = {**ours, "HOME": str(home), "PYTHONPATH": str(Path(backend.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert list(home.iterdir()) == []
