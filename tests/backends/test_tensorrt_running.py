"""Running an engine: memory, streams, recordings, through stand-ins for TensorRT and CUDA.

They prove that every tensor has an address of enough memory on the right side, that results are read after the stream
was waited for and not before, and that a recording is made after a first call and replayed afterwards. Nothing ran on a
GPU.
"""

import contextlib
import gc
import sys
import threading
import weakref

import numpy as np
import pytest

from edgeattn.backends import _cuda
from edgeattn.backends import _tensorrt_library as lib
from edgeattn.backends import tensorrt as backend
from edgeattn.backends.tensorrt import BuildSettings
from edgeattn.errors import MachineError, ModelError

fake, world_of = sys.modules["trt_fake"], sys.modules["trt_world"]
cudart, Gpu = sys.modules["cudart_fake"], sys.modules["cudart_fake"].Gpu
Net = world_of.Net

LAYERS = ({"Name": "first", "LayerType": "kgen"}, {"Name": "second", "LayerType": "kgen"})
# A frame of 60 bytes and a scale of 4, in; an image of 240 bytes and a flag of 1, out.
FRAME = Net(
    {"frame": ("uint8", (1, 4, 5, 3)), "scale": ("float32", (1,))},
    {"image": ("float32", (1, 3, 4, 5)), "dark": ("bool", (1,))},
    lambda given: {
        "image": given["frame"].transpose(0, 3, 1, 2) * given["scale"],
        "dark": np.array([given["frame"].mean() < 100]),
    },
    engine_layers=LAYERS,
)
SUM = Net(
    {"a": ("float32", (-1, 2)), "b": ("float32", (-1, 2))},
    {"sum": ("float32", (-1, 2))},
    lambda given: {"sum": given["a"] + given["b"]},
    shapes=lambda given: {"sum": np.broadcast_shapes(given["a"], given["b"])},
    engine_layers=LAYERS,
)
CROP = Net(
    {"frame": ("uint8", (-1,)), "count": ("int64", (1,))},
    {"out": ("uint8", (-1,))},
    lambda given: {"out": given["frame"][: given["count"][0]]},
    shapes=lambda given: {"out": (3,)},
    on_host=frozenset({"count"}),
    engine_layers=LAYERS,
)
NETS = {"frame": FRAME, "sum": SUM, "crop": CROP}
FRAMES = np.arange(60, dtype=np.uint8).reshape(1, 4, 5, 3)
SCALE = np.float32([0.5])


def nets(path):
    return NETS.get(path.read_text())


@pytest.fixture(params=[(version, shared) for version in fake.VERSIONS for shared in (False, True)], ids=str)
def world(request, install_world):
    """Each version, on a GPU with memory of its own and on one that shares the CPU's."""
    version, shared = request.param
    return install_world(version, nets, Gpu(integrated=shared))


@pytest.fixture(params=[False, True], ids=["own memory", "shared memory"])
def either(request, install_world):
    return install_world("10.3.0", nets, Gpu(integrated=request.param))


@pytest.fixture
def opened(tmp_path):
    """opened(net, **settings) -> Engine; closed at the end, when nothing may be left."""
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


def expected(frame=FRAMES, scale=SCALE):
    return frame.transpose(0, 3, 1, 2).astype(np.float32) * scale


def test_fixed_shapes_are_prepared_and_recorded(world, opened):
    cuda = world.cuda
    engine = opened("frame")
    cuda.calls.clear()
    context = engine.context()
    assert context.recorded
    assert context.notes == ()
    order = [name for name in cuda.calls if name.startswith(("cudaStream", "cudaGraph"))]
    assert order == [
        *("cudaStreamCreateWithFlags", "cudaStreamSynchronize", "cudaStreamBeginCapture", "cudaStreamEndCapture"),
        *("cudaGraphInstantiateWithFlags", "cudaGraphDestroy"),
    ]
    cuda.calls.clear()
    cuda.done.clear()
    result = context.infer({"frame": FRAMES, "scale": SCALE})
    assert cuda.calls == ["cudaSetDevice", "cudaGraphLaunch", "cudaStreamSynchronize"]  # no allocation, no address
    np.testing.assert_array_equal(result["image"], expected())
    assert result["dark"].tolist() == [True]
    copies = [] if cuda.gpu.integrated else ["copy 60 to device", "copy 4 to device"]
    back = [] if cuda.gpu.integrated else ["copy 240 to host", "copy 1 to host"]
    assert cuda.done == [f"replayed {what}" for what in (*copies, "execute", *back)]


