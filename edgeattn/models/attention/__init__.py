"""Attention blocks shared by the networks: one concept per file, formula, shapes and paper in each docstring.

    scores         how well a key answers a query; masks; the softmax
    multi_head     tokens attend to tokens: of their own sequence, or of another
    transformer    the two as pre-norm residual blocks
    feature_map    every position of a map attends to every other
    additive       one query vector asks a sequence for its weighted sum
    pooling        a sequence read out by one score for each token
    region         regions of a map, at one or several scales, weighed against each other
    channel        which channels matter (squeeze-and-excitation)
    spatial        which positions matter; channels, then positions
    convolutional  a gate from a large, decomposed convolution
    gate           a skip connection gated by the decoder
    positions      where a token stands: fixed or learned

All export to plain ONNX operators with static shapes or a dynamic batch. A network imports from the concept's own file:
its version then covers the blocks it uses, and editing another block does not train it anew. The names below are for
everyone else.
"""

from edgeattn.models.attention.additive import AdditiveAttention
from edgeattn.models.attention.channel import SqueezeExcite
from edgeattn.models.attention.convolutional import LargeKernelAttention
from edgeattn.models.attention.feature_map import FeatureMapAttention
from edgeattn.models.attention.gate import AttentionGate
from edgeattn.models.attention.multi_head import CrossAttention, MultiHeadSelfAttention
from edgeattn.models.attention.pooling import sequence_pool
from edgeattn.models.attention.positions import LearnedPositions, sine_positions
from edgeattn.models.attention.region import MultiScaleRegionAttention, RegionAttention
from edgeattn.models.attention.scores import Cosine, DotProduct
from edgeattn.models.attention.spatial import ChannelSpatialAttention, SpatialAttention
from edgeattn.models.attention.transformer import CrossBlock, TransformerBlock

__all__ = [
    "AdditiveAttention",
    "AttentionGate",
    "ChannelSpatialAttention",
    "Cosine",
    "CrossAttention",
    "CrossBlock",
    "DotProduct",
    "FeatureMapAttention",
    "LargeKernelAttention",
    "LearnedPositions",
    "MultiHeadSelfAttention",
    "MultiScaleRegionAttention",
    "RegionAttention",
    "SpatialAttention",
    "SqueezeExcite",
    "TransformerBlock",
    "sequence_pool",
    "sine_positions",
]
