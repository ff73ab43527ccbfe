"""What can be told of a target that is not here: rows, gate, selection."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeattn.artifact import Precision, Stage, Store
from edgeattn.backends import tensorrt
from edgeattn.board import jetson
from edgeattn.errors import ModelError
from edgeattn.measure.select import Limits
from edgeattn.pipeline import checks, deferred, gate
from edgeattn.pipeline.elsewhere import elsewhere, unsuited
from edgeattn.pipeline.rows import Row
from edgeattn.recipe import load_target

JETSON = load_target("jetson")


def test_engines_of_openvino_are_built_here():
    assert elsewhere(load_target("cpu")) is None


@pytest.mark.parametrize(
    ("missing", "module", "version", "target", "why"),
    [
        ("TensorRT cannot be used (none); install it.", None, "", "jetson", "TensorRT cannot be used (none)."),
        (
            None,
            None,
            "10.3.0",
            "jetson",
            "This machine is no Jetson, or a container that hides which one, the target jetson-orin-nano is p3767-0003",
        ),
        (None, "p3701-0005", "10.3.0", "jetson", "This machine is p3701-0005, the target jetson-orin-nano is p3767"),
        (None, "p3767-0005", "10.3.0", "jetson", None),
        (None, None, "10.3.0", "nvidia", None),
        (None, None, "10.13.3.9.post1", "nvidia", None),
        (None, None, "10.1.0", "nvidia", "This machine has TensorRT 10.1.0, the target nvidia is for 10.3 or newer."),
    ],
)
def test_those_of_tensorrt_only_on_the_device(missing, module, version, target, why, monkeypatch):
    monkeypatch.setattr(tensorrt, "missing", lambda: missing)
    monkeypatch.setattr(jetson, "module_id", lambda: module)
    monkeypatch.setattr(tensorrt, "fingerprint", lambda: {"tensorrt": version})
    found = elsewhere(load_target(target))
    assert found == why if why is None else found.startswith(why)


@pytest.mark.parametrize(
    ("module", "capability", "multiprocessors", "suits"),
    [
        (None, "8.7", "8", True),
        (None, "8.7", "16", False),
        (None, "11.0", "8", False),
        ("p3701-0005", "8.7", "8", False),  # what says which it is is believed
    ],
)
def test_in_a_container_the_gpu_tells_which_board_it_is(module, capability, multiprocessors, suits):
    """Docker hides the device tree, and with it the module."""
    gpu = {"tensorrt": "10.3.0", "compute_capability": capability, "multiprocessors": multiprocessors}
    assert (unsuited(JETSON, "It", module, gpu) is None) == suits


def a_row(variant, delta=0.0, sqnr=50.0):
    drift = {"metric_delta": delta, "sqnr_db": sqnr, "max_abs": 1.0}
    metric = {"name": "top1", "unit": "%", "higher_is_better": True}
    return Row(Stage.COMPILE, variant, "tensorrt", "deferred", metric=metric, drift=drift, emulated=True)


@pytest.mark.parametrize(
    ("deltas", "limits", "chosen", "said"),
    [
        ({"fp32": 0, "fp16": 0, "int8": -0.1}, {}, "fp16", "Whether int8 is faster than fp16 must be measured"),
        ({"fp32": 0, "fp16": -2, "int8": -0.1}, {}, "int8", "fp16 loses 2"),
        ({"fp32": 0, "fp16": -2, "int8": -2}, {}, "fp32", "int8 loses 2"),
        ({"int8": -0.1}, {}, "int8", "int8 is inside the budget by emulation"),
        ({"fp32": -1, "int8": -1}, {}, None, "No variant is inside the budget"),
        ({"fp16": 0}, {"latency_p99_ms_max": 5.0}, "fp16", "The limit of 5 ms is judged on the device"),
    ],
)
def test_what_ships_is_decided_by_emulated_accuracy_alone(deltas, limits, chosen, said):
    """FP16 before INT8: that INT8 is faster, nobody has measured. FP32, which has no tensor cores, comes last."""
    state = SimpleNamespace(limits=Limits(**{"metric_drop_max": 0.5, **limits}))
    found = deferred.select(state, [a_row(variant, delta) for variant, delta in deltas.items()])
    assert found.variant == chosen
    assert any(said in sentence for sentence in found.why)


def graph(kind, folder):
    """A graph of one operator as a finished artifact, and its store."""
    node = helper.make_node(kind, ["x"], ["y"], name="only")
    model = helper.make_model(
        helper.make_graph(
            [node],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )

    def write(work, out):
        (out / "model.onnx").write_bytes(model.SerializeToString())

    return Store(folder).build(Stage.EXPORT, "fp32", {"kind": kind}, write)


def test_the_rules_of_the_target_are_a_gate(tmp_path, monkeypatch):
    """Bernoulli is no operator of TensorRT; Relu is."""
    context = SimpleNamespace(target=JETSON)
    why, notes = gate.refusal(context, graph("Relu", tmp_path), None)
    assert (why, notes) == (None, ())
    bad = graph("Bernoulli", tmp_path)
    why, _ = gate.refusal(context, bad, None)
    assert why.startswith("TensorRT 10.3 would refuse it or compute something else: Bernoulli 'only'")

    rows = []
    state = SimpleNamespace(context=None, add=lambda *made: rows.extend(made), row=lambda name: a_row("fp32"))
    state.context = SimpleNamespace(
        target=JETSON,
        wanted=[Precision.FP32, Precision.INT8],
        elsewhere="No TensorRT here.",
        left_out=lambda precision: None,
    )
    monkeypatch.setattr(gate, "measured", lambda context, exported: None)
    sound = deferred.engines(state, {Precision.FP32: bad}, bad)
    assert sound == [] and [row.status for row in rows] == ["failed", "unsupported"]


def test_a_deferred_row_has_the_accuracy_of_its_graph_and_an_estimate(tmp_path, monkeypatch):
    made = graph("Relu", tmp_path)
    judged = replace(a_row("fp32", -0.2), stage=Stage.EXPORT, emulation={"metric": 1.0, "sqnr_db": 60.0})
    rows = []
    context = SimpleNamespace(
        target=JETSON, wanted=[Precision.FP32], elsewhere="No TensorRT here.", left_out=lambda precision: None
    )
    state = SimpleNamespace(context=context, add=lambda *new: rows.extend(new), row=lambda name: judged)
    monkeypatch.setattr(gate, "measured", lambda context, exported: None)
    monkeypatch.setattr(checks, "timed_frames", lambda context: [({}, {}, {})])  # in three tiles
    (row,) = deferred.engines(state, {Precision.FP32: made}, made)
    values = row.to_dict()
    assert (values["status"], values["emulated"], values["drift"]["metric_delta"]) == ("deferred", True, -0.2)
    assert values["artifact"]["sha256"] == made.sha256 and values["latency"] is None
    assert values["emulation"] == {"metric": 1.0, "sqnr_db": 60.0}
    assert values["estimate"]["bound_ms"] > 0 and "for a frame of 3 calls" in values["estimate"]["sentence"]
    assert "python -m edgeattn.runtime build BUNDLE" in values["reason"]


def test_what_fp16_cannot_hold_is_found_by_the_ranges(tmp_path):
    """The gate is given how large the FP32 graph's tensors became."""
    from edgeattn.quantize.fp16 import to_fp16

    nodes = [
        helper.make_node("Mul", ["x", "c"], ["z"], name="up"),
        helper.make_node("Mul", ["z", "d"], ["y"], name="dn"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    constants = [numpy_helper.from_array(np.float32(value), name) for name, value in (("c", 3e4), ("d", 1e-4))]
    model = helper.make_model(
        helper.make_graph(nodes, "g", values[:1], values[1:], constants),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )

    def write(work, out):
        (out / "model.onnx").write_bytes(to_fp16(onnx.shape_inference.infer_shapes(model)).SerializeToString())

    made = Store(tmp_path).build(Stage.QUANTIZE, "fp16", {}, write)
    context = SimpleNamespace(target=JETSON)
    assert gate.refusal(context, made, None)[0] is None
    ranges = tmp_path / "ranges.json"
    ranges.write_text('{"z": 9e4}')
    why, _ = gate.refusal(context, made, ranges)
    assert "65504" in why


def test_where_fusing_cannot_be_tried_the_row_stays(monkeypatch):
    """It is ONNX Runtime's optimizations that fail; the graph itself was computed node by node."""

    def failing(context, row, reference):
        raise ModelError("The fused kernel is broken.")

    monkeypatch.setattr(checks, "accuracy", failing)
    row = deferred.noise(None, a_row("int8"), None, None)
    assert (row.status, row.emulation) == ("deferred", None)
    assert row.notes == ("how far fusing moves the outputs is not known: The fused kernel is broken.",)
