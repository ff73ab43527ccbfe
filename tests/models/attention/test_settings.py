"""What cannot be built or asked is refused with a sentence."""

from __future__ import annotations

import re

import pytest
import torch

from edgeattn.models import attention
from edgeattn.models.attention import region, scores

FLOAT, BOOL = torch.float32, torch.bool


def zeros(*shape, kind=FLOAT):
    return torch.zeros(*shape, dtype=kind)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda a: a.sine_positions(2, 2, 6), "sine positions need channels divisible by 4, got 6"),
        (lambda a: a.LearnedPositions(0, 2, 6), "learned positions need positive sizes, got 0 x 2 x 6"),
        (lambda a: a.MultiHeadSelfAttention(8, 3), "channels must be a multiple of heads, got 8 and 3"),
        (lambda a: a.MultiHeadSelfAttention(8, 0), "channels must be a multiple of heads, got 8 and 0"),
        (lambda a: a.CrossAttention(8, 2, scores="l2"), "scores must be 'dot' or 'cosine', got 'l2'"),
        (
            lambda a: a.TransformerBlock(8, 2, 0.1),
            "the MLP needs at least one hidden channel, got 8 channels times 0.1",
        ),
        (
            lambda a: a.FeatureMapAttention(8, heads=2),
            "channels / reduction must be a positive multiple of heads, got 8 channels, reduction 8 and 2 heads",
        ),
        (
            lambda a: a.FeatureMapAttention(4),
            "channels / reduction must be a positive multiple of heads, got 4 channels, reduction 8 and 1 heads",
        ),
        (
            lambda a: a.FeatureMapAttention(8, pool=0),
            "heads, reduction and pool must be at least 1, got 1, 8 and 0",
        ),
        (
            lambda a: a.FeatureMapAttention(8, pool=2)(zeros(1, 8, 4, 3)),
            "a map of 4 x 3 positions cannot be pooled by 2",
        ),
        (lambda a: a.SqueezeExcite(8, 0), "reduction must be at least 1, got 0"),
        (lambda a: a.SpatialAttention(4), "kernel must be odd, so that the map keeps its size, got 4"),
        (lambda a: a.LargeKernelAttention(4, 3, 0), "dilation must be between 1 and the kernel, got 0 and 3"),
        (lambda a: a.LargeKernelAttention(4, 3, 4), "dilation must be between 1 and the kernel, got 4 and 3"),
        (lambda a: a.LargeKernelAttention(4, 11, 3), "kernel / dilation, rounded up, must be odd, got 11 / 3"),
        (lambda a: a.AttentionGate(4, 4, 0), "hidden and scale must be at least 1, got 0 and 1"),
        (lambda a: a.AttentionGate(4, 4, scale=0), "hidden and scale must be at least 1, got 2 and 0"),
        (
            lambda a: a.AttentionGate(4, 4, scale=2)(zeros(1, 4, 6, 7), zeros(1, 4, 3, 3)),
            "the skip must have 6 x 6 positions, got 6 x 7",
        ),
        (
            lambda a: a.sequence_pool(zeros(1, 5, 4), zeros(1, 5)),
            "sequence pooling of 5 tokens needs scores (N, 5, 1), got (N, 5)",
        ),
        (
            lambda a: a.sequence_pool(zeros(1, 5, 4), zeros(1, 4, 1)),
            "sequence pooling of 5 tokens needs scores (N, 5, 1), got (N, 4, 1)",
        ),
        (lambda a: a.AdditiveAttention(4, 0), "hidden must be at least 1, got 0"),
        (lambda a: a.RegionAttention(4, (0, 2), 3), "a grid has at least one row and one column, got 0 x 2"),
        (
            lambda a: a.RegionAttention(4, (2, 3), 3)(zeros(1, 4, 4, 4)),
            "a grid of 2 x 3 regions does not divide 4 x 4 positions",
        ),
        (
            lambda a: region.split_regions(zeros(1, 4, 4, 4), (3, 2)),
            "a grid of 3 x 2 regions does not divide 4 x 4 positions",
        ),
        (
            lambda a: region.paint(zeros(1, 4), (2, 2), 4, 5),
            "a grid of 2 x 2 regions does not divide 4 x 5 positions",
        ),
        (lambda a: a.MultiScaleRegionAttention(4, (), 3), "multi-scale attention needs at least one grid, got none"),
    ],
)
def test_settings(build, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        build(attention)


FOUR = "an attention mask here has the shape (N, 5) or (N, 4, 5), got "


@pytest.mark.parametrize(
    ("shape", "mask", "sentence"),
    [
        ((2, 3, 4, 5), zeros(2, 5), "an attention mask is boolean, True where a key counts, got torch.float32"),
        ((2, 3, 4, 5), zeros(2, 4, kind=BOOL), f"{FOUR}(2, 4)"),
        ((2, 3, 4, 5), zeros(5, kind=BOOL), f"{FOUR}(5,)"),
        ((2, 3, 4, 5), zeros(2, 3, 5, kind=BOOL), f"{FOUR}(2, 3, 5)"),
        ((2, 3, 4, 5), zeros(2, 3, 4, 5, kind=BOOL), f"{FOUR}(2, 3, 4, 5)"),
        ((2, 5), zeros(2, 1, 5, kind=BOOL), "an attention mask here has the shape (N, 5), got (2, 1, 5)"),
    ],
)
def test_masks(shape, mask, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        scores.softmax(zeros(*shape), mask)
