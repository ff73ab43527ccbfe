"""What TensorRT would have against the graphs of our own models, tiny, in FP32, FP16 and INT8."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from edgeattn import models
from edgeattn.export.run import to_onnx
from edgeattn.imaging import Preprocess
from edgeattn.lint import lint
from edgeattn.lint.base import Rules, Severity
from edgeattn.models import camera
from edgeattn.quantize import int8
from edgeattn.quantize.form import TENSORRT
from edgeattn.quantize.fp16 import to_fp16

pytestmark = pytest.mark.slow

# Attention R-CNN computes with the size of its batch, and is exported for one frame (tests/export/test_families.py).
CASES = [
    (name, batch)
    for name in models.names()
    for batch in ("fixed", "dynamic")
    if (name, batch) != ("attention_rcnn", "dynamic")
]


def test_no_family_is_left_out(families):
    assert families.keys() == set(models.names())


@pytest.fixture(scope="module", params=CASES, ids=["-".join(case) for case in CASES])
def graph(request, families):
    name, batch = request.param
    side, settings = families[name]
    description = camera.Description(name, settings, tuple("abcde"), Preprocess(side, side), (120.0,) * 3, (64.0,) * 3)
    return to_onnx(camera.CameraModel(description).eval(), dynamic_batch=batch == "dynamic", opset=20)


def against(model, version):
    """Errors and warnings; what is only noted is a choice of ours.

    Not that a dynamic batch is read off the frames, which are UINT8: nobody knows whether that is taken.
    """
    found = [item for item in lint(model, Rules(version)) if item.severity is not Severity.NOTE]
    return [item.sentence() for item in found if item.rule != "typing.uint8-shape"]


VERSIONS = pytest.mark.parametrize("version", [(10, 3), (11, 4)], ids=["10.3", "11.4"])


@VERSIONS
def test_fp32_is_taken(graph, version):
    assert against(graph, version) == []


@VERSIONS
def test_fp16_is_taken(graph, version):
    half = to_fp16(graph)
    assert against(half, version) == []
    assert any(tensor.data_type == TensorProto.FLOAT16 for tensor in half.graph.initializer)
    assert not [found for found in lint(half, Rules(version)) if found.rule.startswith("overflow.")]


@pytest.fixture(scope="module", params=models.names())
def quantized(request, families):
    name = request.param
    side, settings = families[name]
    description = camera.Description(name, settings, tuple("abcde"), Preprocess(side, side), (120.0,) * 3, (64.0,) * 3)
    model = to_onnx(camera.CameraModel(description).eval(), dynamic_batch=False, opset=20)
    rng = np.random.default_rng(0)
    calls = [
        {value.name: rng.integers(0, 256, (1, side, side, 3)).astype(np.uint8) for value in model.graph.input}
        for _ in range(2)
    ]
    return int8.quantize(model, calls, int8.CANDIDATES[0], form=TENSORRT, spare_bit=False)


@VERSIONS
def test_int8_is_taken(quantized, version):
    assert against(quantized, version) == []


def test_int8_is_sound_and_every_zero_point_is_a_signed_0(quantized):
    onnx.checker.check_model(quantized, full_check=True)
    onnx.shape_inference.infer_shapes(quantized, strict_mode=True, check_type=True, data_prop=True)
    quantizers = [node for node in quantized.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert quantizers
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
    for node in quantizers:
        assert constants[node.input[1]].dtype == np.float16
        point = constants[node.input[2]]
        assert point.dtype == np.int8 and not point.any()
