"""Run the backend on NVIDIA's own Python bindings of one version, over the scripted objects of stub.c.

    python drive.py BINDINGS STUBS     prints what came of it, as JSON

BINDINGS is a folder with `tensorrt_bindings`, STUBS one with the compiled libraries. What a method answers is written
below under a name; which place in which table it has is learned by calling it once. So this shows that the bindings
take what the backend gives them, and what the backend makes of their answers; nothing is built and nothing is computed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
BINDINGS, STUBS = map(Path, sys.argv[1:3])
(LIBRARY,) = STUBS.glob("libnvinfer.so.*")
stub: Any = ctypes.CDLL(str(LIBRARY), mode=ctypes.RTLD_GLOBAL)
for empty in {*STUBS.glob("*.so.*")} - {LIBRARY}:
    ctypes.CDLL(str(empty), mode=ctypes.RTLD_GLOBAL)
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parent), str(BINDINGS)]
import tensorrt_bindings as trt  # noqa: E402

sys.modules["tensorrt"] = trt
import cudart_fake  # noqa: E402

from edgeattn.backends import _cuda  # noqa: E402
from edgeattn.backends import tensorrt as backend  # noqa: E402
from edgeattn.backends.tensorrt import BuildSettings  # noqa: E402
from edgeattn.errors import EdgeattnError  # noqa: E402

cuda = cudart_fake.FakeCudart()
_cuda._open = lambda path: cuda
for name in ("object", "implementation", "given_logger", "call_back"):
    getattr(stub, name).restype = ctypes.c_uint64
stub.call_back.argtypes = [ctypes.c_uint64, ctypes.c_int, *[ctypes.c_void_p] * 3]
stub.call_back_time.argtypes = [ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p, ctypes.c_float]

_kept: list[Any] = []  # what C has the address of
answers: dict[tuple[int, int], Callable[[int, int, int], int]] = {}  # by kind of object and place in its table


def text(said: str | bytes) -> int:
    _kept.append(ctypes.create_string_buffer(said.encode() if isinstance(said, str) else said))
    return ctypes.addressof(_kept[-1])


def dims(*sizes: int, count: int | None = None) -> int:
    _kept.append((ctypes.c_int64 * 9)(len(sizes) if count is None else count, *sizes))
    return ctypes.addressof(_kept[-1])


def read(address: int) -> str:
    return (ctypes.cast(address, ctypes.c_char_p).value or b"").decode()


@ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_int, ctypes.c_int, *[ctypes.c_uint64] * 3)
def hook(kind: int, slot: int, a: int, b: int, c: int) -> int:
    return answers.get((kind, slot), lambda a, b, c: 0)(a, b, c)


stub.set_hook(hook)


def answer(call: Callable[[], Any], given: Callable[[int, int, int], int] | int) -> None:
    """From now on the C++ method that `call` calls answers with `given`."""
    with contextlib.suppress(RuntimeError, TypeError, ValueError):  # nothing, where the binding wants something
        call()
    key = ctypes.c_int.in_dll(stub, "last_kind").value, ctypes.c_int.in_dll(stub, "last_slot").value
    answers[key] = given if callable(given) else lambda a, b, c: given


def made(call: Callable[[], Any], kind: int) -> Any:
    """The object of `kind` that `call` gives from now on."""
    answer(call, stub.object(kind))
    return call()


BUILDER, RUNTIME, PARSER, NETWORK, CONFIG, PROFILE, ERROR, CACHE, ENGINE, CONTEXT, INSPECTOR, PLAN, TIMES, TENSOR = (
    range(14)
)
# Where the tables of what Python makes begin with the methods meant; before 11 logger and profiler have no others.
MONITOR = 4
LOGGER = PROFILER = 4 if trt.__version__.startswith("11") else 0
plan = (0x74727466).to_bytes(4, "little") + bytes(20) + bytes(map(int, trt.__version__.split(".")[:3])) + b"\0plan"
INFORMATION = {"Layers": [{"Name": "double", "LayerType": "kgen", "Inputs": [], "Outputs": []}]}
BATCH: tuple[int, ...] = (1, 3)
shapes, addresses, seen = {"x": BATCH, "y": BATCH}, {}, {}
parses, fits = [1], [True]


def set_shape(name: int, given: int, c: int) -> int:
    sizes = ctypes.cast(given + 8, ctypes.POINTER(ctypes.c_int64))
    shapes["y"] = shapes["x"] = tuple(sizes[i] for i in range(ctypes.cast(given, ctypes.POINTER(ctypes.c_int32))[0]))
    return 1


def tell_address(name: int, address: int, c: int) -> int:
    addresses[read(name)] = address
    return 1


def execute(stream: int, b: int, c: int) -> int:
    """y = 2x, when the stream gets there."""
    size = 4 * int(np.prod(shapes["x"]))

    def run() -> None:
        x, y = (np.frombuffer(cuda.on_gpu(addresses[name], size), np.float32) for name in "xy")
        y[:] = 2 * x

    cuda.enqueue(stream, "execute", run)
    return 1


def keep(name: str) -> Callable[[int, int, int], int]:
    def kept(address: int, b: int, c: int) -> int:
        seen[name] = address
        return 0

    return kept


def build(a: int, b: int, c: int) -> int:
    """Tells of a phase of two steps."""
    stub.call_back(stub.given_logger(), LOGGER, int(trt.ILogger.WARNING), text("As told."), None)
    phase = text("Building")
    stub.call_back(seen["monitor"], MONITOR, phase, None, 2)
    seen["goes on"] = stub.call_back(seen["monitor"], MONITOR + 1, phase, 0, None) & 0xFF
    stub.call_back(seen["monitor"], MONITOR + 2, phase, None, None)
    return int(stub.object(PLAN))


def report(a: int, b: int, c: int) -> int:
    stub.call_back_time(seen["profiler"], PROFILER, b"double", 0.5)
    return 1


def memory(held: Any, content: bytes) -> None:
    answer(lambda: bytes(held), text(content))  # before it is known to have any bytes to be read
    answer(lambda: held.nbytes, len(content))
    answer(lambda: held.dtype, int(trt.DataType.INT8))


def script() -> None:
    """What every method that the backend calls answers."""
    log = trt.Logger()
    builder, runtime = trt.Builder(log), trt.Runtime(log)
    network = made(lambda: builder.create_network(0), NETWORK)
    config = made(builder.create_builder_config, CONFIG)
    for count, number in (("num_inputs", 1), ("num_outputs", 1), ("num_layers", 0)):
        answer(lambda count=count: getattr(network, count), number)
    tensor = made(lambda: network.get_input(0), TENSOR)
    answer(lambda: tensor.name, text("x"))
    answer(lambda: tensor.shape, lambda a, b, c: dims(*shapes["x"]))

    parser = trt.OnnxParser(network, log)
    answer(lambda: parser.parse_from_file("x"), lambda a, b, c: parses[0])
    answer(lambda: parser.num_errors, 1)
    answer(lambda: parser.get_error(0), stub.implementation(ERROR))
    error = parser.get_error(0)
    answer(error.code, int(trt.ErrorCode.UNSUPPORTED_NODE))
    for method, said in (("desc", "no importer"), ("node_name", "/head/Attention"), ("node_operator", "Attention")):
        answer(getattr(error, method), text(said))

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

    class Profiler(trt.IProfiler):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)

    answer(lambda: setattr(config, "progress_monitor", Monitor()), keep("monitor"))
    cache = made(lambda: config.create_timing_cache(b""), CACHE)
    answer(lambda: config.set_timing_cache(cache, ignore_mismatch=False), 1)
    answer(config.get_timing_cache, stub.object(CACHE))
    memory(made(cache.serialize, TIMES), b"times")
    memory(made(lambda: builder.build_serialized_network(network, config), PLAN), plan)
    answer(lambda: builder.build_serialized_network(network, config), build)

    engine = made(lambda: runtime.deserialize_cuda_engine(plan), ENGINE)
    answer(lambda: engine.num_io_tensors, 2)
    answer(lambda: engine.get_tensor_name(0), lambda index, b, c: text("xy"[index & 1]))
    modes = {"x": int(trt.TensorIOMode.INPUT), "y": int(trt.TensorIOMode.OUTPUT)}
    answer(lambda: engine.get_tensor_mode("x"), lambda name, b, c: modes[read(name)])
    answer(lambda: engine.get_tensor_shape("x"), dims(*BATCH))
    inspector = made(engine.create_engine_inspector, INSPECTOR)
    kind = trt.LayerInformationFormat.JSON
    answer(lambda: inspector.get_engine_information(kind), text(json.dumps(INFORMATION)))

    context = made(engine.create_execution_context, CONTEXT)
    answer(lambda: context.set_input_shape("x", BATCH), set_shape)
    answer(lambda: context.all_binding_shapes_specified, 1)
    answer(lambda: context.get_tensor_shape("x"), lambda a, b, c: dims(*shapes["y"]) if fits[0] else dims(count=-1))
    answer(lambda: context.set_tensor_address("x", 4096), tell_address)
    answer(lambda: context.execute_async_v3(1), execute)
    answer(lambda: setattr(context, "profiler", Profiler()), keep("profiler"))
    answer(context.report_to_profiler, report)
    # Not called by the backend, for this is where 10.3 and 10.7 end the process.
    answer(lambda: context.engine, stub.object(ENGINE))
    answer(context.infer_shapes, lambda a, b, c: 0 if fits[0] else -1)


def refused(call: Callable[[], Any]) -> str:
    try:
        call()
    except EdgeattnError as error:
        return str(error)
    return "not refused"


def main() -> None:
    script()
    shapes["x"] = shapes["y"] = BATCH
    folder = STUBS / "work"
    folder.mkdir()
    (folder / "model.onnx").touch()
    model, settings = folder / "model.onnx", BuildSettings(timing_cache=folder / "times")
    backend.build(model, folder / "out", settings)
    engine = backend.open_engine(folder / "out")
    x = np.array([[1, 2, 3]], np.float32)
    came = {
        "version": backend.fingerprint()["tensorrt"],
        "warnings": json.loads((folder / "out" / "engine.json").read_text())["warnings"],
        "goes_on": seen["goes on"],
        "times": (folder / "times").read_bytes().decode(),
        "executed": engine.information(),
        "layer_times": engine.layer_times({"x": x}),
        "y": engine.context().infer({"x": x})["y"].tolist(),
    }
    fits[0] = False
    came["shape"] = refused(engine.context)
    engine.close()
    parses[0] = 0
    came["parser"] = refused(lambda: backend.build(model, folder / "other", settings))
    print(json.dumps({**came, "violations": cuda.violations, "leaks": cuda.leaks()}))


main()
