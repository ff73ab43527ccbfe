from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgeattn import tasks
from edgeattn.errors import MachineError, MissingLibrary, ModelError, RecipeError, StageFailed, StorageError
from edgeattn.metrics.tensors import sqnr_db
from edgeattn.onnxgraph.view import PRODUCTS
from edgeattn.progress import silent
from edgeattn.quantize import int8, policy

TASK = tasks.find("classify")
KNOWN = {candidate.name: candidate for candidate in int8.CANDIDATES}


def walk(graph, names):
    """(reads Q/DQ activations, reads Q/DQ weights) of each named node."""
    makers = {output: node for node in graph.node for output in node.output}
    constants = policy.constant_names(graph)
    found = {}
    for node in graph.node:
        if node.name in names:
            sources = [(name in constants, makers.get(name)) for name in node.input]
            quantized = [
                constant for constant, maker in sources if maker is not None and maker.op_type == "DequantizeLinear"
            ]
            found[node.name] = (quantized.count(False), quantized.count(True))
    return found


def test_settings_by_name(attention_network):
    graph = attention_network.graph
    assert [c.name for c in int8.candidates(["mean-minmax", "minmax"], graph)] == ["minmax", "mean-minmax"]
    assert {c.name for c in int8.candidates(None, graph)} == KNOWN.keys()
    known = ", ".join(KNOWN)
    for names, got in ((["minmax", "max"], "got 'max'"), ([], "the list is empty")):
        with pytest.raises(RecipeError) as caught:
            int8.candidates(names, graph)
        assert str(caught.value) == f"quantize.candidates takes names of INT8 settings, {got}; known: {known}."


def test_settings_that_change_nothing_are_not_tried(hand_made):
    node = onnx.helper.make_node("Relu", ["x"], ["y"], name="relu")
    graph = hand_made([node], {"x": [1, 4]}, {"y": [1, 4]}, {}).graph
    assert {c.name for c in int8.candidates(None, graph)} == {"minmax", "mean-minmax", "minmax+bias-correction"}
    assert int8.candidates(["minmax+smooth-quant"], graph) == []


