import copy

import numpy as np
import pytest
import torch

from edgeattn import models
from edgeattn.data.degrade import Degradation
from edgeattn.errors import ModelError, RecipeError
from edgeattn.metrics.restoration import psnr_db, to_uint8
from edgeattn.metrics.tensors import sqnr_db
from edgeattn.models.restore_unet import Network, Settings, charbonnier, spectral
from edgeattn.recipe import parse_settings

SMALL = {"widths": (8, 12), "blocks": (1, 1), "reduction": 4}


def build(seed: int = 0, **settings) -> Network:
    torch.manual_seed(seed)
    return Network(Settings(**{**SMALL, **settings}), 0)


def test_found_by_its_name() -> None:
    module = models.find("restore_unet")
    assert module.TASK == "restore" and module.outputs(Settings()) == ("restored",)
    assert module.outputs(Settings(attention_heads=2, attention_output=True)) == ("restored", "attention")
    assert module.NORMALISED is False  # the frame itself is added to the output, so it must come in 0..1


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("stem", [1, 2])
@pytest.mark.parametrize("heads", [0, 2])
def test_shapes_and_gradients(scale: int, stem: int, heads: int) -> None:
    network = build(scale=scale, stem=stem, attention_heads=heads, reduction=1)  # of few gates none may live
    restored = network(torch.rand(2, 3, 8, 12))
    assert restored.shape == (2, 3, 8 * scale, 12 * scale)
    network.loss(restored, torch.rand(restored.shape), 0.0).backward()
    without = {n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0}
    assert without <= {"attention.attention.key.bias"}  # softmax ignores what all keys share


def test_the_attention_that_each_place_gets_is_an_output_on_request() -> None:
    plain, asked = build(attention_heads=2), build(attention_heads=2, attention_output=True)
    frame = torch.rand(2, 3, 8, 12)
    restored, attention = asked(frame)
    assert torch.equal(restored, plain(frame))
    assert attention.shape == (2, 1, 2, 3) and attention.min() > 0
    assert attention.sum(dim=(1, 2, 3)).tolist() == pytest.approx([1.0, 1.0])
    loss = asked.loss((restored, attention), frame, 0.0)
    assert loss.item() == plain.loss(restored, frame, 0.0).item()


@pytest.mark.parametrize("scale", [1, 2])
def test_it_starts_near_the_frame(scale: int) -> None:
    frame = torch.rand(1, 3, 16, 16)
    plain = torch.nn.functional.interpolate(frame, scale_factor=float(scale), mode="bilinear") if scale > 1 else frame
    network = build(scale=scale, widths=(48, 96, 128), blocks=(2, 2, 2), stem=2)
    correction = network(frame) - plain
    assert 0 < correction.abs().mean() < 0.2
    torch.nn.init.zeros_(network.head[0].weight)
    torch.nn.init.zeros_(network.head[0].bias)
    assert torch.equal(network(frame), plain)


def test_the_output_is_not_clipped() -> None:
    network = build()
    torch.nn.init.constant_(network.head[0].bias, 5.0)
    assert network(torch.rand(1, 3, 8, 8)).min() > 2.0


def test_self_attention_reaches_every_position() -> None:
    """With one level of one block a pixel's change spreads 4 pixels at most (stem, two convolutions, head)."""
    far = {}
    for heads in (0, 2):
        network = build(widths=(8,), blocks=(1,), stem=1, attention_heads=heads)
        for module in network.modules():  # channel attention sees everything, so it is held still
            if hasattr(module, "gate"):
                module.forward = lambda x: x
        frame = torch.rand(1, 3, 16, 16)
        changed = frame.clone()
        changed[0, :, 0, 0] += 0.5
        far[heads] = float((network(changed) - network(frame)).detach()[0, :, 8:, 8:].abs().max())
    assert far[0] == 0.0 and far[2] > 0.0


