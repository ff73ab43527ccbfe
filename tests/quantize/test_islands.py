"""What stays FP32 in an FP16 graph: each trap with its figures, in FP16 throughout (before) and with islands (after).

The graph is computed node by node, every FP16 tensor rounded, as a device is emulated (`quantize.emulate`).
"""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgeattn.lint import lint
from edgeattn.lint._patterns import product_is_int8
from edgeattn.lint.base import Rules
from edgeattn.metrics.tensors import sqnr_db
from edgeattn.onnxgraph.view import Graph
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


def attention(hand_made, mask, constants, inputs=()):
    """Scores, a mask, Softmax and values; `mask` makes `masked` of `scores`."""
    flags = [node("Cast", f"{name}_given", name, to=TensorProto.BOOL) for name in inputs]
    nodes = [node("MatMul", "q k", "scores"), *flags, *mask]
    nodes += [node("Softmax", "masked", "w"), node("MatMul", "w v", "y")]
    rng = np.random.default_rng(3)
    keys = {name: rng.normal(0, 1, (8, 8)).astype(np.float32) for name in "kv"}
    given = {f"{name}_given": [8, 8] for name in inputs}
    return hand_made(nodes, {"q": [1, 8, 8], **given}, {"y": [1, 8, 8]}, keys | constants)


CAUSAL = np.triu(np.ones((8, 8), bool), 1)
MASKINGS = {
    "added": lambda least: ([node("Add", "scores mask", "masked")], {"mask": np.where(CAUSAL, least, 0)}, ()),
    "twice": lambda least: (
        [node("Add", "scores mask", "once"), node("Add", "once mask", "masked")],
        {"mask": np.where(CAUSAL, least, 0)},
        (),
    ),
    "put in place": lambda least: ([node("Where", "hidden least scores", "masked")], {"least": least}, ("hidden",)),
    "times flags": lambda least: (
        [
            node("Cast", "hidden", "flag", to=TensorProto.FLOAT),
            node("Mul", "flag least", "mask"),
            node("Unsqueeze", "mask first", "row"),
            node("Add", "scores row", "masked"),
        ],
        {"least": least, "first": np.int64([0])},
        ("hidden",),
    ),
    "filled": lambda least: (
        [
            node("ConstantOfShape", "sides", "full", value=fp16.numpy_helper.from_array(np.float32([least]))),
            node("Where", "hidden full scores", "masked"),
        ],
        {"sides": np.int64([8, 8])},
        ("hidden",),
    ),
}


@pytest.mark.parametrize("least", [-1e4, -65504.0, -1e9, -3.4028235e38, -np.inf])
@pytest.mark.parametrize("masking", MASKINGS)
def test_a_mask_before_softmax_needs_no_fp32(masking, least, hand_made, computed, measured):
    """With measured ranges, in which the mask is: any cast would keep TensorRT from fusing attention."""
    if masking == "times flags" and np.isinf(least):
        pytest.skip("0 times infinity is NaN in FP32 too")
    mask, constants, inputs = MASKINGS[masking](np.float32(least))
    constants = {name: np.asarray(v, np.int64 if name in ("first", "sides") else np.float32)
                 for name, v in constants.items()}  # fmt: skip
    model = attention(hand_made, mask, constants, inputs)
    x = {"q": np.random.default_rng(4).normal(0, 1, (1, 8, 8)).astype(np.float32)}
    x |= {f"{name}_given": CAUSAL.astype(np.float32) for name in inputs}
    ranges = measured(model, [x])
    half = to_fp16(model, ranges)
    assert kept(half) == {}
    casts = {made.input[0] for made in half.graph.node if made.op_type == "Cast"}
    assert casts - {"hidden", "hidden_given", "hidden_given_fp16"} == {"q", "y_fp16"}  # at the graph's borders alone
    assert sqnr_db(computed(model, x), computed(half, x)) > 50
    assert errors(half, ranges) == ({"overflow.mask"} if np.isinf(least) else set())


