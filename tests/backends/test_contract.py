"""What every backend that loads ONNX owes its callers. A new one is found by its file and tested without an edit.

TensorRT, which needs a GPU, is tested where there is one, and besides through stand-ins for its versions: those prove
that the backend calls what the version has and hands over the right bytes, not that TensorRT computes anything.
"""

import importlib
import sys
from functools import partial

import numpy as np
import pytest

from edgeattn import backends
from edgeattn.backends.base import TensorSpec
from edgeattn.errors import ModelError


def loads_onnx(name):
    return hasattr(importlib.import_module(f"edgeattn.backends.{name}"), "MODEL")


STAND_INS = [f"tensorrt {version} (stand-in)" for version in sys.modules["trt_fake"].VERSIONS]


@pytest.fixture(params=[*(name for name in backends.names() if loads_onnx(name)), *STAND_INS])
def backend(request):
    name, _, version = request.param.partition(" ")
    module = importlib.import_module(f"edgeattn.backends.{name}")
    if version:
        pytest.importorskip("onnxruntime", reason="the stand-in computes with it (edgeattn[train])")
        version = version.split()[0]
        of_onnx = partial(sys.modules["trt_world"].of_onnx, version=version)
        request.getfixturevalue("install_world")(version, of_onnx)
    if reason := module.missing():
        pytest.skip(reason)
    return module


@pytest.fixture
def load(backend, tmp_path):
    runners = []

    def loaded(entry, threads=1):
        if entry.name == "quantized_conv" and backend.__name__.endswith(".tensorrt"):
            pytest.skip("TensorRT takes signed 8-bit numbers around zero only; this model's are unsigned")
        runners.append(backend.load(entry.write(tmp_path / entry.name), threads=threads))
        return runners[-1]

    yield loaded
    for runner in runners:
        runner.close()


def close_to(actual, expected):
    """Within BF16's rounding, which is what some backends choose where they are free to: 2^-6 of the largest value."""
    assert actual.shape == expected.shape
    assert actual.dtype == np.float32
    assert np.abs(actual - expected).max() <= np.abs(expected).max() / 64


@pytest.mark.parametrize("threads", [1, 2])
def test_values(load, entry, threads):
    outputs = load(entry, threads).infer(entry.inputs)
    assert list(outputs) == list(entry.expected)
    for name, expected in entry.expected.items():
        close_to(outputs[name], expected)


def test_specs_are_the_graphs_own(load, zoo):
    camera, two = load(zoo["camera"]).specs, load(zoo["two_ways"]).specs
    assert camera.inputs == (TensorSpec("frame", (1, 4, 5, 3), "uint8"),)
    assert camera.outputs == (TensorSpec("image", (1, 3, 4, 5), "float32"),)
    assert [spec.name for spec in two.inputs] == ["first", "second"]
    assert [spec.name for spec in two.outputs] == ["sum", "copy"]
    assert two.inputs[0].shape == (None, 2)


def test_a_dynamic_batch_may_change_between_calls(load, zoo):
    runner = load(zoo["two_ways"])
    for batch in (2, 5, 1):
        ones = np.ones((batch, 2), np.float32)
        assert np.array_equal(runner.infer({"first": ones, "second": ones})["sum"], 2 * ones)


FRAME = np.zeros((1, 4, 5, 3), np.uint8)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({}, r"takes the inputs \['frame'\], got \[\]"),
        ({"image": FRAME}, r"takes the inputs \['frame'\], got \['image'\]"),
        ({"frame": FRAME, "more": FRAME}, r"got \['frame', 'more'\]"),
        ({"frame": FRAME.astype(np.float32)}, "must be uint8, got float32"),
        ({"frame": FRAME[0]}, r"must have shape \(1, 4, 5, 3\), got \(4, 5, 3\)"),
        ({"frame": FRAME.transpose(0, 3, 1, 2)}, r"must have shape \(1, 4, 5, 3\), got \(1, 3, 4, 5\)"),
        ({"frame": FRAME.tolist()}, "must be a NumPy array, got list"),
    ],
)
def test_a_wrong_input_is_one_sentence(load, zoo, inputs, says):
    with pytest.raises(ModelError, match=says):
        load(zoo["camera"]).infer(inputs)


def test_an_error_inside_the_library_is_ours(load, zoo):
    one, two = np.ones((2, 2), np.float32), np.ones((3, 2), np.float32)
    with pytest.raises(ModelError) as caught:  # each shape is allowed, but they do not go together
        load(zoo["two_ways"]).infer({"first": one, "second": two})
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


def test_outputs_belong_to_the_caller_and_inputs_stay_as_they_are(load, entry):
    runner = load(entry)
    given = {name: array.copy() for name, array in entry.inputs.items()}
    first = runner.infer(given)
    kept = {name: array.copy() for name, array in first.items()}
    second = runner.infer(entry.changed)
    assert any(not np.array_equal(second[name], kept[name]) for name in kept)
    for name, array in first.items():
        assert np.array_equal(array, kept[name])
        array.fill(99)
    again = runner.infer(given)
    assert all(np.array_equal(again[name], kept[name]) for name in kept)
    assert all(np.array_equal(given[name], entry.inputs[name]) for name in given)


def test_strided_and_read_only_inputs(load, zoo):
    entry = zoo["camera"]
    runner = load(entry)
    wide = np.zeros((1, 4, 10, 3), np.uint8)
    wide[:, :, ::2] = entry.inputs["frame"]
    close_to(runner.infer({"frame": wide[:, :, ::2]})["image"], entry.expected["image"])
    frozen = np.frombuffer(entry.inputs["frame"].tobytes(), np.uint8).reshape(1, 4, 5, 3)
    close_to(runner.infer({"frame": frozen})["image"], entry.expected["image"])


def test_two_runners_do_not_disturb_each_other(load, zoo):
    one, two = load(zoo["conv"]), load(zoo["attention"])
    one.close()
    close_to(two.infer(zoo["attention"].inputs)["y"], zoo["attention"].expected["y"])


def test_closing_twice_is_fine_and_a_closed_runner_says_so(load, zoo):
    runner = load(zoo["conv"])
    runner.close()
    runner.close()
    with pytest.raises(ModelError, match="closed"):
        runner.infer(zoo["conv"].inputs)


@pytest.mark.parametrize("damage", ["missing", "empty", "garbage", "truncated"])
def test_an_unusable_file_is_one_sentence_that_names_it(backend, zoo, tmp_path, damage, capfd):
    path = zoo["conv"].write(tmp_path) / "model.onnx"
    whole = path.read_bytes()
    path.write_bytes(
        {"empty": b"", "garbage": b"not a graph" * 9, "truncated": whole[: len(whole) // 2]}.get(damage, b"")
    )
    if damage == "missing":
        path.unlink()
    with pytest.raises(ModelError) as caught:
        backend.load(tmp_path, threads=1)
    message = str(caught.value)
    assert str(tmp_path) in message
    assert "\n" not in message
    assert "Traceback" not in message
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("version", sys.modules["trt_fake"].VERSIONS)
def test_the_stand_in_takes_no_graph_that_tensorrt_would_not(install_world, zoo, tmp_path, version):
    """So that the models of these tests are ones that the true library can be tried with."""
    backend = importlib.import_module("edgeattn.backends.tensorrt")
    install_world(version, partial(sys.modules["trt_world"].of_onnx, version=version))
    with pytest.raises(ModelError, match=r"node 'xq' \(QuantizeLinear\): It has a uint8 zero point"):
        backend.load(zoo["quantized_conv"].write(tmp_path), threads=1)