def test_macs_and_parameters_of_the_default() -> None:
    """Residual blocks by hand: 2 * 9 * c^2 weights and 2 c biases, and the gate's two layers with c / 8 hidden."""

    def block(c: int) -> int:
        return 18 * c * c + 2 * c + 2 * c * (c // 8) + c // 8 + c

    want = 16 * 3 * 48 + 48  # stem
    want += 4 * block(48) + 4 * block(96) + 2 * block(128)
    want += 4 * 48 * 96 + 96 + 4 * 96 * 128 + 128  # shrink
    want += 96 * 4 * 48 + 4 * 48 + 128 * 4 * 96 + 4 * 96  # enlarge
    want += 9 * 48 * 12 + 12  # head
    assert sum(p.numel() for p in Network(Settings()).parameters()) == want == 1_585_092
    assert Settings().multiple == 8


@pytest.mark.parametrize(("side", "ok"), [(16, True), (8, True), (12, False), (20, False)])
def test_sides_must_divide(side: int, ok: bool) -> None:
    network = build(widths=(4, 4, 4), blocks=(1, 1, 1))
    if ok:
        assert network(torch.rand(1, 3, side, 8)).shape == (1, 3, side, 8)
    else:
        with pytest.raises(ModelError, match=f"multiples of 8, got {side} x 8; change input.height and input.width"):
            network(torch.rand(1, 3, side, 8))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"widths": [8, 16]},
            "widths and blocks must be equally many numbers of at least 1, got .8, 16. and .2, 2, 2.",
        ),
        ({"widths": [8, 0, 8]}, "of at least 1, got"),
        ({"scale": 3}, "scale"),
        ({"stem": 4}, "stem"),
        ({"attention_heads": 5}, "the last width must be a multiple of attention_heads, got 128 and 5"),
        ({"attention_output": True}, "attention_output is the map of the transformer block; it needs attention_heads"),
        ({"attention_heads": -1}, r"not negative, got 8, -1 and 0\.?$"),
        ({"frequency_weight": -0.1}, r"not negative, got 8, 0 and -0\.1\.?$"),
        ({"reduction": 0}, "reduction must be at least 1"),
    ],
)
def test_wrong_settings(settings: dict, sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        parse_settings(Settings, settings, "model")


def test_the_loss_by_hand() -> None:
    """Differences 0, 0.003 and 0.004 with eps 0.001: 0.001, sqrt(10) / 1000, sqrt(17) / 1000."""
    restored, clean = torch.tensor([0.5, 0.503, 0.496]), torch.full((3,), 0.5)
    assert float(charbonnier(restored, clean)) == pytest.approx((1 + 10**0.5 + 17**0.5) / 3000, rel=1e-4)
    images = torch.rand(1, 3, 8, 8)
    assert float(build().loss(images, images, 0.3)) == pytest.approx(1e-3)
    assert float(spectral(images + 0.1, images)) == pytest.approx(0.01, rel=1e-4)
    weighted = build(frequency_weight=2.0).loss(images + 0.1, images, 0.0)
    assert float(weighted) == pytest.approx(0.1 + 0.02, rel=1e-3)


def test_the_loss_is_computed_in_float32() -> None:
    restored = torch.full((1, 3, 4, 4), 0.5, dtype=torch.bfloat16, requires_grad=True)
    loss = build().loss(restored, torch.full((1, 3, 4, 4), 0.5005), 0.0)
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx((0.0005**2 + 0.001**2) ** 0.5, rel=1e-3)


def test_autocast_keeps_the_frame_exact() -> None:
    """BF16 has 8 bits; the frame must not pass through it."""
    frame = torch.rand(1, 3, 8, 8)
    network = build()
    torch.nn.init.zeros_(network.head[0].weight)
    torch.nn.init.zeros_(network.head[0].bias)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(network(frame), frame)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"stem": 1, "scale": 2, "attention_heads": 2},
        {"stem": 2, "scale": 4},
    ],
)
def test_the_exported_graph_is_equal_and_plain(settings: dict, tmp_path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    network = build(**settings).eval()
    frame = torch.rand(1, 3, 16, 8)
    program = torch.onnx.export(network, (frame,), opset_version=20, dynamo=True, verbose=False)
    assert program is not None
    program.save(str(tmp_path / "model.onnx"))
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: frame.numpy()})
    assert sqnr_db(network(frame).detach().numpy(), got) > 80
    used = {node.op_type for node in program.model_proto.graph.node}
    plain = {"Conv", "Relu", "ReduceMean", "Sigmoid", "Mul", "Add", "DepthToSpace"}
    if settings.get("scale", 1) > 1:
        plain |= {"Resize"}
    if settings.get("attention_heads"):
        plain |= {"Reshape", "Transpose", "LayerNormalization", "MatMul", "Softmax", "Gelu", "Gemm"}
    assert {"Conv", "DepthToSpace"} <= used <= plain


@pytest.mark.parametrize(
    ("degradation", "gain_db"), [(Degradation(noise=25.0, grey=True), 3.0), (Degradation(noise=5.0, scale=2), 1.5)]
)
def test_one_image_is_learned(degradation: Degradation, gain_db: float) -> None:
    """A picture of 64 pixels gains on the frame (or the frame enlarged) within a second or two."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    y, x = np.mgrid[:64, :64]
    plane = (128 + 60 * np.sin(x / 5) + 50 * np.sign(np.sin(y / 9 + x / 20))).clip(0, 255)
    clean = plane[..., None].repeat(3, axis=2).astype(np.uint8)
    noisy = degradation.apply(clean, np.random.default_rng(0))
    frame, target = (torch.from_numpy(a).permute(2, 0, 1)[None].float() / 255 for a in (noisy, clean))
    network = build(widths=(16, 24), scale=degradation.scale, stem=2 // degradation.scale)

    def quality(model: Network) -> float:
        restored = model(frame).detach()[0].permute(1, 2, 0).numpy()
        return psnr_db(clean, to_uint8(restored))

    plain = copy.deepcopy(network)
    for parameter in plain.head.parameters():
        torch.nn.init.zeros_(parameter)
    before = quality(plain)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(100):
        optimizer.zero_grad()
        network.loss(network(frame), target, 0.0).backward()
        optimizer.step()
    assert quality(network) > before + gain_db