def test_where_memory_is_shared_nothing_is_copied(either, opened):
    cuda = either.cuda
    engine = opened("frame")
    before = len(cuda.blocks)
    context = engine.context()
    kinds = sorted((block.kind, block.size) for block in cuda.blocks[before:])
    if cuda.gpu.integrated:
        assert kinds == [("mapped", size) for size in (1, 4, 60, 240)]
        assert "cudaMemcpyAsync" not in cuda.calls
        assert "cudaMalloc" not in cuda.calls
    else:
        assert kinds == [(kind, size) for kind in ("device", "pinned") for size in (1, 4, 60, 240)]
    context.close()


def test_copies_can_be_asked_for_where_memory_is_shared(install_world, opened):
    world = install_world("10.3.0", nets, Gpu(integrated=True))
    context = opened("frame").context(shared=False)
    world.cuda.done.clear()
    np.testing.assert_array_equal(context.infer({"frame": FRAMES, "scale": SCALE})["image"], expected())
    assert "replayed copy 60 to device" in world.cuda.done


def test_results_are_read_after_the_stream_was_waited_for(either, opened):
    """The stand-in does the work when it is waited for: results read before would be those of the call before."""
    context = opened("frame").context()
    for value in (1, 2, 3):
        frame = np.full_like(FRAMES, value)
        np.testing.assert_array_equal(context.infer({"frame": frame, "scale": SCALE})["image"], expected(frame))


def test_every_tensor_has_an_address_of_the_gpu(world, opened):
    context = opened("frame").context()
    assert context.recorded
    assert sorted(name for name, _ in world.addresses) == ["dark", "frame", "image", "scale"]
    assert all(world.cuda.on_gpu(address, 1) for _, address in world.addresses)


def test_results_belong_to_the_caller(either, opened):
    context = opened("frame").context()
    first = context.infer({"frame": FRAMES, "scale": SCALE})
    second = context.infer({"frame": 255 - FRAMES, "scale": SCALE})
    np.testing.assert_array_equal(first["image"], expected())
    context.close()
    np.testing.assert_array_equal(second["image"], expected(255 - FRAMES))
    first["image"].fill(0)


