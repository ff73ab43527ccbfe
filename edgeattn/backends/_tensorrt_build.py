"""An ONNX file and settings become a plan, in memory. Writing it is the caller's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeattn.backends import _cuda, _tensorrt_network
from edgeattn.backends import _tensorrt_library as lib
from edgeattn.backends._tensorrt_progress import Watch, monitor, watched
from edgeattn.backends._tensorrt_settings import BuildSettings, Range, Shape
from edgeattn.backends._tensorrt_timing import TimingCache
from edgeattn.errors import MachineError, ModelError
from edgeattn.progress import Progress

_MB = 1 << 20
_ANY_BATCH = 8  # the largest batch of a graph with a dynamic one, where the settings name no profile


@dataclass(frozen=True)
class Built:
    """`multiply_adds` by ONNX node; `workspace_mb` None where the choice was TensorRT's."""

    plan: bytes
    multiply_adds: dict[str, int]
    workspace_mb: int | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def build_plan(model: Path, settings: BuildSettings, progress: Progress) -> Built:
    """Build `model` for this machine's GPU. Raises ModelError, MachineError, and KeyboardInterrupt once stopped."""
    if not model.is_file():
        raise ModelError(f"There is no ONNX file {model}; export the model first.")
    _cuda.runtime().use_device()  # the caller's thread may have chosen another GPU
    with lib.Operation().heard() as operation:
        return _built(model, settings, progress, operation)


def _built(model: Path, settings: BuildSettings, progress: Progress, operation: lib.Operation) -> Built:
    trt = lib.library()
    builder = lib.created(trt.Builder, "builder")
    network = _tensorrt_network.create(trt, builder)
    with lib.translated(f"build {model}"):
        _tensorrt_network.read(trt, network, model)
        counts, notes = _tensorrt_network.multiply_adds(trt, network)
        config = builder.create_builder_config()
        workspace_mb = _configure(trt, config, settings)
        notes += _profiles(builder, network, config, settings, model)
        if settings.dla_core is not None:
            notes += _dla(trt, builder, network, config, settings.dla_core)
        cache = TimingCache(settings.timing_cache, config) if settings.timing_cache else None
        watch = Watch()
        config.progress_monitor = monitor(trt, watch)
        text = f"building {model.name} with TensorRT {trt.__version__}"
        plan = watched(_call(builder, network, config, operation), watch, progress, text)
    if plan is None:
        raise _failure(model)
    if cache is not None:
        cache.save(config)
        notes += cache.notes
    return Built(plan, counts, workspace_mb, tuple(notes), tuple(operation.warnings))


def _call(builder: Any, network: Any, config: Any, operation: lib.Operation) -> Callable[[], bytes | None]:
    """For a thread of its own, which has the first GPU as its own without being told."""

    def call() -> bytes | None:
        with operation.heard():
            plan = builder.build_serialized_network(network, config)
        return None if plan is None else bytes(plan)

    return call


def _failure(model: Path) -> ModelError:
    error = lib.refusal(f"build {model}")
    if "memory" in str(error).lower():
        cause = error.__cause__
        error = ModelError(
            f"{error} Close other programs that use the GPU (on a Jetson the desktop too), or set workspace_mb."
        )
        error.__cause__ = cause
    return error


def _configure(trt: Any, config: Any, settings: BuildSettings) -> int | None:
    """Everything that does not depend on the network; returns the workspace that was set, in MB."""
    config.builder_optimization_level = settings.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else the inspector knows names only
    if settings.avg_timing_iterations is not None:
        config.avg_timing_iterations = settings.avg_timing_iterations
    if not settings.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default
    if settings.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if settings.refittable:
        config.set_flag(trt.BuilderFlag.REFIT)
    workspace_mb = settings.workspace_mb
    cuda = _cuda.runtime()
    if workspace_mb is None and cuda.shares_memory():
        workspace_mb = max(cuda.total_memory() // 4 // _MB, 64)
    if workspace_mb is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mb * _MB)
    return workspace_mb


def _profiles(builder: Any, network: Any, config: Any, settings: BuildSettings, model: Path) -> list[str]:
    """One optimization profile where an input has dynamic sizes; returns notes on what was assumed."""
    shapes = {tensor.name: tuple(int(size) for size in tensor.shape) for tensor in _inputs(network)}
    if unknown := settings.profiles.keys() - shapes.keys():
        raise ModelError(f"{model} has no input {sorted(unknown)}; its inputs are {sorted(shapes)}.")
    dynamic = {name: shape for name, shape in shapes.items() if -1 in shape or name in settings.profiles}
    if not dynamic:
        return []
    profile, notes = builder.create_optimization_profile(), []
    for name, shape in dynamic.items():
        if name in settings.profiles:
            chosen = _checked(name, shape, settings.profiles[name])
        else:
            chosen = _assumed(name, shape)
            notes.append(
                f"Input '{name}' takes batches of 1 to {_ANY_BATCH} and is fastest at 1; a profile says other."
            )
        profile.set_shape(name, *chosen)
    if config.add_optimization_profile(profile) < 0:
        raise ModelError(f"The profiles of {sorted(dynamic)} do not fit together in {model}; give other shapes.")
    return notes


def _inputs(network: Any) -> list[Any]:
    return [network.get_input(index) for index in range(network.num_inputs)]


def _checked(name: str, shape: Shape, chosen: Range) -> Range:
    if any(
        len(one) != len(shape) or any(want not in (-1, got) for want, got in zip(shape, one, strict=True))
        for one in chosen
    ):
        raise ModelError(f"The profile of input '{name}' must fit its shape {shape} (-1 is dynamic), got {chosen}.")
    return chosen


def _assumed(name: str, shape: Shape) -> Range:
    if -1 in shape[1:]:
        raise ModelError(
            f"Input '{name}' has dynamic sizes besides its batch, {shape}; give a profile of smallest, usual and "
            "largest shape, or export the model with a fixed size."
        )
    one = (1, *shape[1:])
    return one, one, (_ANY_BATCH, *shape[1:])


def _dla(trt: Any, builder: Any, network: Any, config: Any, core: int) -> list[str]:
    """Send to the DLA what it can run and the rest to the GPU; returns a note that names what it cannot."""
    if core >= builder.num_DLA_cores:
        raise MachineError(
            f"There is no DLA core {core} here for TensorRT {trt.__version__}, it sees {builder.num_DLA_cores}; build "
            "without dla_core. Orin Nano has none, and TensorRT 10.8 to 11.3 support none."
        )
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    cannot = [layer.name for layer in layers if not config.can_run_on_DLA(layer)]
    if not cannot:
        return []
    named = ", ".join(cannot[:5]) + (", ..." if len(cannot) > 5 else "")
    return [f"{len(cannot)} of {len(layers)} layers cannot run on the DLA and fall back to the GPU: {named}."]
