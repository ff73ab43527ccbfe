"""What a two-stage detector is taught: which anchors and regions are matched, which are sampled, and the losses.

Ren et al., "Faster R-CNN", 2015, arXiv:1506.01497, section 3.1.2. Samples are drawn from torch's generator. Everything
works on whole batches with masks: the operations have deterministic gradients on GPUs too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from edgeattn.models._rcnn_boxes import encode, inside, iou, pick

_IGNORED = -2


@dataclass(frozen=True, eq=False)
class Truth:
    """`boxes` `(N, G, 4)` in cells, `classes` `(N, G)` int64, `used` `(N, G)` bool; at least one row, used or not.

    `ignored` `(N, G)` bool: boxes of objects that are neither taught nor background (crowds, what is hard to see).
    """

    boxes: Tensor
    classes: Tensor
    used: Tensor
    ignored: Tensor

    @classmethod
    def of(cls, targets: Tensor, stride: int) -> Truth:
        """From targets `(N, 100, 5)` in pixels, without the rows that no image of the batch uses."""
        targets = targets.float()
        whole = (targets[..., 2] > targets[..., 0]) & (targets[..., 3] > targets[..., 1])
        used, ignored = (targets[..., 4] >= 0) & whole, (targets[..., 4] == _IGNORED) & whole
        columns = (used | ignored).any(dim=0)
        columns[0] = True
        targets, used, ignored = targets[:, columns], used[:, columns], ignored[:, columns]
        return cls(targets[..., :4] / stride, targets[..., 4].clamp(min=0).long(), used, ignored)

    def background(self, candidates: Tensor) -> Tensor:
        """Which candidates `(N, M, 4)` may be taught as background: those not half inside an ignored box."""
        covered = inside(candidates, self.boxes).masked_fill(~self.ignored[:, None], 0.0)
        return covered.amax(dim=2) < 0.5


@dataclass(frozen=True, eq=False)
class Matches:
    """Per candidate `(N, M)`: the `best` IoU with a true box (-1 where there is none), that box's `index`."""

    best: Tensor
    index: Tensor
    closest: Tensor  # bool: no candidate overlaps some true box more


def match(candidates: Tensor, truth: Truth) -> Matches:
    """Candidates `(N, M, 4)` against the truth."""
    overlaps = iou(candidates, truth.boxes).masked_fill(~truth.used[:, None], -1.0)
    best, index = overlaps.max(dim=2)
    top = overlaps.amax(dim=1, keepdim=True)
    closest = ((overlaps == top) & (overlaps > 0.1)).any(dim=2)
    return Matches(best, index, closest)


def sampled(positive: Tensor, negative: Tensor, count: int, share: float) -> tuple[Tensor, Tensor]:
    """Random parts of two masks `(N, M)`, together at most `count` per image, positives at most `share` of it.

    Where positives are few negatives fill the count.
    """
    taken = _random_part(positive, torch.full_like(positive[:, 0], int(count * share), dtype=torch.int64))
    rest = _random_part(negative, count - taken.sum(dim=1))
    return taken, rest


def _random_part(mask: Tensor, counts: Tensor) -> Tensor:
    """At most `counts` `(N,)` elements of each row of `mask`."""
    keys = torch.where(mask, torch.rand(mask.shape, device=mask.device), -1.0)
    ordered = keys.sort(dim=1, descending=True).values
    last = ordered.gather(1, (counts - 1).clamp(0, mask.shape[1] - 1)[:, None])
    return mask & (keys >= last) & (counts > 0)[:, None]


def proposal_loss(
    logits: Tensor, deltas: Tensor, anchors: Tensor, truth: Truth, deviations: tuple[float, float], samples: int
) -> Tensor:
    """Objectness (binary cross-entropy) and place (smooth L1) of anchors: logits `(N, M)`, deltas `(N, M, 4)`.

    An anchor is positive from IoU 0.6 on, or where none is closer to some true box, negative below 0.3; half of the
    `samples` may be positive. The paper takes 0.7; with few anchors per place 0.6 leaves enough of them.
    """
    boxes = anchors[None].expand(len(logits), -1, -1)
    with torch.no_grad():
        matches = match(boxes, truth)
        positive = (matches.best >= 0.6) | matches.closest
        yes, no = sampled(positive, (matches.best < 0.3) & ~positive & truth.background(boxes), samples, 0.5)
        goal = encode(boxes, pick(truth.boxes, matches.index), deviations)
    count = (yes | no).sum().clamp(min=1)
    objectness = functional.binary_cross_entropy_with_logits(logits, yes.float(), reduction="none")
    place = functional.smooth_l1_loss(deltas, goal, beta=1.0, reduction="none").sum(dim=2)
    return (objectness * (yes | no)).sum() / count + (place * yes).sum() / count


@dataclass(frozen=True, eq=False)
class Regions:
    """What the second stage is taught on: `boxes` `(N, S, 4)`; `classes` `(N, S)`, 0 for background; `goal` boxes.

    `used` is 0 for rows that fill up.
    """

    boxes: Tensor
    classes: Tensor
    goal: Tensor
    used: Tensor


@torch.no_grad()
def choose_regions(proposals: Tensor, truth: Truth, samples: int, foreground: float = 0.5) -> Regions:
    """Of the proposals and the true boxes themselves, so that there are positives from the first step on.

    A region with an IoU of at least `foreground` has the class of its true box; half of the samples may have one.
    """
    own = torch.where(truth.used[..., None], truth.boxes, torch.zeros_like(truth.boxes))
    boxes = torch.cat((proposals, own), dim=1)
    real = torch.cat((torch.ones_like(proposals[..., 0], dtype=torch.bool), truth.used), dim=1)
    matches = match(boxes, truth)
    positive = (matches.best >= foreground) & real
    yes, no = sampled(positive, real & ~positive & truth.background(boxes), samples, 0.5)
    key, indices = (yes.float() * 2 + no.float()).topk(min(samples, boxes.shape[1]), dim=1)
    owner = pick(matches.index, indices)
    classes = torch.where(key > 1.5, pick(truth.classes, owner) + 1, 0)
    return Regions(pick(boxes, indices), classes, pick(truth.boxes, owner), (key > 0.5).float())


def region_loss(
    logits: Tensor, scores: Tensor, deltas: Tensor, regions: Regions, deviations: tuple[float, float], smoothing: float
) -> Tensor:
    """Cross-entropy of the class logits and, at half the weight, of the attention scores, both `(N, S, classes + 1)`;
    smooth L1 of the deltas `(N, S, 4)` of what is not background.
    """
    total = regions.used.sum().clamp(min=1)
    classes = regions.classes.flatten()
    used = regions.used.flatten()
    named = functional.cross_entropy(logits.flatten(0, 1), classes, reduction="none", label_smoothing=smoothing)
    looked = functional.cross_entropy(scores.flatten(0, 1), classes, reduction="none", label_smoothing=smoothing)
    goal = encode(regions.boxes, regions.goal, deviations)
    place = functional.smooth_l1_loss(deltas, goal, beta=1.0, reduction="none").sum(dim=2)
    inside = (regions.classes > 0).float() * regions.used
    return ((named + 0.5 * looked) * used).sum() / total + (place * inside).sum() / total
