"""A small bundle whose model is known by hand: the logits are the mean of each colour channel."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeattn.backends.base import Specs, TensorSpec
from edgeattn.bundle.golden import make_golden
from edgeattn.bundle.manifest import Manifest, Tensor
from edgeattn.bundle.writer import write_bundle
from edgeattn.imaging import Preprocess


class ChannelMeans:
    """uint8 `frame` (1, 8, 8, 3) -> float32 `logits` (1, 3). `gain` makes it a wrong engine."""

    specs = Specs((TensorSpec("frame", (1, 8, 8, 3), "uint8"),), (TensorSpec("logits", (1, 3), "float32"),))

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def infer(self, inputs: Any) -> dict[str, Any]:
        return {"logits": (inputs["frame"].mean(axis=(1, 2)) * self.gain).astype(np.float32)}

    def close(self) -> None:
        pass


@pytest.fixture
def means() -> type[ChannelMeans]:
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
        fingerprint={"openvino": "1"},
        provenance={"recipe": "tiny", "created": "2026-01-01T00:00:00+00:00", "git": None},
    )


@pytest.fixture
def files() -> dict[str, Path | bytes]:
    frames = [np.full((1, 8, 8, 3), (10, 20, 200), np.uint8), np.full((1, 8, 8, 3), (90, 20, 0), np.uint8)]
    golden = make_golden(ChannelMeans(), [{"frame": frame} for frame in frames])
    return {
        "model.onnx": b"onnx",
        "engine/engine.json": b"{}",
        "engine/engine.blob": b"blob" * 50,
        "golden.npz": golden,
    }


@pytest.fixture
def bundle(tmp_path: Path, manifest: Manifest, files: dict[str, Path | bytes]) -> Path:
    return write_bundle(tmp_path / "tiny.edgeattn", manifest, files)


Repack = Callable[..., Path]


@pytest.fixture
def repack(bundle: Path, tmp_path: Path) -> Repack:
    """Write the bundle again by hand, entries changed (bytes), left out (None) or added."""

    def again(changes: dict[str, bytes | None], compression: int = zipfile.ZIP_STORED) -> Path:
        with zipfile.ZipFile(bundle) as archive:
            entries: dict[str, bytes | None] = {name: archive.read(name) for name in archive.namelist()}
        path = tmp_path / "altered.edgeattn"
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, content in {**entries, **changes}.items():
                if content is not None:
                    archive.writestr(zipfile.ZipInfo(name), content, compress_type=compression)
        return path

    return again
