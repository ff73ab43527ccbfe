"""Two images aligned by attention: the weights of their cross-attention are the matching.

A shared convolutional encoder gives each image features at 1/2, 1/4 and 1/8 of its size. At 1/8 the tokens of both see
themselves and each other (self- and cross-attention in turn, as in Sun et al., "LoFTR", 2021, arXiv:2104.00680). Then
every token of a asks all places of b, coarse to fine in one softmax:

    weights = softmax(Q_coarse K_coarse^T / sqrt(d) + Q_fine K_fine^T / sqrt(e))      over b's map at 1/4

where K_coarse is b's map at 1/8 enlarged bilinearly: the coarse score is the prior, the fine one decides inside it. The
place of a point of a in b is the expected coordinate under its weights. Both sums are one product of concatenated
vectors, so that nothing is gathered at places that depend on the data, nothing is solved inside the graph, and what
remains are convolutions, matrix products, softmax and sums: the same in every engine and precision. The homography is
solved from the matches in the task's decoding.

DeTone et al., "Deep Image Homography Estimation", 2016, arXiv:1606.03798, regress it from the stacked images with a
network of 34 million parameters, and report 9.2 px (both recalled).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeattn.errors import ModelError
from edgeattn.models import _homography as geometry
from edgeattn.models.attention.feature_map import to_map, to_tokens
from edgeattn.models.attention.positions import sine_positions
from edgeattn.models.attention.transformer import CrossBlock, TransformerBlock

TASK = "align"
INPUTS = ("frame_a", "frame_b")

_COARSE, _FINE = 8, 4  # pixels per cell
_RIGHT_SHARE = 1 / 32  # of the image's side: a match this near the truth counts as right, 4 px of 128


@dataclass(frozen=True)
class Settings:
    """`channels` at 1/2, 1/4 and 1/8 of the size; `fine` channels of the fine scores; `rounds` of self- and
    cross-attention. `photometric` weighs the loss between a and the b that the homography warps onto it, for data
    whose light is the same in both images; its gradient, that of `grid_sample`, has no deterministic form on CUDA:
    trained with it on a GPU, two runs of one seed give weights that differ a little.
    """

    channels: tuple[int, int, int] = (24, 48, 96)
    fine: int = 48
    rounds: int = 2
    heads: int = 4
    mlp_ratio: float = 1.5
    photometric: float = 0.0
    attention_output: bool = False

    def __post_init__(self) -> None:
        if min(*self.channels, self.fine, self.rounds, self.heads) < 1 or self.mlp_ratio <= 0 or self.photometric < 0:
            got = f"{list(self.channels)}, {self.fine}, {self.rounds}, {self.heads}, {self.mlp_ratio:g}"
            raise ValueError(
                "channels, fine, rounds, heads and mlp_ratio must be positive, photometric not negative, got "
                f"{got} and {self.photometric:g}"
            )
        if self.channels[2] % 4 or self.channels[2] % self.heads:
            got = f"{self.channels[2]} channels and {self.heads} heads"
            raise ValueError(f"the last of channels must divide by 4 and by heads, got {got}")


def outputs(settings: Settings) -> tuple[str, ...]:
    """Names of what `Network.forward` returns."""
    return ("matches", "weights", "attention") if settings.attention_output else ("matches", "weights")


def _convolution(channels_in: int, channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
    )


class _Residual(nn.Module):
    """`relu(x + conv(conv(x)))`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _convolution(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(self.first(x)))


class _Described:
    """What matching needs of one image: tokens `(N, P, C)`, and vectors that ask and answer."""

    def __init__(self, tokens: Tensor, queries: Tensor, keys: Tensor, coarse: Tensor) -> None:
        self.tokens = tokens  # (N, P, C)
        self.queries = queries  # (N, P, C + F), scaled
        self.keys = keys  # (N, K, C + F)
        self.coarse = coarse  # (N, P, C): the coarse part alone


