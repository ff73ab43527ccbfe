from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgeattn.errors import ModelError
from edgeattn.lint.reading import read


def test_a_file_with_its_weights_beside_it(make, tmp_path):
    model = make(("Mul", "x w", "y"), constants={"w": np.ones(2000, np.float32)}, inputs={"x": [1, 2000]})
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert read(path).graph.initializer[0].raw_data == np.ones(2000, np.float32).tobytes()
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match="keeps in other files cannot be read"):
        read(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"this is no protobuf at all, only text", "is not an ONNX file"),
        (b"", "holds no ONNX graph"),
        (onnx.ModelProto(ir_version=10).SerializeToString(), "holds no ONNX graph"),
    ],
)
def test_what_is_no_onnx(tmp_path, content, words):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=words) as caught:
        read(tmp_path / "model.onnx")
    assert "give a .onnx, an engine's folder or a bundle" in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(ModelError, match=r"none\.onnx cannot be read \(No such file or directory\); check the path\."):
        read(tmp_path / "none.onnx")


def test_a_truncated_file(make, tmp_path):
    data = make(("Mul", "x w", "y"), constants={"w": np.ones(8, np.float32)}).SerializeToString()
    (tmp_path / "model.onnx").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError):
        read(tmp_path / "model.onnx")
