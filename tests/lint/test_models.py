"""What TensorRT would have against the graphs of our own models, tiny, in FP32 and FP16."""

from __future__ import annotations

import pytest
from onnx import TensorProto

from edgeattn import models
from edgeattn.export.run import to_onnx
from edgeattn.imaging import Preprocess
from edgeattn.lint import lint
from edgeattn.lint.base import Rules, Severity
from edgeattn.models import camera
from edgeattn.quantize.fp16 import to_fp16

pytestmark = pytest.mark.slow

CASES = [(name, batch) for name in models.names() for batch in ("fixed", "dynamic")]


def test_no_family_is_left_out(families):
    assert families.keys() == set(models.names())


@pytest.fixture(scope="module", params=CASES, ids=["-".join(case) for case in CASES])
def graph(request, families):
    name, batch = request.param
    side, settings = families[name]
    description = camera.Description(name, settings, tuple("abcde"), Preprocess(side, side), (120.0,) * 3, (64.0,) * 3)
    return to_onnx(camera.CameraModel(description).eval(), dynamic_batch=batch == "dynamic", opset=20)


def errors(model, version):
    return [found.sentence() for found in lint(model, Rules(version)) if found.severity is Severity.ERROR]


VERSIONS = pytest.mark.parametrize("version", [(10, 3), (11, 4)], ids=["10.3", "11.4"])


@VERSIONS
def test_fp32_is_taken(graph, version):
    assert errors(graph, version) == []


@VERSIONS
def test_fp16_is_taken(graph, version):
    half = to_fp16(graph)
    assert errors(half, version) == []
    assert any(tensor.data_type == TensorProto.FLOAT16 for tensor in half.graph.initializer)
    assert not [found for found in lint(half, Rules(version)) if found.rule.startswith("overflow.")]
