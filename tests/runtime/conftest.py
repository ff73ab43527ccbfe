"""A bundle whose engine is known by hand: the logits are the mean of each colour channel.

`bundle` runs on a fake backend that works without any inference library; `onnx_bundle` is a real one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeattn import backends
from edgeattn.backends.base import Specs, TensorSpec, check_inputs
from edgeattn.bundle.golden import make_golden
from edgeattn.bundle.manifest import Manifest, Tensor
from edgeattn.bundle.writer import write_bundle
from edgeattn.imaging import Preprocess


class ChannelMeans:
    """uint8 `frame` (1, 8, 8, 3) -> float32 `logits` (1, 3). `gain` makes it a wrong engine."""

    specs = Specs((TensorSpec("frame", (1, 8, 8, 3), "uint8"),), (TensorSpec("logits", (1, 3), "float32"),))

    def __init__(self, gain: float = 1.0) -> None:
        self.gain, self.closed, self.rebuilt = gain, 0, None

    def infer(self, inputs: Any) -> dict[str, Any]:
        check_inputs(self.specs, inputs)
        return {"logits": (inputs["frame"].mean(axis=(1, 2)) * self.gain).astype(np.float32)}

    def close(self) -> None:
        self.closed += 1


@dataclass
class FakeBackend:
    """Remembers what it was asked; `problem` is raised by `load`."""

    runner: Any = field(default_factory=ChannelMeans)
    problem: Exception | None = None
    folders: list[Path] = field(default_factory=list)
    seen: dict[str, bytes] = field(default_factory=dict)
    threads: int = 0

    def load(self, folder: Path, *, threads: int) -> Any:
        self.folders.append(folder)
        self.threads = threads
        # Another thread's half-written file has a hidden name and may be gone a moment later.
        whole = [p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")]
        self.seen = {p.relative_to(folder).as_posix(): p.read_bytes() for p in whole}
        if self.problem:
            raise self.problem
        return self.runner


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("EDGEATTN_CACHE", str(folder))
    return folder


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> FakeBackend:
    fake = FakeBackend()
    monkeypatch.setattr(backends, "find", lambda name: fake)
    return fake


@pytest.fixture
def runner_class() -> type[ChannelMeans]:
    return ChannelMeans


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        task="classify",
        labels=("blue", "green", "red"),
        inputs=(Tensor("frame", (1, 8, 8, 3), "uint8", "bgr", (0.0, 255.0)),),
        outputs=(Tensor("logits", (1, 3), "float32"),),
        preprocess=Preprocess(8, 8, "stretch"),
        variant="fp32",
        target="cpu",
        backend="openvino",
        engine_dir="engine",
    )


@pytest.fixture
def files() -> dict[str, Path | bytes]:
    frames = [np.full((1, 8, 8, 3), (10, 20, 200), np.uint8), np.full((1, 8, 8, 3), (90, 20, 0), np.uint8)]
    golden = make_golden(ChannelMeans(), [{"frame": frame} for frame in frames])
    return {"model.onnx": b"onnx", "engine/engine.json": b"{}", "engine/engine.blob": b"blob", "golden.npz": golden}


@pytest.fixture
def make_bundle(tmp_path: Path, manifest: Manifest, files: dict[str, Path | bytes]) -> Callable[..., Path]:
    def make(changed_files: dict[str, Path | bytes] | None = None, **changes: Any) -> Path:
        return write_bundle(
            tmp_path / "tiny.edgeattn", replace(manifest, **changes), {**files, **(changed_files or {})}
        )

    return make


@pytest.fixture
def bundle(make_bundle: Callable[..., Path]) -> Path:
    return make_bundle()


@pytest.fixture
def onnx_bundle(manifest: Manifest, files: dict[str, Path | bytes], tmp_path: Path) -> Path:
    """The same model as ONNX without an engine: OpenVINO builds it when it is loaded."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    helper, kinds = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Cast", ["frame"], ["float"], to=kinds.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["logits"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("frame", kinds.UINT8, (1, 8, 8, 3))],
        [helper.make_tensor_value_info("logits", kinds.FLOAT, (1, 3))],
        [helper.make_tensor("axes", kinds.INT64, (2,), [1, 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    content: dict[str, Path | bytes] = {"model.onnx": model.SerializeToString(), "golden.npz": files["golden.npz"]}
    return write_bundle(tmp_path / "real.edgeattn", replace(manifest, engine_dir=None), content)


@pytest.fixture
def unusable_engine() -> bytes:
    """An `engine.json` as the OpenVINO backend writes it, of another machine."""
    described = {
        "schema": "edgeattn.engine/1",
        "inference_precision": "f32",
        "blob_sha256": "0" * 64,
        "fingerprint": {"openvino": "0", "cpu": "another"},
        "layers": {},
        "macs": {},
        "notes": [],
    }
    return json.dumps(described).encode()
