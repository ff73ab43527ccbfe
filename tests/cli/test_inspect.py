"""`edgeattn inspect`: what a graph, an engine and a bundle hold, and the findings of the lint."""

from __future__ import annotations

import json
import os
import pty
import re
import sys
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeattn import recipe
from edgeattn.artifact import sha256_file
from edgeattn.bundle.manifest import Manifest, Tensor
from edgeattn.bundle.writer import write_bundle
from edgeattn.cli import group
from edgeattn.imaging import Preprocess

ENGINE = {
    "schema": "edgeattn.engine/1", "backend": "openvino", "asked_precision": "int8", "precision": "int8",
    "layers": {"fp32": 3, "int8": 9}, "macs": {"int8": 1000}, "fingerprint": {"cpu": "ours"}, "notes": ["slow."],
}  # fmt: skip


def graph(first="cast"):
    """A frame to logits; `first` says whether the cast or the transposition comes first, which TensorRT cares about."""
    cast = {"op_type": "Cast", "to": TensorProto.FLOAT}
    turn = {"op_type": "Transpose", "perm": [0, 3, 1, 2]}
    order = (cast, turn) if first == "cast" else (turn, cast)
    nodes = [
        helper.make_node(inputs=["frame"], outputs=["a"], name="one", **order[0]),
        helper.make_node(inputs=["a"], outputs=["b"], name="two", **order[1]),
        helper.make_node("Conv", ["b", "w"], ["c"], name="conv"),
        helper.make_node("ReduceMean", ["c", "axes"], ["logits"], name="mean", keepdims=0),
    ]
    made = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, ["n", 8, 8, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 4])],
        [
            numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "w"),
            numpy_helper.from_array(np.array([2, 3]), "axes"),
        ],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10, producer_name="tests")


@pytest.fixture
def model(tmp_path):
    onnx.save(graph(), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture
def refused(tmp_path):
    onnx.save(graph("transpose"), tmp_path / "refused.onnx")
    return tmp_path / "refused.onnx"


@pytest.fixture
def bundle(tmp_path):
    def bundle(engine):
        manifest = Manifest(
            "classify",
            ("a", "b"),
            (Tensor("frame", (None, 8, 8, 3), "uint8"),),
            (Tensor("logits", (None, 4), "float32"),),
            Preprocess(8, 8),
            "int8",
            "cpu",
            "openvino",
            "engine" if engine else None,
            provenance={"recipe": "tiny"},
        )
        files = {"model.onnx": graph("transpose").SerializeToString(), "golden.npz": b"golden"}
        if engine:
            files |= {"engine/engine.json": json.dumps(ENGINE).encode(), "engine/engine.blob": b"blob"}
        return write_bundle(tmp_path / "tiny.edgeattn", manifest, files)

    return bundle


def test_every_node_of_a_graph(within, model):
    ended = within("inspect", model)
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0] == f"file       {model}"
    assert lines[1] == f"sha256     {sha256_file(model)}, {model.stat().st_size} bytes"
    assert lines[2:] == [
        "graph      opset 20, 4 nodes, by tests",
        "input      frame: uint8 ? x 8 x 8 x 3",
        "output     logits: float32 ? x 4",
        "computing  2 fp32",
        "macs       768 fp32",
        "precision operator               opset  placement node",
        "fp32      Cast                      19  gpu       one",
        "fp32      Transpose                 13  gpu       two",
        "fp32      Conv                      11  gpu       conv",
        "fp32      ReduceMean                18  gpu       mean",
        "Not judged: give --tensorrt, such as 10.3, or --target to have the graph judged.",
    ]


def test_findings(within, model, refused):
    ended = within("inspect", model, "--tensorrt", "10.3")
    assert ended.code == 0
    assert ended.out.splitlines()[-1] == "0 errors, 0 warnings, 0 notes for TensorRT 10.3"
    ended = within("inspect", refused, "--tensorrt", "11.4.1")
    assert (ended.code, ended.err) == (1, "")
    found, summary = ended.out.splitlines()[-2:]
    assert found.startswith("error   typing.uint8  Transpose 'one': It reads 'frame', which is UINT8. TensorRT casts")
    assert summary == "1 error, 0 warnings, 0 notes for TensorRT 11.4.1"
    assert within("inspect", refused, "--tensorrt", "11.4.1").out == ended.out