def test_several_contexts_run_side_by_side(either, opened):
    engine = opened("frame")
    contexts = [engine.context() for _ in range(3)]
    assert len(either.cuda.streams) == 3
    results = [None] * 3

    def run(index):
        frame = np.full_like(FRAMES, index)
        for _ in range(20):
            results[index] = contexts[index].infer({"frame": frame, "scale": SCALE})["image"]

    threads = [threading.Thread(target=run, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, result in enumerate(results):
        np.testing.assert_array_equal(result, expected(np.full_like(FRAMES, index)))
    contexts[0].close()
    contexts[1].infer({"frame": FRAMES, "scale": SCALE})
    assert len(either.cuda.streams) == 2


def test_an_app_that_has_chosen_another_gpu(install_world, opened, tmp_path):
    """TensorRT builds, opens and runs on the calling thread's GPU, whichever the engine is for."""
    cuda = install_world("10.3.0", nets, Gpu(count=2)).cuda
    for name, inputs in (("frame", {"frame": FRAMES, "scale": SCALE}), ("sum", {"a": ones(2), "b": ones(2)})):
        cuda.cudaSetDevice(1)
        engine = opened(name)
        cuda.cudaSetDevice(1)
        context = engine.context()
        cuda.cudaSetDevice(1)
        context.infer(inputs)
        other = threading.Thread(target=lambda: (cuda.cudaSetDevice(1), context.infer(inputs)))  # noqa: B023
        other.start()
        other.join()
        cuda.cudaSetDevice(1)
        backend.load(tmp_path / name, threads=1).close()


def test_a_call_that_cannot_be_recorded_runs_without(either, opened):
    either.records = False
    engine = opened("frame")
    context = engine.context()
    assert not context.recorded
    assert context.notes[0].startswith(
        "Layers are launched one by one, for the call cannot be recorded: TensorRT 10.3.0"
    )
    assert either.cuda.graphs == either.cuda.executables == {}
    assert either.cuda.last_error == 0  # else TensorRT takes it for its own
    result = context.infer({"frame": FRAMES, "scale": SCALE})
    np.testing.assert_array_equal(result["image"], expected())
    assert "cudaGraphLaunch" not in either.cuda.calls


@pytest.mark.parametrize(
    "function", ["cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiateWithFlags"]
)
def test_a_driver_that_refuses_to_record(either, opened, function):
    engine = opened("frame")
    either.cuda.fail[function] = 900
    context = engine.context()
    assert not context.recorded
    assert "operation not permitted when stream is capturing" in context.notes[0]
    if function == "cudaStreamEndCapture":  # the stand-in's stream is still at it
        for state in either.cuda.streams.values():
            state.capture = None
    either.cuda.fail.clear()
    np.testing.assert_array_equal(context.infer({"frame": FRAMES, "scale": SCALE})["image"], expected())


def test_without_a_recording_on_request(either, opened):
    context = opened("frame").context(graph=False)
    assert (context.recorded, context.notes) == (False, ())
    np.testing.assert_array_equal(context.infer({"frame": FRAMES, "scale": SCALE})["image"], expected())


def ones(count):
    return np.ones((count, 2), np.float32)


def test_dynamic_shapes_are_set_in_each_call_and_grow(world, opened):
    engine = opened("sum")
    assert engine.specs.inputs[0].shape == engine.specs.outputs[0].shape == (None, 2)
    context = engine.context()
    assert not context.recorded
    for count, allocates in ((2, True), (2, False), (5, True), (1, False), (5, False)):
        world.cuda.calls.clear()
        result = context.infer({"a": ones(count), "b": 2 * ones(count)})
        assert result["sum"].tolist() == [[3.0, 3.0]] * count
        assert ("cudaHostAlloc" in world.cuda.calls) is allocates
    assert "cudaStreamBeginCapture" not in world.cuda.calls
    live = [block for block in world.cuda.blocks if block.live]
    assert {block.size for block in live} == {40}  # 5 rows of 2 floats


def test_a_range_of_one_size_is_a_fixed_shape(world, opened):
    shape = ((3, 2), (3, 2), (3, 2))
    engine = opened("sum", profiles={"a": shape, "b": shape})
    assert engine.specs.inputs[0].shape == (3, 2)
    context = engine.context()
    assert context.recorded
    assert context.infer({"a": ones(3), "b": ones(3)})["sum"].tolist() == [[2.0, 2.0]] * 3


def test_shapes_outside_the_range(world, opened):
    context = opened("sum", profiles=dict.fromkeys("ab", ((2, 2), (3, 2), (4, 2)))).context()
    for count in (1, 5):
        with pytest.raises(ModelError, match=rf"'a' must have a shape from \(2, 2\) to \(4, 2\), got \({count}, 2\)"):
            context.infer({"a": ones(count), "b": ones(count)})
    assert context.infer({"a": ones(3), "b": ones(3)})["sum"].shape == (3, 2)


def test_shapes_that_do_not_go_together(world, opened):
    context = opened("sum").context()
    context.infer({"a": ones(2), "b": ones(2)})
    # Without `infer_shapes`, which would have ended the process in some versions: the stand-in sees to that.
    with pytest.raises(ModelError, match="cannot run the model with these shapes: shape mismatch") as caught:
        context.infer({"a": ones(2), "b": ones(3)})
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert context.infer({"a": ones(2), "b": ones(2)})["sum"].tolist() == [[2.0, 2.0]] * 2  # and it goes on


def test_what_tensorrt_reads_on_the_cpu_is_put_there(world, opened):
    """A shape that the graph computes with: TensorRT reads it when the call is given to it, not when it runs."""
    profiles = {"frame": ((1,), (8,), (16,))}
    engine = opened("crop", profiles=profiles)
    context = engine.context()
    assert not context.recorded
    frame = np.arange(8, dtype=np.uint8)
    assert context.infer({"frame": frame, "count": np.array([3])})["out"].tolist() == [0, 1, 2]
    assert context.infer({"frame": 2 * frame, "count": np.array([3])})["out"].tolist() == [0, 2, 4]


def test_results_whose_number_depends_on_values_are_refused(either, opened, monkeypatch):
    found = Net(
        {"x": ("float32", (1, 4))}, {"found": ("int64", (-1, 2))}, lambda given: {},
        shapes=lambda given: {"found": (-1, 2)}, depends_on_values=frozenset({"found"}),
    )  # fmt: skip
    monkeypatch.setitem(NETS, "found", found)
    with pytest.raises(
        ModelError, match=r"'found', \(-1, -1\), depends on the input's values; end the model with a fixed"
    ):
        opened("found").context()


def test_a_type_that_numpy_lacks(either, opened, monkeypatch):
    monkeypatch.setitem(NETS, "bf16", Net({"x": ("bfloat16", (1,))}, {"y": ("float32", (1,))}, lambda given: {}))
    with pytest.raises(ModelError, match="'x' is BF16, which NumPy cannot hold; export the model with float"):
        opened("bf16")


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"frame": FRAMES}, r"takes the inputs \['frame', 'scale'\], got \['frame'\]"),
        ({"frame": FRAMES, "size": SCALE}, r"got \['frame', 'size'\]"),
        ({"frame": FRAMES.astype(np.float32), "scale": SCALE}, "'frame' must be uint8, got float32"),
        ({"frame": FRAMES[0], "scale": SCALE}, r"'frame' must have shape \(1, 4, 5, 3\), got \(4, 5, 3\)"),
        ({"frame": FRAMES, "scale": 0.5}, "'scale' must be a NumPy array, got float"),
    ],
)
def test_a_wrong_input_never_reaches_the_gpu(either, opened, inputs, says):
    context = opened("frame").context()
    either.cuda.calls.clear()
    with pytest.raises(ModelError, match=says):
        context.infer(inputs)
    assert either.cuda.calls == []


