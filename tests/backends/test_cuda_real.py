"""Buffers, streams and recordings on a true GPU. PyTorch stands where the engine would: it works on the addresses and
in the stream that the backend gives it.

TensorRT itself is the strict stand-in of the other tests (`trt_world.py`), so that the whole backend runs, but what it
enqueues are kernels, CUDA is NVIDIA's own, and memory is the GPU's. Skipped, with the reason, where torch finds no GPU.
What this cannot show is what TensorRT does: its layers, its memory, its plans (`test_tensorrt_real.py` would).
"""

import sys
import threading

import numpy as np
import pytest

from edgeattn.backends import _cuda
from edgeattn.backends import tensorrt as backend
from edgeattn.backends._cuda_memory import Buffer, Stream
from edgeattn.backends.tensorrt import BuildSettings
from edgeattn.errors import MachineError, MissingLibrary

world_of = sys.modules["trt_world"]
Net = world_of.Net

torch = pytest.importorskip("torch", reason="PyTorch stands for the engine here, and is not installed")
if not torch.cuda.is_available():
    pytest.skip("torch finds no GPU here", allow_module_level=True)
try:
    _cuda.runtime()
except MissingLibrary as error:
    pytest.skip(str(error), allow_module_level=True)

pytestmark = pytest.mark.gpu


class OnGpu(world_of.World):
    """Its networks' `compute` is given tensors at the addresses it was told, and writes into them what is enqueued."""

    stop_recording = None  # a call that CUDA forbids while it records

    def context__execute_async_v3(self, context, stream_handle):
        state = context._state
        net = state["engine"]._state["net"]
        shapes = {**state["shapes"], **self._outputs(context)}
        kinds = {name: np.dtype(kind) for name, (kind, _) in {**net.inputs, **net.outputs}.items()}
        with torch.cuda.stream(torch.cuda.ExternalStream(stream_handle)):
            if self.stop_recording is not None and torch.cuda.is_current_stream_capturing():
                self.stop_recording()
            net.compute({name: at(state["addresses"][name], shapes[name], kind) for name, kind in kinds.items()})
        return True


def at(address, shape, dtype):
    """A tensor of the GPU over memory that is not torch's."""
    described = {"shape": shape, "typestr": dtype.str, "data": (address, False), "strides": None, "version": 3}
    return torch.as_tensor(type("Memory", (), {"__cuda_array_interface__": described})(), device="cuda:0")


def affine(t):
    """Twenty kernels, none of which allocates; half-way the output holds something else, which nobody may see."""
    torch.mul(t["x"], 2, out=t["y"])
    for _ in range(9):
        t["y"].add_(t["x"])
        t["y"].sub_(1)
    t["y"].add_(9)


def product(t):
    """Attention scores by cuBLAS, and softmax."""
    torch.matmul(t["q"], t["k"], out=t["weights"])
    torch.softmax(t["weights"], dim=-1, out=t["weights"])


NETS = {
    "affine": Net({"x": ("float32", (4, 1000))}, {"y": ("float32", (4, 1000))}, affine),
    "frame": Net(
        {"frame": ("uint8", (1, 64, 48, 3))},
        {"image": ("float16", (1, 64, 48, 3)), "one": ("uint8", (1,))},
        lambda t: (t["image"].copy_(t["frame"]), t["one"].copy_(t["frame"].view(-1)[-1:])),
    ),
    "any": Net(
        {"x": ("float32", (-1, 3))}, {"y": ("float32", (-1, 3))}, affine, shapes=lambda given: {"y": given["x"]}
    ),
    "product": Net(
        {"q": ("float32", (256, 64)), "k": ("float32", (64, 256))}, {"weights": ("float32", (256, 256))}, product
    ),
}


@pytest.fixture(params=["10.3.0", "11.4.0"])
def world(request, monkeypatch, tmp_path):
    made = OnGpu(request.param, lambda path: NETS.get(path.read_text()))
    monkeypatch.setitem(sys.modules, "tensorrt", made.trt)
    monkeypatch.setenv("EDGEATTN_CACHE", str(tmp_path / "cache"))
    yield made
    assert made.violations == []


