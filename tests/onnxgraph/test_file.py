"""An ONNX file ends at 2 GB."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from google.protobuf.message import EncodeError
from onnx import helper, numpy_helper

from edgeattn.errors import ModelError
from edgeattn.onnxgraph.file import serialized


class TooLarge:
    """As protobuf answers: its Python and C++ halves raise other classes (two gigabytes of a real one take long)."""

    def __init__(self, error):
        self.error = error

    def SerializeToString(self, deterministic):  # noqa: N802  protobuf's name
        raise self.error


@pytest.mark.parametrize("error", [ValueError("exceeds maximum protobuf size of 2GB: 2200000000"), EncodeError("no")])
def test_what_is_too_large_for_one_file(error):
    with pytest.raises(ModelError, match="larger than the 2 GB one ONNX file can hold; use a smaller model"):
        serialized(TooLarge(error))


def test_what_is_not():
    model = helper.make_model(helper.make_graph([], "g", [], [], [numpy_helper.from_array(np.ones(9), "w")]))
    assert onnx.load_from_string(serialized(model)) == model
