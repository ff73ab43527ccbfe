"""Attention R-CNN: a two-stage detector in one graph of static shape, suppression included.

    frame -> residual backbone with channel attention -> one feature map of stride 8
          -> region proposals: objectness and place of every anchor, the best 256, greedy suppression, 96 proposals
          -> RoIAlign 7 x 7 -> attention over class embeddings -> class, place
          -> suppression within each class -> a fixed number of detections

Two stages: Ren et al., "Faster R-CNN", 2015, arXiv:1506.01497. The feature map: strides 8, 16 and 32 joined top-down as
in Lin et al., "Feature Pyramid Networks", 2017, arXiv:1612.03144; only the finest level is kept. Several levels pay
where objects differ by more than the anchors of one level span (COCO: 16 times and more); here cells, platelets and
digits measure a twentieth to a third of the frame. One level is one proposal head and one RoIAlign, where a pyramid of
static shape would have to align every region on every level and throw all but one away.

Attention, for region features `f_i` and the learned class embeddings `e_c`, with one for the background, `e_0`:

    s_ic = (W_q f_i) . e_c / sqrt(d)          a_i = softmax over c of s_ic
    h_i  = LayerNorm(f_i + sum over c > 0 of a_ic v_c)

The background has no value: `w_i = 1 - a_i0` is the weight of candidate i, the share of its attention that classes get,
and what looks like background is left as it is. Class and place are read from `h_i`; the scores have a cross-entropy of
their own, so that the embeddings become those of the classes. Candidates do not look at each other: `a_i` is the same
whether 64 regions are sampled, as in training, or 96 proposed. The form is that of Xu et al., "Reasoning-RCNN", CVPR
2019, which also adds class embeddings, mixed by a soft assignment of the region to the classes, to its features; there
they are the classifier's weights, spread over a knowledge graph first, which this has not. Scaled dot products: Vaswani
et al., 2017, arXiv:1706.03762.

RoIAlign and suppression are plain arithmetic (`_rcnn_boxes`), not ONNX's RoiAlign and NonMaxSuppression: the second has
as many results as the data say, which breaks static engines, and PyTorch has neither without torchvision. As matrix
products RoIAlign also has a deterministic gradient on GPUs, which bilinear sampling has not. Measured once, 320 x 240
pixels, one thread, random weights: of OpenVINO's 7.3 ms in FP32 the two products take 1.6, suppression about 0.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeattn.models import _rcnn_boxes as geometry
from edgeattn.models._rcnn_losses import Truth, choose_regions, proposal_loss, region_loss
from edgeattn.models.se_resnet import Block

TASK = "detect"
STRIDE = 8
BINS = 7

# Standard deviations of place and size that the two stages' deltas are counted in.
_PROPOSAL_DEVIATIONS = (0.25, 0.25)
_REGION_DEVIATIONS = (0.1, 0.2)
_PROPOSAL_IOU_MAX = 0.7
_DETECTION_IOU_MAX = 0.5
# Chains of suppressions that are followed to their end; trained networks make chains of less than ten.
_ROUNDS = 12
_ANCHOR_SAMPLES = 128
_REGION_SAMPLES = 64


@dataclass(frozen=True)
class Settings:
    """`anchor_sizes` are in pixels of the network's frame, `anchor_ratios` height over width.

    `widths` and `blocks` are those of the stages of stride 4, 8, 16 and 32, `channels` those of the joined map. The
    best `candidates` anchors are suppressed among each other, `proposals` of them are looked at, and `detections` is
    the fixed number of results; those under `score_min` are given as unused. `attention_output` adds an output: the
    largest weight among the candidates that cover a cell.
    """

    anchor_sizes: tuple[float, ...] = (16.0, 32.0, 64.0, 128.0)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    widths: tuple[int, int, int, int] = (32, 64, 128, 128)
    blocks: tuple[int, int, int, int] = (1, 2, 2, 2)
    reduction: int = 8
    channels: int = 64
    hidden: int = 192
    embedding: int = 64
    candidates: int = 256
    proposals: int = 96
    detections: int = 50
    score_min: float = 0.02
    attention_output: bool = False

    def __post_init__(self) -> None:
        for name in ("anchor_sizes", "anchor_ratios", "widths", "blocks"):
            values = getattr(self, name)
            if not values or min(values) <= 0:
                raise ValueError(f"{name} must be positive numbers, got {list(values)}")
        for name in ("reduction", "channels", "hidden", "embedding"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 1 <= self.detections <= self.proposals <= self.candidates:
            got = f"{self.detections}, {self.proposals} and {self.candidates}"
            raise ValueError(f"detections, proposals and candidates must be positive and in that order, got {got}")
        if not 0.0 <= self.score_min < 1.0:
            raise ValueError(f"score_min must be at least 0 and below 1, got {self.score_min}")


def outputs(settings: Settings) -> tuple[str, ...]:
    """Names of what `Network.forward` returns."""
    return ("boxes", "scores", "classes", *(("attention",) if settings.attention_output else ()))


class Backbone(nn.Module):
    """`(N, 3, H, W)` -> one map `(N, channels, ceil(H / 8), ceil(W / 8))`."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        width = settings.widths[0]
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.stages = nn.ModuleList()
        before = width
        for width, blocks in zip(settings.widths, settings.blocks, strict=True):
            layers = [Block(before, width, 2, settings.reduction)]
            layers += [Block(width, width, 1, settings.reduction) for _ in range(blocks - 1)]
            self.stages.append(nn.Sequential(*layers))
            before = width
        self.sides = nn.ModuleList(nn.Conv2d(width, settings.channels, 1) for width in settings.widths[1:])
        self.joined = nn.Sequential(
            nn.Conv2d(settings.channels, settings.channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(settings.channels),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages[0](self.stem(x))
        levels = []
        for stage, side in zip(list(self.stages)[1:], self.sides, strict=True):
            x = stage(x)
            levels.append(side(x))
        top = levels.pop()
        while levels:
            finer = levels.pop()
            top = finer + functional.interpolate(top, size=finer.shape[2:], mode="nearest")
        joined: Tensor = self.joined(top)
        return joined


class Proposer(nn.Module):
    """Feature map -> objectness logits `(N, M)` and deltas `(N, M, 4)` of M anchors, by cell, then size, then ratio."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        per_cell = len(settings.anchor_sizes) * len(settings.anchor_ratios)
        self.shared = nn.Conv2d(settings.channels, settings.channels, 3, padding=1)
        self.objectness = nn.Conv2d(settings.channels, per_cell, 1)
        self.place = nn.Conv2d(settings.channels, 4 * per_cell, 1)
        nn.init.normal_(self.place.weight, std=0.01)
        nn.init.constant_(cast(Tensor, self.objectness.bias), -2.0)  # most anchors are background

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        shared = torch.relu(self.shared(features))
        logits = self.objectness(shared).permute(0, 2, 3, 1).flatten(1)
        deltas = self.place(shared).permute(0, 2, 3, 1).reshape(len(features), -1, 4)
        return logits.float(), deltas.float()


class ClassAttention(nn.Module):
    """Region features `(N, R, D)` -> features with the mixed class values added, and scores `(N, R, classes + 1)`.

    Score 0 is the background's. See the module's docstring for the formula.
    """

    def __init__(self, features: int, embedding: int, classes: int) -> None:
        super().__init__()
        self.query = nn.Linear(features, embedding)
        self.embeddings = nn.Parameter(torch.randn(classes + 1, embedding))
        self.values = nn.Linear(embedding, features, bias=False)
        self.norm = nn.LayerNorm(features)
        self.scale = 1.0 / math.sqrt(embedding)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        scores = torch.matmul(self.query(features) * self.scale, self.embeddings.transpose(0, 1))
        weights = torch.softmax(scores, dim=-1)
        context = torch.matmul(weights[..., 1:], self.values(self.embeddings[1:]))
        return self.norm(features + context), scores


class Head(nn.Module):
    """Regions `(N, R, 7, 7, C)` -> class logits and attention scores `(N, R, classes + 1)`, deltas `(N, R, 4)`."""

    def __init__(self, settings: Settings, classes: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(BINS * BINS * settings.channels, settings.hidden)
        self.attention = ClassAttention(settings.hidden, settings.embedding, classes)
        self.mix = nn.Linear(settings.hidden, settings.hidden)
        self.name = nn.Linear(settings.hidden, classes + 1)
        self.place = nn.Linear(settings.hidden, 4)
        nn.init.normal_(self.place.weight, std=0.01)

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features, scores = self.attention(torch.relu(self.squeeze(regions.flatten(2))))
        features = torch.relu(self.mix(features))
        return self.name(features).float(), scores.float(), self.place(features).float()


class Network(nn.Module):
    """`(N, 3, H, W)` normalised float -> boxes `(N, K, 4)` in pixels, scores `(N, K)`, classes `(N, K)`, all float.

    Best first, and K is `settings.detections`; unused rows are all zero. With `attention_output` also that,
    `(N, 1, H / 8, W / 8)` in 0..1.
    """

    def __init__(self, settings: Settings, classes: int) -> None:
        super().__init__()
        self.settings = settings
        self.backbone = Backbone(settings)
        self.proposer = Proposer(settings)
        self.head = Head(settings, classes)
        for module in self.backbone.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        limits = (x.shape[3] / STRIDE, x.shape[2] / STRIDE)
        features = self.backbone(x)
        logits, deltas = self.proposer(features)
        proposals = self._propose(logits, deltas, self._anchors(features), limits)
        named, scores, moved = self._judge(features, proposals)
        places = geometry.decode(proposals, moved, _REGION_DEVIATIONS, limits)
        found = self._detect(torch.softmax(named, dim=-1)[..., 1:], places)
        if not self.settings.attention_output:
            return found
        weights = 1.0 - torch.softmax(scores, dim=-1)[..., 0]
        return (*found, _painted(weights, proposals, features.shape[2], features.shape[3]))

    def training_loss(self, x: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        """Proposal and region losses against targets `(N, G, 5)`: x1, y1, x2, y2 in pixels, class, -1 where unused.

        Regions are sampled at random, from torch's generator.
        """
        limits = (x.shape[3] / STRIDE, x.shape[2] / STRIDE)
        truth = Truth.of(targets, STRIDE)
        features = self.backbone(x)
        anchors = self._anchors(features)
        logits, deltas = self.proposer(features)
        loss = proposal_loss(logits, deltas, anchors, truth, _PROPOSAL_DEVIATIONS, _ANCHOR_SAMPLES)
        with torch.no_grad():
            proposals = self._propose(logits, deltas, anchors, limits)
        regions = choose_regions(proposals, truth, _REGION_SAMPLES)
        named, scores, moved = self._judge(features, regions.boxes)
        return loss + region_loss(named, scores, moved, regions, _REGION_DEVIATIONS, label_smoothing)

    def _anchors(self, features: Tensor) -> Tensor:
        sizes = tuple(size / STRIDE for size in self.settings.anchor_sizes)
        height, width = features.shape[2:]
        return geometry.anchors(height, width, sizes, self.settings.anchor_ratios).to(features.device)

    def _propose(self, logits: Tensor, deltas: Tensor, anchors: Tensor, limits: tuple[float, float]) -> Tensor:
        """The proposals `(N, P, 4)` in cells, best first."""
        count = min(self.settings.candidates, logits.shape[1])
        best = logits.topk(count, dim=1).indices
        boxes = geometry.pick(anchors[None].expand(len(logits), -1, -1), best)
        boxes = geometry.decode(boxes, geometry.pick(deltas, best), _PROPOSAL_DEVIATIONS, limits)
        keep = geometry.greedy_keep(boxes, None, _PROPOSAL_IOU_MAX, _ROUNDS)
        return geometry.pick(boxes, geometry.kept_first(keep, min(self.settings.proposals, count)))

    def _judge(self, features: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        judged: tuple[Tensor, Tensor, Tensor] = self.head(geometry.roi_align(features, boxes, BINS))
        return judged

    def _detect(self, probabilities: Tensor, places: Tensor) -> tuple[Tensor, ...]:
        """Probabilities `(N, P, classes)` and boxes `(N, P, 4)` in cells -> boxes in pixels, scores, classes."""
        classes = probabilities.shape[2]
        flat = probabilities.flatten(1)
        scores, order = flat.topk(min(2 * self.settings.detections, flat.shape[1]), dim=1)
        owner = torch.div(order, classes, rounding_mode="floor")
        boxes, labels = geometry.pick(places, owner), (order - owner * classes).to(scores)
        keep = geometry.greedy_keep(boxes, labels, _DETECTION_IOU_MAX, _ROUNDS)
        keep = keep * (scores >= self.settings.score_min).to(scores)
        first = geometry.kept_first(keep, min(self.settings.detections, scores.shape[1]))
        used = geometry.pick(keep, first)
        found = (
            geometry.pick(boxes, first) * used[..., None] * STRIDE,
            geometry.pick(scores, first) * used,
            geometry.pick(labels, first) * used,
        )
        missing = self.settings.detections - first.shape[1]  # only where the frame has fewer anchors than that
        if not missing:
            return found
        return tuple(torch.cat((part, part.new_zeros(len(part), missing, *part.shape[2:])), dim=1) for part in found)


def _painted(weights: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
    """The largest of the weights `(N, P)` whose boxes hold a cell's centre, `(N, 1, height, width)`."""
    x = torch.arange(width).to(boxes) + 0.5
    y = torch.arange(height).to(boxes) + 0.5
    across = ((x >= boxes[..., 0:1]) & (x < boxes[..., 2:3])).to(boxes)
    down = ((y >= boxes[..., 1:2]) & (y < boxes[..., 3:4])).to(boxes)
    inside = down[..., :, None] * across[..., None, :]
    return (inside * weights[..., None, None]).amax(dim=1, keepdim=True)