def test_as_json(within, refused):
    ended = within("inspect", refused, "--tensorrt", "10.3", "--json")
    assert (ended.code, ended.err) == (1, "")
    facts = json.loads(ended.out)
    assert (facts["schema"], facts["kind"], facts["opset"]) == ("edgeattn.inspect/1", "onnx", 20)
    assert facts["inputs"] == [{"name": "frame", "dtype": "uint8", "shape": [None, 8, 8, 3]}]
    assert facts["precisions"] == {"fp32": 2} and facts["tensorrt"] == ["10.3"]
    assert [node["operator"] for node in facts["nodes"]] == ["Transpose", "Cast", "Conv", "ReduceMean"]
    (found,) = facts["findings"]
    assert found.keys() == {"node", "operator", "rule", "severity", "what", "consequence", "cure", "tensorrt"}
    assert (found["node"], found["rule"], found["tensorrt"]) == ("one", "typing.uint8", ["10.3"])
    assert "note" not in facts and json.loads(within("inspect", refused, "--json").out)["note"].startswith("Not judged")


def test_a_folder_that_holds_a_graph(within, model):
    whole, folder = (json.loads(within("inspect", path, "--json").out) for path in (model, model.parent))
    assert folder == {**whole, "file": str(model.parent)}


def test_dla(within, model):
    ended = within("inspect", model, "--tensorrt", "10.3", "--dla", "--json")
    facts = json.loads(ended.out)
    assert ended.code == 1  # the batch is dynamic
    assert {found["rule"] for found in facts["findings"]} == {"dla.dynamic", "dla.gpu"}
    assert {node["placement"] for node in facts["nodes"]} == {"dla", "gpu"}


def test_calibrated_ranges(within, tmp_path):
    half = graph()
    half.graph.node[0].attribute[0].i = TensorProto.FLOAT16
    weights = numpy_helper.to_array(half.graph.initializer[0]).astype(np.float16)
    half.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "w"))
    half.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(half, tmp_path / "half.onnx")
    (tmp_path / "ranges.json").write_text('{"c": 7e4}')
    assert within("inspect", tmp_path / "half.onnx", "--tensorrt", "10.3").code == 0
    ended = within("inspect", tmp_path / "half.onnx", "--tensorrt", "10.3", "--ranges", tmp_path / "ranges.json")
    assert ended.code == 1
    assert "overflow.tensor  Conv 'conv': Its result 'c' reaches 7e+04 in calibration." in ended.out


def test_a_target_of_openvino_has_no_such_rules(within, refused):
    ended = within("inspect", refused, "--target", "cpu")
    assert ended.code == 0
    assert ended.out.splitlines()[-1] == "Not judged: the target cpu uses openvino, which has no rules of this kind."


@pytest.mark.parametrize(
    ("span", "versions"),
    [({"min": "10.3", "max": "11.4"}, ["10.3", "11.4"]), ({"min": "10.3", "max": None}, ["10.3"]), (None, None)],
)
def test_a_target_of_tensorrt_is_judged_by_its_oldest_and_newest(within, refused, monkeypatch, span, versions):
    device = SimpleNamespace(name="ours", backend="tensorrt", tensorrt=span and SimpleNamespace(**span))
    monkeypatch.setattr(recipe, "load_target", lambda name: device)
    ended = within("inspect", refused, "--target", "ours", "--json")
    if versions is None:
        assert ended.code == 2 and "The target ours does not say its TensorRT version" in ended.error
        return
    facts = json.loads(ended.out)
    assert facts["tensorrt"] == versions and [found["tensorrt"] for found in facts["findings"]] == [versions]


def test_a_jetson_is_judged_by_its_range_and_gives_the_least_latency(within, model, refused):
    ended = within("inspect", model, "--target", "jetson")
    assert (ended.code, ended.err) == (0, "")
    # 768 FP32 multiply-adds at 2.09 TFLOPS; 192 bytes in and 16 out at 102.4 GB/s, the weights fit the cache.
    assert (
        "roofline   jetson-orin-nano. Estimate, not measured: at least 2.03e-06 ms, for memory traffic alone; "
        "arithmetic would need 7.35e-07 ms; arithmetic is the fewest multiplications that known kernels need."
    ) in ended.out.splitlines()
    assert ended.out.splitlines()[-1].endswith("for TensorRT 10.3 and 10.16.2")
    facts = json.loads(within("inspect", model, "--target", "jetson", "--json").out)
    assert facts["work"] == {
        "macs": {"fp32": 768}, "least_macs": {"fp32": 768}, "weights_bytes": 48, "input_bytes": 192, "output_bytes": 16,
        "uncounted": [],
    }  # fmt: skip
    assert (facts["roofline"]["target"], facts["roofline"]["binds"]) == ("jetson-orin-nano", "memory")
    assert within("inspect", refused, "--target", "jetson").code == 1
    facts = json.loads(within("inspect", refused, "--target", "jetson-thor", "--json").out)
    assert facts["tensorrt"] == ["10.13", "11.4.1"]
    for target in ("cpu", None):
        facts = json.loads(within("inspect", model, *(["--target", target] if target else []), "--json").out)
        assert "roofline" not in facts and facts["work"]["macs"] == {"fp32": 768}


