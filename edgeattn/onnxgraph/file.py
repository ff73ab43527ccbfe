"""The bytes of an ONNX file."""

from __future__ import annotations

import onnx

from edgeattn.errors import ModelError


def serialized(model: onnx.ModelProto) -> bytes:
    """The same bytes for the same model. Raises ModelError when they are more than one ONNX file can hold."""
    try:
        return bytes(model.SerializeToString(deterministic=True))
    except Exception as error:  # protobuf's own, or ValueError: it depends on its version
        raise ModelError(
            "The graph with its weights is larger than the 2 GB one ONNX file can hold; use a smaller model."
        ) from error
