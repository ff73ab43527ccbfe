"""Tiles through a real engine whose every output pixel depends on more than neighbours share: no seam may be left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import edgeattn
from edgeattn.bundle.golden import make_golden
from edgeattn.bundle.manifest import Manifest, Tensor
from edgeattn.bundle.writer import write_bundle
from edgeattn.imaging import Preprocess
from edgeattn.tiling import Tiling

TILE, OVERLAP, BLUR = 48, 8, 15
STEP = TILE - OVERLAP
HIGH, WIDE = TILE + 3 * STEP, TILE + 4 * STEP  # four rows of five tiles that share no more than they must


def blurring_onnx() -> bytes:
    """uint8 `frame` (1, 48, 48, 3) -> `logits` (1, 3, 48, 48): grey 128 is 0, then the mean of 15 x 15 pixels.

    Zeros stand for what lies outside the tile, as in any network that pads: the seven outermost pixels are wrong.
    """
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    helper, kinds = onnx.helper, onnx.TensorProto
    pads = [BLUR // 2] * 4
    nodes = [
        helper.make_node("Cast", ["frame"], ["levels"], to=kinds.FLOAT),
        helper.make_node("Sub", ["levels", "grey"], ["centred"]),
        helper.make_node("Transpose", ["centred"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "AveragePool", ["planes"], ["logits"], kernel_shape=[BLUR, BLUR], pads=pads, count_include_pad=1
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "blur",
        [helper.make_tensor_value_info("frame", kinds.UINT8, (1, TILE, TILE, 3))],
        [helper.make_tensor_value_info("logits", kinds.FLOAT, (1, 3, TILE, TILE))],
        [helper.make_tensor("grey", kinds.FLOAT, (), [128.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


@pytest.fixture
def bundle(manifest: Manifest, tmp_path: Path) -> Path:
    class Nothing:
        def infer(self, inputs: Any) -> dict[str, NDArray[np.float32]]:
            return {"logits": np.zeros((1, 3, TILE, TILE), np.float32)}

    described = replace(
        manifest,
        task="segment",
        inputs=(replace(manifest.inputs[0], shape=(1, TILE, TILE, 3)),),
        outputs=(Tensor("logits", (1, 3, TILE, TILE), "float32"),),
        preprocess=Preprocess(TILE, TILE, "tile", OVERLAP),
        engine_dir=None,
    )
    golden = make_golden(Nothing(), [{"frame": np.full((1, TILE, TILE, 3), 128, np.uint8)}])
    return write_bundle(tmp_path / "blur.edgeattn", described, {"model.onnx": blurring_onnx(), "golden.npz": golden})


def hard_cut(tiling: Tiling, parts: list[NDArray[Any]]) -> NDArray[Any]:
    """As `Tiling.join`, but each pixel is taken from the tile whose middle is nearest."""
    down, across = (
        np.abs(np.arange(length)[:, None] + 0.5 - (np.array(starts) + TILE / 2)).argmin(axis=1)
        for length, starts in ((tiling.height, tiling.tops), (tiling.width, tiling.lefts))
    )
    rows = np.arange(tiling.height) - np.array(tiling.tops)[down]
    columns = np.arange(tiling.width) - np.array(tiling.lefts)[across]
    tiles = np.stack([part[0] for part in parts])
    chosen = down[:, None] * len(tiling.lefts) + across
    return np.asarray(tiles[chosen, :, rows[:, None], columns].transpose(2, 0, 1)[None])


def seams_over_elsewhere(joined: NDArray[Any], axis: int) -> float:
    """The strongest step across a seam over the strongest across any other line, each the RMS along its line.

    Seams are where tiles begin, where they end and half-way between. The frame's own rim, which is no seam and where
    every tile sees zeros, is left out.
    """
    length = joined.shape[axis]
    along = tuple(other for other in range(4) if other != axis)
    steps = np.sqrt((np.diff(joined, axis=axis) ** 2).mean(axis=along))
    starts = range(STEP, length - OVERLAP, STEP)
    seams = {start + offset for start in starts for offset in (0, OVERLAP // 2, OVERLAP)}
    at_seams = np.array([index + 1 in seams for index in range(length - 1)])
    inside = np.zeros(length - 1, bool)
    inside[BLUR : -BLUR + 1] = True
    assert at_seams.sum() == 3 * (length // STEP - 1)
    return float(steps[at_seams].max() / steps[~at_seams & inside].max())


@pytest.mark.parametrize("axis", [2, 3], ids=["rows", "columns"])
def test_no_seam_is_left_by_an_engine_that_sees_further_than_tiles_share(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, axis: int
) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (HIGH, WIDE, 3), np.uint8)
    with edgeattn.load(bundle, threads=1) as model:
        result, outputs = model.call(frame)
        monkeypatch.setattr(Tiling, "join", hard_cut)
        cut = model.call(frame)[1]["logits"]
    assert outputs["logits"].shape == cut.shape == (1, 3, HIGH, WIDE)
    assert np.array_equal(result.mask, outputs["logits"][0].argmax(axis=0))
    assert seams_over_elsewhere(outputs["logits"], axis) <= 1.0
    # What the same measure says of tiles that are not blended: it would find a seam.
    assert seams_over_elsewhere(cut, axis) > 1.4