@pytest.fixture
def opened(world, tmp_path):
    engines = []

    def make(name, **settings):
        model = tmp_path / f"{name}.onnx"
        model.write_text(name)
        backend.build(model, tmp_path / name, BuildSettings(**settings))
        engines.append(backend.open_engine(tmp_path / name))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def values(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def test_the_gpu_is_described_as_torch_describes_it():
    cuda, said = _cuda.runtime(), torch.cuda.get_device_properties(0)
    assert cuda.device_name() == said.name
    assert cuda.compute_capability() == (said.major, said.minor)
    assert cuda.multiprocessors() == said.multi_processor_count
    assert cuda.total_memory() == torch.cuda.mem_get_info(0)[1]
    assert cuda.shares_memory() == bool(said.is_integrated)


@pytest.mark.parametrize("shared", [False, True], ids=["copied", "one memory"])
@pytest.mark.parametrize("size", [0, 1, 4097, 64 << 20])
def test_bytes_go_there_and_come_back(shared, size):
    """Through the GPU: it adds 1 to each."""
    cuda = _cuda.runtime()
    stream, buffer = Stream(cuda), Buffer(cuda, size, shared=shared)
    view = buffer.view((size,), np.dtype(np.uint8))
    view[...] = sent = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    buffer.to_device(size, stream)
    if size:
        with torch.cuda.stream(torch.cuda.ExternalStream(stream.handle)):
            at(buffer.address, (size,), np.dtype(np.uint8)).add_(1)
    buffer.to_host(size, stream)
    stream.synchronize()
    np.testing.assert_array_equal(view, sent + np.uint8(1))
    stream.close()
    buffer.close()


@pytest.mark.parametrize("shared", [False, True], ids=["copied", "one memory"])
@pytest.mark.parametrize("graph", [False, True], ids=["one by one", "recorded"])
def test_each_call_gives_its_own_result(opened, shared, graph):
    context = opened("affine").context(graph=graph, shared=shared)
    assert (context.recorded, context.notes) == (graph, ())
    kept = []
    for seed in range(50):
        x = values((4, 1000), seed)
        kept.append((context.infer({"x": x})["y"], 11 * x))
    for got, want in kept:  # also those of earlier calls: results are nobody's buffer
        np.testing.assert_allclose(got, want, atol=1e-4)


@pytest.mark.parametrize("shared", [False, True], ids=["copied", "one memory"])
def test_frames_in_halves_out(opened, shared):
    context = opened("frame").context(shared=shared)
    assert context.recorded
    frame = np.random.default_rng(1).integers(0, 256, (1, 64, 48, 3), np.uint8)
    got = context.infer({"frame": frame})
    assert got["image"].dtype == np.float16
    np.testing.assert_array_equal(got["image"], frame.astype(np.float16))
    np.testing.assert_array_equal(got["one"], frame.reshape(-1)[-1:])


def test_a_library_of_kernels_is_recorded_too(opened):
    engine = opened("product")
    q, k = values((256, 64)), values((64, 256), 1)
    recorded, launched = (engine.context(graph=graph) for graph in (True, False))
    first, second = (context.infer({"q": q, "k": k})["weights"] for context in (recorded, launched))
    assert recorded.recorded
    assert np.array_equal(first, second)
    scores = np.exp(q.astype(np.float64) @ k - (q @ k).max(axis=1, keepdims=True))
    np.testing.assert_allclose(first, scores / scores.sum(axis=1, keepdims=True), atol=2e-3)  # TF32 has 11 bits


def test_shapes_that_change(opened):
    context = opened("any", profiles={"x": ((1, 3), (8, 3), (4000, 3))}).context()
    assert not context.recorded
    for rows in (1, 1000, 7, 1000, 3000, 2):
        x = values((rows, 3), rows)
        np.testing.assert_allclose(context.infer({"x": x})["y"], 11 * x, atol=1e-4)


def test_contexts_in_threads(opened):
    """Each has a stream of its own and records while others run."""
    engine = opened("affine")
    wrong = []

    def run(seed):
        context = engine.context()
        for call in range(200):
            x = values((4, 1000), 1000 * seed + call)
            if not np.allclose(context.infer({"x": x})["y"], 11 * x, atol=1e-4) or not context.recorded:
                wrong.append((seed, call))

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_call_that_cannot_be_recorded_is_launched_one_by_one(world, opened):
    """The error is CUDA's own: waiting for a stream that is being recorded."""

    def forbidden():
        _cuda.runtime().call("wait", "cudaStreamSynchronize", torch.cuda.current_stream().cuda_stream)

    world.stop_recording = forbidden
    context = opened("affine").context()
    assert not context.recorded
    (note,) = context.notes
    assert "Layers are launched one by one" in note
    assert "capturing" in note
    x = values((4, 1000))
    np.testing.assert_allclose(context.infer({"x": x})["y"], 11 * x, atol=1e-4)  # nothing of the error is left
    torch.cuda.synchronize()


def test_more_memory_than_there_is_is_one_sentence():
    cuda = _cuda.runtime()
    with pytest.raises(MachineError, match=r"out of memory \(cudaErrorMemoryAllocation, 2\); close other programs"):
        cuda.call("allocate memory", "cudaMalloc", _cuda.byref(_cuda.c_void_p()), 1 << 50)
    Buffer(cuda, 1 << 20, shared=False).close()  # and the next one is not refused for it


def test_nothing_is_left_behind(opened):
    engine = opened("product")
    inputs = {"q": values((256, 64)), "k": values((64, 256), 1)}

    def used():
        torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info(0)
        return total - free

    def several(count):
        for _ in range(count):
            context = engine.context(shared=False)
            context.infer(inputs)
            context.close()

    several(20)  # cuBLAS has a workspace for each of the streams that torch hands out
    torch._C._cuda_clearCublasWorkspaces()
    before = used()
    several(100)
    torch._C._cuda_clearCublasWorkspaces()
    assert used() - before < 16 << 20  # 100 unreleased ones would be 100 streams, recordings and 38 MB of buffers