class Network(nn.Module):
    """Two `(N, 3, H, W)` -> matches `(N, P, 4)`, weights `(N, P)` and, if asked for, attention `(N, 1, H / 8, W / 8)`.

    A match is x, y of a point of a and x, y of its expected place in b, in pixels of `(H, W)`; the P points are the
    centres of 8 x 8 cells. A weight, 0..1, is the chance that b shows the point and the place is right. Raises
    ModelError unless H and W are multiples of 8 and at least 16.
    """

    def __init__(self, settings: Settings, classes: int) -> None:
        super().__init__()
        half, quarter, eighth = settings.channels
        self.settings = settings
        # Light and contrast of each image alone: a camera's exposure says nothing about where things are.
        self.light = nn.InstanceNorm2d(3, eps=1e-3)
        self.at_half = nn.Sequential(_convolution(3, half, 2), _convolution(half, half))
        self.at_quarter = nn.Sequential(_convolution(half, quarter, 2), _Residual(quarter))
        self.at_eighth = nn.Sequential(_convolution(quarter, eighth, 2), _Residual(eighth))
        sizes = (eighth, settings.heads, settings.mlp_ratio)
        self.own = nn.ModuleList(TransformerBlock(*sizes) for _ in range(settings.rounds))
        self.other = nn.ModuleList(CrossBlock(*sizes) for _ in range(settings.rounds))
        self.norm = nn.LayerNorm(eighth)
        self.coarse = nn.Linear(eighth, eighth)
        self.down = nn.Conv2d(eighth, settings.fine, 1)
        self.across = nn.Conv2d(quarter, settings.fine, 1)
        self.fine = _convolution(settings.fine, settings.fine)
        self.fine_query = nn.Conv2d(settings.fine, settings.fine, 2, stride=2)
        self.fine_key = nn.Conv2d(settings.fine, settings.fine, 1)
        self.trust = nn.Sequential(nn.Linear(eighth + 1, 32), nn.GELU(), nn.Linear(32, 1))

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        first, second = self._describe(a, b)
        height, width = a.shape[2:]
        points, doubt, weights, _ = self._match(first, second, height, width)
        grid = cell_centres(height, width).to(points).expand(points.shape[0], -1, 2)
        matches, trust = torch.cat((grid, points), dim=-1), torch.sigmoid(doubt)
        if not self.settings.attention_output:
            return matches, trust
        return matches, trust, weights.amax(dim=-1).reshape(-1, 1, height // _COARSE, width // _COARSE)

    def _describe(self, a: Tensor, b: Tensor) -> tuple[_Described, _Described]:
        """Both images in one batch: the encoder and the self-attention are the same for both."""
        _check_sides(*a.shape[2:])
        count = a.shape[0]
        quarter = self.at_quarter(self.at_half(self.light(torch.cat((a, b)))))
        eighth = self.at_eighth(quarter)
        channels, rows, columns = eighth.shape[1:]
        tokens = to_tokens(eighth)
        tokens = tokens + sine_positions(rows, columns, channels).to(tokens)
        for own, other in zip(self.own, self.other, strict=True):
            tokens = own(tokens)
            tokens = other(tokens, torch.cat((tokens[count:], tokens[:count])))
        tokens = self.norm(tokens)
        coarse = self.coarse(tokens)
        mapped = to_map(tokens, rows, columns)
        enlarged = functional.interpolate(self.down(mapped), scale_factor=2.0, mode="nearest")
        fine = self.fine(self.across(quarter) + enlarged)
        key_map = to_map(coarse, rows, columns)
        prior = functional.interpolate(key_map, scale_factor=2.0, mode="bilinear", align_corners=False)
        keys = to_tokens(torch.cat((prior, self.fine_key(fine)), dim=1))
        asked = to_tokens(self.fine_query(fine))
        queries = torch.cat((coarse * channels**-0.5, asked * self.settings.fine**-0.5), dim=-1)
        return (
            _Described(tokens[:count], queries[:count], keys[:count], coarse[:count]),
            _Described(tokens[count:], queries[count:], keys[count:], coarse[count:]),
        )

    def _match(self, a: _Described, b: _Described, height: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Expected places in b `(N, P, 2)`, trust before its sigmoid `(N, P)`, weights `(N, P, K)`, and their scores
        `(N, P, H / 4, W / 4)`.

        Sums in float32: in BF16 the expectation would lose half a pixel.
        """
        rows, columns = height // _FINE, width // _FINE
        scores = (a.queries @ b.keys.transpose(1, 2)).float()
        weights = torch.softmax(scores, dim=-1)
        spread = weights.reshape(-1, weights.shape[1], rows, columns)
        # Counted from the middle of the image, where rounding is finest; plain sums, which no quantizer takes for a
        # product with a weight.
        x = (spread.sum(dim=2) * _axis(columns).to(spread)).sum(dim=-1) + (width - 1) / 2
        y = (spread.sum(dim=3) * _axis(rows).to(spread)).sum(dim=-1) + (height - 1) / 2
        peak = weights.amax(dim=-1, keepdim=True)
        trust = self.trust(torch.cat((a.tokens, peak.to(a.tokens)), dim=-1))[..., 0].float()
        return torch.stack((x, y), dim=-1), trust, weights, scores.reshape(-1, scores.shape[1], rows, columns)

    def training_loss(self, a: Tensor, b: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        """Both directions: a in b by `targets` `(N, 3, 3)`, pixels of a to pixels of b, and b in a by its inverse."""
        first, second = self._describe(a, b)
        height, width = a.shape[2:]
        with torch.autocast(a.device.type, enabled=False):
            forth = targets.float()
            back = torch.linalg.inv(targets.double()).float()
            back = back / back[:, 2:, 2:]
        total = a.new_zeros((), dtype=torch.float32)
        for one, two, image, seen, truth in ((first, second, a, b, forth), (second, first, b, a, back)):
            points, trust, _, fine = self._match(one, two, height, width)
            coarse = (one.coarse @ two.coarse.transpose(1, 2)).float() * one.coarse.shape[-1] ** -0.5
            coarse = coarse.reshape(len(coarse), -1, height // _COARSE, width // _COARSE)
            with torch.autocast(a.device.type, enabled=False):
                total = total + self._matching_loss(points, trust, (coarse, fine), truth, label_smoothing)
                if self.settings.photometric:
                    estimate = _estimate(points, trust, height, width)
                    total = total + self.settings.photometric * _photometric(image.float(), seen.float(), estimate)
        return total / 2

    def _matching_loss(
        self, points: Tensor, trust: Tensor, scores: tuple[Tensor, Tensor], truth: Tensor, smoothing: float
    ) -> Tensor:
        """Cross-entropy of both levels' weights, distance of the points, right or wrong of the trust, corners.

        Points that the other image does not show count for the trust alone.
        """
        rows, columns = scores[0].shape[2:]
        height, width = rows * _COARSE, columns * _COARSE
        grid = cell_centres(height, width).to(points).expand(len(points), -1, 2)
        places, ahead = geometry.project(truth, grid)
        limit = places.new_tensor([width, height]) - 0.5
        seen = (ahead & (places > -0.5).all(dim=-1) & (places < limit).all(dim=-1)).float()
        count = seen.sum().clamp(min=1.0)
        entropy = points.new_zeros(())
        for level, size in zip(scores, (_COARSE, _FINE), strict=True):
            logs = torch.log_softmax(level.flatten(2), dim=-1).reshape(level.shape)
            likelihood = geometry.bilinear_log_likelihood(logs, (places + 0.5) / size - 0.5, smoothing)
            entropy = entropy - (likelihood * seen).sum() / count
        # Charbonnier, in fine cells: square near zero, straight where a match is plainly wrong.
        squares = ((points - places) ** 2).sum(dim=-1)
        distance = ((squares / _FINE**2 + 1e-2).sqrt() * seen).sum() / count
        right = seen * (squares.detach() < (_RIGHT_SHARE * max(height, width)) ** 2).float()
        doubt = functional.binary_cross_entropy_with_logits(trust, right)
        estimate = _estimate(points, trust, height, width)
        corners = points.new_tensor([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]])
        corners = corners.expand(len(points), 4, 2)
        apart = geometry.project(estimate, corners)[0] - geometry.project(truth, corners)[0]
        # The logarithm lets the few pairs that are lost altogether pull no harder than those that can be saved.
        corner = torch.log1p((apart**2).sum(dim=-1).add(1e-2).sqrt()).mean()
        return entropy + 0.5 * distance + doubt + 0.5 * corner


def cell_centres(height: int, width: int) -> Tensor:
    """x, y of the centres of the 8 x 8 cells, `(P, 2)` float32, row by row; the first is (3.5, 3.5)."""
    y, x = torch.meshgrid(torch.arange(height // _COARSE), torch.arange(width // _COARSE), indexing="ij")
    return torch.stack((x, y), dim=-1).reshape(-1, 2) * float(_COARSE) + (_COARSE - 1) / 2


def _check_sides(height: int, width: int) -> None:
    # Two cells a side: a place lies between the centres of four.
    if height % _COARSE or width % _COARSE or min(height, width) < 2 * _COARSE:
        raise ModelError(
            f"attention_align needs sides that are multiples of {_COARSE} and at least {2 * _COARSE}, got {height} x "
            f"{width}; change input.height and input.width."
        )


def _axis(cells: int) -> Tensor:
    """Pixels from the middle of the image to the centre of each fine cell along one side."""
    return (torch.arange(cells, dtype=torch.float32) - (cells - 1) / 2) * _FINE


def _estimate(points: Tensor, trust: Tensor, height: int, width: int) -> Tensor:
    """The homography `(N, 3, 3)` in pixels that the decoding would solve, without its robust rounds."""
    half = max(height, width) / 2
    middle = points.new_tensor([(width - 1) / 2, (height - 1) / 2])
    grid = cell_centres(height, width).to(points).expand(len(points), -1, 2)
    found = geometry.solve((grid - middle) / half, (points - middle) / half, torch.sigmoid(trust) ** 2)
    x, y = float(middle[0]), float(middle[1])
    to_unit = points.new_tensor([[1 / half, 0, -x / half], [0, 1 / half, -y / half], [0, 0, 1]])
    from_unit = points.new_tensor([[half, 0, x], [0, half, y], [0, 0, 1]])
    matrix = from_unit @ found @ to_unit
    return matrix / matrix[:, 2:, 2:].clamp(min=0.1)


def _photometric(a: Tensor, b: Tensor, homography: Tensor) -> Tensor:
    """Charbonnier difference of the images' grey levels where b, read through `homography`, covers a."""
    warped, covered = geometry.sampled(b.mean(dim=1, keepdim=True), homography)
    difference = ((a.mean(dim=1) - warped[:, 0]) ** 2 + 1e-4).sqrt()
    return (difference * covered).sum() / covered.sum().clamp(min=1)
