"""What the strict stand-ins for TensorRT and CUDA answer: a small world in which networks are built and run.

A network is described by a `Net`, found by the path of the ONNX file; its results are computed in NumPy, from the bytes
at the addresses that the backend gave, at the time when the stream gets there. So a wrong address, size, order or type
gives a wrong result or a violation. It behaves as NVIDIA documents TensorRT, and fails where TensorRT would; that it
does so in every respect is not known, and nothing here says anything about speed or accuracy.
"""

from __future__ import annotations

import hashlib
import json
import sys
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cudart_fake
import numpy as np
import trt_fake

TYPES = {"float32": "FLOAT", "float16": "HALF", "int8": "INT8", "uint8": "UINT8", "int32": "INT32", "int64": "INT64"}
TYPES |= {"bool": "BOOL", "bfloat16": "BF16"}
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class LayerOfNet:
    """A layer of a network: `values` are its class's own properties; shapes of its inputs and its output, None where
    TensorRT does not know one."""

    kind: str
    name: str
    inputs: tuple[tuple[int, ...] | None, ...]
    output: tuple[int, ...]
    values: dict[str, Any] = field(default_factory=dict)
    on_dla: bool = True


@dataclass(frozen=True)
class Net:
    """Inputs and outputs: name -> (NumPy's name of the type, shape; -1 is dynamic)."""

    inputs: dict[str, tuple[str, tuple[int, ...]]]
    outputs: dict[str, tuple[str, tuple[int, ...]]]
    compute: Callable[[Arrays], Arrays]
    shapes: Callable[[dict[str, tuple[int, ...]]], dict[str, tuple[int, ...]]] | None = None
    layers: tuple[LayerOfNet, ...] = ()
    engine_layers: tuple[dict[str, Any], ...] = ()
    on_host: frozenset[str] = frozenset()
    depends_on_values: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ParserError:
    code: str
    desc: str
    name: str = ""
    operator: str = ""


class Refused(Exception):
    """Raised in place of a network: what the parser has against it."""

    def __init__(self, errors: list[ParserError]) -> None:
        super().__init__(errors)
        self.errors = errors