def test_scores_beyond_fp16_stay_fp32_under_a_mask(hand_made):
    mask, constants, _ = MASKINGS["added"](np.float32(-1e9))
    model = attention(hand_made, mask, {name: np.float32(value) for name, value in constants.items()})
    assert set(kept(to_fp16(model, {"scores": 7e4, "masked": 1e9}))) == {"scores", "masked", "w"}


def test_a_large_factor_is_no_mask(hand_made):
    """Softmax of -1e9 times a distance seeks the nearest: that is no mask, and stays FP32."""
    mask, constants, _ = [node("Mul", "scores least", "masked")], {"least": np.float32(-1e9)}, ()
    assert set(kept(to_fp16(attention(hand_made, mask, constants)))) == {"masked"}


@pytest.mark.parametrize(
    ("bounded", "constants"),
    [
        (node("Clip", "x low high", "b"), {"low": np.float32(0), "high": np.float32(3.4e38)}),
        (node("Clip", "x low high", "b"), {"low": np.float32(-np.inf), "high": np.float32(6)}),
        (node("Max", "x low", "b"), {"low": np.float32(-3.4e38)}),
        (node("Min", "x high", "b"), {"high": np.float32(1e9)}),
    ],
)
def test_a_bound_beyond_fp16_is_none(bounded, constants, hand_made, computed):
    model = hand_made([bounded, node("Neg", "b", "y")], {"x": [4]}, {"y": [4]}, constants)
    half = to_fp16(model)
    assert kept(half) == {}
    assert errors(half) == set()
    x = {"x": np.float32([-60000, -1, 5, 60000])}
    np.testing.assert_allclose(computed(half, x), computed(model, x), rtol=1e-3)


def test_places_in_a_picture_are_computed_in_fp32(hand_made, without_islands, computed):
    """A picture of 1024 columns, each as bright as its number, sampled at places that arithmetic makes."""
    nodes = [node("Mul", "places scale", "s"), node("Add", "s shift", "grid"),
             node("GridSample", "picture grid", "y", align_corners=1)]  # fmt: skip
    constants = {"scale": np.float32(2 / 1023), "shift": np.float32(-1)}
    model = hand_made(nodes, {"picture": [1, 1, 2, 1024], "places": [1, 1, 512, 2]}, {"y": [1, 1, 1, 512]}, constants)
    x = np.sort(np.random.default_rng(5).uniform(0, 1023, 512)).astype(np.float32)
    inputs = {
        "picture": np.tile(np.arange(1024, dtype=np.float32), (1, 1, 2, 1)),
        "places": np.stack([x, np.zeros(512, np.float32)], -1)[None, None],
    }
    off = {name: np.abs(computed(half, inputs).reshape(-1) - x).max()
           for name, half in (("plain", without_islands(model)), ("ours", to_fp16(model)))}  # fmt: skip
    assert off["plain"] > 0.2
    assert off["ours"] < 1e-3
    assert set(kept(to_fp16(model))) == {"s", "grid", "y"}


def test_places_are_followed_back_to_a_product(hand_made):
    nodes = [
        node("MatMul", "p matrix", "moved"),
        node("Reshape", "moved sides", "r"),
        node("Tanh", "r", "grid"),
        node("GridSample", "picture grid", "y"),
    ]
    constants = {"matrix": np.eye(2, dtype=np.float32), "sides": np.int64([1, 1, 8, 2])}
    model = hand_made(nodes, {"p": [8, 2], "picture": [1, 1, 4, 4]}, {"y": [1, 1, 1, 8]}, constants)
    assert set(kept(to_fp16(model))) == {"r", "grid", "y"}