def test_a_board_without_a_dla_has_no_rules_of_one(within, model):
    ended = within("inspect", model, "--target", "jetson", "--dla")
    assert ended.code == 2
    assert ended.error == "The target jetson-orin-nano has no deep learning accelerator; leave --dla out."
    ended = within("inspect", model, "--target", "jetson-orin-nx", "--dla")
    assert "has no DLA" not in ended.out
    without = (
        "Not judged for TensorRT 10.16.2.10 (JetPack 7.2 and 7.2.1), which {} runs too: it builds nothing for a DLA."
    )
    assert without.format("jetson-orin-nx") in ended.out.splitlines()
    assert ended.out.splitlines()[-1].endswith("for TensorRT 10.3")
    ended = within("inspect", model, "--tensorrt", "10.16.2", "--dla")
    assert (ended.code, "TensorRT 10.16.2 has no DLA." in ended.out) == (1, True)
    lines = within("inspect", model, "--target", "jetson-agx-orin", "--dla").out.splitlines()
    # Its oldest and its newest TensorRT have a DLA, one between them has none.
    assert without.format("jetson-agx-orin") in lines and lines[-1].endswith("for TensorRT 10.3 and 11.4.1")
    assert not any("has no DLA" in line for line in lines)
    assert "Not judged" not in within("inspect", model, "--target", "jetson-agx-orin").out


def test_a_type_that_the_board_lacks(within, tmp_path):
    eight = helper.make_tensor("zero", TensorProto.FLOAT8E4M3FN, [], [0.0])
    scale = numpy_helper.from_array(np.float32(0.1), "scale")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("x", "y")]
    rows = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    made = helper.make_graph(rows, "eight", ends[:1], ends[1:], [scale, eight])
    path = tmp_path / "eight.onnx"
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    ended = within("inspect", path, "--target", "jetson-agx-orin")
    assert (ended.code, ended.out.count("which needs compute capability 8.9; the target has 8.7.")) == (1, 2)
    assert within("inspect", path, "--target", "jetson-thor").code == 0


def test_what_two_versions_say_is_counted_once(within, tmp_path):
    newer = graph()
    newer.opset_import[0].version = 25
    onnx.save(newer, tmp_path / "newer.onnx")
    facts = json.loads(within("inspect", tmp_path / "newer.onnx", "--target", "jetson-agx-orin", "--json").out)
    ceilings = [found["tensorrt"] for found in facts["findings"] if found["rule"] == "opset.ceiling"]
    assert ceilings == [["10.3", "11.4.1"]]
    newer.opset_import[0].version = 23
    onnx.save(newer, tmp_path / "newer.onnx")
    said = within("inspect", tmp_path / "newer.onnx", "--target", "jetson-agx-orin").out
    assert "error   opset.ceiling  TensorRT 10.3: The file has opset 23; TensorRT 10.0 reads 20, 10.9 reads 22" in said


