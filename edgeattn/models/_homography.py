"""Homographies in a training loss: points through them, the differentiable solve, where one image shows the other."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_DEPTH_MIN = 0.1
_RIDGE = 1e-3


def project(homography: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Points `(N, P, 2)` through `(N, 3, 3)` -> `(N, P, 2)`, and whether each is in front of the camera `(N, P)`."""
    moved = points @ homography[:, :, :2].transpose(1, 2) + homography[:, None, :, 2]
    depth = moved[..., 2:]
    return moved[..., :2] / depth.clamp(min=_DEPTH_MIN), depth[..., 0] > _DEPTH_MIN


def solve(points_a: Tensor, points_b: Tensor, weights: Tensor) -> Tensor:
    """Weighted least squares in the eight unknowns of a homography `(N, 3, 3)`, last element 1; differentiable.

    Points `(N, P, 2)` should lie in about -1..1: a small ridge pulls towards the identity, so that the system has a
    solution from the first step of a training on, when no match is right yet.
    """
    zero, one = torch.zeros_like(points_a), torch.ones_like(points_a[..., :1])
    rows = torch.cat(
        (
            torch.cat((points_a, one, zero, zero[..., :1], -points_b[..., :1] * points_a), dim=-1),
            torch.cat((zero, zero[..., :1], points_a, one, -points_b[..., 1:] * points_a), dim=-1),
        ),
        dim=1,
    )
    right = torch.cat((points_b[..., 0], points_b[..., 1]), dim=1)
    weighted = rows * torch.cat((weights, weights), dim=1)[..., None]
    ridge = _RIDGE * weights.sum(dim=1).detach() + 1e-6
    identity = rows.new_tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    normal = weighted.transpose(1, 2) @ rows + ridge[:, None, None] * torch.eye(8, device=rows.device)
    found = torch.linalg.solve(normal, (weighted * right[..., None]).sum(dim=1) + ridge[:, None] * identity)
    return functional.pad(found, (0, 1), value=1.0).reshape(-1, 3, 3)


def bilinear_log_likelihood(log_weights: Tensor, places: Tensor, smoothing: float) -> Tensor:
    """`sum_j t_j log w_j` `(N, P)`: t shares 1 among the four cells around a place so that their mean is the place.

    `log_weights` `(N, P, h, w)`; `places` `(N, P, 2)`: x, y in cells, the first cell's centre is 0, held inside the
    map. `smoothing` of the target is spread over all cells.
    """
    count, points, high, wide = log_weights.shape
    x, y = places[..., 0].clamp(0, wide - 1), places[..., 1].clamp(0, high - 1)
    left, top = x.floor().clamp(max=wide - 2), y.floor().clamp(max=high - 2)
    across, down = x - left, y - top
    flat = log_weights.reshape(count, points, high * wide)
    first = (top * wide + left).long()
    index = torch.stack((first, first + 1, first + wide, first + wide + 1), dim=-1)
    shares = torch.stack(((1 - across) * (1 - down), across * (1 - down), (1 - across) * down, across * down), dim=-1)
    likelihood = (flat.gather(2, index) * shares).sum(dim=-1)
    return (1 - smoothing) * likelihood + smoothing * flat.mean(dim=-1)


def sampled(image: Tensor, homography: Tensor) -> tuple[Tensor, Tensor]:
    """`image` `(N, C, H, W)` read where `homography` says (its pixels from the result's), and where it reaches."""
    high, wide = image.shape[2:]
    y, x = torch.meshgrid(torch.arange(high), torch.arange(wide), indexing="ij")
    grid = torch.stack((x, y), dim=-1).reshape(1, -1, 2).to(image).expand(len(image), -1, 2)
    places, ahead = project(homography, grid)
    size = places.new_tensor([wide, high])
    scaled = ((2 * places + 1) / size - 1).reshape(-1, high, wide, 2)
    reached = (scaled.abs().amax(dim=-1) < 1) & ahead.reshape(-1, high, wide)
    return functional.grid_sample(image, scaled, align_corners=False), reached