def test_boxes_are_decoded_in_fp32(hand_made, without_islands, computed):
    """Corners of boxes in a frame of 1024 pixels, from the deltas that a product gives."""
    nodes = [
        node("MatMul", "x w", "deltas"),
        node("Slice", "deltas zero two one", "shift"),
        node("Slice", "deltas two four one", "growth"),
        node("Mul", "shift sides", "moved"),
        node("Add", "moved centres", "centre"),
        node("Exp", "growth", "grown"),
        node("Mul", "grown sides", "side"),
        node("Mul", "side half", "reach"),
        node("Sub", "centre reach", "first"),
        node("Add", "centre reach", "last"),
        node("Concat", "first last", "boxes", axis=1),
        node("Clip", "boxes least most", "y"),
    ]
    rng = np.random.default_rng(6)
    constants = {
        "w": rng.normal(0, 0.1, (8, 4)).astype(np.float32),
        "centres": rng.uniform(300, 1000, (64, 2)).astype(np.float32),
        "sides": rng.uniform(20, 200, (64, 2)).astype(np.float32),
        "half": np.float32(0.5),
        "least": np.float32(0),
        "most": np.float32(1024),
        **{name: np.int64([value]) for name, value in (("zero", 0), ("one", 1), ("two", 2), ("four", 4))},
    }
    model = hand_made(nodes, {"x": [64, 8]}, {"y": [64, 4]}, constants)
    x = {"x": rng.normal(0, 1, (64, 8)).astype(np.float32)}
    want = computed(model, x)
    off = [np.abs(computed(half, x) - want).max() for half in (without_islands(model), to_fp16(model))]
    assert off[0] > 0.4
    assert off[1] < 0.15  # the deltas themselves are FP16
    assert "deltas" not in kept(to_fp16(model))


@pytest.mark.slow
def test_the_boxes_of_attention_rcnn_are_fp32_from_the_deltas_to_the_output(families):
    from edgeattn.export.run import to_onnx
    from edgeattn.imaging import Preprocess
    from edgeattn.models import camera

    side, settings = families["attention_rcnn"]
    frame = Preprocess(side, side)
    description = camera.Description("attention_rcnn", settings, tuple("abcde"), frame, (120.0,) * 3, (64.0,) * 3)
    view = Graph(to_fp16(to_onnx(camera.CameraModel(description).eval(), dynamic_batch=False, opset=20)))
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16)

    def closure(starts, step):
        found, names = set(), list(starts)
        while names:
            name = names.pop()
            if name not in found and view.type(name) in floats:
                found.add(name)
                names += step(name)
        return found

    def behind(name):
        return [out for reader, _ in view.readers.get(name, []) for out in reader.outputs]

    def before(name):
        made_by_a_product = view.maker(name, "Conv", "MatMul", "Gemm")
        return [] if name not in view.makers or made_by_a_product else list(view.makers[name].inputs)

    grown = [made.output for made in view.nodes if made.operator == "Exp"]
    between = closure(grown, behind) & closure(["boxes"], before)
    assert len(grown) == 2 and len(between) > 10
    halves = {name for name in between if view.type(name) == TensorProto.FLOAT16}
    assert all(view.maker(name, "Conv", "MatMul", "Gemm") for name in halves)  # the deltas, as products give them


def test_an_int8_product_beyond_fp16_stays_int8(hand_made, computed, measured):
    """Its operands are dequantized to FP32 once more, with the scale that they were quantized with."""
    nodes = [node("Relu", "x", "r")]
    for name in ("r", "w"):
        nodes.append(node("QuantizeLinear", f"{name} s_{name} zero", f"q_{name}"))
        nodes.append(node("DequantizeLinear", f"q_{name} s_{name} zero", f"d_{name}"))
    nodes += [
        node("Reshape", "d_r sides", "moved"),
        node("MatMul", "moved d_w", "m"),
        node("Mul", "m down", "n"),
        node("MatMul", "d_r v", "o"),
        node("Add", "n o", "y"),
    ]
    rng = np.random.default_rng(7)
    constants = {
        "w": rng.normal(0, 1e4, (64, 64)).astype(np.float32),
        "v": rng.normal(0, 1, (64, 64)).astype(np.float32),
        "s_r": np.float32(0.03),
        "s_w": np.float32(300),
        "zero": np.int8(0),
        "down": np.float32(1e-4),
        "sides": np.int64([8, 64]),
    }
    model = hand_made(nodes, {"x": [8, 64]}, {"y": [8, 64]}, constants)
    x = {"x": rng.normal(0, 1, (8, 64)).astype(np.float32)}
    ranges = measured(model, [x])
    half = to_fp16(model, ranges)
    found = lint(half, Rules((10, 3)), ranges)
    assert not [f for f in found if f.rule in ("placement.cast", "typing.dq-fp32", "overflow.tensor", "typing.mixed")]
    view = Graph(half)
    (product,) = [made for made in view.nodes if made.label == "m"]
    assert product_is_int8(view, product)
    assert [view.type(name) for name in product.inputs] == [TensorProto.FLOAT, TensorProto.FLOAT]
    (other,) = [made for made in view.nodes if made.label == "o"]
    assert view.type(other.input(0)) == TensorProto.FLOAT16
    assert view.value("s_r") == view.value("s_r_fp16")
    assert sqnr_db(computed(model, x), computed(half, x)) > 40  # FP16 before a quantizer moves some values by a step
    assert set(kept(half)) == {"moved", "m", "n"}


