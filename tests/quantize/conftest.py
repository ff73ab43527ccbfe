"""Exported graphs of both networks, small and seeded, and hand-made ones."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeattn.backends._telemetry import silence_telemetry
from edgeattn.quantize import emulate

silence_telemetry()

NETWORKS = {
    "se_resnet": {"depth": 20},
    "attention_cnn": {"stages": [8, 16], "heads": 2, "blocks": 1},
}


def make_frames(count, seed=0):
    """Soft gradients of random colour: neighbouring pixels are alike, as in photographs."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 256, (count, 2, 2, 3)).astype(np.float32)
    across = np.linspace(0, 1, 16, dtype=np.float32)
    rows = np.einsum("nijc,is->nsjc", corners, np.stack([1 - across, across]))
    both = np.einsum("nsjc,jt->nstc", rows, np.stack([1 - across, across]))
    return list(both.round().astype(np.uint8))


def build_graph(nodes, inputs, outputs, constants):
    """inputs, outputs: name -> shape, all float."""
    graph = helper.make_graph(
        nodes,
        "hand-made",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def export_network(name):
    import torch

    from edgeattn.export.run import to_onnx
    from edgeattn.imaging import Preprocess
    from edgeattn.models import camera

    torch.manual_seed(0)
    size = Preprocess(16, 16)
    description = camera.Description(name, NETWORKS[name], tuple("abcde"), size, (120.0,) * 3, (64.0,) * 3)
    return to_onnx(camera.CameraModel(description).eval(), dynamic_batch=False, opset=20)


@pytest.fixture(scope="session", params=NETWORKS)
def network(request):
    return export_network(request.param)


@pytest.fixture(scope="session")
def attention_network():
    return export_network("attention_cnn")


@pytest.fixture
def calls():
    """Engine inputs of the networks: `calls(8)`, or others with another seed."""
    return lambda count, seed=0: [{"frame": frame[None]} for frame in make_frames(count, seed)]


@pytest.fixture(scope="session")
def two_frames():
    """A network of two frames and two outputs of different strength, and a function that makes calls for it."""
    nodes = []
    for name in "ab":
        nodes += [
            helper.make_node("Cast", [f"frame_{name}"], [f"float_{name}"], to=TensorProto.FLOAT, name=f"cast_{name}"),
            helper.make_node("Transpose", [f"float_{name}"], [f"chw_{name}"], perm=[0, 3, 1, 2], name=f"turn_{name}"),
            helper.make_node("Mul", [f"chw_{name}", "scale"], [f"x_{name}"], name=f"scale_{name}"),
            helper.make_node("Conv", [f"x_{name}", f"w_{name}"], [f"y_{name}"], pads=[1, 1, 1, 1], name=f"conv_{name}"),
        ]
    nodes += [
        helper.make_node("Sub", ["y_a", "y_b"], ["apart"], name="sub"),
        helper.make_node("Relu", ["y_a"], ["first"], name="relu"),
    ]
    rng = np.random.default_rng(0)
    weights = {f"w_{name}": rng.standard_normal((8, 3, 3, 3), np.float32) for name in "ab"}
    graph = helper.make_graph(
        nodes,
        "two frames",
        [helper.make_tensor_value_info(f"frame_{name}", TensorProto.UINT8, [1, 16, 16, 3]) for name in "ab"],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8, 16, 16]) for name in ("apart", "first")],
        [numpy_helper.from_array(value, name) for name, value in {**weights, "scale": np.float32(1 / 255)}.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)

    def pairs(count, seed=0):
        both = make_frames(2 * count, seed)
        return [{"frame_a": a[None], "frame_b": b[None]} for a, b in zip(both[::2], both[1::2], strict=True)]

    return model, pairs


@pytest.fixture
def hand_made():
    return build_graph


@pytest.fixture
def answer():
    import onnxruntime

    def answer(model, inputs):
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return session.run(None, inputs)[0]

    return answer


@pytest.fixture
def computed(tmp_path):
    """computed(model, inputs): its first output as a device computes it, every FP16 tensor rounded."""

    def run(model, inputs):
        (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
        runner = emulate.load(tmp_path, threads=1)
        try:
            return next(iter(runner.infer(inputs).values()))
        finally:
            runner.close()

    return run
