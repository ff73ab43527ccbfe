"""TensorRT itself, on a GPU: what the stand-ins cannot show. Skipped, with the reason, where either is missing.

Beside these, the contract of all backends (`test_contract.py`) runs with it. Neither has been run so far.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgeattn.backends import tensorrt as backend
from edgeattn.backends.tensorrt import BuildSettings
from edgeattn.errors import ModelError
from edgeattn.metrics.tensors import sqnr_db

if reason := backend.missing():
    pytest.skip(reason, allow_module_level=True)

pytestmark = [pytest.mark.gpu, pytest.mark.slow]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEATTN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def conv(zoo, tmp_path):
    return zoo["conv"].write(tmp_path / "model") / "model.onnx"


def near(actual, expected, digits):
    assert np.abs(actual - expected).max() <= 10.0**-digits * np.abs(expected).max()


def test_an_engine_computes_what_the_graph_says(zoo, conv, tmp_path):
    said = backend.compile(conv, tmp_path / "out", precision="fp32", threads=1)
    assert said.fingerprint == backend.fingerprint()
    assert said.macs == {"fp32": 3 * 5 * 6 * 2 * 9}
    runner = backend.load(tmp_path / "out", threads=1)
    assert runner.rebuilt is None
    assert runner.notes == ()  # the call was recorded
    for inputs in (zoo["conv"].inputs, zoo["conv"].changed, zoo["conv"].inputs):
        got = runner.infer(inputs)["y"]
    near(got, zoo["conv"].expected["y"], 5)
    runner.close()


def test_recorded_and_launched_one_by_one_agree(zoo, conv, tmp_path):
    backend.build(conv, tmp_path / "out", BuildSettings())
    engine = backend.open_engine(tmp_path / "out")
    contexts = [engine.context(), engine.context(graph=False)]
    assert [context.recorded for context in contexts] == [True, False]
    first, second = (context.infer(zoo["conv"].inputs)["y"] for context in contexts)
    assert np.array_equal(first, second)
    engine.close()


def test_layers_and_their_times(zoo, conv, tmp_path):
    backend.build(conv, tmp_path / "out", BuildSettings())
    engine = backend.open_engine(tmp_path / "out")
    times = engine.layer_times(zoo["conv"].inputs, calls=5)
    engine.close()
    assert times
    assert all(time > 0 for time in times.values())
    executed = json.loads((tmp_path / "out" / "engine.json").read_text())["executed"]
    assert any("conv" in node.lower() for layer in executed for node in layer["nodes"])


def test_the_timing_cache_is_extended_and_a_foreign_one_refused(conv, tmp_path):
    cache = tmp_path / "cache.bin"
    assert backend.build(conv, tmp_path / "one", BuildSettings(timing_cache=cache)).notes == ()
    size = cache.stat().st_size
    assert size > 0
    assert backend.build(conv, tmp_path / "two", BuildSettings(timing_cache=cache)).notes == ()
    cache.write_bytes(b"not a cache")
    said = backend.build(conv, tmp_path / "three", BuildSettings(timing_cache=cache))
    assert "is not of this GPU and TensorRT" in said.notes[0]


def test_the_header_of_a_plan_is_where_we_read_it(conv, tmp_path):
    backend.build(conv, tmp_path / "out", BuildSettings())
    head = (tmp_path / "out" / "engine.plan").read_bytes()[:28]
    here = [int(number) for number in backend.fingerprint()["tensorrt"].split(".")[:3]]
    assert (head[:4], list(head[24:27])) == (b"ftrt", here)


def test_progress_is_told(conv, tmp_path):
    told = []
    backend.build(conv, tmp_path / "out", BuildSettings(), lambda done, total, text: told.append((done, total, text)))
    assert all(0 <= done <= total for done, total, _ in told)


@pytest.mark.parametrize("content", [b"not a graph" * 9, b""])
def test_a_broken_model_is_one_sentence(tmp_path, content):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        backend.build(tmp_path / "model.onnx", tmp_path / "out", BuildSettings())
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_several_contexts_give_the_same(zoo, conv, tmp_path):
    backend.build(conv, tmp_path / "out", BuildSettings())
    engine = backend.open_engine(tmp_path / "out")
    results = [engine.context().infer(zoo["conv"].inputs)["y"] for _ in range(3)]
    assert all(np.array_equal(results[0], result) for result in results)
    engine.close()


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_the_device_computes_what_was_emulated(precision, families, tmp_path):
    """The accuracy rows of a deploy without a device rest on this: an engine is as near to the float network as ONNX
    Runtime said of its file, to 3 dB (design notes TENSORRT.md, section 8: the spread of quantizing again)."""
    torch, _ = pytest.importorskip("torch"), pytest.importorskip("nncf")
    from edgeattn.backends import onnxruntime
    from edgeattn.export.run import to_onnx
    from edgeattn.imaging import Preprocess
    from edgeattn.models import camera
    from edgeattn.quantize import emulate, int8
    from edgeattn.quantize.form import TENSORRT
    from edgeattn.quantize.fp16 import to_fp16

    torch.manual_seed(0)
    side, settings = families["attention_cnn"]
    size = Preprocess(side, side)
    described = camera.Description("attention_cnn", settings, tuple("abcde"), size, (120.0,) * 3, (64.0,) * 3)
    model = to_onnx(camera.CameraModel(described).eval(), dynamic_batch=False, opset=20)
    random = np.random.default_rng(0)
    calls = [{"frame": random.integers(0, 256, (1, side, side, 3), np.uint8)} for _ in range(16)]
    if precision == "fp16":
        graph = to_fp16(model)
    else:
        graph = int8.quantize(model, calls[:8], int8.CANDIDATES[0], form=TENSORRT, spare_bit=False)
    results = []
    for name, content, load in (("float", model, onnxruntime.load), ("emulated", graph, emulate.load)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.onnx").write_bytes(content.SerializeToString())
        results.append(load(tmp_path / name, threads=1))
    backend.compile(tmp_path / "emulated" / "model.onnx", tmp_path / "engine", precision=precision, threads=1)
    results.append(backend.load(tmp_path / "engine", threads=1))
    reference, emulated, engine = (
        np.concatenate([runner.infer(call)["logits"] for call in calls[8:]]) for runner in results
    )
    for runner in results:
        runner.close()
    assert abs(sqnr_db(reference, engine) - sqnr_db(reference, emulated)) < 3