@pytest.mark.parametrize(
    ("guard", "tiny"),
    [
        ([node("Clip", "n tiny", "c"), node("Expand", "c sides", "d")], 1e-12),
        ([node("Max", "n tiny", "d")], 1e-12),
        ([node("Add", "n tiny", "d")], 1e-9),
        ([node("Mul", "n n", "nn"), node("Add", "nn tiny", "c"), node("Sqrt", "c", "d")], 1e-24),
    ],
    ids=["Clip", "Max", "Add", "Sqrt"],
)
def test_an_epsilon_that_is_0_in_fp16(guard, tiny, hand_made, without_islands, computed):
    """As of torch's F.normalize: a row of zeros stays zeros, and is no NaN."""
    nodes = [node("Abs", "x", "a"), node("ReduceMax", "a axes", "n"), *guard, node("Div", "x d", "y")]
    constants = {"axes": np.int64([1]), "tiny": np.float32(tiny), "sides": np.int64([4, 8])}
    model = hand_made(nodes, {"x": [4, 8]}, {"y": [4, 8]}, constants)
    x = {"x": np.random.default_rng(8).normal(0, 1, (4, 8)).astype(np.float32)}
    x["x"][2] = 0
    plain, ours = without_islands(model), to_fp16(model)
    with np.errstate(all="ignore"):
        assert np.isnan(computed(plain, x)[2]).all()
    np.testing.assert_allclose(computed(ours, x), computed(model, x), atol=2e-3)
    rules = [{f.rule for f in lint(m, Rules((10, 3))) if f.rule.startswith("underflow.")} for m in (plain, ours)]
    assert rules == [{"underflow.constant"}, set()]


def test_small_weights_stay_fp16(hand_made):
    """They become 0 and harm nobody; nor does an epsilon that FP16 has."""
    nodes = [node("MatMul", "x w", "m"), node("Add", "m epsilon", "n"), node("Div", "x n", "y")]
    constants = {"w": np.full((4, 4), 1e-9, np.float32), "epsilon": np.float32(1e-5)}
    assert kept(to_fp16(hand_made(nodes, {"x": [4, 4]}, {"y": [4, 4]}, constants))) == {}


