"""What stays FP32 in an FP16 graph: each trap with its figures, in FP16 throughout (before) and with islands (after).

The graph is computed node by node, every FP16 tensor rounded, as a device is emulated (`quantize.emulate`).
"""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgeattn.lint import lint
from edgeattn.lint.base import Rules
from edgeattn.metrics.tensors import sqnr_db
from edgeattn.progress import silent
from edgeattn.quantize import emulate, fp16, qdq
from edgeattn.quantize.fp16 import kept, to_fp16
from edgeattn.quantize.ranges import largest


@pytest.fixture
def measured(tmp_path):
    def run(model, calls):
        (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
        return largest(tmp_path / "model.onnx", calls, silent)

    return run


@pytest.fixture
def without_islands(monkeypatch):
    """without_islands(model): FP16 throughout, as a plain converter writes it."""

    def convert(model):
        with monkeypatch.context() as patch:
            patch.setattr(fp16, "islands", lambda graph, ranges: {})
            return to_fp16(model)

    return convert


def errors(model, ranges=None):
    return {f.rule for f in lint(model, Rules((10, 3)), ranges or {}) if f.rule.startswith("overflow.")}


def node(kind, inputs, output, **attributes):
    return helper.make_node(kind, inputs.split(), [output], name=output, **attributes)


def layer_norm(square):
    """As an exporter of opset 16 writes it."""
    return [
        node("ReduceMean", "x axes", "mean"),
        node("Sub", "x mean", "d"),
        square,
        node("ReduceMean", "s axes", "v"),
        node("Add", "v epsilon", "ve"),
        node("Sqrt", "ve", "std"),
        node("Div", "d std", "y"),
    ]


@pytest.mark.parametrize("square", [node("Mul", "d d", "s"), node("Pow", "d two", "s")], ids=["Mul", "Pow"])
@pytest.mark.parametrize("spread", [30, 300, 3000])
def test_a_layer_norm_written_out(square, spread, hand_made, without_islands, computed):
    """Around 300 the squares overflow, and so does their mean: nothing of the signal is left. Around 30 all is well."""
    constants = {"axes": np.int64([-1]), "two": np.float32(2), "epsilon": np.float32(1e-5)}
    model = hand_made(layer_norm(square), {"x": [8, 64]}, {"y": [8, 64]}, constants)
    x = {"x": np.random.default_rng(0).normal(0, spread, (8, 64)).astype(np.float32)}
    want = computed(model, x)
    plain, ours = without_islands(model), to_fp16(model)
    before, after = sqnr_db(want, computed(plain, x)), sqnr_db(want, computed(ours, x))
    assert after > 60
    assert (before < 1) == (spread > 256 / 4)  # the largest of 512 values is about three times the spread
    assert set(kept(to_fp16(model))) == {"s", "v", "ve", "std"}
    assert "overflow.square" in errors(plain)
    assert errors(ours) == set()


def test_a_variance_cast_back_too_early_is_found(hand_made, computed):
    """Squares in FP32 are not enough: their mean, 90,000, is infinite once it is FP16 again."""
    constants = {"axes": np.int64([-1]), "epsilon": np.float32(1e-5)}
    model = hand_made(layer_norm(node("Mul", "d d", "s")), {"x": [8, 64]}, {"y": [8, 64]}, constants)
    half = to_fp16(model)
    x = {"x": np.random.default_rng(0).normal(0, 300, (8, 64)).astype(np.float32)}
    want = computed(model, x)
    early = onnx_with(half, "v")
    assert errors(early) == {"overflow.square"}
    assert sqnr_db(want, computed(early, x)) < 1
    assert sqnr_db(want, computed(half, x)) > 60


def onnx_with(model, name):
    """`model` with tensor `name` in FP16 for a moment."""
    changed = type(model)()
    changed.CopyFrom(model)
    nodes = list(changed.graph.node)
    at = next(i for i, made in enumerate(nodes) if name in made.output)
    for reader in nodes[at + 1 :]:
        reader.input[:] = [f"{name}_back" if read == name else read for read in reader.input]
    there = helper.make_node("Cast", [name], [f"{name}_half"], name="there", to=TensorProto.FLOAT16)
    back = helper.make_node("Cast", [f"{name}_half"], [f"{name}_back"], name="back", to=TensorProto.FLOAT)
    del changed.graph.node[:]
    changed.graph.node.extend([*nodes[: at + 1], there, back, *nodes[at + 1 :]])
    return changed


def steep(hand_made):
    """A branch that leaves FP16 and comes back: nothing in the graph shows it, its calibration does."""
    nodes = [
        node("MatMul", "x up", "wide"),
        node("Relu", "wide", "still"),
        node("MatMul", "still down", "narrow"),
        node("Add", "narrow x", "y"),
    ]
    rng = np.random.default_rng(1)
    constants = {
        "up": rng.normal(0, 3e3, (64, 64)).astype(np.float32),
        "down": rng.normal(0, 1e-5, (64, 64)).astype(np.float32),
    }
    return hand_made(nodes, {"x": [8, 64]}, {"y": [8, 64]}, constants)


def test_what_calibration_shows_to_leave_fp16(hand_made, without_islands, computed, measured):
    model = steep(hand_made)
    rng = np.random.default_rng(2)
    calls = [{"x": rng.normal(0, 1, (8, 64)).astype(np.float32)} for _ in range(4)]
    ranges, x = measured(model, calls[:3]), calls[3]
    want = computed(model, x)
    plain, ours = without_islands(model), to_fp16(model, ranges)
    with np.errstate(all="ignore"):
        assert not np.isfinite(computed(plain, x)).all()  # before: infinity, and NaN where two of them meet
    assert sqnr_db(want, computed(ours, x)) > 55
    assert errors(plain, ranges) == {"overflow.tensor"}
    assert errors(plain) == set()
    assert errors(ours, ranges) == set()
    reasons = kept(to_fp16(model, ranges))
    assert set(reasons) == {"wide", "still", "narrow"}
    assert reasons["wide"] == "'wide' reaches 9.22e+04 (in calibration), FP16 ends at 65504"


def test_int8_beside_it_stays_fp32_too(hand_made, computed, measured):
    """The scale of such a tensor is FP32, and so is what is dequantized with it."""
    model = steep(hand_made)
    x = {"x": np.random.default_rng(2).normal(0, 1, (8, 64)).astype(np.float32)}
    ranges = measured(model, [x])
    nodes = list(model.graph.node)
    scale, zero = np.float32(ranges["still"] / 127), np.int8(0)
    pair = [node("QuantizeLinear", "still scale zero", "q"), node("DequantizeLinear", "q scale zero", "dq")]
    nodes[2].input[0] = "dq"
    constants = {t.name: np.asarray(fp16.numpy_helper.to_array(t)) for t in model.graph.initializer}
    constants |= {"scale": scale, "zero": zero}
    quantized = hand_made([*nodes[:2], *pair, *nodes[2:]], {"x": [8, 64]}, {"y": [8, 64]}, constants)
    want = computed(quantized, x)
    assert sqnr_db(want, computed(to_fp16(quantized, ranges), x)) > 55
    with np.errstate(all="ignore"):
        assert not np.isfinite(computed(to_fp16(quantized), x)).all()


@pytest.mark.parametrize(
    ("side", "largest_value", "stays"), [(31, 1.0, False), (32, 1.0, True), (16, 250.0, True), (16, 200.0, False)]
)
def test_sums(side, largest_value, stays, hand_made):
    """Of 1,000 values and more, or of so large ones that a kernel adding in FP16 would end at 65504."""
    nodes = [node("Relu", "x", "r"), node("GlobalAveragePool", "r", "y")]
    model = hand_made(nodes, {"x": [1, 8, side, side]}, {"y": [1, 8, 1, 1]}, {})
    assert ("y" in kept(to_fp16(model, {"r": largest_value}))) == stays
    assert errors(to_fp16(model, {"r": largest_value}), {"r": largest_value}) == set()


def test_softmax_is_fp16_between_fp16_products(attention_network):
    """A cast on either side would keep TensorRT from fusing attention."""
    half = to_fp16(attention_network)
    makers = {name: made for made in half.graph.node for name in made.output}
    softmaxes = [made for made in half.graph.node if made.op_type == "Softmax"]
    assert softmaxes
    for made in softmaxes:
        assert made.output[0].endswith("_fp16")
        assert makers[made.input[0]].op_type != "Cast"


def test_the_signed_form_takes_the_ranges_too(monkeypatch):
    from edgeattn.quantize import form

    seen = []
    monkeypatch.setattr(form.fp16, "to_fp16", lambda model, ranges: seen.append(ranges))
    monkeypatch.setattr(qdq, "for_tensorrt", lambda model: model)
    form.TENSORRT.finish(None, {"t": 9e4})
    assert seen == [{"t": 9e4}]


def test_onnxruntime_by_itself_rounds_nothing_to_fp16(hand_made, tmp_path, without_islands):
    """Why `quantize.emulate` exists. When this fails, ONNX Runtime keeps the casts, and may do without it."""
    from edgeattn.backends import onnxruntime

    nodes = [node("Mul", "x up", "z"), node("Mul", "z down", "y")]
    model = hand_made(nodes, {"x": [1, 4]}, {"y": [1, 4]}, {"up": np.float32(3e4), "down": np.float32(1e-4)})
    (tmp_path / "model.onnx").write_bytes(without_islands(model).SerializeToString())
    found = []
    for load in (
        lambda: onnxruntime.load(tmp_path, threads=1, as_written=True),
        lambda: emulate.load(tmp_path, threads=1),
    ):
        runner = load()
        found.append(runner.infer({"x": np.full((1, 4), 3, np.float32)})["y"])
        runner.close()
    np.testing.assert_allclose(found[0], 9, rtol=1e-3)
    assert np.isinf(found[1]).all()  # 90,000 is no FP16
