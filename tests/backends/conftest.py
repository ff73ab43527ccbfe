"""A zoo of tiny ONNX models; each travels with its inputs and with its outputs worked out in NumPy.

Below it, stand-ins for TensorRT and CUDA: see `trt_fake.py`, `cudart_fake.py` and `trt_world.py`.
"""

from __future__ import annotations

import gc
import importlib.util
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FLOAT, UINT8 = 1, 2  # onnx.TensorProto's numbers for them


@dataclass(frozen=True)
class Entry:
    """`inputs` and `expected` by tensor name; `changed` are other inputs of the same shape."""

    name: str
    model: Any
    inputs: dict[str, np.ndarray]
    changed: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(self.model.SerializeToString())
        return folder


def model(nodes, inputs, outputs, constants=None):
    """inputs and outputs: name -> (element type, shape)."""
    import onnx
    from onnx import helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        "zoo",
        [helper.make_tensor_value_info(name, *spec) for name, spec in inputs.items()],
        [helper.make_tensor_value_info(name, *spec) for name, spec in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    return made


def node(*description, **attributes):
    """operator, inputs, outputs, attributes."""
    from onnx import helper

    return helper.make_node(*description, **attributes)


def conv2d(x, w, b):
    """(1, C, H, W) with (O, C, 3, 3), padding 1: nine shifted products, added up."""
    padded = np.pad(x[0], ((0, 0), (1, 1), (1, 1)))
    high, wide = x.shape[2:]
    out = np.zeros((len(w), high, wide))
    for i in range(3):
        for j in range(3):
            out += np.einsum("oc,chw->ohw", w[:, :, i, j], padded[:, i : i + high, j : j + wide])
    return (out + b[:, None, None])[None]


def camera() -> Entry:
    """uint8 frames in, as every exported graph has it: layout, type and range are changed inside."""
    nodes = [
        node("Cast", ["frame"], ["float"], to=FLOAT),  # first of all: nothing else of TensorRT's reads UINT8
        node("Transpose", ["float"], ["chw"], perm=[0, 3, 1, 2]),
        node("Sub", ["chw", "mean"], ["centred"]),
        node("Div", ["centred", "scale"], ["image"]),
    ]
    constants = {"mean": np.float32(120), "scale": np.float32(64)}
    frame = np.arange(60, dtype=np.uint8).reshape(1, 4, 5, 3) * 4
    return Entry(
        "camera",
        model(nodes, {"frame": (UINT8, [1, 4, 5, 3])}, {"image": (FLOAT, [1, 3, 4, 5])}, constants),
        {"frame": frame},
        {"frame": 255 - frame},
        {"image": (frame.transpose(0, 3, 1, 2).astype(np.float32) - 120) / 64},
    )


def conv() -> Entry:
    """One 3x3 convolution of 2 into 3 channels on 5x6 pixels, bias, ReLU: 3*5*6 * 2*9 = 1620 multiply-adds."""
    rng = np.random.default_rng(1)
    x, w, b = (rng.standard_normal(shape, np.float32) for shape in ((1, 2, 5, 6), (3, 2, 3, 3), (3,)))
    nodes = [
        node("Conv", ["x", "w", "b"], ["conv"], pads=[1, 1, 1, 1]),
        node("Relu", ["conv"], ["y"]),
    ]
    return Entry(
        "conv",
        model(nodes, {"x": (FLOAT, [1, 2, 5, 6])}, {"y": (FLOAT, [1, 3, 5, 6])}, {"w": w, "b": b}),
        {"x": x},
        {"x": -x},
        {"y": np.maximum(conv2d(x, w, b), 0)},
    )


def attention() -> Entry:
    """Single-head attention on 5 tokens of 8: 3 * 5*8*8 + 5*5*8 + 5*8*5 = 1360 multiply-adds."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((1, 5, 8), np.float32)
    weights = {name: rng.standard_normal((8, 8), np.float32) / 2 for name in ("wq", "wk", "wv")}
    nodes = [node("MatMul", ["x", f"w{i}"], [i]) for i in "qkv"] + [
        node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        node("MatMul", ["q", "kt"], ["products"]),
        node("Div", ["products", "root"], ["scores"]),
        node("Softmax", ["scores"], ["weights"], axis=-1),
        node("MatMul", ["weights", "v"], ["y"]),
    ]
    q, k, v = (x[0].astype(np.float64) @ weights[name] for name in weights)
    powers = np.exp(q @ k.T / math.sqrt(8))
    expected = powers / powers.sum(axis=1, keepdims=True) @ v
    constants = {**weights, "root": np.float32(math.sqrt(8))}
    return Entry(
        "attention",
        model(nodes, {"x": (FLOAT, [1, 5, 8])}, {"y": (FLOAT, [1, 5, 8])}, constants),
        {"x": x},
        {"x": -x},
        {"y": expected[None]},
    )


def norm_gelu() -> Entry:
    """LayerNorm and exact GELU as the single operators of opset 20."""
    rng = np.random.default_rng(3)
    x, scale, bias = (rng.standard_normal(shape, np.float32) for shape in ((1, 4, 8), (8,), (8,)))
    nodes = [
        node("LayerNormalization", ["x", "scale", "bias"], ["normed"], axis=-1, epsilon=1e-5),
        node("Gelu", ["normed"], ["y"]),
    ]
    centred = x - x.mean(axis=-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5) * scale + bias
    gelu = normed * 0.5 * (1 + np.vectorize(math.erf)(normed / math.sqrt(2)))
    return Entry(
        "norm_gelu",
        model(nodes, {"x": (FLOAT, [1, 4, 8])}, {"y": (FLOAT, [1, 4, 8])}, {"scale": scale, "bias": bias}),
        {"x": x},
        {"x": x[:, ::-1].copy()},
        {"y": gelu},
    )


def quantized_conv() -> Entry:
    """A convolution between Q/DQ pairs: activations u8 around 128, weights i8 with one scale per output channel."""
    rng = np.random.default_rng(4)
    x = rng.uniform(-1, 1, (1, 8, 6, 6)).astype(np.float32)
    w = rng.integers(-127, 128, (8, 8, 3, 3)).astype(np.int8)
    w_scale = rng.uniform(0.001, 0.002, 8).astype(np.float32)
    nodes = [
        node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["xq"]),
        node("DequantizeLinear", ["xq", "x_scale", "x_zero"], ["xf"]),
        node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["wf"], axis=0),
        node("Conv", ["xf", "wf", "b"], ["y"], pads=[1, 1, 1, 1]),
    ]
    step = np.float32(0.0078125)
    constants = {
        **{"x_scale": step, "x_zero": np.uint8(128), "w": w, "w_scale": w_scale},
        **{"w_zero": np.zeros(8, np.int8), "b": np.linspace(-1, 1, 8, dtype=np.float32)},
    }
    rounded = (np.clip(np.rint(x / step) + 128, 0, 255) - 128) * step
    return Entry(
        "quantized_conv",
        model(nodes, {"x": (FLOAT, [1, 8, 6, 6])}, {"y": (FLOAT, [1, 8, 6, 6])}, constants),
        {"x": x},
        {"x": -x},
        {"y": conv2d(rounded, w * w_scale[:, None, None, None].astype(np.float64), constants["b"])},
    )


def two_ways() -> Entry:
    """Two inputs, outputs in an order that is not the alphabet's, one of them an input passed through; any batch."""
    nodes = [
        node("Add", ["first", "second"], ["sum"]),
        node("Identity", ["first"], ["copy"]),
    ]
    first, second = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32), np.array([[10.0, 20.0], [30.0, 40.0]], np.float32)
    shape = (FLOAT, ["batch", 2])
    return Entry(
        "two_ways",
        model(nodes, {"first": shape, "second": shape}, {"sum": shape, "copy": shape}),
        {"first": first, "second": second},
        {"first": -first, "second": second},
        {"sum": np.array([[11.0, 22.0], [33.0, 44.0]], np.float32), "copy": first},
    )


