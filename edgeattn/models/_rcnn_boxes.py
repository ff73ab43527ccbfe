"""Geometry of a two-stage detector as plain tensor arithmetic of static shape: what it computes, every engine computes.

Boxes are x1, y1, x2, y2 with exclusive edges, counted in cells of the feature map: there areas stay far below FP16's
largest number, and regions need no scale. Nothing here is learned.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# The exponent of a change of size ends here: no object is more than 8 times its anchor.
_GROWTH_MAX = math.log(8.0)


def anchors(height: int, width: int, sizes: tuple[float, ...], ratios: tuple[float, ...]) -> Tensor:
    """`(height * width * A, 4)` boxes around every cell's centre, for each size (in cells) and ratio (height / width).

    One size 2 and ratio 1 on a single cell, whose centre is (0.5, 0.5): (-0.5, -0.5, 1.5, 1.5). All anchors of a size
    have the same area.
    """
    sides = torch.tensor([[size / math.sqrt(ratio), size * math.sqrt(ratio)] for size in sizes for ratio in ratios])
    y = torch.arange(height).float() + 0.5
    x = torch.arange(width).float() + 0.5
    centres = torch.stack((x[None, :].expand(height, width), y[:, None].expand(height, width)), dim=-1)
    centres = centres.reshape(-1, 1, 2)
    return torch.cat((centres - sides / 2, centres + sides / 2), dim=2).reshape(-1, 4)


def decode(boxes: Tensor, deltas: Tensor, deviations: tuple[float, float], limits: tuple[float, float]) -> Tensor:
    """`boxes` moved by `deltas`, both `(…, 4)`, and cut at `limits`, the frame's width and height.

    Girshick et al., "Rich feature hierarchies", 2014, appendix C: `x = x_a + w_a d_x`, `w = w_a exp(d_w)`. Deltas are
    counted in `deviations` of place and of size, so that the layer before has targets of unit variance.
    """
    sides = boxes[..., 2:] - boxes[..., :2]
    centres = (boxes[..., :2] + boxes[..., 2:]) * 0.5
    centres = centres + sides * (deltas[..., :2] * deviations[0])
    half = sides * torch.exp((deltas[..., 2:] * deviations[1]).clamp(-_GROWTH_MAX, _GROWTH_MAX)) * 0.5
    x = torch.cat((centres[..., :1] - half[..., :1], centres[..., :1] + half[..., :1]), dim=-1).clamp(0.0, limits[0])
    y = torch.cat((centres[..., 1:] - half[..., 1:], centres[..., 1:] + half[..., 1:]), dim=-1).clamp(0.0, limits[1])
    return torch.cat((x[..., :1], y[..., :1], x[..., 1:], y[..., 1:]), dim=-1)


def encode(boxes: Tensor, wanted: Tensor, deviations: tuple[float, float]) -> Tensor:
    """The deltas that `decode` turns into `wanted`; a side below a hundredth of a cell counts as one."""
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0.01)
    goal = (wanted[..., 2:] - wanted[..., :2]).clamp(min=0.01)
    shift = (wanted[..., :2] + wanted[..., 2:] - boxes[..., :2] - boxes[..., 2:]) * 0.5 / sides
    return torch.cat((shift / deviations[0], torch.log(goal / sides) / deviations[1]), dim=-1)


def overlap(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection and union `(N, A, B)` of boxes `(N, A, 4)` and `(N, B, 4)`, in square cells."""
    corner = torch.maximum(first[:, :, None, :2], second[:, None, :, :2])
    other = torch.minimum(first[:, :, None, 2:], second[:, None, :, 2:])
    sides = (other - corner).clamp(min=0.0)
    shared = sides[..., 0] * sides[..., 1]
    return shared, _area(first)[:, :, None] + _area(second)[:, None, :] - shared


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union `(N, A, B)`; 0 for boxes without area."""
    shared, union = overlap(first, second)
    return shared / union.clamp(min=1e-6)


def inside(first: Tensor, second: Tensor) -> Tensor:
    """Share of each of `first`'s areas that each of `second` covers, `(N, A, B)`; 0 for boxes without area."""
    return overlap(first, second)[0] / _area(first).clamp(min=1e-6)[:, :, None]


