"""A guard that is to go when OpenVINO is mended: detection recipes leave FP16 out for it (docs/decisions.md)."""

from __future__ import annotations

import pytest

from edgeattn.backends import openvino as backend
from edgeattn.errors import ModelError

if reason := backend.missing():
    pytest.skip(reason, allow_module_level=True)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """Attention R-CNN, tiny and untrained, as ONNX."""
    torch = pytest.importorskip("torch")
    from edgeattn.export.run import to_onnx
    from edgeattn.imaging import Preprocess
    from edgeattn.models import camera

    torch.manual_seed(0)
    settings = {"anchor_sizes": [12, 20, 28, 36], "candidates": 32, "proposals": 12, "detections": 6}
    preprocess = Preprocess(height=64, width=64)
    statistics = (127.0,) * 3, (64.0,) * 3
    described = camera.Description("attention_rcnn", settings, ("a", "b"), preprocess, *statistics)
    path = tmp_path_factory.mktemp("detector") / "model.onnx"
    path.write_bytes(to_onnx(camera.CameraModel(described).eval(), dynamic_batch=False, opset=20).SerializeToString())
    return path


@pytest.mark.slow
@pytest.mark.skipif("fp16" not in backend.precisions(), reason="this processor has no FP16 arithmetic")
def test_attention_rcnn_in_fp16_is_still_not_compiled(detector, tmp_path, monkeypatch):
    backend.compile(detector, tmp_path / "fp32", precision="fp32", threads=1)
    monkeypatch.setattr(backend, "_PATIENCE_S", 30.0)
    with pytest.raises(ModelError, match=r"did not finish compiling .* as fp16 within 30 s; leave it out for this"):
        backend.compile(detector, tmp_path / "fp16", precision="fp16", threads=1)
