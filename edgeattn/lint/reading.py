"""An ONNX file as a graph, or one sentence why it is none."""

from __future__ import annotations

from pathlib import Path

import onnx

from edgeattn.backends.base import last_line
from edgeattn.errors import ModelError


def read(path: Path) -> onnx.ModelProto:
    """The model with its weights, external ones too. Raises ModelError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); check the path.") from error
    model = parse(data, str(path))
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(
            f"The weights that {path} keeps in other files cannot be read ({last_line(error)})."
        ) from error
    return model


def parse(data: bytes, where: str) -> onnx.ModelProto:
    """The model in `data`; `where` it is from, for the sentence. Raises ModelError."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # protobuf, which comes with onnx, has its own
        raise ModelError(f"{where} is not an ONNX file; give a .onnx, an engine's folder or a bundle.") from error
    if not model.graph.node or not model.opset_import:
        raise ModelError(f"{where} holds no ONNX graph; give a .onnx, an engine's folder or a bundle.")
    return model
