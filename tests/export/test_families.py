"""The graph of every family of our own networks, tiny, equals PyTorch in ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from edgeattn import models, tasks
from edgeattn.errors import ModelError
from edgeattn.export.run import to_onnx
from edgeattn.imaging import Preprocess
from edgeattn.metrics.tensors import sqnr_db
from edgeattn.models import camera

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("count", [1, 2], ids=["batch 1", "dynamic batch"])
@pytest.mark.parametrize("name", models.names())
def test_onnx_runtime_equals_pytorch(name, count, families):
    side, settings = families[name]
    torch.manual_seed(0)
    description = camera.Description(name, settings, tuple("abcde"), Preprocess(side, side), (120.0,) * 3, (64.0,) * 3)
    model = camera.CameraModel(description).eval()
    for module in model.modules():  # away from their defaults: folding them wrongly must show
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    if (name, count) == ("attention_rcnn", 2):
        with pytest.raises(ModelError, match=r"has no graph of a dynamic batch \(the exporter fixed it at 2\)"):
            to_onnx(model, dynamic_batch=True, opset=20)
        return
    random = np.random.default_rng(0)
    frames = [random.integers(0, 256, (count, side, side, 3), np.uint8) for _ in description.inputs]
    with torch.inference_mode():
        wanted = model(*map(torch.from_numpy, frames))
    wanted = dict(zip(description.outputs, wanted if isinstance(wanted, tuple) else (wanted,), strict=True))
    graph = to_onnx(model, dynamic_batch=count > 1, opset=20)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == list(description.inputs)
    assert [value.name for value in session.get_outputs()] == list(wanted)
    found = dict(zip(wanted, session.run(None, dict(zip(description.inputs, frames, strict=True))), strict=True))
    task = tasks.find(description.task)
    for i in range(count):
        theirs = {key: value[i : i + 1].numpy() for key, value in wanted.items()}
        ours = {key: value[i : i + 1] for key, value in found.items()}
        assert {key: value.shape for key, value in ours.items()} == {key: v.shape for key, v in theirs.items()}
        ours, theirs = task.comparable(ours, theirs)
        assert min(sqnr_db(theirs[key], ours[key]) for key in theirs) > 80
