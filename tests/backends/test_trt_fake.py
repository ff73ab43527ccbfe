"""The stand-in for TensorRT is strict: what the real binding refuses, it refuses."""

import json
import sys

import pytest

fake = sys.modules["trt_fake"]
ALL = fake.VERSIONS


def always(answer):
    return lambda *subject, **bound: answer


@pytest.fixture(params=ALL)
def trt(request):
    return fake.make(request.param, {})


def make(version, **hooks):
    return fake.make(version, {name.replace("__", ".", 1): hook for name, hook in hooks.items()})


def test_the_kept_dumps_are_small_and_what_their_maker_makes():
    spec = fake.FOLDER / "make.py"
    names = {"__file__": str(spec), "__name__": "make"}
    exec(compile(spec.read_text(), str(spec), "exec"), names)
    for version in names["VERSIONS"]:
        text = (fake.FOLDER / f"{version}.json").read_text()
        assert len(text) < 60_000
        assert names["trim"](json.loads(text)) == json.loads(text)
    assert set(names["VERSIONS"]) == {*ALL, "8.6.1"}


def test_every_enum_is_there_with_the_numbers_of_its_version():
    flags = {version: fake.make(version, {}).NetworkDefinitionCreationFlag for version in ALL}
    assert [int(flag.STRONGLY_TYPED) for flag in flags.values()] == [1, 1, 1, 1, 0, 0]
    old, new = (fake.make(version, {}).BuilderFlag for version in ("10.3.0", "11.4.0"))
    assert (int(old.VERSION_COMPATIBLE), int(new.VERSION_COMPATIBLE)) == (13, 12)
    assert old.STRIP_PLAN is old.WEIGHTLESS


def test_an_enum_is_no_number_and_no_list(trt):
    flag = trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    for wrong in (
        lambda: 1 << flag,
        lambda: trt.DataType.HALF < trt.DataType.INT8,
        lambda: trt.DataType["HALF"],
        lambda: list(trt.DataType),
    ):
        with pytest.raises(TypeError):
            wrong()
    assert trt.ILogger.ERROR < trt.ILogger.WARNING
    assert trt.DataType(int(trt.DataType.HALF)) is trt.DataType.HALF


def test_an_enum_equals_no_number(trt):
    assert trt.DataType.HALF != 1
    assert int(trt.DataType.HALF) == 1
    assert trt.DataType.HALF == trt.DataType.HALF
    assert {trt.DataType.HALF: "fp16"}[trt.DataType.HALF] == "fp16"
    assert trt.Logger.WARNING is trt.ILogger.Severity.WARNING


@pytest.mark.parametrize("version", ["11.0.0", "11.4.0"])
@pytest.mark.parametrize("flag", ["FP16", "INT8", "BF16", "OBEY_PRECISION_CONSTRAINTS", "WEIGHTLESS"])
def test_removed_flags_are_gone(version, flag):
    with pytest.raises(AttributeError):
        getattr(fake.make(version, {}).BuilderFlag, flag)


@pytest.mark.parametrize(
    ("name", "member"),
    [
        *[("IExecutionContext", member) for member in ("execute_async_v2", "set_binding_shape", "get_binding_shape")],
        *[
            ("ICudaEngine", member)
            for member in ("num_bindings", "get_binding_name", "binding_is_input", "get_location")
        ],
        *[("IBuilderConfig", member) for member in ("max_workspace_size", "min_timing_iterations")],
        *[("Builder", member) for member in ("build_engine", "max_batch_size")],
    ],
)
def test_what_8_6_had_is_gone(trt, name, member):
    with pytest.raises(AttributeError):
        getattr(fake.instance(trt, name), member)


