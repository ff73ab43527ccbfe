"""`deploy --target jetson` where no Jetson is: everything up to the portable bundle, exit code 0."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from edgeattn import report
from edgeattn.bundle.reader import open_bundle
from edgeattn.pipeline import emulated


@pytest.mark.slow
def test_a_jetson_that_is_not_here(deployed, tool):
    shutil.copytree(deployed.store, tool.folder / "store")  # trained and exported there; others count what is in it
    ended = tool("deploy", "tiny.yaml", "--target", "jetson", "--store", "store", "--out", "out")
    assert ended.code == 0, ended.err
    values = json.loads((tool.folder / "out/report.json").read_text())
    report.validate(values)
    rows = {f"{row['stage']}/{row['variant']}": row for row in values["rows"]}
    assert list(rows)[-1].startswith("bundle/")
    for name, row in rows.items():
        assert row["latency"] is None, "how fast this machine is says nothing of the device"
        assert row["emulated"] == (name != "train/fp32"), "every graph is computed as the device will, node by node"
        assert row["status"] == ("deferred" if name.startswith("compile") else row["status"])
    for name, least in (("quantize/fp16", 50), ("quantize/int8", 20), ("export/fp32", 60)):
        fused = rows[name]["emulation"]
        assert fused["sqnr_db"] is None or fused["sqnr_db"] > least  # none: in so small a network nothing moves
        assert fused["metric"] is not None and any("used by ONNX Runtime" in note for note in rows[name]["notes"])
    assert rows["compile/int8"]["emulation"] == rows["quantize/int8"]["emulation"]
    assert rows["compile/int8"]["estimate"]["bound_ms"] < rows["compile/fp32"]["estimate"]["bound_ms"]
    assert values["verdict"]["passed"] and values["selected"]["variant"] == "fp16"

    bundle = open_bundle(tool.folder / "out/tiny-jetson-orin-nano.edgeattn")
    assert (bundle.manifest.backend, bundle.manifest.engine_dir) == ("tensorrt", None)
    assert not any(name.startswith("engine/") for name in bundle.manifest.files)
    with emulated.open_bundle(bundle.path, threads=1) as model:
        assert model.self_test().passed
        side = model.manifest.preprocess.height
        assert model(np.zeros((side, side, 3), np.uint8)).labels == model.labels
    ended = tool("verify", bundle.path)
    assert ended.code == 3 and "TensorRT cannot be used" in ended.err
    ended = tool("inspect", bundle.path, "--target", "jetson")
    assert ended.code == 0, ended.out
