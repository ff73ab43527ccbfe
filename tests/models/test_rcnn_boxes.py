from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from edgeattn.models import _rcnn_boxes as geometry


def random_boxes(rng, count, side=20.0):
    corner = rng.uniform(0, side * 0.8, (count, 2))
    return np.concatenate((corner, np.minimum(corner + rng.uniform(1, side / 2, (count, 2)), side)), axis=1)


def slow_iou(a, b):
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(wide, 0) * max(high, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union else 0.0


def test_anchors_by_hand():
    got = geometry.anchors(1, 2, (2.0,), (1.0, 4.0))
    assert got.tolist() == [[-0.5, -0.5, 1.5, 1.5], [0, -1.5, 1, 2.5], [0.5, -0.5, 2.5, 1.5], [1, -1.5, 2, 2.5]]


def test_decode_by_hand_and_cut():
    """A side of 4 moved by a quarter of it and doubled: from (4, 4, 8, 8) to (3, 2, 11, 10), y cut at 9."""
    deltas = torch.tensor([[0.25 / 0.1, 0.0, math.log(2) / 0.2, math.log(2) / 0.2]])
    got = geometry.decode(torch.tensor([[4.0, 4, 8, 8]]), deltas, (0.1, 0.2), (20.0, 9.0))
    assert got[0].tolist() == pytest.approx([3, 2, 11, 9])
    far = geometry.decode(torch.tensor([[4.0, 4, 8, 8]]), torch.full((1, 4), 1e4), (0.1, 0.2), (20.0, 9.0))
    assert torch.isfinite(far).all()


def test_encode_is_the_inverse():
    rng = np.random.default_rng(0)
    boxes, goal = (torch.tensor(random_boxes(rng, 50)) for _ in range(2))
    # Growth ends at 8 times.
    fair = ((goal[:, 2:] - goal[:, :2]) / (boxes[:, 2:] - boxes[:, :2])).log().abs().amax(1) < math.log(8)
    assert fair.sum() > 40
    back = geometry.decode(boxes, geometry.encode(boxes, goal, (0.1, 0.2)), (0.1, 0.2), (20.0, 20.0))
    torch.testing.assert_close(back[fair], goal[fair])
    empty = torch.zeros(1, 4, dtype=torch.float64)
    assert torch.isfinite(geometry.encode(empty, empty, (0.1, 0.2))).all()


def test_iou_against_loops():
    rng = np.random.default_rng(1)
    a, b = random_boxes(rng, 7), random_boxes(rng, 5)
    b[0, 2:] = b[0, :2]  # no area
    want = [[slow_iou(x, y) for y in b] for x in a]
    assert geometry.iou(torch.tensor(a)[None], torch.tensor(b)[None])[0].numpy() == pytest.approx(np.array(want))


def slow_suppression(boxes, classes, iou_max):
    kept = []
    for i, box in enumerate(boxes):
        if all(classes[i] != classes[j] or slow_iou(box, boxes[j]) <= iou_max for j in kept):
            kept.append(i)
    return [float(i in kept) for i in range(len(boxes))]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("classes", [1, 3])
def test_suppression_against_loops(seed, classes):
    rng = np.random.default_rng(seed)
    boxes, labels = random_boxes(rng, 60), rng.integers(0, classes, 60)
    for iou_max in (0.1, 0.3, 0.5):
        want = slow_suppression(boxes, labels, iou_max)
        given = torch.tensor(labels)[None] if classes > 1 else None
        got = geometry.greedy_keep(torch.tensor(boxes)[None], given, iou_max, 60)
        assert got[0].tolist() == want
        assert 0 < sum(want) < 60


def test_rounds_follow_a_chain():
    """Each box overlaps the next by 2 of 4: 1/3. One round leaves the first alone, two the third as well, …."""
    boxes = torch.tensor([[[2.0 * i, 0, 2.0 * i + 4, 1] for i in range(6)]])
    kept = [geometry.greedy_keep(boxes, None, 0.3, rounds)[0].tolist() for rounds in (1, 2, 3, 5, 6)]
    assert kept[0] == [1, 0, 0, 0, 0, 0]
    assert kept[1] == [1, 0, 1, 1, 1, 1]
    assert kept[2] == [1, 0, 1, 0, 0, 0]
    assert kept[3] == kept[4] == [1, 0, 1, 0, 1, 0]


def test_kept_first():
    keep = torch.tensor([[0.0, 1, 0, 1, 1]])
    assert geometry.kept_first(keep, 4).tolist() == [[1, 3, 4, 0]]
    # 256 candidates in BF16: still no ties.
    order = geometry.kept_first((torch.arange(256) % 2).bfloat16()[None], 256)[0].tolist()
    assert order == [*range(1, 256, 2), *range(0, 256, 2)]


def test_pick():
    rows = torch.arange(24).reshape(2, 4, 3)
    assert geometry.pick(rows, torch.tensor([[3, 0], [1, 1]])).tolist() == [
        [[9, 10, 11], [0, 1, 2]],
        [[15, 16, 17]] * 2,
    ]


def bilinear(image, y, x):
    y, x = (min(max(v - 0.5, 0.0), side - 1) for v, side in zip((y, x), image.shape, strict=True))
    top, left = min(int(y), image.shape[0] - 2), min(int(x), image.shape[1] - 2)
    dy, dx = y - top, x - left
    upper = image[top, left] * (1 - dx) + image[top, left + 1] * dx
    lower = image[top + 1, left] * (1 - dx) + image[top + 1, left + 1] * dx
    return upper * (1 - dy) + lower * dy


def test_roi_align_against_loops():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, 3, 6, 8))
    boxes = np.stack([np.clip(random_boxes(rng, 4, 8.0), 0, [8, 6, 8, 6]) for _ in range(2)])
    boxes[0, 0] = [0, 0, 8, 6]  # the whole frame
    boxes[1, 0] = [3, 2, 3, 2]  # no area
    bins = 3
    want = np.zeros((2, 4, bins, bins, 3))
    for n, r, p, q, c in np.ndindex(want.shape):
        x1, y1, x2, y2 = boxes[n, r]
        samples = [
            bilinear(features[n, c], y1 + (y2 - y1) * (p + v) / bins, x1 + (x2 - x1) * (q + u) / bins)
            for v in (0.25, 0.75)
            for u in (0.25, 0.75)
        ]
        want[n, r, p, q, c] = np.mean(samples)
    got = geometry.roi_align(torch.tensor(features), torch.tensor(boxes), bins)
    assert got.numpy() == pytest.approx(want, abs=1e-6)