@pytest.mark.parametrize("spare_bit", [False, True])
def test_the_policy_is_in_the_graph(spare_bit, network, calls, answer):
    kept = policy.float_nodes(network.graph)
    model = int8.quantize(network, calls(8), KNOWN["minmax"], spare_bit=spare_bit)
    onnx.checker.check_model(model)
    names = {node.name for node in model.graph.node}
    assert kept.keys() <= names
    assert all(reads == (0, 0) for reads in walk(model.graph, kept).values())
    products = [node.name for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    quantized = [name for name, (inputs, weights) in walk(model.graph, products).items() if inputs and weights]
    assert len(quantized) >= len(products) // 2
    weights = [
        numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT8
    ]
    largest = max(int(np.abs(w.astype(int)).max()) for w in weights if w.ndim > 1)
    assert largest <= 64 if spare_bit else largest > 120
    want, got = (np.concatenate([answer(m, f) for f in calls(8, 1)]) for m in (network, model))
    assert 15 < sqnr_db(want, got) < 80


def test_the_classifier_can_be_left_in_float(attention_network, calls):
    (name,) = policy.classifier_nodes(attention_network.graph)
    reads = {}
    for setting in ("minmax", "minmax+float-classifier"):
        model = int8.quantize(attention_network, calls(4), KNOWN[setting], spare_bit=False)
        reads[setting] = walk(model.graph, {name})[name]
    assert reads["minmax"] == (1, 1)
    assert reads["minmax+float-classifier"] == (0, 0)


@pytest.mark.parametrize("name", ["minmax", "minmax+float-classifier", "minmax+transformer", "minmax+smooth-quant"])
def test_what_is_said_to_be_in_float_is(name, network, calls):
    """And every product with weights that is not said to be reads weights of 8 bits."""
    if not KNOWN[name].applies(network.graph):
        pytest.skip("this setting is not for this network")
    model = int8.quantize(network, calls(4), KNOWN[name], spare_bit=False)
    told = int8.float_nodes(network, model, KNOWN[name])
    products = [node.name for node in network.graph.node if node.op_type in PRODUCTS]
    assert all(reads == (0, 0) for reads in walk(model.graph, told).values())
    assert all(weights for node, (_, weights) in walk(model.graph, products).items() if node not in told)
    policys = policy.float_nodes(network.graph)
    assert policys.items() <= told.items()
    (classifier,) = policy.classifier_nodes(network.graph)
    assert (classifier in told) == (name in ("minmax+float-classifier", "minmax+smooth-quant"))
    if name == "minmax+float-classifier":
        assert told[classifier].startswith("classifier: ")
    if name == "minmax+smooth-quant":
        assert told[classifier].startswith("OpenVINO 2026.4 smooths")


def test_a_product_that_nncf_leaves_by_itself_is_told(attention_network, calls, monkeypatch):
    """NNCF is told less than it leaves: as if it had a pattern of its own for a convolution."""
    (first, *_) = [node.name for node in attention_network.graph.node if node.op_type == "Conv"]
    policys = policy.float_nodes

    def more(graph):
        return {**policys(graph), first: "the test's"}

    with monkeypatch.context() as patched:
        patched.setattr(policy, "float_nodes", more)
        model = int8.quantize(attention_network, calls(4), KNOWN["minmax"], spare_bit=False)
    told = int8.float_nodes(attention_network, model, KNOWN["minmax"])
    assert (
        told[first].startswith("left in float since NNCF quantizes one side alone, or none")
        and told.keys() >= policys(attention_network.graph).keys()
    )


def test_every_setting_really_makes_another_graph(attention_network, calls):
    made = {
        name: int8.quantize(attention_network, calls(6), candidate, spare_bit=False).SerializeToString(
            deterministic=True
        )
        for name, candidate in KNOWN.items()
    }
    assert len(set(made.values())) == len(KNOWN)
    kinds = [node.op_type for node in onnx.load_from_string(made["minmax+smooth-quant"]).graph.node]
    assert kinds.count("Mul") > sum(node.op_type == "Mul" for node in attention_network.graph.node)


def test_the_best_setting_is_taken_and_all_are_told(attention_network, calls, answer):
    seen = []
    tried = int8.candidates(["mean-minmax", "minmax"], attention_network.graph)
    model, trials = int8.search(
        attention_network, TASK, calls(6), calls(4, 1), tried, lambda *a: seen.append(a), spare_bit=False
    )
    assert [trial.setting for trial in trials] == ["minmax", "mean-minmax"]
    want, got = (np.concatenate([answer(m, f) for f in calls(4, 1)]) for m in (attention_network, model))
    assert sqnr_db(want, got) == pytest.approx(max(trial.sqnr_db for trial in trials), abs=0.01)
    assert [(done, total) for done, total, _ in seen] == [(0, 2), (1, 2), (2, 2)]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("broken", ["minmax", "mean-minmax"])
def test_a_setting_that_breaks_the_graph_never_wins(broken, value, attention_network, calls, monkeypatch):
    quantize = int8.quantize

    def sometimes_broken(model, images, candidate, **how):
        made = quantize(model, images, candidate, **how)
        if candidate.name == broken:
            for tensor in made.graph.initializer:
                if tensor.name == "network.head.bias":
                    tensor.CopyFrom(numpy_helper.from_array(np.full(5, value, np.float32), tensor.name))
        return made

    monkeypatch.setattr(int8, "quantize", sometimes_broken)
    tried = int8.candidates(["minmax", "mean-minmax"], attention_network.graph)
    model, trials = int8.search(attention_network, TASK, calls(4), calls(2, 1), tried, silent, spare_bit=False)
    assert {trial.setting: trial.problem for trial in trials} == {
        "minmax": None,
        "mean-minmax": None,
        broken: "its outputs are not finite",
    }
    assert not any(not np.isfinite(numpy_helper.to_array(t)).all() for t in model.graph.initializer if t.data_type == 1)


def test_nothing_to_try(attention_network, calls):
    with pytest.raises(RecipeError, match=r"None of the INT8 settings in quantize\.candidates applies to this graph"):
        int8.search(attention_network, TASK, calls(2), calls(1), [], silent, spare_bit=False)


def test_no_setting_keeps_the_outputs_finite(attention_network, calls, monkeypatch):
    finite = int8._outputs

    def overflowing(model, given, form):
        values = finite(model, given, form)
        if model is attention_network:
            return values
        return [*values[:-1], {"logits": np.full_like(values[-1]["logits"], np.inf)}]

    monkeypatch.setattr(int8, "_outputs", overflowing)
    tried = int8.candidates(["minmax"], attention_network.graph)
    said = r"No INT8 setting works on this graph \(minmax: its outputs are not finite\)\. Leave int8 out of"
    with pytest.raises(StageFailed, match=said):
        int8.search(attention_network, TASK, calls(2), calls(1), tried, silent, spare_bit=False)


def refusing(monkeypatch, errors):
    """`nncf.quantize` that raises the next of `errors` per call, then works."""
    import nncf

    real, left = nncf.quantize, list(errors)

    def quantize(*arguments, **options):
        if left:
            raise left.pop(0)
        return real(*arguments, **options)

    monkeypatch.setattr(nncf, "quantize", quantize)


@pytest.mark.parametrize("error", [RuntimeError, KeyError, ModelError, onnx.checker.ValidationError])
def test_a_setting_that_cannot_be_applied_is_skipped(error, attention_network, calls, monkeypatch):
    refusing(monkeypatch, [error("No such layer.")])
    tried = int8.candidates(["minmax", "mean-minmax"], attention_network.graph)
    model, trials = int8.search(attention_network, TASK, calls(4), calls(2, 1), tried, silent, spare_bit=False)
    onnx.checker.check_model(model)
    assert [(trial.setting, trial.sqnr_db is None) for trial in trials] == [("minmax", True), ("mean-minmax", False)]
    assert "No such layer" in trials[0].problem and trials[1].problem is None


def test_a_setting_whose_graph_does_not_run_is_skipped(attention_network, calls, monkeypatch):
    real = int8.quantize

    def unknown_operator(model, images, candidate, **how):
        made = real(model, images, candidate, **how)
        if candidate.name == "minmax":
            made.graph.node[0].op_type = "Abacus"
        return made

    monkeypatch.setattr(int8, "quantize", unknown_operator)
    tried = int8.candidates(["minmax", "mean-minmax"], attention_network.graph)
    trials = int8.search(attention_network, TASK, calls(4), calls(2, 1), tried, silent, spare_bit=False)[1]
    assert "Abacus" in trials[0].problem and trials[1].sqnr_db is not None


def test_no_setting_can_be_applied(attention_network, calls, monkeypatch):
    refusing(monkeypatch, [RuntimeError("No such layer."), RuntimeError("No such layer.")])
    tried = int8.candidates(["minmax", "mean-minmax"], attention_network.graph)
    said = r"graph \(minmax, mean-minmax: NNCF cannot apply it \(No such layer\)\)\. Leave"
    with pytest.raises(StageFailed, match=said):
        int8.search(attention_network, TASK, calls(2), calls(1), tried, silent, spare_bit=False)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (MissingLibrary("x"), MissingLibrary),
        (StorageError("x"), StorageError),
        (OSError(28, "No space left on device"), OSError),
        (ImportError("x"), ImportError),
        (MemoryError(), MachineError),
    ],
)
def test_what_the_machine_lacks_is_no_matter_of_the_setting(error, raised, attention_network, calls, monkeypatch):
    refusing(monkeypatch, [error])
    tried = int8.candidates(["minmax", "mean-minmax"], attention_network.graph)
    with pytest.raises(raised):
        int8.search(attention_network, TASK, calls(2), calls(1), tried, silent, spare_bit=False)


