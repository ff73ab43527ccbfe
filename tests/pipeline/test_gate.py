"""The target's rules as a gate: which ranges they are given, and what they say."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import onnx.parser
import pytest

from edgeattn import lint
from edgeattn.artifact import Precision, Stage, Store
from edgeattn.data.base import Sample, Splits
from edgeattn.pipeline import gate, stages
from edgeattn.pipeline.context import Context
from edgeattn.quantize import run
from edgeattn.recipe import Recipe, load_target

RECIPE = {
    "name": "mine",
    "task": "restore",
    "model": {"name": "restore_unet"},
    "input": {"height": 8, "width": 8},
    "data": {"format": "scenes"},
    "train": {"epochs": 1},
}
# A frame is up to 255, `up` up to 765 000: FP16 ends at 65 504.
STEEP = """<ir_version: 10, opset_import: ["" : 20]>
g (uint8[1, 8, 8, 3] frame) => (float[1, 8, 8, 3] image) <float large = {3000}, float small = {0.0001}>
{ x = Cast <to = 1> (frame) up = Mul (x, large) image = Mul (up, small) }"""


class Frames(list):
    def name(self, index):
        return str(index)


@pytest.fixture
def context(tmp_path):
    def make(target="jetson"):
        frames = Frames(
            Sample(np.full((8, 8, 3), value, np.uint8), np.zeros((8, 8, 3), np.uint8)) for value in (9, 200, 20)
        )
        made = Context(
            recipe=Recipe(**RECIPE),
            target=load_target(target),
            store=Store(tmp_path / "store"),
            data_root=tmp_path,
            progress=lambda done, total, text: None,
        )
        made.__dict__["splits"] = Splits(Frames(), frames, Frames(), (), "f", "t")
        return made

    return make


@pytest.fixture
def steep(tmp_path):
    def exported(text=STEEP):
        def write(work, out):
            model = onnx.parser.parse_model(text)
            for index, node in enumerate(model.graph.node):
                node.name = f"{node.op_type}_{index}"
            (out / "model.onnx").write_bytes(onnx.shape_inference.infer_shapes(model).SerializeToString())
            (out / "model.json").write_text("{}")

        return Store(tmp_path / "store").build(Stage.EXPORT, "fp32", {"text": text}, write)

    return exported


def test_ranges_are_measured_on_the_calibration_frames(context, steep):
    found = json.loads(gate.measured(context(), steep()).read_text())
    assert found == {"image": pytest.approx(60.0), "up": 600_000.0, "x": 200.0}


def test_a_target_without_rules_needs_none(context, steep):
    assert gate.measured(context("cpu"), steep()) is None
    assert gate.refusal(context("cpu"), steep(), None) == (None, ())


def test_a_graph_that_does_not_run_has_no_ranges(context, steep):
    """Its own rows say that; the rules judge it without."""
    broken = steep(STEEP.replace("Cast <to = 1> (frame)", "Missing (frame)"))
    assert gate.measured(context(), broken) is None


@pytest.mark.parametrize("measured", [True, False])
def test_the_fp16_graph_is_made_by_the_ranges_and_judged_by_them(context, steep, measured, monkeypatch):
    """What passes 65504 stays FP32. Made without the ranges it would not, and then the gate says so."""
    made, exported = context(), steep()
    if not measured:
        quantize = run.quantize
        monkeypatch.setattr(run, "quantize", lambda *given, **named: quantize(*given, **{**named, "ranges": None}))
    half = stages.quantize(made, exported, Precision.FP16)
    kept = half.json("quantization.json")["float_nodes"]
    why, _ = gate.refusal(made, half, gate.measured(made, exported))
    if measured:
        assert "Mul_1" in kept and why is None
    else:
        assert "Mul_1" not in kept and "65504" in why


def test_warnings_are_notes_with_the_command_that_lists_them(context, steep, tmp_path):
    """The command holds the target and the file of ranges, both of which it needs to say the same."""
    attention = steep("""<ir_version: 10, opset_import: ["" : 20]>
    g (float[1, 4, 8] q, float[1, 8, 4] k, float[1, 4, 8] v) => (float[1, 4, 8] y) <float scale = {0.35}>
    { s = MatMul (q, k) t = Mul (s, scale) p = Softmax (t) y = MatMul (p, v) }""")
    ranges = tmp_path / "ranges.json"
    ranges.write_text("{}")
    why, notes = gate.refusal(context(), attention, ranges)
    assert why is None
    assert [note.split(":")[0] for note in notes] == ["TensorRT 10.3", "TensorRT 10.16.2"]
    path = attention.path / "model.onnx"
    assert all(note.endswith(f"edgeattn inspect {path} --target jetson-orin-nano --ranges {ranges}") for note in notes)


def test_one_version_is_judged_once(context, steep, monkeypatch):
    made = context()
    one = replace(made, target=made.target.model_copy(update={"tensorrt": SimpleNamespace(min="10.3", max="10.3")}))
    judged = []
    monkeypatch.setattr(lint, "lint", lambda model, rules, ranges: judged.append(rules.version) or [])
    for target in (one, made):
        assert gate.refusal(target, steep(), None) == (None, ())
    assert judged == ["10.3", "10.3", "10.16.2"]


def test_what_is_refused(context, steep):
    bad = steep(STEEP.replace("Cast <to = 1> (frame)", "Cast <to = 1> (frame) b = Bernoulli (x)"))
    why, _ = gate.refusal(context(), bad, None)
    assert why.startswith("TensorRT 10.3 would refuse it")
