"""A guard that is to go when OpenVINO is mended: see `policy._maps_of_shared_tokens`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from edgeattn.backends import onnxruntime, openvino
from edgeattn.metrics.tensors import sqnr_db
from edgeattn.quantize import int8, policy


@pytest.fixture
def shared_tokens(hand_made):
    """Tokens `(1, 16, 32)` -> a product with weights as a map of 4 x 4, beside a 1 x 1 convolution of their own map."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["product"], name="product"),
        helper.make_node("Transpose", ["product"], ["turned"], name="turned", perm=[0, 2, 1]),
        helper.make_node("Reshape", ["turned", "shape"], ["first"], name="first"),
        helper.make_node("Transpose", ["x"], ["moved"], name="moved", perm=[0, 2, 1]),
        helper.make_node("Reshape", ["moved", "shape"], ["map"], name="map"),
        helper.make_node("Conv", ["map", "K"], ["conv"], name="conv"),
        helper.make_node("Concat", ["first", "conv"], ["both"], name="both", axis=1),
    ]
    constants = {
        "W": rng.standard_normal((32, 32), np.float32) / 6,
        "K": rng.standard_normal((32, 32, 1, 1), np.float32) / 6,
        "shape": np.array([1, 32, 4, 4], np.int64),
    }
    return hand_made(nodes, {"x": [1, 16, 32]}, {"both": [1, 64, 4, 4]}, constants)


def quality_db(model, folder: Path) -> tuple[float, float]:
    """The convolution in INT8 by ONNX Runtime and by OpenVINO, against the float model."""
    rng = np.random.default_rng(1)
    calls = [{"x": rng.standard_normal((1, 16, 32), np.float32)} for _ in range(8)]
    quantized = int8.quantize(model, calls, int8.CANDIDATES[0], spare_bit=False)
    results = []
    for graph, backend in ((model, onnxruntime), (quantized, onnxruntime), (quantized, openvino)):
        (folder / "model.onnx").write_bytes(graph.SerializeToString())
        if backend is openvino:
            core = openvino.library().Core()
            core.set_property("CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
            runner = openvino.OpenvinoRunner(core.compile_model(str(folder / "model.onnx"), "CPU"))
        else:
            runner = backend.load(folder, threads=1)
        results.append(np.stack([runner.infer(call)["both"][:, 32:] for call in calls]))
        runner.close()
    return sqnr_db(results[0], results[1]), sqnr_db(results[0], results[2])


def test_with_the_guard_both_engines_agree(shared_tokens, tmp_path):
    one, other = quality_db(shared_tokens, tmp_path)
    assert other == pytest.approx(one, abs=1.0)


def test_without_the_guard_openvino_still_computes_it_wrongly(shared_tokens, tmp_path, monkeypatch):
    monkeypatch.setattr(policy, "_maps_of_shared_tokens", lambda graph, constants: [])
    one, other = quality_db(shared_tokens, tmp_path)
    assert one > 25
    assert other < one - 10, "OpenVINO is mended: policy._maps_of_shared_tokens can go"