def test_two_frames_are_calibrated_together(two_frames):
    """Each frame's own range: one that is always dark gets finer steps than one that is bright."""
    model, pairs = two_frames
    calls = [{"frame_a": call["frame_a"] // 16, "frame_b": call["frame_b"]} for call in pairs(6)]
    made = int8.quantize(model, calls, KNOWN["minmax"], spare_bit=False)
    assert [value.name for value in made.graph.input] == ["frame_a", "frame_b"]
    assert walk(made.graph, {"conv_a", "conv_b"}) == {"conv_a": (1, 1), "conv_b": (1, 1)}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    makers = {output: node for node in made.graph.node for output in node.output}
    steps = [
        float(constants[makers[node.input[0]].input[1]])
        for node in made.graph.node
        if node.name in ("conv_a", "conv_b")
    ]
    assert steps[1] > 8 * steps[0]


def test_the_output_that_suffers_most_decides(two_frames):
    """The SQNR of a trial is that of the worse output, over all judging samples together."""
    model, pairs = two_frames
    tried = int8.candidates(["minmax"], model.graph)
    judges = pairs(3, 1)
    made, (trial,) = int8.search(model, TASK, pairs(4), judges, tried, silent, spare_bit=False)
    want, got = int8._outputs(model, judges), int8._outputs(made, judges)
    by_output = {
        name: sqnr_db(*(np.concatenate([output[name] for output in outputs]) for outputs in (want, got)))
        for name in ("apart", "first")
    }
    assert trial.sqnr_db == pytest.approx(min(by_output.values()), abs=1e-6)
    assert max(by_output.values()) > min(by_output.values()) + 0.1


def test_entries_without_an_order_are_matched_before_they_are_judged(two_frames):
    model, pairs = two_frames

    class Unordered(type(TASK)):
        def comparable(self, outputs, reference):
            return tuple({name: np.sort(v, axis=None) for name, v in values.items()} for values in (outputs, reference))

    tried = int8.candidates(["minmax"], model.graph)
    quality = {}
    for task in (TASK, Unordered()):
        _, (trial,) = int8.search(model, task, pairs(4), pairs(2, 1), tried, silent, spare_bit=False)
        quality[type(task)] = trial.sqnr_db
    assert quality[Unordered] > quality[type(TASK)] + 1


def test_it_says_nothing_by_itself(attention_network, calls, capfd):
    int8.quantize(attention_network, calls(2), KNOWN["minmax"], spare_bit=False)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_the_description_names_one_chosen_setting():
    trials = [int8.Trial("a", 30.123), int8.Trial("c", None, "it is odd"), int8.Trial("b", 30.124)]
    found = int8.describe(trials, "b", {"n": "why"}, 240)
    assert found == {
        "setting": "b",
        "calibration_samples": 240,
        "search": [
            {"setting": "a", "sqnr_db": 30.12, "chosen": False},
            {"setting": "b", "sqnr_db": 30.12, "chosen": True},
        ],
        "skipped": {"c": "it is odd"},
        "float_nodes": {"n": "why"},
    }
