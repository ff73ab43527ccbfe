import json
from pathlib import Path
from typing import Any

import pytest

from edgeattn.errors import BundleError
from edgeattn.runtime.verify import verify


def test_everything_right(bundle: Path, backend: Any) -> None:
    report = verify(bundle)
    assert report.passed
    values = report.to_dict()
    assert values["schema"] == "edgeattn.verify/1"
    assert (values["files"], values["signature"], values["engine"], values["passed"]) == (
        4,
        "unsigned",
        "compiled",
        True,
    )
    assert values["self_test"]["outputs"]["logits"]["worst_error"] == 0.0
    json.dumps(values, allow_nan=False)
    text = "\n".join(report.lines())
    assert "hashes: 4 files as listed" in text and "signature: none" in text
    assert "self-test: passed on 2 golden samples" in text
    assert backend.runner.closed == 1


def test_a_wrong_engine_is_reported_not_raised(bundle: Path, backend: Any) -> None:
    backend.runner.gain = 2.0
    report = verify(bundle)
    assert not report.passed
    assert "self-test: FAILED" in "\n".join(report.lines())
    assert report.to_dict()["self_test"]["outputs"]["logits"]["passed"] is False


def test_an_engine_built_again(bundle: Path, backend: Any) -> None:
    backend.runner.rebuilt = "cpu is 'this', the engine was compiled for 'that'"
    report = verify(bundle)
    assert (report.engine, report.passed) == ("rebuilt", True)
    assert "rebuilt from model.onnx: cpu is 'this'" in "\n".join(report.lines())


def test_no_engine(make_bundle: Any, backend: Any) -> None:
    assert verify(make_bundle(engine_dir=None)).engine == "built here"


def test_altered(bundle: Path, backend: Any) -> None:
    bundle.write_bytes(bundle.read_bytes()[:-50])
    with pytest.raises(BundleError, match="cut short"):
        verify(bundle)


def test_through_openvino(onnx_bundle: Path) -> None:
    report = verify(onnx_bundle)
    assert (report.engine, report.passed) == ("built here", True)


def test_through_openvino_with_the_engine_of_another_machine(
    onnx_bundle: Path, make_bundle: Any, unusable_engine: bytes
) -> None:
    from edgeattn.bundle.reader import open_bundle

    model = open_bundle(onnx_bundle).read("model.onnx")
    report = verify(make_bundle({"model.onnx": model, "engine/engine.json": unusable_engine}), threads=1)
    assert (report.engine, report.passed) == ("rebuilt", True)
    assert report.rebuilt is not None and "compiled for 'another'" in report.rebuilt
