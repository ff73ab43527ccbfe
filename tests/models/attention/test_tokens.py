"""Attention over token sequences against the loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from attention_loops import array, attention, mlp, normed, random, spread

from edgeattn.models.attention import (
    Cosine,
    CrossAttention,
    CrossBlock,
    MultiHeadSelfAttention,
    TransformerBlock,
)
from edgeattn.models.attention.scores import softmax


def same(found, wanted):
    np.testing.assert_allclose(array(found), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("scores", ["dot", "cosine"])
@pytest.mark.parametrize(("channels", "heads", "tokens"), [(8, 1, 3), (8, 2, 5), (12, 4, 1)])
def test_self_attention(channels, heads, tokens, scores):
    block = spread(MultiHeadSelfAttention(channels, heads, scores))
    x = random(2, tokens, channels)
    wanted = [attention(one, one, block) for one in array(x)]
    out, weights = block.attend(x)
    same(out, np.stack([one for one, _ in wanted]))
    same(weights, np.stack([one for _, one in wanted]))
    assert torch.equal(block(x), out)


@pytest.mark.parametrize("scores", ["dot", "cosine"])
def test_cross_attention(scores):
    block = spread(CrossAttention(8, 2, context_channels=6, scores=scores))
    x, context = random(2, 3, 8), random(2, 5, 6, seed=1)
    wanted = [attention(a, b, block) for a, b in zip(array(x), array(context), strict=True)]
    out, weights = block.attend(x, context)
    assert weights.shape == (2, 2, 3, 5)
    same(out, np.stack([one for one, _ in wanted]))
    same(weights, np.stack([one for _, one in wanted]))
    assert torch.equal(block(x, context), out)


KEYS = torch.tensor([[True, False, True, True, False], [False, True, False, False, False]])
PAIRS = torch.tensor([[[True, False, True, True, False], [False, False, False, True, False], [True] * 5]] * 2)


@pytest.mark.parametrize("mask", [KEYS, PAIRS], ids=["for all queries", "by query"])
@pytest.mark.parametrize("scores", ["dot", "cosine"])
def test_masked_cross_attention(mask, scores):
    block = spread(CrossAttention(8, 2, scores=scores))
    x, context = random(2, 3, 8), random(2, 5, 8, seed=1)
    by_query = mask if mask.ndim == 3 else mask[:, None].expand(2, 3, 5)
    wanted = [attention(*one, block, m) for *one, m in zip(array(x), array(context), by_query, strict=True)]
    out, weights = block.attend(x, context, mask)
    same(out, np.stack([one for one, _ in wanted]))
    same(weights, np.stack([one for _, one in wanted]))
    assert (weights == 0).equal(~by_query[:, None].expand_as(weights))


def test_masked_self_attention_does_not_see_the_others():
    block = spread(MultiHeadSelfAttention(8, 2))
    x, mask = random(2, 5, 8), KEYS
    changed = torch.where(mask[..., None], x, 7.0)
    seen = mask[..., None].expand_as(x)
    assert torch.equal(block(x, mask)[seen], block(changed, mask)[seen])
    assert torch.equal(block.attend(x, mask)[0], block(x, mask))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32])
def test_a_mask_holds_in_every_float_format(kind):
    block = CrossAttention(8, 2).to(kind)
    weights = block.attend(torch.zeros(2, 3, 8, dtype=kind), torch.zeros(2, 5, 8, dtype=kind), KEYS)[1]
    assert torch.isfinite(weights).all()
    assert (weights[0, :, :, [1, 4]] == 0).all()
    assert weights[0, 0, 0, 0].item() == pytest.approx(1 / 3, abs=2e-3)


def test_where_every_key_is_masked_they_are_weighed_as_if_none_were():
    block, x = spread(MultiHeadSelfAttention(8, 2)), random(1, 4, 8)
    torch.testing.assert_close(block(x, torch.zeros(1, 4, dtype=torch.bool)), block(x))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_where_every_key_is_masked_16_bits_weigh_them_equally(kind):
    scores = torch.tensor([[3.0, -3.0, 0.5, 0.0]])
    none = torch.zeros(1, 4, dtype=torch.bool)
    assert softmax(scores.to(kind), none).tolist() == [[0.25] * 4]
    torch.testing.assert_close(softmax(scores, none), softmax(scores), atol=1e-3, rtol=0)


FIVE = torch.tensor([[[True, False, True, False, True], [False, False, True, True, False]] * 2 + [[True] * 5]] * 2)


@pytest.mark.parametrize("mask", [None, KEYS, FIVE], ids=["all", "for all queries", "by query"])
@pytest.mark.parametrize("scores", ["dot", "cosine"])
def test_transformer_block(scores, mask):
    block = spread(TransformerBlock(8, 2, 1.5, scores))
    x = random(2, 5, 8)
    assert block.mlp[0].out_features == 12
    counts = [None, None] if mask is None else mask if mask.ndim == 3 else mask[:, None].expand(2, 5, 5)
    wanted, weights = [], []
    for one, of_one in zip(array(x), counts, strict=True):
        inner = normed(one, block.norm_attention)
        mixed, found = attention(inner, inner, block.attention, of_one)
        wanted.append(one + mixed + mlp(one + mixed, block))
        weights.append(found)
    out, of_all = block.attend(x, mask)
    same(out, np.stack(wanted))
    same(of_all, np.stack(weights))
    assert torch.equal(block(x, mask), out)


def test_cross_block():
    block = spread(CrossBlock(8, 2, 1.5))
    x, context = random(2, 3, 8), random(2, 5, 8, seed=1)
    wanted, weights = [], []
    for one, other, counts in zip(array(x), array(context), PAIRS, strict=True):
        inner = normed(one, block.norm_attention), normed(other, block.norm_context)
        mixed, found = attention(*inner, block.attention, counts)
        wanted.append(one + mixed + mlp(one + mixed, block))
        weights.append(found)
    same(block(x, context, PAIRS), np.stack(wanted))
    same(block.attend(x, context, PAIRS)[1], np.stack(weights))


def test_the_names_of_the_weights_stay():
    """Committed weights are read by these names."""
    parts = [f"{layer}.{kind}" for layer in ("query", "key", "value", "project") for kind in ("weight", "bias")]
    assert list(MultiHeadSelfAttention(8, 2).state_dict()) == parts
    assert list(CrossAttention(8, 2, scores="cosine").state_dict()) == [*parts, "scores.log_scale"]


def test_cosine_starts_at_ten_ends_at_a_hundred_and_ignores_length():
    scores = Cosine(1)
    q = torch.tensor([3.0, 4.0]).reshape(1, 1, 1, 2)
    k = torch.tensor([[6.0, 8.0], [-4.0, 3.0], [0.0, 0.0]]).reshape(1, 1, 3, 2)
    wanted = pytest.approx([10.0, 0.0, 0.0], abs=1e-5)  # the same direction, a right angle, none at all
    assert scores(q, k).flatten().tolist() == wanted
    assert scores(q * 50, k / 7).flatten().tolist() == wanted
    with torch.no_grad():
        scores.log_scale.fill_(math.log(1e6))
    assert scores(q, k)[0, 0, 0, 0].item() == pytest.approx(100.0)


def test_the_scale_is_applied_before_the_product():
    """50 * 50 * 64 = 160,000 overflows FP16, which ends at 65,504; with one side divided by sqrt(64) it is 20,000."""
    block = MultiHeadSelfAttention(64, 1)
    with torch.no_grad():
        for layer in (block.query, block.key):
            layer.weight.zero_()
            layer.bias.fill_(50.0)
    assert torch.isfinite(block.half()(torch.zeros(1, 3, 64, dtype=torch.float16))).all()
