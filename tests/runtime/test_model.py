import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeattn
from edgeattn import backends, host, runtime
from edgeattn.backends.base import Specs, TensorSpec
from edgeattn.bundle.manifest import Tensor
from edgeattn.errors import BundleError, DataError, InputError, MissingLibrary, ModelError, StageFailed
from edgeattn.imaging import Preprocess

RED = np.full((30, 50, 3), (0, 10, 12), np.uint8)


def test_result(bundle: Path, backend: Any) -> None:
    """Logits (0, 10, 12): red first, with 1 / (1 + e^-2 + e^-12) = 88.08 %."""
    model = edgeattn.load(bundle)
    result: Any = model(RED)
    assert result.class_id.tolist() == [2, 1, 0]
    assert result.confidence[0] == pytest.approx(1 / (1 + np.exp(-2) + np.exp(-12)))
    assert result.labels == ("blue", "green", "red")
    assert str(result).startswith("red 88.1%, green 11.9%")
    assert 0 < result.latency_ms < 1000
    assert (model.task, model.labels, model.manifest.variant) == ("classify", ("blue", "green", "red"), "fp32")


def test_latency_is_the_whole_call(bundle: Path, backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is read first before preparing and last after decoding."""
    model = edgeattn.load(str(bundle))
    times = iter([10.0, 10.004])
    monkeypatch.setattr("edgeattn.runtime.model.time.perf_counter", lambda: next(times))
    assert model(RED).latency_ms == pytest.approx(4.0)


def test_frame_is_not_changed(bundle: Path, backend: Any) -> None:
    frame = RED.copy()
    edgeattn.load(bundle)(frame)
    assert (frame == RED).all()


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        ((), r"takes 1 frame\(s\) per call \(frame\), got 0"),
        ((RED, RED), "got 2"),
        (("image.jpg",), "must be a NumPy array, got str"),
        ((RED[..., 0],), "must be uint8"),
        ((RED.astype(np.float32),), "got float32"),
        ((RED[:0],), "must be uint8"),
        ((np.zeros((4, 4, 4), np.uint8),), "four-channel"),
    ],
)
def test_wrong_frames(bundle: Path, backend: Any, frames: tuple[Any, ...], says: str) -> None:
    with pytest.raises(DataError, match=says):
        edgeattn.load(bundle)(*frames)


def test_close(bundle: Path, backend: Any) -> None:
    with edgeattn.load(bundle) as model:
        model(RED)
    model.close()
    assert backend.runner.closed == 1
    with pytest.raises(ModelError, match="was closed; load it again"):
        model(RED)


def test_threads(bundle: Path, backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "cores", lambda: 7)
    edgeattn.load(bundle, threads=3)
    assert backend.threads == 3
    edgeattn.load(bundle)
    assert backend.threads == 7
    with pytest.raises(InputError, match="1 or more, got 0"):
        edgeattn.load(bundle, threads=0)


def test_self_test(bundle: Path, backend: Any) -> None:
    assert edgeattn.load(bundle, self_test=True).self_test().passed


def test_a_failed_self_test_closes_the_engine(bundle: Path, backend: Any) -> None:
    backend.runner.gain = 1.5
    with pytest.raises(
        StageFailed, match=r"self-test of .*tiny\.edgeattn failed: output 'logits' is off by 100"
    ) as caught:
        edgeattn.load(bundle, self_test=True)
    assert caught.value.exit_code == 1
    assert backend.runner.closed == 1
    assert not edgeattn.load(bundle).self_test().passed


def test_an_engine_of_another_model(bundle: Path, backend: Any) -> None:
    backend.runner.specs = Specs((TensorSpec("image", (1, 8, 8, 3), "uint8"),), backend.runner.specs.outputs)
    with pytest.raises(BundleError, match=r"has the inputs \['image'\], its manifest says \['frame'\]"):
        edgeattn.load(bundle)
    assert backend.runner.closed == 1


def test_more_labels_than_logits(make_bundle: Any, backend: Any) -> None:
    model = edgeattn.load(make_bundle(labels=("a", "b")))
    with pytest.raises(ModelError, match=r"'logits' of shape \(1, 2\), one per label; got .*\(1, 3\)"):
        model(RED)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_what_is_no_number_is_no_result(bundle: Path, backend: Any, value: float, dtype: Any) -> None:
    """Sorted by confidence, NaN would come out as some class."""
    model = edgeattn.load(bundle)
    backend.runner.infer = lambda inputs: {"logits": np.array([[1.0, value, 2.0]], dtype)}
    with pytest.raises(ModelError) as caught:
        model(RED)
    assert str(caught.value) == (
        f"The engine of {bundle} gives NaN or infinity in its output 'logits' for this frame; use a bundle of higher "
        "precision, and check this one with `edgeattn verify`."
    )


def test_what_is_no_number_in_one_tile(make_bundle: Any, backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = edgeattn.load(make_bundle(preprocess=Preprocess(8, 8, "tile", 2)))
    calls = []

    def infer(inputs: Any) -> Any:
        calls.append(inputs)
        value = np.nan if len(calls) == 5 else 1.0
        return {"logits": np.full((1, 3, 8, 8), value, np.float32)}

    backend.runner.infer = infer
    with pytest.raises(ModelError, match="NaN or infinity in its output 'logits'"):
        model(RED)


def test_an_output_without_values_is_no_fault(bundle: Path, backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a detector that may give no box."""
    model = edgeattn.load(bundle)
    logits = np.zeros((1, 3), np.float32)
    backend.runner.infer = lambda inputs: {"logits": logits, "boxes": np.zeros((0, 4), np.float32), "n": np.array([3])}
    assert model.call(RED)[1]["boxes"].shape == (0, 4)


def test_two_inputs(make_bundle: Any, backend: Any) -> None:
    spec = Tensor("frame", (1, 8, 8, 3), "uint8")
    backend.runner.specs = Specs(
        (TensorSpec("a", (1, 8, 8, 3), "uint8"), TensorSpec("b", (1, 8, 8, 3), "uint8")), backend.runner.specs.outputs
    )
    backend.runner.infer = lambda inputs: {"logits": (inputs["b"] - inputs["a"]).mean(axis=(1, 2))}
    names = tuple(dataclasses.replace(spec, name=name) for name in "ab")
    model = edgeattn.load(make_bundle(inputs=names))
    assert model(RED, RED + np.uint8(1)).to_dict()["confidence"] == pytest.approx([1 / 3] * 3, abs=1e-6)
    with pytest.raises(DataError, match=r"takes 2 frame\(s\) per call \(a, b\), got 1"):
        model(RED)


def test_how_many_frames_it_takes(make_bundle: Any, bundle: Path, backend: Any) -> None:
    assert edgeattn.load(bundle).inputs == 1
    spec = TensorSpec("a", (1, 8, 8, 3), "uint8")
    backend.runner.specs = Specs((spec, dataclasses.replace(spec, name="b")), backend.runner.specs.outputs)
    names = tuple(Tensor(name, (1, 8, 8, 3), "uint8") for name in "ab")
    assert edgeattn.load(make_bundle(inputs=names)).inputs == 2


@dataclasses.dataclass(frozen=True)
class Seen:
    """A result that keeps what it was decoded from."""

    outputs: Any
    views: Any
    latency_ms: float


def test_a_large_frame_goes_in_tiles_and_comes_back_whole(
    make_bundle: Any, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 x 20 in tiles of 8 that share 2: two rows of three calls; the engine doubles what it sees."""

    class Maps:
        name = "maps"

        def decode(self, outputs: Any, views: Any, labels: Any, latency_ms: float) -> Seen:
            return Seen(outputs, views, latency_ms)

    calls = []

    def infer(inputs: Any) -> Any:
        calls.append(inputs["frame"])
        return {"logits": 2.0 * inputs["frame"].transpose(0, 3, 1, 2).astype(np.float32)}

    backend.runner.infer = infer
    path = make_bundle(preprocess=Preprocess(8, 8, "tile", 2))
    monkeypatch.setattr("edgeattn.runtime.model.tasks.find", lambda name: Maps())
    frame = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    result: Any = edgeattn.load(path)(frame)
    assert [call.shape for call in calls] == [(1, 8, 8, 3)] * 6
    np.testing.assert_allclose(result.outputs["logits"], 2.0 * frame.transpose(2, 0, 1)[None], rtol=1e-5)
    assert result.views[0].frame is frame and (result.views[0].matrix == np.eye(3)).all()
    assert result.latency_ms > 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"task": "fly"}, "no task 'fly'"), ({"backend": "abacus"}, "no backend 'abacus'; known backends: ")],
)
def test_parts_this_version_lacks(make_bundle: Any, changes: dict[str, str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        edgeattn.load(make_bundle(**changes))


def test_a_missing_library(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise MissingLibrary("OpenVINO cannot be used.")

    monkeypatch.setattr(backends, "find", refuse)
    with pytest.raises(MissingLibrary):
        edgeattn.load(bundle)


def test_altered_bundle_never_reaches_the_backend(bundle: Path, backend: Any) -> None:
    bundle.write_bytes(bundle.read_bytes().replace(b"blob", b"blab"))
    with pytest.raises(BundleError):
        edgeattn.load(bundle)
    assert backend.folders == []


def test_one_model_per_thread(bundle: Path, backend: Any, cache: Path) -> None:
    """Threads that unpack the same engine at the same time do not disturb each other."""
    problems: list[BaseException] = []

    def work() -> None:
        try:
            edgeattn.load(bundle)(RED)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert sorted(p.name for p in cache.glob("*/*")) == ["engine.blob", "engine.json", "model.onnx"]


def test_whole_call_as_a_runner(bundle: Path, backend: Any) -> None:
    for path in (bundle, bundle.parent):
        runner = runtime.load_runner(path, threads=1)
        assert runner.specs.inputs == (TensorSpec("frame", (1, None, None, 3), "uint8"),)
        assert runner.specs.outputs == (TensorSpec("logits", (1, 3), "float32"),)
        assert runner.infer({"frame": RED[None]})["logits"].tolist() == [[0.0, 10.0, 12.0]]
    runner.close()
    with pytest.raises(ModelError, match="Input 'frame' must have shape"):
        runner.infer({"frame": RED})
    with pytest.raises(ModelError, match="takes the inputs"):
        runner.infer({"image": RED[None]})


@pytest.mark.parametrize(("names", "found"), [((), "none"), (("a", "b"), "a.edgeattn, b.edgeattn")])
def test_a_folder_must_hold_one_bundle(tmp_path: Path, names: tuple[str, ...], found: str) -> None:
    for name in names:
        (tmp_path / f"{name}.edgeattn").touch()
    with pytest.raises(BundleError, match=f"exactly one .* found {found}"):
        runtime.load_runner(tmp_path, threads=1)


def test_through_openvino(onnx_bundle: Path) -> None:
    with edgeattn.load(onnx_bundle, threads=1, self_test=True) as model:
        result: Any = model(RED)
        assert result.class_id.tolist() == [2, 1, 0]
        assert result.confidence[0] == pytest.approx(0.8808, abs=1e-3)
        assert model.self_test().outputs[0].worst_error < 0.1
