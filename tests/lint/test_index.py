"""Indices that are computed in FP16."""

from __future__ import annotations

import pytest
from onnx import TensorProto

HALF, FLOAT, INT64, UINT8 = TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.INT64, TensorProto.UINT8


def quotient(make, kind, whole=INT64):
    return make(
        ("Cast", "x", "f", {"to": kind}),
        ("Floor", "f", "w"),
        ("Cast", "w", "y", {"to": whole}),
        inputs={"x": (INT64, [1, 8])},
        outputs={"y": whole},
    )


@pytest.mark.parametrize("sound", [(FLOAT, INT64), (HALF, UINT8)])
def test_an_index_in_half_precision(make, proves, sound):
    item = proves("index.half", quotient(make, HALF), quotient(make, *sound), node="y")
    assert item.what == "It makes int64 of 'w', which is FP16."
