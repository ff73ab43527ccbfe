"""Every block in one graph, exported, must equal PyTorch in ONNX Runtime and use plain operators only."""

from __future__ import annotations

import contextlib
import io
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from edgeattn.metrics.tensors import sqnr_db
from edgeattn.models import attention as a

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


class Asked(nn.Module):
    """A block's method other than `forward`, so that its weights are exported too."""

    def __init__(self, block, method="attend"):
        super().__init__()
        self.block, self.method = block, method

    def forward(self, *inputs):
        return getattr(self.block, self.method)(*inputs)


class Positions(nn.Module):
    def __init__(self, size=None):
        super().__init__()
        self.positions = a.LearnedPositions(*size, 8) if size else None

    def forward(self, tokens):
        return tokens + (self.positions(2, 3) if self.positions else a.sine_positions(2, 3, 8))


class Pool(nn.Module):
    def __init__(self):
        super().__init__()
        self.score = nn.Linear(8, 1)

    def forward(self, tokens):
        return a.sequence_pool(tokens, self.score(tokens))


class Painted(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = a.MultiScaleRegionAttention(8, ((1, 1), (2, 2), (4, 2)), 4)

    def forward(self, x):
        vector, regions, scales = self.block(x)
        return vector, scales, self.block.paint(regions, scales, 8, 12)


TOKENS, OTHER, VECTOR, MAP, SMALL = (6, 8), (5, 8), (3,), (8, 8, 12), (6, 4, 6)
KEYS, PAIRS = "keys", "pairs"  # boolean (6,) and (6, 5)
ENCODER = nn.Sequential(nn.Conv2d(8, 5, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
BLOCKS = {
    "self": (a.MultiHeadSelfAttention(8, 2), TOKENS),
    "self, masked": (Asked(a.MultiHeadSelfAttention(8, 2)), TOKENS, KEYS),
    "self, cosine": (a.MultiHeadSelfAttention(8, 2, "cosine"), TOKENS),
    "cross": (Asked(a.CrossAttention(8, 2)), TOKENS, OTHER),
    "cross, masked": (Asked(a.CrossAttention(8, 2, scores="cosine")), TOKENS, OTHER, PAIRS),
    "transformer": (a.TransformerBlock(8, 2), TOKENS),
    "cross block": (Asked(a.CrossBlock(8, 2)), TOKENS, OTHER),
    "feature map": (a.FeatureMapAttention(8, reduction=2), MAP),
    "feature map, pooled": (Asked(a.FeatureMapAttention(8, 2, 2, 4, "cosine")), MAP),
    "additive": (a.AdditiveAttention(8, 4, 3), TOKENS, VECTOR),
    "additive, learned": (a.AdditiveAttention(8, 4), TOKENS),
    "additive, masked": (a.AdditiveAttention(8, 4, 3), TOKENS, VECTOR, KEYS),
    "pooling": (Pool(), TOKENS),
    "squeeze-excite": (a.SqueezeExcite(8), MAP),
    "spatial": (a.SpatialAttention(), MAP),
    "channel and spatial": (a.ChannelSpatialAttention(8), MAP),
    "large kernel": (a.LargeKernelAttention(8), MAP),
    "large kernel, unbounded": (a.LargeKernelAttention(8, bounded=False), MAP),
    "gate": (a.AttentionGate(8, 6, scale=2), MAP, SMALL),
    "region": (a.RegionAttention(8, (4, 3), 4), MAP),
    "region, encoded": (a.RegionAttention(5, (2, 3), 4, ENCODER), MAP),
    "multi-scale": (Painted(), MAP),
    "sine positions": (Positions(), TOKENS),
    "learned positions": (Positions((2, 3)), TOKENS),
    "learned positions, resampled": (Positions((3, 5)), TOKENS),
}
INPUTS = (TOKENS, OTHER, VECTOR, MAP, SMALL, KEYS, PAIRS)
# Taken by ONNX Runtime, OpenVINO and TensorRT 10.3 alike, Conv and Resize with the restrictions checked below.
PLAIN = {"Add", "Sub", "Mul", "Div", "MatMul", "Gemm", "Conv", "Relu", "Sigmoid", "Tanh", "Softmax", "Gelu"}
PLAIN |= {"LayerNormalization", "ReduceMean", "ReduceMax", "ReduceL2", "ReduceSum", "Clip", "Exp", "Cast", "Resize"}
PLAIN |= {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Concat", "Expand", "Slice", "Gather", "Shape", "Identity"}
PLAIN |= {"AveragePool", "MaxPool", "GlobalAveragePool", "Constant", "Flatten"}


class Every(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(entry[0] for entry in BLOCKS.values())

    def forward(self, *inputs):
        known = dict(zip(INPUTS, inputs, strict=True))
        pairs = zip(self.blocks, BLOCKS.values(), strict=True)
        return [flat(block(*(known[key] for key in keys))) for block, (_, *keys) in pairs]


def flat(outputs):
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)


def example(batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    masks = {KEYS: (6,), PAIRS: (6, 5)}
    values = [torch.randn(batch, *masks.get(shape, shape), generator=generator) for shape in INPUTS]
    return tuple(value > -0.5 if shape in masks else value for shape, value in zip(INPUTS, values, strict=True))


class Exported:
    """Both networks' outputs by block, on the same inputs, for a fixed batch of one or a dynamic one."""

    def __init__(self, dynamic):
        torch.manual_seed(0)
        network = Every().eval()
        for name, parameter in network.named_parameters():
            if not name.endswith("log_scale"):
                nn.init.normal_(parameter, std=0.4)
        shapes = tuple({0: torch.export.Dim("batch")} for _ in INPUTS) if dynamic else None
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network,
                example(2 if dynamic else 1),
                opset_version=20,
                dynamo=True,
                dynamic_shapes=(shapes,) if shapes else None,
                verbose=False,
            )
        self.model = program.model_proto
        onnx.checker.check_model(self.model, full_check=True)
        inputs = example(3 if dynamic else 1, seed=1)
        with torch.no_grad():
            self.wanted = dict(zip(BLOCKS, network(*inputs), strict=True))
        session = onnxruntime.InferenceSession(self.model.SerializeToString(), providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_inputs()]
        self.feed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        self.found = self.by_block(session.run(None, self.feed))

    def by_block(self, outputs):
        left = iter(outputs)
        return {name: [next(left) for _ in wanted] for name, wanted in self.wanted.items()}

    def check(self, name, found):
        for mine, theirs in zip(self.wanted[name], found[name], strict=True):
            assert theirs.shape == tuple(mine.shape)
            assert sqnr_db(mine.numpy(), theirs) > 100


@pytest.fixture(scope="module", params=[False, True], ids=["batch 1", "dynamic batch"])
def exported(request):
    return Exported(request.param)


@pytest.mark.parametrize("name", BLOCKS)
def test_onnx_runtime_equals_pytorch(exported, name):
    exported.check(name, exported.found)


def test_only_plain_operators(exported):
    assert {node.op_type for node in exported.model.graph.node} <= PLAIN
    assert not exported.model.functions
    for node in exported.model.graph.node:
        settings = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        if node.op_type == "Resize":
            assert settings["mode"] == b"linear"
            assert settings["coordinate_transformation_mode"] in (b"half_pixel", b"pytorch_half_pixel")
        if node.op_type == "MaxPool":
            assert len(node.output) == 1
            assert not settings.get("ceil_mode")


def test_norm_and_gelu_stay_single_and_the_scale_comes_before_the_product(exported):
    nodes = exported.model.graph.node
    makers = {output: node for node in nodes for output in node.output}
    assert sum(node.op_type == "LayerNormalization" for node in nodes) == 5  # two, and three
    assert sum(node.op_type == "Gelu" for node in nodes) == 2
    for node in nodes:
        if node.op_type == "Softmax":
            maker = makers[node.input[0]]
            assert maker.op_type not in ("Mul", "Div")


def test_openvino_equals_pytorch(exported, tmp_path):
    openvino = pytest.importorskip("openvino")
    (tmp_path / "model.onnx").write_bytes(exported.model.SerializeToString())
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(str(tmp_path / "model.onnx"), "CPU", settings)
    outputs = compiled(exported.feed)
    found = exported.by_block([np.array(outputs[port]) for port in compiled.outputs])
    for name in BLOCKS:
        exported.check(name, found)