def test_an_engine(within, tmp_path):
    (tmp_path / "engine.json").write_text(json.dumps(ENGINE))
    ended = within("inspect", tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[1:] == [
        "engine     openvino, asked for int8, runs in int8",
        "layers     3 fp32, 9 int8",
        "macs       1000 int8",
        "built for  cpu: ours",
        "note       slow.",
    ]
    assert json.loads(within("inspect", tmp_path, "--json").out)["engine"] == ENGINE
    ended = within("inspect", tmp_path, "--tensorrt", "10.3")
    assert ended.code == 2 and "the rules are for graphs" in ended.error


def test_a_bundle_with_an_engine(within, bundle):
    path = bundle(True)
    ended = within("inspect", path)
    assert (ended.code, ended.err) == (0, "")
    for line in (
        "holds      classify, int8 for cpu (openvino)",
        "labels     2: a, b",
        "layers     3 fp32, 9 int8",
        "signature  unsigned",
        "input      frame: uint8 ? x 8 x 8 x 3",
        "from       recipe: tiny",
    ):
        assert line in ended.out.splitlines()
    facts = json.loads(within("inspect", path, "--json").out)
    assert facts["manifest"]["variant"] == "int8" and facts["engine"] == ENGINE and "nodes" not in facts
    ended = within("inspect", path, "--tensorrt", "10.3")
    assert ended.code == 1 and "typing.uint8" in ended.out


def test_a_bundle_without_an_engine_shows_its_graph(within, bundle):
    ended = within("inspect", bundle(False))
    assert ended.code == 0
    assert "computing  2 fp32" in ended.out.splitlines()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.onnx"], "none.onnx cannot be read (No such file or directory); check the path."),
        (["tiny.yaml"], "tiny.yaml is not an ONNX file; give a .onnx, an engine's folder or a bundle."),
        (["empty"], "There is neither engine.json nor model.onnx in empty"),
        (["model.onnx", "--tensorrt", "ten"], "A TensorRT version is written as 10.3 or 10.16.2.10, got 'ten'."),
        (["model.onnx", "--tensorrt", "8.6"], "The rules of TensorRT 8.6 are not known"),
        (["model.onnx", "--target", "toaster"], "There is no target 'toaster'"),
        (["model.onnx", "--tensorrt", "10.3", "--ranges", "none"], "none cannot be read"),
        (["model.onnx", "--tensorrt", "10.3", "--ranges", "tiny.yaml"], "tiny.yaml is no JSON file"),
        (["model.onnx", "--tensorrt", "10.3", "--ranges", "list.json"], "list.json must be a JSON object"),
        (["model.onnx", "--ranges", "huge.json"], "huge.json gives 'c' the range 1000000000"),
        (
            ["model.onnx", "--ranges", "below.json"],
            "below.json gives 'c' the range -1.5; --ranges takes the largest |x|",
        ),
        (["model.onnx", "--ranges", "nan.json"], "nan.json gives 'c' the range nan"),
        (["model.onnx", "--ranges", "/dev/zero"], "/dev/zero is no regular file; --ranges takes a JSON file"),
        (["/dev/zero"], "/dev/zero is no regular file; give a .onnx, an engine's folder or a bundle."),
        (["fifo.onnx"], "fifo.onnx is no regular file"),
        (["untyped.onnx"], "untyped.onnx is broken (ONNX has no element type 99)"),
        (["listed"], "`layers` in listed/engine.json must be an object; compile the model again."),
        (["noted"], "`notes` in noted/engine.json must be a list"),
        (["broken"], "engine.json is no description of an engine"),
        (["cut.edgeattn"], "cut.edgeattn"),
    ],
)
def test_bad_input_is_one_sentence(within, model, tmp_path, arguments, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/engine.json").write_text("{}")
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "cut.edgeattn").write_bytes(b"PK\x03\x04 and nothing else")
    for name, value in (("huge", "1" + "0" * 400), ("below", "-1.5"), ("nan", "NaN")):
        (tmp_path / f"{name}.json").write_text(f'{{"c": {value}}}')
    for name, wrong in (("listed", {"layers": [1]}), ("noted", {"notes": None})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "engine.json").write_text(json.dumps({**ENGINE, **wrong}))
    os.mkfifo(tmp_path / "fifo.onnx")
    untyped = graph()
    untyped.graph.initializer[0].data_type = 99
    onnx.save(untyped, tmp_path / "untyped.onnx")
    ended = within("inspect", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert words in ended.error


@pytest.mark.parametrize("operator", ["Add", "Mul", "Identity"])
def test_a_long_chain_of_nodes(within, tmp_path, operator):
    rows = [helper.make_node(operator, [f"t{i}", "k"][: 1 if operator == "Identity" else 2], [f"t{i + 1}"])
            for i in range(1000)]  # fmt: skip
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("t0", "t1000")]
    made = helper.make_graph(rows, "long", ends[:1], ends[1:], [numpy_helper.from_array(np.float32(1e-12), "k")])
    onnx.save(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "long.onnx"
    )
    ended = within("inspect", tmp_path / "long.onnx", "--tensorrt", "10.3")
    assert (ended.code, ended.err) == (0, "")


def test_a_target_and_a_version(within, model):
    ended = within("inspect", model, "--target", "cpu", "--tensorrt", "10.3")
    assert ended.code == 2
    assert "give one of --target and --tensorrt" in ended.err


def test_without_onnx(within, model, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "onnx" else find(name, *rest))
    ended = within("inspect", model)
    assert ended.code == 3
    assert 'install with: pip install "edgeattn[train]"' in ended.error


def test_on_a_terminal_it_is_a_table(refused):
    env = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR", "CI")}
    env |= {"TERM": "xterm-256color", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    pid, terminal = pty.fork()
    if pid == 0:
        launch = "from edgeattn.cli import main; main()"
        os.execve(sys.executable, [sys.executable, "-c", launch, "inspect", str(refused), "--tensorrt", "10.3"], env)
    data = b""
    try:
        while chunk := os.read(terminal, 65536):
            data += chunk
    except OSError:  # Linux: the other side has closed
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    said = data.decode()
    assert "\x1b[1;31merror" in said
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said)
    assert "Transpose" in plain and "1 error, 0 warnings, 0 notes for TensorRT 10.3" in plain


def test_it_is_a_command():
    assert "inspect" in group.list_commands(None) and "inspection" not in group.list_commands(None)