class World:
    """One machine with one version of TensorRT. Fields are what a test may change before the backend is called.

    `violations` lists what must not happen; `events` what was made and released, in order.
    """

    def __init__(self, version: str, nets: Callable[[Path], Net | None], gpu: cudart_fake.Gpu | None = None) -> None:
        self.version = version
        self.cuda = cudart_fake.FakeCudart(gpu)
        self.events: list[str] = []
        self.violations = self.cuda.violations
        self.parser_errors: list[ParserError] = []
        self.build_says: list[tuple[str, str]] = []
        self.build_fails = False
        self.while_building: Callable[[Any], None] = lambda monitor: None
        self.phases: list[tuple[str, str | None, int]] = [
            ("Building Engine", None, 3),
            ("Tactics", "Building Engine", 4),
        ]
        self.dla_cores = 0
        self.starts = True
        self.opens = True
        self.timed: set[str] = {"conv"}
        self.records = True
        self.runs = True
        self.answers: dict[str, Any] = {}  # "Class.method" -> what it returns, or raises, instead
        self._first_logger: Any = None
        self.host_code: list[bool] = []  # of plans that were opened with their code allowed
        self.addresses: list[tuple[str, int]] = []  # of tensors, as they were told
        self.configs: list[dict[str, Any]] = []
        self._nets = nets
        self._plans: dict[str, tuple[Net, dict[str, Any]]] = {}
        self.trt = trt_fake.make(version, self._hooks())

    # Small helpers.

    def _new(self, name: str, /, **state: Any) -> Any:
        return trt_fake.instance(self.trt, name, **state)

    def _dims(self, sizes: Iterable[int] | None) -> Any:
        """None: the -1 dimensions that are TensorRT's word for an error."""
        return self._new("Dims", sizes=None if sizes is None else tuple(int(size) for size in sizes))

    def _log(self, log: Any, severity: str, text: str) -> None:
        log.log(getattr(self.trt.ILogger.Severity, severity), text)

    def _given(self, log: Any) -> None:
        """TensorRT keeps the address of the first logger that it is given, and tells it of what all share."""
        first = self._first_logger and self._first_logger()
        if self._first_logger is None:
            self._first_logger = weakref.ref(log)
        elif first is None:
            self.violations.append("TensorRT would call its first logger, which is gone")
        elif first is not log:
            self.violations.append("there are two loggers; what all share is told to the first one alone")

    def origin(self) -> str:
        """What a timing cache belongs to."""
        return f"{self.version} {self.cuda.gpu.name}"

    def release(self) -> tuple[int, ...]:
        return tuple(int(number) for number in self.trt.__version__.split(".")[:3])

    def plan(self, net: Net, config: dict[str, Any]) -> bytes:
        key = hashlib.sha256(repr((net, sorted(config), len(self._plans))).encode()).hexdigest()
        self._plans[key] = (net, config)
        head = (0x74727466).to_bytes(4, "little") + bytes(20) + bytes((*self.release(), 9))
        return head + key.encode()

    def _hooks(self) -> trt_fake.Hooks:
        prefixes = {
            **{
                "builder": "Builder",
                "config": "IBuilderConfig",
                "network": "INetworkDefinition",
                "parser": "OnnxParser",
            },
            **{"error": "ParserError", "runtime": "Runtime", "engine": "ICudaEngine", "context": "IExecutionContext"},
            **{
                "cache": "ITimingCache",
                "profile": "IOptimizationProfile",
                "inspector": "EngineInspector",
                "dims": "Dims",
            },
            **{"tensor": "ITensor", "layer": "ILayer"},
        }
        found: trt_fake.Hooks = {}
        for method in dir(self):
            head, _, rest = method.partition("__")
            if head in prefixes and rest:
                special = rest.removeprefix("dunder_")
                name = f"{prefixes[head]}.{rest if special == rest else f'__{special}__'}"
                found[name] = self._answering(name, getattr(self, method))
        return found

    def _answering(self, name: str, hook: Callable[..., Any]) -> Callable[..., Any]:
        def answer(*subject: Any, **bound: Any) -> Any:
            if isinstance(given := self.answers.get(name), Exception):
                raise given
            return self.answers[name] if name in self.answers else hook(*subject, **bound)

        return answer

    # Dims, tensors, layers. A method `engine__get_tensor_name` answers `ICudaEngine.get_tensor_name`.

    def dims__dunder_init(self, dims: Any, shape: Any = ()) -> None:
        dims._state["sizes"] = tuple(shape)

    def dims__dunder_len(self, dims: Any) -> int:
        return -1 if dims._state["sizes"] is None else len(dims._state["sizes"])

    def dims__dunder_getitem(self, dims: Any, arg0: Any) -> Any:
        return (dims._state["sizes"] or ())[arg0]

    def tensor__name(self, tensor: Any) -> str:
        return tensor._state["name"]

    def tensor__shape(self, tensor: Any) -> Any:
        if tensor._state["shape"] is None and self.release() >= (11, 4):
            raise RuntimeError("Could not get tensor shape.")
        return self._dims(tensor._state["shape"])

    def layer__name(self, layer: Any) -> str:
        return layer._state["layer"].name

    def layer__metadata(self, layer: Any) -> str:
        return f"[ONNX Layer: {layer._state['layer'].name}]"

    def layer__type(self, layer: Any) -> Any:
        return getattr(self.trt.LayerType, layer._state["layer"].kind)

    def layer__num_inputs(self, layer: Any) -> int:
        return len(layer._state["layer"].inputs)

    def layer__get_input(self, layer: Any, index: int) -> Any:
        return self._new("ITensor", name="", shape=layer._state["layer"].inputs[index])

    def layer__get_output(self, layer: Any, index: int) -> Any:
        return self._new("ITensor", name="", shape=layer._state["layer"].output)

    # Building.

    def builder__dunder_init(self, builder: Any, logger: Any) -> None:
        self._given(logger)
        if self.cuda.device:
            self.violations.append(f"a builder for GPU {self.cuda.device} was made, the engine is for 0")
        if not self.starts:
            self._log(logger, "ERROR", "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        builder._state["log"] = logger

    def builder__create_network(self, builder: Any, flags: int = 0) -> Any:
        wanted = 1 << int(self.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        if flags != wanted:
            self.violations.append(f"a network was asked for with flags {flags}, strongly typed is {wanted}")
        return self._new("INetworkDefinition", net=None)

    def builder__create_builder_config(self, builder: Any) -> Any:
        config = self._new("IBuilderConfig", flags={"TF32"}, pools={}, cache=None, profiles=[])
        config._state.update(builder_optimization_level=3, progress_monitor=None, log=builder._state["log"])
        return config

    def builder__create_optimization_profile(self, builder: Any) -> Any:
        return self._new("IOptimizationProfile", shapes={})

    def builder__num_DLA_cores(self, builder: Any) -> int:  # noqa: N802 - as TensorRT calls it
        return self.dla_cores

    def builder__build_serialized_network(self, builder: Any, network: Any, config: Any) -> Any:
        net, state, log = network._state["net"], config._state, builder._state["log"]
        if net is None:
            self.violations.append("an empty network was built")
        for severity, text in self.build_says:
            self._log(log, severity, text)
        if not self._profiles_fit(net, state):
            self._log(log, "ERROR", "Network has dynamic inputs, but no optimization profile has been defined.")
            return None
        if not self._told(state["progress_monitor"]):
            self._log(log, "ERROR", "Build cancelled by the progress monitor.")
            return None
        if self.build_fails:
            return None
        if state["cache"] is not None:
            state["cache"]._state["timed"] |= self.timed
        kept = ("builder_optimization_level", "profiling_verbosity", "avg_timing_iterations", "default_device_type")
        config = {key: state[key] for key in (*kept, "DLA_core") if key in state}
        shapes = state["profiles"][0]._state["shapes"] if state["profiles"] else {}
        config |= {"flags": sorted(state["flags"]), "pools": state["pools"], "profile": shapes}
        self.configs.append(config)
        return self.trt.IHostMemory(self.plan(net, config))

    def _profiles_fit(self, net: Net, state: dict[str, Any]) -> bool:
        shapes = state["profiles"][0]._state["shapes"] if state["profiles"] else {}
        return all(-1 not in shape or name in shapes for name, (_, shape) in net.inputs.items())

    def _told(self, monitor: Any) -> bool:
        """Runs through the phases, the inner one within the outer; False when the monitor says stop."""
        if monitor is None:
            return True
        going = True
        for name, parent, steps in self.phases:
            monitor.phase_start(name, parent, steps)
        for name, _, steps in reversed(self.phases):
            for step in range(steps):
                self.while_building(monitor)
                going = going and monitor.step_complete(name, step)
            monitor.phase_finish(name)
        return going

    def network__num_layers(self, network: Any) -> int:
        return len(network._state["net"].layers)

    def network__get_layer(self, network: Any, index: int) -> Any:
        described = network._state["net"].layers[index]
        return self._new("ILayer", layer=described, **described.values)

    def network__num_inputs(self, network: Any) -> int:
        return len(network._state["net"].inputs)

    def network__num_outputs(self, network: Any) -> int:
        return len(network._state["net"].outputs)

    def network__get_input(self, network: Any, index: int) -> Any:
        name, (_, shape) = list(network._state["net"].inputs.items())[index]
        return self._new("ITensor", name=name, shape=shape)

    def parser__dunder_init(self, parser: Any, network: Any, logger: Any) -> None:
        parser._state.update(network=network, log=logger)

    def parser__parse_from_file(self, parser: Any, model: str) -> bool:
        errors, net = list(self.parser_errors), None
        if not errors:
            try:
                net = self._nets(Path(model))
            except Refused as refused:
                errors = refused.errors
        if net is None:
            errors = errors or [ParserError("MODEL_DESERIALIZE_FAILED", "Failed to parse the ONNX model.")]
            for error in errors:
                self._log(parser._state["log"], "ERROR", f"ModelImporter.cpp:739: {error.desc}")
        parser._state["errors"], parser._state["network"]._state["net"] = errors, net
        return net is not None

    def parser__num_errors(self, parser: Any) -> int:
        return len(parser._state.get("errors", ()))

    def parser__get_error(self, parser: Any, index: int) -> Any:
        return self._new("ParserError", error=parser._state["errors"][index])

    def error__code(self, error: Any) -> Any:
        return getattr(self.trt.ErrorCode, error._state["error"].code)

    def error__desc(self, error: Any) -> str:
        return error._state["error"].desc

    def error__node_name(self, error: Any) -> str:
        return error._state["error"].name

    def error__node_operator(self, error: Any) -> str:
        return error._state["error"].operator

    def profile__set_shape(self, profile: Any, **shapes: Any) -> None:
        low, mid, high = (tuple(shapes[key]) for key in ("min", "opt", "max"))
        if not all(a <= b <= c for a, b, c in zip(low, mid, high, strict=True)):
            raise RuntimeError("Shape provided for opt is inconsistent with other shapes.")
        profile._state["shapes"][shapes["input"]] = (low, mid, high)

    def config__add_optimization_profile(self, config: Any, profile: Any) -> int:
        config._state["profiles"].append(profile)
        return len(config._state["profiles"]) - 1

    def config__set_flag(self, config: Any, flag: Any) -> None:
        config._state["flags"].add(flag.name)

    def config__clear_flag(self, config: Any, flag: Any) -> None:
        config._state["flags"].discard(flag.name)

    def config__set_memory_pool_limit(self, config: Any, pool: Any, pool_size: int) -> None:
        config._state["pools"][pool.name] = pool_size

    def config__can_run_on_DLA(self, config: Any, layer: Any) -> bool:  # noqa: N802
        return layer._state["layer"].on_dla

    def config__create_timing_cache(self, config: Any, serialized_timing_cache: Any) -> Any:
        content = bytes(serialized_timing_cache)
        if not content:
            return self._new("ITimingCache", origin=self.origin(), timed=set())
        try:
            read = json.loads(content)
        except ValueError:
            self._log(config._state["log"], "ERROR", "Timing cache cannot be deserialized.")
            return None
        return self._new("ITimingCache", origin=read["origin"], timed=set(read["timed"]))

    def config__set_timing_cache(self, config: Any, cache: Any, ignore_mismatch: bool) -> bool:
        if ignore_mismatch:
            self.violations.append("a timing cache of another GPU would have been used")
        if cache._state["origin"] != self.origin():
            return False
        config._state["cache"] = cache
        return True

    def config__get_timing_cache(self, config: Any) -> Any:
        return config._state["cache"]

    def cache__combine(self, cache: Any, input_cache: Any, ignore_mismatch: bool) -> bool:
        if ignore_mismatch:
            self.violations.append("timings of another GPU would have been mixed into this one's")
        if input_cache._state["origin"] != cache._state["origin"] and not ignore_mismatch:
            return False
        cache._state["timed"] |= input_cache._state["timed"]
        return True

    def cache__serialize(self, cache: Any) -> Any:
        state = cache._state
        return self.trt.IHostMemory(json.dumps({"origin": state["origin"], "timed": sorted(state["timed"])}).encode())

    # Opening.

    def runtime__dunder_init(self, runtime: Any, logger: Any) -> None:
        self._given(logger)
        if not self.starts:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        runtime._state["log"] = logger
        self._mark(runtime, "runtime")

    def _mark(self, made: Any, name: str) -> None:
        """Note when `made` is released."""
        self.events.append(f"{name} made")
        weakref.finalize(made, self.events.append, f"{name} released")

    def runtime__deserialize_cuda_engine(self, runtime: Any, serialized_engine: Any) -> Any:
        plan, log = bytes(serialized_engine), runtime._state["log"]
        if self.cuda.device:
            self.violations.append(f"an engine was opened on GPU {self.cuda.device}, it is for 0")
        if plan[:4] != b"ftrt" or tuple(plan[24:27]) > self.release():
            self.violations.append("TensorRT was given a plan that is not its own")
        net, config = self._plans.get(plan[28:].decode(), (None, {}))
        if net is None or not self.opens:
            self._log(log, "ERROR", "IRuntime::deserializeCudaEngine: Error Code 1: Serialization")
            return None
        if runtime._state.get("engine_host_code_allowed"):
            self.host_code.append(True)
        if "VERSION_COMPATIBLE" in config["flags"] and not runtime._state.get("engine_host_code_allowed"):
            self._log(log, "ERROR", "Engine host code is not allowed by the runtime.")
            return None
        if config.get("DLA_core") != runtime._state.get("DLA_core"):
            self.violations.append("an engine for one DLA core was opened on another, or on none that was chosen")
        engine = self._new("ICudaEngine", net=net, config=config, runtime=runtime, log=log)
        self._mark(engine, "engine")
        return engine

    def engine__num_io_tensors(self, engine: Any) -> int:
        net = engine._state["net"]
        return len(net.inputs) + len(net.outputs)

    def engine__get_tensor_name(self, engine: Any, index: int) -> str:
        net = engine._state["net"]
        return [*net.inputs, *net.outputs][index]

    def _tensor(self, engine: Any, name: str) -> tuple[str, tuple[int, ...]]:
        net = engine._state["net"]
        return {**net.inputs, **net.outputs}[name]

    def engine__get_tensor_mode(self, engine: Any, name: str) -> Any:
        modes = self.trt.TensorIOMode
        return modes.INPUT if name in engine._state["net"].inputs else modes.OUTPUT

    def engine__get_tensor_dtype(self, engine: Any, name: str) -> Any:
        return getattr(self.trt.DataType, TYPES[self._tensor(engine, name)[0]])

    def engine__get_tensor_shape(self, engine: Any, name: str) -> Any:
        return self._dims(self._tensor(engine, name)[1])

    def engine__get_tensor_location(self, engine: Any, name: str) -> Any:
        places = self.trt.TensorLocation
        return places.HOST if name in engine._state["net"].on_host else places.DEVICE

    def engine__get_tensor_profile_shape(self, engine: Any, name: str, profile_index: int) -> Any:
        return [self._dims(shape) for shape in engine._state["config"]["profile"][name]]

    def engine__create_engine_inspector(self, engine: Any) -> Any:
        return self._new("EngineInspector", engine=engine)

    def inspector__get_engine_information(self, inspector: Any, format: Any) -> str:
        engine = inspector._state["engine"]
        net, config = engine._state["net"], engine._state["config"]
        if format.name != "JSON":
            self.violations.append("the inspector was asked for another format than JSON")
        detailed = config.get("profiling_verbosity") == self.trt.ProfilingVerbosity.DETAILED
        layers = [self._as_written(layer) if detailed else layer["Name"] for layer in net.engine_layers]
        if self.release()[0] < 11:
            return json.dumps({"Layers": layers, "Bindings": [*net.inputs, *net.outputs]})
        return json.dumps({"Layers": layers, "I/O Tensors": [{"Name": name} for name in (*net.inputs, *net.outputs)]})

    def _as_written(self, layer: dict[str, Any]) -> dict[str, Any]:
        """A layer with tensors as (format, type), in the form of this version."""

        def tensor(entry: tuple[str, str]) -> dict[str, Any]:
            layout, kind = entry
            if self.release()[0] < 11:
                return {"Name": "t", "Dimensions": [1], "Format/Datatype": f"{layout} {kind} format"}
            return {"Name": "t", "Dimensions": [1], "Format": layout, "Datatype": kind}

        return {
            key: [tensor(t) for t in value] if key in ("Inputs", "Outputs") else value for key, value in layer.items()
        }

    # Running.

    def engine__create_execution_context(self, engine: Any, **options: Any) -> Any:
        net = engine._state["net"]
        shapes = {name: shape for name, (_, shape) in net.inputs.items()}
        context = self._new("IExecutionContext", engine=engine, shapes=shapes, addresses={}, warm=None, reported=True)
        context._state.update(enqueue_emits_profile=True, profiler=None)
        self._mark(context, "context")
        return context

    def context__set_input_shape(self, context: Any, name: str, shape: Any) -> bool:
        engine = context._state["engine"]
        _, declared = engine._state["net"].inputs[name]
        if any(want not in (-1, got) for want, got in zip(declared, shape, strict=True)):
            self._log(engine._state["log"], "ERROR", f"Set dimensions of {name} do not match the static ones.")
            return False
        context._state["shapes"][name] = tuple(shape)
        return True

    def context__all_binding_shapes_specified(self, context: Any) -> bool:
        return not any(-1 in shape for shape in context._state["shapes"].values())

    def context__infer_shapes(self, context: Any) -> Any:
        missing = [name for name, shape in context._state["shapes"].items() if -1 in shape]
        if not missing and self._outputs_or_none(context) is None:
            if self.release() < (10, 13):  # seen with the bindings of 10.3.0 and 10.7.0; those of 10.13.3 hold it
                self.violations.append("infer_shapes failed: it raises without the GIL, and the process is killed")
            raise RuntimeError("infer_shapes error code: -1")
        return missing

    def _outputs_or_none(self, context: Any) -> dict[str, tuple[int, ...]] | None:
        """None where the inputs' shapes do not go together, which is told to the logger."""
        try:
            return self._outputs(context)
        except ValueError as error:
            self._log(context._state["engine"]._state["log"], "ERROR", str(error))
            return None

    def _outputs(self, context: Any) -> dict[str, tuple[int, ...]]:
        net = context._state["engine"]._state["net"]
        if net.shapes is None:
            return {name: shape for name, (_, shape) in net.outputs.items()}
        return net.shapes(dict(context._state["shapes"]))

    def context__get_tensor_shape(self, context: Any, name: str) -> Any:
        net = context._state["engine"]._state["net"]
        if name in net.depends_on_values:
            return self._dims((-1,) * len(net.outputs[name][1]))
        if (outputs := self._outputs_or_none(context)) is not None:
            return self._dims({**context._state["shapes"], **outputs}[name])
        if self.release() >= (11, 4):
            raise RuntimeError(f"Could not get shape for tensor '{name}'. Is the tensor name correct?")
        return self._dims(None)

    def context__set_tensor_address(self, context: Any, name: str, memory: int) -> bool:
        context._state["addresses"][name] = memory
        self.addresses.append((name, memory))
        return memory != 0

    def context__execute_async_v3(self, context: Any, stream_handle: int) -> bool:
        state, cuda = context._state, self.cuda
        net, log = state["engine"]._state["net"], state["engine"]._state["log"]
        shapes = {**state["shapes"], **self._outputs(context)}
        absent = [name for name in (*net.inputs, *net.outputs) if not state["addresses"].get(name)]
        if absent or not self.runs:
            self._log(
                log, "ERROR", f"Tensor {', '.join(absent)} has no address" if absent else "Cuda Runtime (illegal)"
            )
            return False
        if cuda.capturing(stream_handle) and (state["warm"] != shapes or not self.records):
            cuda.invalidate(stream_handle)
            self._log(log, "ERROR", "Cuda Runtime (operation not permitted when stream is capturing)")
            return False
        state["warm"] = shapes
        kinds = {name: np.dtype(kind) for name, (kind, _) in {**net.inputs, **net.outputs}.items()}
        addresses = dict(state["addresses"])

        def memory(name: str) -> Any:
            size = int(np.prod(shapes[name], dtype=np.int64)) * kinds[name].itemsize
            place = cuda.on_host if name in net.on_host else cuda.on_gpu
            return np.frombuffer(place(addresses[name], size), kinds[name]).reshape(shapes[name])

        for name in shapes:
            self._must(lambda name=name: memory(name))

        def run() -> None:
            given = {name: memory(name).copy() for name in net.inputs}
            for name, value in net.compute(given).items():
                memory(name)[...] = value
            state["reported"] = False

        self._must(lambda: cuda.enqueue(stream_handle, "execute", run))
        return True

    def _must(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except AssertionError as error:
            self.violations.append(str(error))

    def context__report_to_profiler(self, context: Any) -> bool:
        state = context._state
        if state["enqueue_emits_profile"] or state["profiler"] is None or state["reported"]:
            return False
        for index, layer in enumerate(state["engine"]._state["net"].engine_layers):
            state["profiler"].report_layer_time(layer["Name"], 0.25 * (index + 1))
        state["reported"] = True
        return True


def _linted(path: Path, version: str) -> None:
    """Raise Refused for what TensorRT `version` refuses or gets wrong, as far as `edgeattn.lint` knows."""
    import onnx

    from edgeattn.lint import lint
    from edgeattn.lint.base import Rules, Severity, parse_version

    found = lint(onnx.load(path), Rules(parse_version(version)))
    if errors := [item for item in found if item.severity is Severity.ERROR]:
        raise Refused([ParserError("UNSUPPORTED_NODE", item.what, item.node, item.operator) for item in errors])


def of_onnx(path: Path, version: str | None = None) -> Net | None:
    """A network computed by ONNX Runtime, for the contract that every backend keeps. None for what is no ONNX; Refused
    for what TensorRT `version` would not take, without one (on a device, where the linter is not) for nothing."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        onnx.checker.check_model(str(path))
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception:  # its exceptions have only this class in common
        return None
    if version is not None:
        _linted(path, version)

    def described(arguments: Any) -> dict[str, tuple[str, tuple[int, ...]]]:
        kinds = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}
        return {a.name: (kinds[a.type], tuple(s if isinstance(s, int) else -1 for s in a.shape)) for a in arguments}

    inputs, outputs = described(session.get_inputs()), described(session.get_outputs())

    def compute(given: Arrays) -> Arrays:
        return dict(zip(outputs, session.run(list(outputs), given), strict=True))

    def shapes(given: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        try:
            zeros = {name: np.zeros(given[name], kind) for name, (kind, _) in inputs.items()}
            return {name: value.shape for name, value in compute(zeros).items()}
        except Exception as error:  # its exceptions have only this class in common
            raise ValueError(str(error)) from error

    return Net(inputs, outputs, compute, shapes=shapes, engine_layers=({"Name": "all", "LayerType": "kgen"},))


def install(monkeypatch: Any, world: World) -> None:
    """Let the backend find `world` where it looks for TensorRT and CUDA."""
    from edgeattn.backends import _cuda

    monkeypatch.setitem(sys.modules, "tensorrt", world.trt)
    monkeypatch.setattr(_cuda, "_open", lambda path: world.cuda)
    _cuda.runtime.cache_clear()
