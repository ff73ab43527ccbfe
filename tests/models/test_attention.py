"""Every block against a slow reference written with loops, straight from its formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from edgeattn.models.attention import MultiHeadSelfAttention, SqueezeExcite, TransformerBlock, sine_positions


def array(tensor):
    return tensor.detach().double().numpy()


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(x, layer):
    """One vector through `W x + b`."""
    w, b = array(layer.weight), array(layer.bias)
    return np.array([sum(w[o, i] * x[i] for i in range(len(x))) + b[o] for o in range(len(b))])


def squeeze_excite(x, block):
    out = np.empty_like(x)
    for n in range(len(x)):
        squeezed = np.array([x[n, c].sum() / x[n, c].size for c in range(x.shape[1])])
        w1, w2 = array(block.reduce.weight)[:, :, 0, 0], array(block.expand.weight)[:, :, 0, 0]
        b1, b2 = array(block.reduce.bias), array(block.expand.bias)
        hidden = [max(0.0, w1[h] @ squeezed + b1[h]) for h in range(len(w1))]
        for c in range(x.shape[1]):
            gate = 1 / (1 + math.exp(-(w2[c] @ hidden + b2[c])))
            out[n, c] = x[n, c] * gate
    return out


def attention(x, block):
    """(T, C): each token asks every token, head by head."""
    tokens, channels = x.shape
    size = channels // block.heads
    q, k, v = (np.array([linear(t, layer) for t in x]) for layer in (block.query, block.key, block.value))
    mixed = np.zeros((tokens, channels))
    for head in range(block.heads):
        part = slice(head * size, (head + 1) * size)
        for i in range(tokens):
            scores = [sum(q[i, part] * k[j, part]) / math.sqrt(size) for j in range(tokens)]
            powers = [math.exp(s - max(scores)) for s in scores]
            for j in range(tokens):
                mixed[i, part] += powers[j] / sum(powers) * v[j, part]
    return np.array([linear(t, block.project) for t in mixed])


def layer_norm(x, norm):
    centred = x - x.mean()
    return centred / math.sqrt((centred**2).mean() + norm.eps) * array(norm.weight) + array(norm.bias)


def gelu(x):
    return np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x])


def transformer(x, block):
    x = x + attention(np.array([layer_norm(t, block.norm_attention) for t in x]), block.attention)
    first, _, second = block.mlp
    return x + np.array([linear(gelu(linear(layer_norm(t, block.norm_mlp), first)), second) for t in x])


def spread(block):
    """Weights and biases away from their defaults, so that none could be forgotten unseen."""
    for index, parameter in enumerate(block.parameters()):
        parameter.data = random(*parameter.shape, seed=index + 100).to(parameter) * 0.7
    return block


def test_squeeze_excite():
    block = spread(SqueezeExcite(8, 2).double())
    x = random(2, 8, 3, 5)
    np.testing.assert_allclose(array(block(x)), squeeze_excite(array(x), block), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("channels", "reduction", "hidden"), [(16, 8, 4), (16, 16, 4), (64, 8, 8), (64, 16, 4)])
def test_the_bottleneck_never_gets_narrower_than_four(channels, reduction, hidden):
    assert SqueezeExcite(channels, reduction).reduce.out_channels == hidden


@pytest.mark.parametrize(("channels", "heads", "tokens"), [(8, 1, 3), (8, 2, 5), (12, 4, 1)])
def test_self_attention(channels, heads, tokens):
    block = spread(MultiHeadSelfAttention(channels, heads).double())
    x = random(2, tokens, channels)
    want = np.stack([attention(one, block) for one in array(x)])
    np.testing.assert_allclose(array(block(x)), want, rtol=1e-11, atol=1e-11)


def test_transformer_block():
    block = spread(TransformerBlock(8, 2, 1.5).double())
    x = random(2, 4, 8)
    out = block(x)
    assert out.shape == (2, 4, 8)
    assert block.mlp[0].out_features == 12
    want = np.stack([transformer(one, block) for one in array(x)])
    np.testing.assert_allclose(array(out), want, rtol=1e-11, atol=1e-11)


def test_sine_positions():
    height, width, channels = 3, 4, 8
    found = sine_positions(height, width, channels).numpy()
    assert found.shape == (12, 8)
    for y in range(height):
        for x in range(width):
            for half, position in ((0, y), (1, x)):
                for i in range(channels // 4):
                    angle = position / 10_000 ** (2 * i / (channels // 2))
                    place = half * channels // 2 + 2 * i
                    assert found[y * width + x, place] == pytest.approx(math.sin(angle), abs=1e-6)
                    assert found[y * width + x, place + 1] == pytest.approx(math.cos(angle), abs=1e-6)


def test_every_position_is_another():
    found = sine_positions(8, 8, 96).numpy()
    apart = np.linalg.norm(found[:, None] - found[None], axis=-1) + np.eye(64)
    assert apart.min() > 0.3


def test_sizes_that_do_not_divide():
    with pytest.raises(ValueError, match="divisible by 4, got 6"):
        sine_positions(2, 2, 6)
    with pytest.raises(ValueError, match="multiple of heads, got 8 and 3"):
        MultiHeadSelfAttention(8, 3)


@pytest.mark.parametrize(
    ("block", "shape"),
    [
        (SqueezeExcite(4, 1), (1, 4, 2, 2)),
        (MultiHeadSelfAttention(4, 2), (1, 3, 4)),
        (TransformerBlock(4, 2), (1, 2, 4)),
    ],
    ids=["squeeze-excite", "self-attention", "transformer"],
)
def test_gradients(block, shape):
    block = spread(block.double())
    x = random(*shape).requires_grad_()
    names = [name for name, _ in block.named_parameters()]

    def function(x, *values):
        return torch.func.functional_call(block, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(function, (x, *block.parameters()))
    block(x).square().sum().backward()
    # A bias of the keys shifts all scores of a query alike, which softmax ignores: its gradient is zero by nature.
    flat = {n for n, p in block.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-12}
    assert flat <= {"key.bias", "attention.key.bias"}


def test_the_scale_is_applied_before_the_product():
    """50 * 50 * 64 = 160,000 overflows FP16, which ends at 65,504; with one side divided by sqrt(64) it is 20,000."""
    block = MultiHeadSelfAttention(64, 1)
    with torch.no_grad():
        for layer in (block.query, block.key):
            layer.weight.zero_()
            layer.bias.fill_(50.0)
    assert torch.isfinite(block.half()(torch.zeros(1, 3, 64, dtype=torch.float16))).all()
