"""The formulas once more, slowly: NumPy and loops, one sample at a time, no batching, no broadcasting tricks."""

from __future__ import annotations

import math

import numpy as np
import torch


def array(tensor):
    return tensor.detach().double().numpy()


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spread(block):
    """In float64, weights and biases away from their defaults, so that none could be forgotten unseen."""
    block = block.double()
    for index, parameter in enumerate(block.parameters()):
        parameter.data = random(*parameter.shape, seed=index + 100) * 0.7
    return block


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def softmax(scores, mask=None):
    """Weights of those that count; zero for the others."""
    counts = [True] * len(scores) if mask is None else list(mask)
    top = max(s for s, c in zip(scores, counts, strict=True) if c)
    powers = [math.exp(s - top) if c else 0.0 for s, c in zip(scores, counts, strict=True)]
    return [p / sum(powers) for p in powers]


def linear(x, layer):
    """One vector through `W x + b`."""
    w = array(layer.weight)
    b = np.zeros(len(w)) if layer.bias is None else array(layer.bias)
    return np.array([sum(w[o, i] * x[i] for i in range(len(x))) + b[o] for o in range(len(b))])


def convolve(x, layer):
    """`(C, H, W)` through a convolution with any stride, padding, dilation and groups."""
    w, (stride, pad, step) = array(layer.weight), (layer.stride[0], layer.padding[0], layer.dilation[0])
    channels, own, side, _ = w.shape
    bias = np.zeros(channels) if layer.bias is None else array(layer.bias)
    rows = (x.shape[1] + 2 * pad - step * (side - 1) - 1) // stride + 1
    columns = (x.shape[2] + 2 * pad - step * (side - 1) - 1) // stride + 1
    out = np.zeros((channels, rows, columns))
    for o in range(channels):
        first = o // (channels // layer.groups) * own
        for y in range(rows):
            for z in range(columns):
                total = bias[o]
                for c in range(own):
                    for i in range(side):
                        for j in range(side):
                            a, b = y * stride - pad + i * step, z * stride - pad + j * step
                            if 0 <= a < x.shape[1] and 0 <= b < x.shape[2]:
                                total += w[o, c, i, j] * x[first + c, a, b]
                out[o, y, z] = total
    return out


def each(function, x):
    """`function` of one number, for every number of an array."""
    return np.array([function(v) for v in x.ravel()]).reshape(x.shape)


def layer_norm(x, norm):
    centred = x - x.mean()
    return centred / math.sqrt((centred**2).mean() + norm.eps) * array(norm.weight) + array(norm.bias)


def gelu(x):
    return np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x])


def score(q, k, scores, head):
    """One query against one key."""
    product = sum(a * b for a, b in zip(q, k, strict=True))
    if not hasattr(scores, "log_scale"):
        return product / math.sqrt(len(q))
    inverse = min(math.exp(array(scores.log_scale)[head, 0, 0]), 100.0)
    return product / math.sqrt(sum(a * a for a in q)) / math.sqrt(sum(b * b for b in k)) * inverse


def heads_attend(q, k, v, heads, scores, mask=None):
    """`(T, C)`, `(S, C)`, `(S, C)` -> the mixed values `(T, C)` and the weights `(heads, T, S)`; `mask` `(T, S)`."""
    size = q.shape[1] // heads
    mixed, weights = np.zeros((len(q), v.shape[1])), np.zeros((heads, len(q), len(k)))
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for i in range(len(q)):
            found = [score(q[i, part], k[j, part], scores, head) for j in range(len(k))]
            weights[head, i] = softmax(found, None if mask is None else mask[i])
            for j in range(len(k)):
                mixed[i, part] += weights[head, i, j] * v[j, part]
    return mixed, weights


def attention(x, context, block, mask=None):
    """`(T, C)` asks `(S, D)`: the result `(T, C)` and the weights `(heads, T, S)`."""
    q = np.array([linear(t, block.query) for t in x])
    k, v = (np.array([linear(t, layer) for t in context]) for layer in (block.key, block.value))
    mixed, weights = heads_attend(q, k, v, block.heads, block.scores, mask)
    return np.array([linear(t, block.project) for t in mixed]), weights


def normed(x, norm):
    return np.array([layer_norm(t, norm) for t in x])


def mlp(x, block):
    first, _, second = block.mlp
    return np.array([linear(gelu(linear(layer_norm(t, block.norm_mlp), first)), second) for t in x])


def pooled(x, found):
    """`(T, C)` and a score for each -> the sum `(C,)` and the weights `(T,)`."""
    weights = softmax(found)
    summed = [sum(w * item[c] for w, item in zip(weights, x, strict=True)) for c in range(x.shape[1])]
    return np.array(summed), np.array(weights)


def additive(x, block, query=None, mask=None):
    """`(T, C)` -> the sum `(C,)` and the weights `(T,)`."""
    asked = array(block.learned) if query is None else linear(query, block.query)
    found = []
    for item in x:
        inner = linear(item, block.item)
        found.append(linear([math.tanh(a + b) for a, b in zip(inner, asked, strict=True)], block.score)[0])
    weights = softmax(found, mask)
    return sum(w * item for w, item in zip(weights, x, strict=True)), np.array(weights)