def _area(boxes: Tensor) -> Tensor:
    sides = boxes[..., 2:] - boxes[..., :2]
    return sides[..., 0] * sides[..., 1]


def greedy_keep(boxes: Tensor, classes: Tensor | None, iou_max: float, rounds: int) -> Tensor:
    """1 for what greedy non-maximum suppression keeps of boxes `(N, M, 4)`, best first, else 0: `(N, M)` float.

    Greedy suppression is the one solution of `keep_i = not any(keep_j and iou_ij > iou_max for j < i)`. All i at once,
    starting from ones, is right after one round about every box that nothing suppresses, after two about what those
    suppress, …: after M rounds always, and after `rounds` about every box at the end of a chain of at most that many
    suppressions, each of which frees the next. A round is a product and a maximum over M x M numbers, with no loop over
    boxes and no count that depends on the data, so that TensorRT, OpenVINO and ONNX Runtime run it as it is.

    With `classes` `(N, M)` a box only suppresses those of its class. For A, B, C where A overlaps B and B overlaps C:
    after round one A alone is left, after round two C again.
    """
    shared, union = overlap(boxes, boxes)
    later = torch.ones(boxes.shape[1], boxes.shape[1]).tril(-1).to(boxes)
    threatened = (shared > union * iou_max).to(boxes) * later
    if classes is not None:
        threatened = threatened * (classes[:, :, None] == classes[:, None, :]).to(boxes)
    keep = torch.ones_like(boxes[..., 0])
    for _ in range(rounds):
        keep = 1.0 - (threatened * keep[:, None, :]).amax(dim=2)
    return keep


def kept_first(keep: Tensor, count: int) -> Tensor:
    """Indices `(N, count)` of the kept ones in their order, then of the others.

    By a key of small whole numbers that no precision rounds into ties (BF16 is exact up to 256).
    """
    length = keep.shape[1]
    key = keep * float(length) - torch.arange(length).to(keep)
    return key.topk(count, dim=1).indices


def pick(rows: Tensor, indices: Tensor) -> Tensor:
    """`rows` `(N, M, …)` at `indices` `(N, K)` -> `(N, K, …)`."""
    if rows.ndim == 2:
        return rows.gather(1, indices)
    return rows.gather(1, indices[..., None].expand(-1, -1, rows.shape[2]))


def roi_align(features: Tensor, boxes: Tensor, bins: int) -> Tensor:
    """Features `(N, C, H, W)` inside boxes `(N, R, 4)` -> `(N, R, bins, bins, C)`.

    He et al., "Mask R-CNN", 2017, arXiv:1703.06870, section 3: every bin is the mean of 2 x 2 bilinear samples.
    Bilinear weights are products of one for y and one for x, and so is their mean over a bin. That makes the whole two
    matrix products of static shape, `out[p, q] = sum_y Wy[p, y] sum_x Wx[q, x] F[y, x]`. Equal to
    ONNX's RoiAlign (`half_pixel`, `avg`, sampling_ratio 2) for boxes inside the frame.
    """
    count, channels, height, width = features.shape
    regions = boxes.shape[1]
    down = _bilinear(boxes[..., 1], boxes[..., 3], bins, height)
    across = _bilinear(boxes[..., 0], boxes[..., 2], bins, width)
    rows = features.permute(0, 2, 3, 1).reshape(count, height, width * channels)
    strips = torch.matmul(down.reshape(count, regions * bins, height), rows)
    strips = strips.reshape(count, regions, bins, width, channels)
    return torch.matmul(across[:, :, None], strips)


def _bilinear(low: Tensor, high: Tensor, bins: int, length: int) -> Tensor:
    """Weights `(N, R, bins, length)` of the cells of one axis for bins between the edges `low` and `high` `(N, R)`."""
    steps = (torch.arange(2 * bins).to(low) + 0.5) / (2 * bins)
    # Cell i is centred at i + 0.5; beyond the outer centres the border's value goes on.
    at = (low[..., None] + (high - low)[..., None] * steps - 0.5).clamp(0.0, length - 1.0)
    cells = torch.arange(length).to(low)
    weights = (1.0 - (at[..., None] - cells).abs()).clamp(min=0.0)
    return weights.reshape(*low.shape, bins, 2, length).mean(dim=3)
