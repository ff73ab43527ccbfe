from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper

from edgeattn import models
from edgeattn.errors import ModelError, StageFailed
from edgeattn.export import run
from edgeattn.imaging import Preprocess
from edgeattn.models import camera
from edgeattn.recipe import ExportSection

SMALL = {"attention_cnn": {"stages": [8, 8], "heads": 2, "blocks": 2}}


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


@pytest.fixture(scope="module", params=models.names())
def trained(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    camera.save(make_model(request.param), folder)
    return folder


def frames(count=2):
    return list(np.random.default_rng(0).integers(0, 256, (count, 16, 24, 3), dtype=np.uint8))


def exported(trained, out, count=2, **settings):
    out.mkdir(parents=True, exist_ok=True)
    run.export(trained, ExportSection(**settings), frames(count), out)
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


def spoil(graph, change):
    for tensor in graph.graph.initializer:
        if tensor.name == "network.head.bias":
            tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))


@pytest.mark.parametrize(
    "change", [lambda b: b + np.float32([0, 0.25, 0]), lambda b: b * np.float32(np.nan)], ids=["off", "nan"]
)
def test_a_graph_with_another_meaning_is_refused(change, trained, tmp_path, monkeypatch):
    to_onnx = run.to_onnx

    def spoiled(model, **options):
        graph = to_onnx(model, **options)
        spoil(graph, change)
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