@pytest.mark.parametrize(("side", "reached", "stays"), [(2, 1e4, False), (8, 1e4, True), (32, 1.0, True)])
def test_a_pooling_is_a_sum_over_its_window(side, reached, stays, hand_made):
    nodes = [node("Relu", "x", "r"), node("AveragePool", "r", "y", kernel_shape=[side, side], strides=[side, side])]
    model = hand_made(nodes, {"x": [1, 2, 64, 64]}, {"y": [1, 2, 64 // side, 64 // side]}, {})
    ranges = {"r": reached, "y": reached}
    assert ("y" in kept(to_fp16(model, ranges))) == stays
    assert errors(to_fp16(model, ranges), ranges) == set()


def test_an_input_beyond_fp16_is_read_in_fp32(hand_made, computed, measured):
    model = hand_made([node("Mul", "x down", "y")], {"x": [4]}, {"y": [4]}, {"down": np.float32(1e-4)})
    x = {"x": np.float32([1e5, 2e5, -3e5, 0])}
    np.testing.assert_allclose(computed(to_fp16(model, measured(model, [x])), x), [10, 20, -30, 0], rtol=1e-3)


@pytest.mark.parametrize("ranges", [{}, {"order": 7679.0, "f": 7679.0, "q": 96.0, "w": 95.0}])
def test_indices_are_computed_in_fp32(ranges, hand_made, without_islands, computed):
    """An integer division as exporters write it: of 96 proposals of 80 classes, which proposal is it?"""
    nodes = [
        helper.make_node("TopK", ["x", "all"], ["values", "order"], name="topk"),
        node("Cast", "order", "f", to=TensorProto.FLOAT),
        node("Div", "f classes", "q"),
        node("Floor", "q", "w"),
        node("Cast", "w", "i", to=TensorProto.INT64),
        node("Gather", "table i", "y"),
    ]
    table = np.append(np.arange(96), 500).astype(np.float32)  # the last one is nobody's
    constants = {"all": np.int64([7680]), "classes": np.float32(80), "table": table}
    model = hand_made(nodes, {"x": [7680]}, {"y": [7680]}, constants)
    every = np.arange(0x3000, 0x3000 + 7680, dtype=np.uint16).view(np.float16)  # no two are equal in FP16
    x = np.random.default_rng(0).permutation(every).astype(np.float32)
    want = np.argsort(-x) // 80
    before, after = (computed(half, {"x": x}) for half in (without_islands(model), to_fp16(model, ranges)))
    assert 50 < (before != want).sum() < 200
    np.testing.assert_array_equal(after, want)
    assert {"f", "q", "w", "i"} <= kept(to_fp16(model, ranges)).keys()
    assert any(f.rule == "index.half" for f in lint(without_islands(model), Rules((10, 3))))
    assert not any(f.rule == "index.half" for f in lint(to_fp16(model, ranges), Rules((10, 3))))


def test_pixels_of_8_bits_stay_fp16(hand_made):
    nodes = [
        node("Mul", "x gain", "m"),
        node("Cast", "m", "pixel", to=TensorProto.UINT8),
        node("Cast", "pixel", "y", to=TensorProto.FLOAT),
    ]
    model = hand_made(nodes, {"x": [4]}, {"y": [4]}, {"gain": np.float32(2)})
    assert kept(to_fp16(model)) == {}


def test_an_int8_product_beyond_fp16_stays_int8_over_what_moves_quantizers(hand_made):
    """MaxPool and Concat between DequantizeLinear and the product stay FP32 too: a cast would make it float."""
    quantized = ["s", "z"]
    nodes = []
    for name in "ab":
        nodes += [
            helper.make_node("QuantizeLinear", [f"x{name}", *quantized], [f"{name}q"], name=f"{name}q"),
            helper.make_node("DequantizeLinear", [f"{name}q", *quantized], [name], name=name),
        ]
    nodes += [
        node("MaxPool", "a", "pooled", kernel_shape=[1, 1]),
        node("Concat", "pooled b", "both", axis=1),
        helper.make_node("DequantizeLinear", ["K", "ks", "z"], ["k"], name="k"),
        node("Conv", "both k", "c"),
        node("Mul", "c small", "y"),
    ]
    constants = {"s": np.float32(0.1), "z": np.int8(0), "ks": np.float32(0.1), "small": np.float32(1e-4)}
    constants["K"] = np.ones((16, 16, 1, 1), np.int8)
    shape = {"xa": [1, 8, 4, 4], "xb": [1, 8, 4, 4]}
    model = hand_made(nodes, shape, {"y": [1, 16, 4, 4]}, constants)
    half = to_fp16(model, {"c": 1e5})
    assert {"c", "both", "pooled"} <= kept(half).keys()
    view = Graph(half)
    (conv,) = (n for n in view.nodes if n.operator == "Conv")
    assert product_is_int8(view, conv) and view.type(conv.output) == TensorProto.FLOAT
