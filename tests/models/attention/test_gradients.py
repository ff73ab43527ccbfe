"""Gradients by finite differences in float64, and none from what is masked."""

from __future__ import annotations

import pytest
import torch
from attention_loops import random, spread
from torch import nn

from edgeattn.models import attention as a


class Pool(nn.Module):
    """Sequence pooling with the scores of one linear map, as the networks use it."""

    def __init__(self):
        super().__init__()
        self.score = nn.Linear(4, 1)

    def forward(self, x):
        return a.sequence_pool(x, self.score(x))


KEYS = torch.tensor([[True, False, True]])
BLOCKS = {
    "self": (lambda: a.MultiHeadSelfAttention(4, 2), [(1, 3, 4)]),
    "self, cosine": (lambda: a.MultiHeadSelfAttention(4, 2, "cosine"), [(1, 3, 4)]),
    "cross": (lambda: a.CrossAttention(4, 2, 3), [(1, 2, 4), (1, 3, 3)]),
    "transformer": (lambda: a.TransformerBlock(4, 2), [(1, 2, 4)]),
    "cross block": (lambda: a.CrossBlock(4, 2), [(1, 2, 4), (1, 3, 4)]),
    "feature map": (lambda: a.FeatureMapAttention(4, 2, 2, pool=2), [(1, 4, 2, 4)]),
    "additive": (lambda: a.AdditiveAttention(4, 3, 2), [(1, 3, 4), (1, 2)]),
    "additive, learned": (lambda: a.AdditiveAttention(4, 3), [(1, 3, 4)]),
    "pooling": (Pool, [(1, 3, 4)]),
    "squeeze-excite": (lambda: a.SqueezeExcite(4, 1), [(1, 4, 2, 2)]),
    "spatial": (lambda: a.SpatialAttention(3), [(1, 3, 3, 2)]),
    "channel and spatial": (lambda: a.ChannelSpatialAttention(4, 1, 3), [(1, 4, 2, 2)]),
    "large kernel": (lambda: a.LargeKernelAttention(2, 5, 2), [(1, 2, 4, 3)]),
    "gate": (lambda: a.AttentionGate(3, 2, 4, scale=2), [(1, 3, 4, 2), (1, 2, 2, 1)]),
    "region": (lambda: a.RegionAttention(3, (2, 2), 4), [(1, 3, 2, 4)]),
    "multi-scale": (lambda: a.MultiScaleRegionAttention(3, ((1, 2), (2, 2)), 4), [(1, 3, 2, 4)]),
}
# A bias of the keys shifts all scores of a query alike, which softmax ignores: its gradient is zero by nature.
FLAT = {"self": {"key.bias"}, "cross": {"key.bias"}, "feature map": {"key.bias"}}
FLAT |= {"pooling": {"score.bias"}}  # so does what all tokens of a pooled sequence share
FLAT |= {"transformer": {"attention.key.bias"}, "cross block": {"attention.key.bias"}}


def tensors(outputs):
    """A flat tuple of an output's tensors."""
    if isinstance(outputs, torch.Tensor):
        return (outputs,)
    return tuple(tensor for part in outputs for tensor in tensors(part))


@pytest.mark.parametrize("name", BLOCKS)
def test_gradients(name):
    build, shapes = BLOCKS[name]
    block = spread(build())
    inputs = [random(*shape, seed=index).requires_grad_() for index, shape in enumerate(shapes)]
    names = [parameter for parameter, _ in block.named_parameters()]

    def function(*values):
        weights = dict(zip(names, values[len(inputs) :], strict=True))
        return tensors(torch.func.functional_call(block, weights, values[: len(inputs)]))

    assert torch.autograd.gradcheck(function, (*inputs, *block.parameters()))
    sum(tensor.square().sum() for tensor in tensors(block(*inputs))).backward()
    flat = {n for n, p in block.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-12}
    assert flat == FLAT.get(name, set())
    assert all(x.grad.abs().max() > 1e-12 for x in inputs)


@pytest.mark.parametrize("scores", ["dot", "cosine"])
def test_masked_tokens_have_no_gradient(scores):
    block = spread(a.CrossAttention(4, 2, scores=scores))
    context = random(1, 3, 4, seed=1).requires_grad_()
    block(random(1, 2, 4), context, KEYS).square().sum().backward()
    assert (context.grad[0].abs().sum(dim=1) > 0).tolist() == KEYS[0].tolist()
    assert (context.grad[0, 1] == 0).all()


def test_masked_items_have_no_gradient():
    block, x = spread(a.AdditiveAttention(4, 3)), random(1, 3, 4).requires_grad_()
    summed, weights = block(x, mask=KEYS)
    (summed.square().sum() + weights.square().sum()).backward()
    assert (x.grad[0].abs().sum(dim=1) > 0).tolist() == KEYS[0].tolist()
