from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from edgeattn.lint.base import Rules
from edgeattn.lint.listing import listing

HALF = TensorProto.FLOAT16
DLA = {"tensorrt": (10, 3), "dla": True}


def half(make, *rows, shape=(1, 8, 16, 16), constants=None):
    constants = {name: np.asarray(value) for name, value in (constants or {}).items()}
    return make(*rows, inputs={"x": (HALF, list(shape))}, outputs={"y": HALF}, constants=constants)


def weights(*shape):
    return {"w": np.ones(shape, np.float16)}


def test_nothing_is_said_unless_a_dla_is_asked_for(make, said):
    model = half(make, ("Erf", "x", "y"))
    assert said(model, "dla.") == []
    assert [item.rule for item in said(model, "dla.", **DLA)] == ["dla.gpu"]


@pytest.mark.parametrize(
    ("tensorrt", "has"),
    [
        ((10, 0), True),
        ((10, 7), True),
        ((10, 8), False),
        ((10, 16), False),
        ((11, 3), False),
        ((11, 4), False),
        ((11, 4, 0, 106), False),
        ((11, 4, 1), True),
    ],
)
def test_versions_that_build_for_a_dla(make, said, tensorrt, has):
    found = said(half(make, ("Relu", "x", "y")), "dla.", tensorrt=tensorrt, dla=True)
    assert [item.rule for item in found] == ([] if has else ["dla.version"])


def test_shapes(make, proves):
    proves("dla.dynamic", half(make, ("Relu", "x", "y"), shape=("n", 8)), half(make, ("Relu", "x", "y")), **DLA)
    for broken, mended in (((4097, 8), (4096, 8)), ((1, 8193), (1, 8192))):
        proves("dla.size", *(half(make, ("Relu", "x", "y"), shape=shape) for shape in (broken, mended)), **DLA)


LIMITS = [
    (("Erf", "x", "y"), ("Relu", "x", "y"), {}, "A DLA has no Erf."),
    (("Div", "x c", "y"), ("Mul", "x c", "y"), {"c": np.float16(2)}, "A DLA has no Div."),
    (
        ("Conv", "x w", "y", {"strides": [9, 1]}),
        ("Conv", "x w", "y", {"strides": [8, 1]}),
        weights(8, 8, 3, 3),
        "`strides` must be from 1 to 8 for a DLA, it is [9, 1].",
    ),
    (
        ("Conv", "x w", "y", {"pads": [32, 0, 0, 0]}),
        ("Conv", "x w", "y", {"pads": [31, 0, 0, 0]}),
        weights(8, 8, 3, 3),
        "`pads` must be from 0 to 31",
    ),
    (
        ("Conv", "x w", "y", {"pads": [16] * 4}),
        ("Conv", "x v", "y", {"pads": [16] * 4}),
        {**weights(8, 8, 33, 33), "v": np.ones((8, 8, 32, 32), np.float16)},
        "A DLA's kernels have sides up to 32",
    ),
    (
        ("ConvTranspose", "x w", "y", {"group": 2}),
        ("ConvTranspose", "x w", "y"),
        weights(8, 4, 2, 2),
        "one group, this one 2",
    ),
    (
        ("ConvTranspose", "x w", "y", {"pads": [1] * 4}),
        ("ConvTranspose", "x w", "y"),
        weights(8, 4, 2, 2),
        "from 0 to 0",
    ),
    (
        ("MaxPool", "x", "y", {"kernel_shape": [9, 9]}),
        ("MaxPool", "x", "y", {"kernel_shape": [8, 8]}),
        {},
        "from 1 to 8",
    ),
    (
        ("MatMul", "x w", "y"),
        ("Conv", "x v", "y"),
        {**weights(16, 16), "v": np.ones((8, 8, 1, 1), np.float16)},
        "A DLA has no MatMul.",
    ),
    (("Unsqueeze", "x w", "y"), ("Transpose", "x", "y"), {"w": np.int64([0])}, "A DLA has no Unsqueeze."),
    (("Softmax", "x", "y", {"axis": 3}), ("Softmax", "x", "y", {"axis": 1}), {}, "Its axis is 1040 long"),
    (
        ("Resize", "x _ s", "y"),
        ("Resize", "x _ t", "y"),
        {"s": np.float32([1, 1, 1.5, 2]), "t": np.float32([1, 1, 2, 2])},
        "whole factors from 1 to 32",
    ),
    (
        ("Resize", "x _ _ n", "y"),
        ("Resize", "x _ _ m", "y"),
        {"n": np.int64([1, 8, 24, 16]), "m": np.int64([1, 8, 32, 16])},
        "whole factors from 1 to 32",
    ),
    (
        ("Resize", "x _ t", "y", {"mode": "linear", "coordinate_transformation_mode": "align_corners"}),
        ("Resize", "x _ t", "y", {"mode": "linear"}),
        {"t": np.float32([1, 1, 2, 2])},
        "half_pixel alone",
    ),
    (
        ("Resize", "x _ t", "y", {"mode": "cubic"}),
        ("Resize", "x _ t", "y", {"mode": "nearest"}),
        {"t": np.float32([1, 1, 2, 2])},
        "by nearest or linear alone, not cubic",
    ),
    (("Concat", "x x", "y", {"axis": 2}), ("Concat", "x x", "y", {"axis": -3}), {}, "channels alone, not axis 2"),
]


@pytest.mark.parametrize("entry", LIMITS, ids=[f"{entry[0][0]}-{i}" for i, entry in enumerate(LIMITS)])
def test_what_falls_back_to_the_gpu(make, proves, entry):
    broken, mended, constants, words = entry
    shape = (1, 8, 16, 1040) if broken[0] == "Softmax" else (1, 8, 16, 16)
    models = [half(make, row, shape=shape, constants=constants) for row in (broken, mended)]
    assert words in proves("dla.gpu", *models, node="y", **DLA).what


def test_fp32_falls_back_and_int8_does_not(make, said):
    single = make(("Relu", "x", "y"))
    (item,) = said(single, "dla.", **DLA)
    assert item.what == "It computes in FP32, a DLA in FP16 and INT8 alone."
    quantized = make(("QDQ", "x", "d", {}), ("Relu", "d", "y"))
    assert said(quantized, "dla.", tensorrt=(11, 4, 1), dla=True) == []


def test_what_is_folded_runs_nowhere(make, said):
    rows = [("Exp", "c", "e"), ("Mul", "x e", "y")]
    assert said(half(make, *rows, constants={"c": np.float16(2)}), "dla.", **DLA) == []


def test_a_dla_takes_no_quantizers_before_tensorrt_11(make, said):
    """INT8 comes from a calibration cache there; both the quantizers and what they are for fall back."""
    constants = {"k": np.ones((8, 8, 1, 1), np.int8)}
    model = make(
        ("QDQ", "x", "d", {}), ("DQ", "k", "w", {}), ("Conv", "d w", "y"),
        inputs={"x": [1, 8, 16, 16]}, constants=constants,
    )  # fmt: skip
    found = said(model, "dla.", **DLA)
    assert [(item.rule, item.node) for item in found] == [("dla.quantized", "d_quantize"), ("dla.quantized", "y")]
    assert said(model, "dla.", tensorrt=(11, 4, 1), dla=True) == []
    placed = {item.node: item.placement for item in listing(model, Rules(**DLA))}
    assert placed["y"] == "gpu"
    assert {item.node: item.placement for item in listing(model, Rules((11, 4, 1), dla=True))}["y"] == "dla"