def test_strided_inputs_are_copied_as_they_look(either, opened):
    wide = np.zeros((1, 4, 10, 3), np.uint8)
    wide[:, :, ::2] = FRAMES
    result = opened("frame").context().infer({"frame": wide[:, :, ::2], "scale": SCALE})
    np.testing.assert_array_equal(result["image"], expected())


def test_an_engine_that_fails_while_running(world, opened):
    world.runs = False
    with pytest.raises(ModelError, match=r"cannot run the model: Cuda Runtime \(illegal\)"):
        opened("frame").context()


@pytest.mark.parametrize(
    ("name", "answer", "says"),
    [
        ("IExecutionContext.set_tensor_address", False, "cannot take memory for 'a': it gave no reason"),
        ("IExecutionContext.set_input_shape", False, r"cannot take \(2, 2\) as the shape of 'a'"),
        ("IExecutionContext.all_binding_shapes_specified", False, "cannot run the model with these shapes: it gave no"),
        ("IExecutionContext.execute_async_v3", False, "cannot run the model"),
    ],
)
def test_whatever_tensorrt_refuses_is_a_sentence_and_it_goes_on(world, opened, name, answer, says):
    context = opened("sum").context()
    world.answers[name] = answer
    with pytest.raises(ModelError, match=says):
        context.infer({"a": ones(2), "b": ones(2)})
    world.answers.clear()
    assert context.infer({"a": ones(3), "b": ones(3)})["sum"].tolist() == [[2.0, 2.0]] * 3