BUILDERS = {build.__name__: build for build in (camera, conv, attention, norm_gelu, quantized_conv, two_ways)}


@pytest.fixture(scope="session")
def zoo() -> dict[str, Entry]:
    pytest.importorskip("onnx", reason="the models of these tests are built with onnx (edgeattn[train])")
    return {name: build() for name, build in BUILDERS.items()}


@pytest.fixture(params=list(BUILDERS))
def entry(request, zoo) -> Entry:
    """Each model of the zoo in turn."""
    return zoo[request.param]


@pytest.fixture(scope="session")
def make_model(zoo) -> Callable[..., Any]:
    return model


@pytest.fixture(scope="session")
def make_node(zoo) -> Callable[..., Any]:
    return node


def _beside(name: str) -> Any:
    """A module of this folder; pytest imports test files by their path, so there is no package to import it from."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


trt_fake, cudart_fake, trt_world = map(_beside, ("trt_fake", "cudart_fake", "trt_world"))


@pytest.fixture
def install_world(monkeypatch, tmp_path):
    """install_world(version, nets, gpu=None) -> World, found by the backend.

    At the end nothing may have gone wrong and nothing may be left on its GPU.
    """
    from edgeattn.backends import _cuda, _tensorrt_library

    made = []
    monkeypatch.setenv("EDGEATTN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(_tensorrt_library, "ROOT", tmp_path)

    def install(version, nets, gpu=None):
        made.append(trt_world.World(version, nets, gpu))
        trt_world.install(monkeypatch, made[-1])
        return made[-1]

    yield install
    _cuda.runtime.cache_clear()
    for world in made:
        assert world.violations == []
        if world.cuda.leaks():  # what nobody closed goes with its object
            gc.collect()
        assert world.cuda.leaks() == []
