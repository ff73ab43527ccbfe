"""The entries that rows name for arithmetic that this machine lacks."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

from edgeattn.measure.candidate import open_entry
from edgeattn.pipeline.rows import FUSED, ROUNDED

# Between two roundings stands nothing but a product: however it is fused, its result is that of FP16.
HALF = """<ir_version: 10, opset_import: ["" : 20]> g (float[4] x) => (float[4] y) <float wide = {0.3333}>
{ third = Cast <to = 10> (wide) a = Cast <to = 10> (x) b = Mul (a, third) c = Mul (b, third) y = Cast <to = 1> (c) }"""


@pytest.mark.parametrize("name", [ROUNDED, FUSED])
def test_every_result_is_rounded(name, tmp_path):
    (tmp_path / "model.onnx").write_bytes(onnx.parser.parse_model(HALF).SerializeToString())
    x = np.float32([0.1, 7.3, 1e-3, 1e5])
    with np.errstate(over="ignore"):
        third = np.float16(0.3333)
        want = ((x.astype(np.float16) * third) * third).astype(np.float32)
    runner = open_entry(name, tmp_path, 1)
    try:
        got = runner.infer({"x": x})["y"]
    finally:
        runner.close()
    np.testing.assert_array_equal(got, want)
    assert np.isinf(got[3]) and (got[:3] != x[:3] * 0.3333**2).all()