def test_infer_shapes_would_end_the_process(install_world, opened):
    world = install_world("10.7.0", nets)
    context = opened("sum").context()
    context.infer({"a": ones(2), "b": ones(2)})
    context._held[0].set_input_shape("b", (3, 2))
    with pytest.raises(RuntimeError):
        context._held[0].infer_shapes()
    assert "the process is killed" in world.violations.pop()


def test_memory_is_kept_until_its_successor_is_taken(world, opened):
    """Refused, and the same again: TensorRT still has the address of the old memory, which must not be gone."""
    context = opened("sum").context()
    context.infer({"a": ones(2), "b": ones(2)})
    world.answers["IExecutionContext.set_tensor_address"] = False
    for _ in range(2):
        with pytest.raises(ModelError, match="cannot take memory for 'a'"):
            context.infer({"a": ones(5), "b": ones(5)})
    assert context.infer({"a": ones(2), "b": 2 * ones(2)})["sum"].tolist() == [[3.0, 3.0]] * 2
    world.answers.clear()
    assert context.infer({"a": ones(5), "b": 2 * ones(5)})["sum"].tolist() == [[3.0, 3.0]] * 5


def test_an_error_is_quoted_once_and_not_with_the_next_one(world, opened):
    context = opened("sum").context()
    with pytest.raises(ModelError, match="shape mismatch"):
        context.infer({"a": ones(2), "b": ones(3)})
    world.answers["IExecutionContext.execute_async_v3"] = False
    with pytest.raises(ModelError, match="cannot run the model: it gave no reason"):
        context.infer({"a": ones(2), "b": ones(2)})