def test_roi_align_equals_onnx():
    """The standard operator in ONNX Runtime, which counts boxes in the same cells."""
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(2)
    features = rng.normal(size=(1, 4, 6, 8)).astype(np.float32)
    boxes = np.clip(random_boxes(rng, 5, 8.0), 0, [8, 6, 8, 6]).astype(np.float32)
    attributes = {"mode": "avg", "output_height": 7, "output_width": 7, "sampling_ratio": 2, "spatial_scale": 1.0}
    node = onnx.helper.make_node(
        "RoiAlign", ["x", "b", "i"], ["y"], coordinate_transformation_mode="half_pixel", **attributes
    )
    kind = onnx.TensorProto
    inputs = [
        onnx.helper.make_tensor_value_info("x", kind.FLOAT, features.shape),
        onnx.helper.make_tensor_value_info("b", kind.FLOAT, boxes.shape),
        onnx.helper.make_tensor_value_info("i", kind.INT64, (5,)),
    ]
    graph = onnx.helper.make_graph([node], "g", inputs, [onnx.helper.make_tensor_value_info("y", kind.FLOAT, None)])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (want,) = session.run(None, {"x": features, "b": boxes, "i": np.zeros(5, np.int64)})
    got = geometry.roi_align(torch.tensor(features), torch.tensor(boxes)[None], 7)[0].permute(0, 3, 1, 2)
    assert got.numpy() == pytest.approx(want, abs=1e-5)
