from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper

from edgeattn import models, tasks
from edgeattn.errors import ModelError, StageFailed
from edgeattn.export import run
from edgeattn.imaging import Preprocess
from edgeattn.models import camera
from edgeattn.recipe import ExportSection

SMALL = {
    "attention_cnn": {"stages": [8, 8], "heads": 2, "blocks": 2},
    "compact_transformer": {"layers": 1, "heads": 2, "channels": 16},
    "region_attention": {"stages": [8, 8], "grids": [2], "hidden": 8},
}


def make_model(name, **settings):
    torch.manual_seed(0)
    description = camera.Description(
        name,
        settings or SMALL.get(name, {}),
        ("a", "b", "c"),
        Preprocess(16, 24),
        (100.0, 110.0, 120.0),
        (50.0, 60.0, 70.0),
    )
    model = camera.CameraModel(description)
    # Norms and their running statistics away from their defaults: folding them wrongly must show.
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
            if isinstance(module, (torch.nn.BatchNorm2d, torch.nn.LayerNorm)):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
    return model.eval()


# Of the same interface, one frame in and logits out; what the others export is in their own tests.
CLASSIFIERS = [name for name in models.names() if models.find(name).TASK == "classify"]


@pytest.fixture(scope="module", params=CLASSIFIERS)
def trained(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    camera.save(make_model(request.param), folder)
    return folder


def frames(count=2):
    return list(np.random.default_rng(0).integers(0, 256, (count, 16, 24, 3), dtype=np.uint8))


def exported(trained, out, count=2, calls=None, **settings):
    out.mkdir(parents=True, exist_ok=True)
    calls = [{"frame": frame[None]} for frame in frames(count)] if calls is None else calls
    run.export(trained, ExportSection(**settings), calls, out)
    return onnx.load(out / "model.onnx")


@pytest.fixture(scope="module")
def graph(trained, tmp_path_factory):
    return exported(trained, tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def attention_graph(tmp_path_factory):
    return run.to_onnx(make_model("attention_cnn"), dynamic_batch=False, opset=20).graph


def test_it_takes_camera_frames_and_gives_named_floats(graph):
    assert [(o.domain, o.version) for o in graph.opset_import] == [("", 20)]
    (frame,), (logits,) = graph.graph.input, graph.graph.output
    assert (frame.name, frame.type.tensor_type.elem_type) == ("frame", TensorProto.UINT8)
    assert [d.dim_value for d in frame.type.tensor_type.shape.dim] == [1, 16, 24, 3]
    assert (logits.name, logits.type.tensor_type.elem_type) == ("logits", TensorProto.FLOAT)
    assert [d.dim_value for d in logits.type.tensor_type.shape.dim] == [1, 3]


def test_it_answers_as_pytorch_does(graph, trained):
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    model = camera.load(trained)
    for frame in frames(3):
        want = model(torch.from_numpy(frame[None])).detach().numpy()
        np.testing.assert_allclose(session.run(None, {"frame": frame[None]})[0], want, rtol=1e-4, atol=1e-4)


def test_no_node_is_decomposed_and_batch_norms_are_folded(graph):
    kinds = Counter(node.op_type for node in graph.graph.node)
    assert not kinds.keys() & {"Pow", "Sqrt", "Erf", "Div", "BatchNormalization", "Exp"}
    assert all(node.domain == "" for node in graph.graph.node)


def test_layer_norm_gelu_and_softmax_stay_single_nodes(attention_graph):
    kinds = Counter(node.op_type for node in attention_graph.node)
    assert kinds["LayerNormalization"] == 2 * 2 + 1  # two per block, one before the read-out
    assert kinds["Gelu"] == 2
    assert kinds["Softmax"] == 2 + 1


def test_queries_are_scaled_before_their_product(attention_graph):
    makers = {output: node for node in attention_graph.node for output in node.output}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in attention_graph.initializer}
    products = [makers[node.input[0]] for node in attention_graph.node if node.op_type == "Softmax"]
    products = [
        node for node in products if node.op_type == "MatMul"
    ]  # the read-out's softmax has no product before it
    assert len(products) == 2
    for product in products:
        node = makers[product.input[0]]
        while node.op_type in ("Transpose", "Reshape"):
            node = makers[node.input[0]]
        assert node.op_type == "Mul"
        (scale,) = [constants[name] for name in node.input if name in constants]
        assert float(scale) == pytest.approx((8 / 2) ** -0.5)


def test_equal_models_give_equal_files_without_this_machines_paths(trained, tmp_path):
    for name in "ab":
        exported(trained, tmp_path / name)
    first, second = ((tmp_path / name / "model.onnx").read_bytes() for name in "ab")
    assert first == second
    assert b"edgeattn/" not in first
    assert b"site-packages" not in first
    assert (tmp_path / "a/model.json").read_bytes() == (trained / "model.json").read_bytes()


def test_a_dynamic_batch_is_proven_on_two_sizes(trained, tmp_path):
    graph = exported(trained, tmp_path, dynamic_batch=True)
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    model = camera.load(trained)
    for count in (1, 2, 5):
        batch = np.stack(frames(count))
        want = model(torch.from_numpy(batch)).detach().numpy()
        np.testing.assert_allclose(session.run(None, {"frame": batch})[0], want, rtol=1e-4, atol=1e-4)


def spoil(graph, offset):
    (last,) = [node for node in graph.graph.node if "logits" in node.output]
    last.output[:] = ["right" if name == "logits" else name for name in last.output]
    graph.graph.initializer.append(numpy_helper.from_array(np.float32(offset), "offset"))
    graph.graph.node.append(onnx.helper.make_node("Add", ["right", "offset"], ["logits"]))


@pytest.mark.parametrize("offset", [[0, 0.25, 0], [0, np.nan, 0]], ids=["off", "nan"])
def test_a_graph_with_another_meaning_is_refused(offset, trained, tmp_path, monkeypatch):
    to_onnx = run.to_onnx

    def spoiled(model, **options):
        graph = to_onnx(model, **options)
        spoil(graph, offset)
        return graph

    monkeypatch.setattr(run, "to_onnx", spoiled)
    with pytest.raises(StageFailed, match=r"output 'logits' at batch 1 differs by up to (0\.25|nan) .*80 dB expected"):
        exported(trained, tmp_path)


@pytest.mark.parametrize("count", [1, 2])
def test_a_dynamic_batch_that_mixes_frames_is_refused(count, tmp_path, monkeypatch):
    """A graph that answers every frame of a batch with the first one's result is right at batch 1 only."""
    camera.save(make_model("se_resnet"), tmp_path)
    to_onnx = run.to_onnx

    def mixed(model, **options):
        graph = to_onnx(model, **options)
        graph.graph.initializer.extend(
            [numpy_helper.from_array(np.int64([0]), "zero"), numpy_helper.from_array(np.int64([1]), "one")]
        )
        last = graph.graph.node[-1]
        last.output[0] = "own"
        slice_first = onnx.helper.make_node("Slice", ["own", "zero", "one", "zero"], ["first"])
        spread = onnx.helper.make_node("Add", ["first", "nothing"], ["logits"])
        nothing = onnx.helper.make_node("Sub", ["own", "own"], ["nothing"])
        graph.graph.node.extend([slice_first, nothing, spread])
        return graph

    monkeypatch.setattr(run, "to_onnx", mixed)
    with pytest.raises(StageFailed, match="output 'logits' at batch 2 differs"):
        exported(tmp_path, tmp_path / "out", count, dynamic_batch=True)


def test_weights_that_are_not_finite_are_refused_first(tmp_path):
    model = make_model("se_resnet")
    model.network.head.weight.data[0, 0] = float("nan")
    camera.save(model, tmp_path)
    with pytest.raises(ModelError, match=r"'network\.head\.weight' holds NaN"):
        exported(tmp_path, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_network_that_the_exporter_cannot_take(trained, tmp_path, monkeypatch):
    def depends_on_what_it_sees(self, frame):
        return frame.float().mean((1, 2)) if frame.float().sum() > 0 else frame.float().amax((1, 2))

    monkeypatch.setattr(camera.CameraModel, "forward", depends_on_what_it_sees)
    with pytest.raises(
        ModelError, match=rf"The network in {trained} cannot be exported to ONNX \(.+\); change the model"
    ) as caught:
        exported(trained, tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert not list(tmp_path.iterdir())


def test_a_graph_that_is_not_valid(trained, tmp_path, monkeypatch):
    strip = run._strip_notes

    def spoiled(graph):
        strip(graph)
        graph.graph.node[0].input[0] = "nowhere"

    monkeypatch.setattr(run, "_strip_notes", spoiled)
    with pytest.raises(ModelError, match=r"The exported graph is not valid ONNX \(.+\); change the model") as caught:
        exported(trained, tmp_path)
    assert "\n" not in str(caught.value)


def test_it_says_nothing_by_itself(trained, tmp_path, capfd):
    exported(trained, tmp_path)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


PAIRED = """
from dataclasses import dataclass
import torch
from torch import nn

TASK = "classify"
OUTPUTS = ("logits", "apart")
INPUTS = ("frame_a", "frame_b")

@dataclass(frozen=True)
class Settings:
    width: int = 4

class Network(nn.Module):
    def __init__(self, settings, classes):
        super().__init__()
        self.features = nn.Conv2d(3, settings.width, 3, padding=1)
        self.head = nn.Linear(2 * settings.width, classes)

    def forward(self, a, b):
        a, b = (torch.relu(self.features(x)).mean(dim=(2, 3)) for x in (a, b))
        return self.head(torch.cat((a, b), dim=1)), a - b
"""


@pytest.fixture
def paired(tmp_path, monkeypatch):
    """A trained network of two frames and two outputs, in a package of its own."""
    (tmp_path / "pairednets").mkdir()
    (tmp_path / "pairednets/two.py").write_text(PAIRED)
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "trained"
    camera.save(make_model("pairednets.two", width=4), folder)
    return folder


def pairs(count=2):
    return [
        {"frame_a": a[None], "frame_b": b[None]} for a, b in zip(frames(count), frames(2 * count)[count:], strict=True)
    ]


def test_two_frames_and_two_outputs(paired, tmp_path):
    graph = exported(paired, tmp_path / "out", calls=pairs()).graph
    assert [value.name for value in graph.input] == ["frame_a", "frame_b"]
    assert [value.name for value in graph.output] == ["logits", "apart"]
    for value in graph.input:
        assert [d.dim_value for d in value.type.tensor_type.shape.dim] == [1, 16, 24, 3]
    session = onnxruntime.InferenceSession(tmp_path / "out/model.onnx", providers=["CPUExecutionProvider"])
    model = camera.load(paired)
    for call in pairs(3):
        want = model(*(torch.from_numpy(call[name]) for name in ("frame_a", "frame_b")))
        for ours, theirs in zip(session.run(None, call), want, strict=True):
            np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("count", [1, 3])
def test_two_frames_in_batches_of_any_size(count, paired, tmp_path):
    graph = exported(paired, tmp_path / "out", calls=pairs(count), dynamic_batch=True).graph
    assert {value.type.tensor_type.shape.dim[0].dim_param for value in graph.input} == {"batch"}
    session = onnxruntime.InferenceSession(tmp_path / "out/model.onnx", providers=["CPUExecutionProvider"])
    batch = {name: np.concatenate([call[name] for call in pairs(4)]) for name in ("frame_a", "frame_b")}
    want = camera.load(paired)(*(torch.from_numpy(value) for value in batch.values()))
    np.testing.assert_allclose(session.run(["logits"], batch)[0], want[0].detach().numpy(), rtol=1e-4, atol=1e-4)


def test_frames_that_change_places_are_refused(paired, tmp_path, monkeypatch):
    to_onnx = run.to_onnx

    def swapped(model, **options):
        graph = to_onnx(model, **options)
        other = {"frame_a": "frame_b", "frame_b": "frame_a"}
        for node in graph.graph.node:
            node.input[:] = [other.get(name, name) for name in node.input]
        return graph

    monkeypatch.setattr(run, "to_onnx", swapped)
    with pytest.raises(StageFailed, match=r"output '(logits|apart)' at batch 1 differs"):
        exported(paired, tmp_path / "out", calls=pairs())


def test_outputs_without_an_order_are_matched_before_they_are_compared(paired, tmp_path, monkeypatch):
    """A graph that gives one output's entries in another order is refused, unless the task says order means nothing."""
    to_onnx = run.to_onnx

    def turned(model, **options):
        graph = to_onnx(model, **options)
        (last,) = [node for node in graph.graph.node if "logits" in node.output]
        last.output[:] = ["inner" if name == "logits" else name for name in last.output]
        graph.graph.initializer.append(numpy_helper.from_array(np.int64([2, 0, 1]), "order"))
        graph.graph.node.append(onnx.helper.make_node("Gather", ["inner", "order"], ["logits"], axis=1))
        return graph

    monkeypatch.setattr(run, "to_onnx", turned)
    with pytest.raises(StageFailed, match="output 'logits' at batch 1 differs"):
        exported(paired, tmp_path / "out", calls=pairs())

    def sort(outputs, reference):
        return tuple({name: np.sort(value) for name, value in values.items()} for values in (outputs, reference))

    monkeypatch.setattr(tasks.find("classify"), "comparable", sort)
    exported(paired, tmp_path / "out", calls=pairs())
