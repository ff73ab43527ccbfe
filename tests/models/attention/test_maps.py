"""Attention over feature maps against the loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attention_loops import array, convolve, each, heads_attend, random, sigmoid, spread

from edgeattn.models.attention import (
    AttentionGate,
    ChannelSpatialAttention,
    FeatureMapAttention,
    LargeKernelAttention,
    SpatialAttention,
    SqueezeExcite,
)
from edgeattn.models.attention.feature_map import to_map, to_tokens


def same(found, wanted):
    np.testing.assert_allclose(array(found), np.asarray(wanted), rtol=1e-10, atol=1e-10)


def tokens(x):
    """`(C, H, W)` -> `(H * W, C)`."""
    return np.array([x[:, y, z] for y in range(x.shape[1]) for z in range(x.shape[2])])


def pooled(x, side):
    channels, height, width = x.shape
    out = np.empty((channels, height // side, width // side))
    for c, y, z in np.ndindex(*out.shape):
        out[c, y, z] = max(x[c, y * side + i, z * side + j] for i in range(side) for j in range(side))
    return out


@pytest.mark.parametrize("scores", ["dot", "cosine"])
@pytest.mark.parametrize(("heads", "reduction", "pool"), [(1, 4, 1), (2, 2, 1), (2, 2, 2)])
def test_feature_map_attention(heads, reduction, pool, scores):
    block = spread(FeatureMapAttention(8, heads, reduction, pool, scores))
    x = random(2, 8, 2, 4)
    results, maps = [], []
    for one in array(x):
        q = tokens(convolve(one, block.query))
        k, v = (tokens(pooled(convolve(one, layer), pool)) for layer in (block.key, block.value))
        mixed, weights = heads_attend(q, k, v, heads, block.scores)
        back = mixed.T.reshape(-1, 2, 4)
        results.append(one + array(block.scale) * convolve(back, block.project))
        maps.append(weights)
    out, weights = block.attend(x)
    assert weights.shape == (2, heads, 8, 8 // pool**2)
    same(out, results)
    same(weights, maps)
    assert torch.equal(block(x), out)


def test_feature_map_attention_starts_as_the_identity_and_can_leave_it():
    block, x = FeatureMapAttention(16), torch.randn(1, 16, 3, 3)
    assert torch.equal(block(x), x)
    block(x).square().sum().backward()
    assert block.scale.grad.abs() > 0


def test_maps_become_tokens_row_by_row_and_maps_again():
    x = random(2, 3, 4, 5)
    assert torch.equal(to_tokens(x)[1, 7], x[1, :, 1, 2])
    assert torch.equal(to_map(to_tokens(x), 4, 5), x)


def squeeze_excite(one, block):
    """`(C, H, W)` -> the gate `(C,)`."""
    summaries = [np.array([c.sum() / c.size for c in one])] + [np.array([c.max() for c in one])] * block.peaks
    verdict = 0
    for squeezed in summaries:
        hidden = np.maximum(convolve(squeezed[:, None, None], block.reduce), 0)
        verdict = verdict + convolve(hidden, block.expand)[:, 0, 0]
    return each(sigmoid, verdict)


def spatial(one, block):
    """`(C, H, W)` -> the gate `(H, W)`."""
    summary = np.empty((2, *one.shape[1:]))
    for y, z in np.ndindex(*one.shape[1:]):
        column = one[:, y, z]
        summary[:, y, z] = sum(column) / len(column), max(column)
    return each(sigmoid, convolve(summary, block.judge)[0])


@pytest.mark.parametrize("peaks", [False, True])
def test_squeeze_excite(peaks):
    block, x = spread(SqueezeExcite(8, 2, peaks=peaks)), random(2, 8, 3, 5)
    gates = [squeeze_excite(one, block) for one in array(x)]
    same(block.gate(x)[:, :, 0, 0], gates)
    same(block(x), [one * gate[:, None, None] for one, gate in zip(array(x), gates, strict=True)])


@pytest.mark.parametrize(("channels", "reduction", "hidden"), [(16, 8, 4), (16, 16, 4), (64, 8, 8), (64, 16, 4)])
def test_the_bottleneck_never_gets_narrower_than_four(channels, reduction, hidden):
    assert SqueezeExcite(channels, reduction).reduce.out_channels == hidden


@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_spatial_attention(kernel):
    block, x = spread(SpatialAttention(kernel)), random(2, 3, 4, 5)
    gates = [spatial(one, block) for one in array(x)]
    same(block.gate(x)[:, 0], gates)
    same(block(x), [one * gate for one, gate in zip(array(x), gates, strict=True)])


def test_channels_first_then_positions():
    block, x = spread(ChannelSpatialAttention(4, 1, 3)), random(2, 4, 3, 5)
    wanted = []
    for one in array(x):
        chosen = one * squeeze_excite(one, block.channel)[:, None, None]
        wanted.append(chosen * spatial(chosen, block.spatial))
    same(block(x), wanted)


@pytest.mark.parametrize("bounded", [True, False])
def test_large_kernel_attention(bounded):
    block, x = spread(LargeKernelAttention(3, kernel=5, dilation=2, bounded=bounded)), random(1, 3, 6, 7)
    gate = convolve(convolve(convolve(array(x)[0], block.local), block.dilated), block.pointwise)
    gate = each(sigmoid, gate) if bounded else gate
    same(block.gate(x)[0], gate)
    same(block(x)[0], array(x)[0] * gate)


def test_the_large_kernel_of_the_paper():
    block = LargeKernelAttention(2)
    assert (block.local.kernel_size, block.dilated.kernel_size, block.dilated.dilation) == ((5, 5), (7, 7), (3, 3))
    x = torch.zeros(1, 2, 31, 31, requires_grad=True)
    block.gate(x)[0, 0, 15, 15].backward()
    reached = x.grad[0, 0].abs() > 0
    assert reached.any(dim=0).nonzero().flatten().tolist() == list(range(4, 27))  # 15 - 9 - 2 to 15 + 9 + 2


def test_a_bounded_gate_never_enlarges():
    block, x = spread(LargeKernelAttention(3)), random(1, 3, 8, 8) * 100
    assert (block(x).abs() <= x.abs()).all()


def enlarged(small, scale):
    """`(h, w)` -> `(h * scale, w * scale)`, bilinear between pixel centres, edges held."""

    def between(place, length):
        place = min(max((place + 0.5) / scale - 0.5, 0.0), length - 1.0)
        low = min(int(place), length - 2)
        return low, place - low

    out = np.empty((small.shape[0] * scale, small.shape[1] * scale))
    for y, z in np.ndindex(*out.shape):
        (a, dy), (b, dz) = between(y, small.shape[0]), between(z, small.shape[1])
        upper = small[a, b] * (1 - dz) + small[a, b + 1] * dz
        lower = small[a + 1, b] * (1 - dz) + small[a + 1, b + 1] * dz
        out[y, z] = upper * (1 - dy) + lower * dy
    return out


@pytest.mark.parametrize("scale", [1, 2])
def test_attention_gate(scale):
    block = spread(AttentionGate(4, 6, 3, scale))
    skip, signal = random(2, 4, 2 * scale, 3 * scale), random(2, 6, 2, 3, seed=1)
    maps = []
    for one, decoder in zip(array(skip), array(signal), strict=True):
        hidden = np.maximum(convolve(one, block.from_skip) + convolve(decoder, block.from_signal), 0)
        small = each(sigmoid, convolve(hidden, block.judge)[0])
        maps.append(enlarged(small, scale) if scale > 1 else small)
    gated, attention = block(skip, signal)
    assert attention.shape == (2, 1, 2 * scale, 3 * scale)
    same(attention[:, 0], maps)
    same(gated, [one * chosen for one, chosen in zip(array(skip), maps, strict=True)])