def test_each_thread_hears_of_its_own_operation(either):
    """And of what TensorRT says in threads of its own, which might be anybody's."""
    logger, said = lib.logger(either.trt), {}
    started, done = threading.Barrier(3), threading.Barrier(3)

    def operate(name):
        with lib.Operation().heard():
            started.wait()
            either._log(logger, "ERROR", f"{name} failed.")
            done.wait()
            said[name] = lib.said()

    threads = [threading.Thread(target=operate, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    started.wait()
    either._log(logger, "ERROR", "Out of memory.")
    done.wait()
    for thread in threads:
        thread.join()
    assert {name: sorted(text.split("; ")) for name, text in said.items()} == {
        "a": ["Out of memory", "a failed"], "b": ["Out of memory", "b failed"],
    }  # fmt: skip
    with lib.Operation().heard() as outer:
        with lib.Operation().heard() as inner:
            either._log(logger, "ERROR", "Inside.")
        either._log(logger, "ERROR", "Outside.")
    assert (inner.errors, outer.errors) == (["Inside."], ["Outside."])
    either._log(logger, "ERROR", "Nobody asked.")
    assert lib.said() == "it gave no reason"


def test_there_is_one_logger_and_it_stays(either, opened):
    """TensorRT keeps the first one's address: the stand-in notes a second one, and a first one that is gone."""
    first = weakref.ref(lib.logger(either.trt))
    opened("frame").close()
    gc.collect()
    assert first() is lib.logger(either.trt)
    opened("sum").context().infer({"a": ones(2), "b": ones(2)})


def test_no_room_for_a_context_and_no_times(world, opened):
    engine = opened("frame")
    world.answers["IExecutionContext.report_to_profiler"] = False
    with pytest.raises(ModelError, match="cannot time the layers"):
        engine.layer_times({"frame": FRAMES, "scale": SCALE})
    world.answers["ICudaEngine.create_execution_context"] = None
    with pytest.raises(ModelError, match="cannot make room to run the model"):
        engine.context()


def test_a_gpu_that_fails_is_a_sentence_and_everything_is_released(either, opened):
    context = opened("frame").context()
    either.cuda.sticky = 700
    with pytest.raises(MachineError, match="CUDA cannot finish its work: an illegal memory access was encountered "):
        context.infer({"frame": FRAMES, "scale": SCALE})
    context.close()
    assert either.cuda.streams == {}


@pytest.mark.parametrize("function", ["cudaHostAlloc", "cudaMalloc", "cudaStreamCreateWithFlags"])
def test_no_memory_left(install_world, opened, function):
    world = install_world("10.3.0", nets)
    engine = opened("frame")
    world.cuda.fail[function] = 2
    with pytest.raises(MachineError, match=r"out of memory \(cudaErrorMemoryAllocation, 2\); close other programs"):
        engine.context()
    engine.close()
    assert world.cuda.leaks() == []


def test_a_context_that_nobody_closes_is_released_with_its_object(either, opened):
    engine = opened("frame")
    engine.context()
    gc.collect()
    assert either.cuda.leaks() == []
    context = engine.context()
    context.infer({"frame": FRAMES, "scale": SCALE})
    del context
    gc.collect()
    assert either.cuda.leaks() == []


def test_a_context_is_released_from_its_recording_to_its_stream(either, opened):
    context = opened("frame").context()
    either.cuda.calls.clear()
    either.events.clear()
    context.close()
    calls = either.cuda.calls
    free = {"cudaFreeHost"} if either.cuda.gpu.integrated else {"cudaFree", "cudaFreeHost"}
    assert calls[:2] == ["cudaGraphExecDestroy", "cudaStreamSynchronize"]
    assert set(calls[2:-1]) == free
    assert calls[-1] == "cudaStreamDestroy"
    assert either.events == ["context released"]


def test_a_time_for_each_layer(world, opened):
    engine = opened("frame")
    assert engine.layer_times({"frame": FRAMES, "scale": SCALE}, calls=3) == {"first": 0.25, "second": 0.5}
    assert world.cuda.leaks() == []


def test_what_cuda_is_declared_as_is_what_its_headers_say(world):
    _cuda.runtime()
    assert world.cuda.wrong_signatures() == []


def test_the_stand_in_finds_what_it_is_for(install_world):
    """A few mistakes, made on purpose with the stand-in itself."""
    from edgeattn.backends._cuda_memory import Buffer, Stream

    world = install_world("10.3.0", nets)
    cuda, library = _cuda.runtime(), world.cuda
    stream, buffer = Stream(cuda), Buffer(cuda, 16, shared=False)
    buffer.view((16,), np.dtype(np.uint8)).fill(7)
    buffer.to_device(16, stream)
    view = buffer.view((16,), np.dtype(np.uint8))
    buffer.view((16,), np.dtype(np.uint8)).fill(9)
    buffer.to_host(16, stream)
    assert view[0] == 9  # nothing has been copied yet
    stream.synchronize()
    mistakes = [
        lambda: buffer.to_device(17, stream),
        lambda: library.cudaMemcpyAsync(buffer.host_address, buffer.host_address, 4, 1, stream.handle),
        lambda: library.cudaGraphLaunch(0x4000, stream.handle),
        lambda: library.cudaStreamSynchronize(0x4000),
        lambda: library.cudaHostGetDevicePointer(cudart.ctypes.byref(cudart.c_void_p()), buffer.host_address, 0),
        lambda: (buffer.to_device(4, stream), buffer.close()),
        lambda: (stream.synchronize(), buffer.close(), buffer.to_device(4, stream)),
        buffer.close,
    ]
    for mistake in mistakes:
        found = len(library.violations)
        with contextlib.suppress(MachineError):
            mistake()
        assert len(library.violations) > found
    assert np.all(view == 0xDD)
    stream.close()
    library.violations.clear()
    for block in library.blocks:
        block.live = False