def test_what_a_version_has_not_yet_is_not_there():
    assert not hasattr(fake.make("10.7.0", {}).Builder, "build_serialized_network_to_stream")
    assert hasattr(fake.make("10.13.3", {}).Builder, "build_serialized_network_to_stream")
    assert not hasattr(fake.make("11.4.0", {}).ICudaEngine, "device_memory_size")
    assert hasattr(fake.make("10.16.1", {}).ICudaEngine, "device_memory_size")
    assert not hasattr(fake.make("8.6.1", {}).NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
    with pytest.raises(AttributeError):
        fake.make("8.6.1", {}).IProgressMonitor  # noqa: B018


@pytest.mark.parametrize("name", ["IBuilderConfig", "ICudaEngine", "INetworkDefinition", "ITimingCache", "ParserError"])
def test_what_only_tensorrt_makes_has_no_constructor(trt, name):
    with pytest.raises(TypeError, match="No constructor defined"):
        getattr(trt, name)()


def test_properties_are_written_only_where_they_may(trt):
    config, engine = fake.instance(trt, "IBuilderConfig"), fake.instance(trt, "ICudaEngine")
    config.builder_optimization_level = 5
    assert config.builder_optimization_level == 5
    for written in (
        lambda: setattr(config, "max_workspace_size", 1),
        lambda: setattr(config, "num_optimization_profiles", 1),
    ):
        with pytest.raises(AttributeError):
            written()
    with pytest.raises(AttributeError):
        engine.num_io_tensors = 3
    with pytest.raises(TypeError, match="must be a int"):
        config.builder_optimization_level = "high"
    with pytest.raises(TypeError, match="must be a ProfilingVerbosity"):
        config.profiling_verbosity = 2
    for name in ("builder_optimization_level", "profiling_verbosity", "avg_timing_iterations", "DLA_core"):
        with pytest.raises(TypeError):
            setattr(config, name, None)
    config.progress_monitor = None
    for number in (1 << 31, 1 << 40):
        with pytest.raises(TypeError):
            config.avg_timing_iterations = number
    assert hasattr(trt.IBuilderConfig, "int8_calibrator") is (int(trt.__version__.partition(".")[0]) < 11)


@pytest.mark.parametrize("version", ALL)
def test_arguments_must_fit_an_overload(version):
    answers = {
        "IBuilderConfig__set_timing_cache": always(True),
        "IBuilderConfig__set_flag": always(None),
        "IExecutionContext__set_input_shape": always(True),
        "IExecutionContext__set_tensor_address": always(True),
        "IExecutionContext__execute_async_v3": always(True),
        "IBuilderConfig__set_memory_pool_limit": always(None),
        "Builder__create_network": lambda builder, flags=0: fake.instance(trt, "INetworkDefinition"),
        "OnnxParser__parse_from_file": always(True),
        "IOptimizationProfile__set_shape": always(None),
    }
    trt = make(version, **answers)
    new = lambda name: fake.instance(trt, name)  # noqa: E731
    config, context, parser = new("IBuilderConfig"), new("IExecutionContext"), new("OnnxParser")
    profile, cache, builder = new("IOptimizationProfile"), new("ITimingCache"), trt.Builder(trt.Logger())
    workspace = trt.MemoryPoolType.WORKSPACE
    good = [
        lambda: config.set_timing_cache(cache, ignore_mismatch=False),
        lambda: config.set_timing_cache(cache=cache, ignore_mismatch=True),
        lambda: config.set_flag(trt.BuilderFlag.REFIT),
        lambda: context.set_input_shape("x", (1, 3)),
        lambda: context.set_input_shape("x", [1, 3]),
        lambda: context.set_tensor_address("x", 4096),
        lambda: context.execute_async_v3(stream_handle=1),
        lambda: context.execute_async_v3((1 << 64) - 1),
        lambda: config.set_memory_pool_limit(workspace, 1 << 40),
        lambda: builder.create_network(1 << 31),
        lambda: parser.parse_from_file("model.onnx"),
        lambda: profile.set_shape("x", (1,), (2,), (3,)),
    ]
    for call in good:
        call()
    wrong = [
        lambda: config.set_timing_cache(cache),  # 8.6's habit
        lambda: config.set_timing_cache(cache, False, False),
        lambda: config.set_timing_cache(cache, ignore=False),
        lambda: config.set_timing_cache(None, ignore_mismatch=False),
        lambda: config.set_flag(4),
        lambda: config.set_flag(trt.DeviceType.DLA),
        lambda: context.set_input_shape("x", "1x3"),
        lambda: context.set_input_shape("x"),
        lambda: profile.set_shape("x", (1,) * 9, (1,) * 9, (1,) * 9),
        lambda: profile.set_shape("x", (1,), (1.0,), (1,)),
        lambda: context.execute_async_v3(-1),
        lambda: config.set_memory_pool_limit(workspace, -1),
        lambda: config.set_memory_pool_limit(workspace, 1 << 64),
        lambda: builder.create_network(-1),
        lambda: context.set_tensor_address("x", -1),
        lambda: context.set_tensor_address("x", None),
        lambda: context.set_tensor_address("x", 1.5),
        context.execute_async_v3,
        lambda: context.execute_async_v3(stream=1),
        lambda: parser.parse_from_file(fake.FOLDER),  # a Path is no text
        lambda: profile.set_shape("x", (1,), (2,)),
    ]
    for call in wrong:
        with pytest.raises(TypeError):
            call()
    for shape in ((1.0, 3), (None, 3), (1 << 31,), (1,) * 9):
        with pytest.raises(RuntimeError, match="is no shape"):
            context.set_input_shape("x", shape)


def test_a_call_without_an_answer_is_an_error(trt):
    with pytest.raises(fake.Unanswered, match=r"IBuilderConfig\.reset was called"):
        fake.instance(trt, "IBuilderConfig").reset()
    with pytest.raises(fake.Unanswered, match=r"ICudaEngine\.num_layers was read"):
        fake.instance(trt, "ICudaEngine").num_layers  # noqa: B018


def test_an_answer_of_the_wrong_type_is_the_tests_mistake():
    trt = make("10.3.0", IExecutionContext__execute_async_v3=always(1))
    with pytest.raises(AssertionError, match="is no bool"):
        fake.instance(trt, "IExecutionContext").execute_async_v3(1)


def test_a_subclass_must_call_its_base(trt):
    class Silent(trt.ILogger):
        def __init__(self):
            self.lines = []

    class Proper(trt.ILogger):
        def __init__(self):
            trt.ILogger.__init__(self)
            self.lines = []

        def log(self, severity, msg):
            self.lines.append(msg)

    with pytest.raises(TypeError, match="must be called when overriding __init__"):
        Silent()
    logger = Proper()
    assert trt.Builder(logger)
    for wrong in (trt.Builder, lambda: trt.Builder("logger"), lambda: trt.Runtime(logger, 1)):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(TypeError):
        trt.Builder(loger=logger)


def test_memory_of_tensorrt_is_a_buffer_and_nothing_more(trt):
    memory = trt.IHostMemory(b"plan")
    assert (bytes(memory), memory.nbytes) == (b"plan", 4)
    assert bytes(memoryview(memory)) == b"plan"
    for wrong in (lambda: memory[0], lambda: len(memory), lambda: list(memory)):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(AttributeError):
        memory.decode()


def test_a_layer_may_be_told_what_it_is(trt):
    layer = fake.instance(trt, "ILayer", num_groups=2)
    with pytest.raises(AttributeError):
        layer.num_groups  # noqa: B018
    layer.__class__ = trt.IConvolutionLayer
    assert layer.num_groups == 2
