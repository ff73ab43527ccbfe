"""An opened plan: its tensors, what it executes, and the contexts that run it.

Several contexts share one engine's weights and run side by side, each with a stream of its own.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from typing import Any

from edgeattn.backends import _cuda
from edgeattn.backends import _tensorrt_library as lib
from edgeattn.backends._tensorrt_context import Context
from edgeattn.backends._tensorrt_tensor import tensor
from edgeattn.backends.base import Specs, Tensors
from edgeattn.errors import ModelError


class Engine:
    """Raises ModelError when TensorRT cannot open `plan`, MachineError when it cannot start.

    Load only plans of your own: a version-compatible one, for which `host_code` must be set, holds code that runs on
    the CPU. `close` closes the contexts first.
    """

    def __init__(self, plan: bytes, *, host_code: bool = False, dla_core: int | None = None) -> None:
        trt = lib.library()
        self._cuda = _cuda.runtime()
        self._cuda.use_device()  # the caller's thread may have chosen another GPU
        with lib.Operation().heard():
            runtime = lib.created(trt.Runtime, "runtime")
            if host_code:
                runtime.engine_host_code_allowed = True
            if dla_core is not None:
                runtime.DLA_core = dla_core
            engine = runtime.deserialize_cuda_engine(plan)
            if engine is None:
                raise lib.refusal("open the engine")
        self._tensors = tuple(tensor(trt, engine, index) for index in range(engine.num_io_tensors))
        self.specs = Specs(
            inputs=tuple(tensor.spec for tensor in self._tensors if tensor.is_input),
            outputs=tuple(tensor.spec for tensor in self._tensors if not tensor.is_input),
        )
        self._contexts: weakref.WeakSet[Context] = weakref.WeakSet()
        self._held = [runtime, engine]  # released from the end

    def context(self, *, graph: bool = True, shared: bool | None = None) -> Context:
        """A runner with a stream and buffers of its own; give each thread one.

        Without `graph` nothing is recorded. `shared`: the GPU works on the CPU's memory instead of copies; None is
        where the two have one memory. To compare with copies there, say False.
        """
        shares = self._cuda.shares_memory() if shared is None else shared
        context = Context(self._handle(), self._tensors, self.specs, self._cuda, graph=graph, shared=shares)
        self._contexts.add(context)
        return context

    def information(self) -> str:
        """The inspector's JSON; how much it holds was decided when the engine was built. Raises ModelError."""
        try:
            inspector = self._handle().create_engine_inspector()
            return str(inspector.get_engine_information(lib.library().LayerInformationFormat.JSON))
        except lib.UNREADABLE as error:  # a node's name that is no UTF-8, for one
            raise ModelError(
                f"TensorRT's inspector gives no text on the engine ({lib.reason(error)}); build it again."
            ) from error

    def layer_times(self, inputs: Tensors, calls: int = 20) -> dict[str, float]:
        """Mean milliseconds per layer over `calls` calls after a first one, by the layer's name, in executed order.

        Timing each layer takes time itself, so they add up to more than a call lasts.
        """
        profiler = _profiler(lib.library())
        context = self.context(graph=False)
        try:
            context.infer(inputs)
            context.attach(profiler)
            for _ in range(calls):
                context.infer(inputs)
        finally:
            context.close()
        return {name: sum(times) / len(times) for name, times in profiler.times_ms.items()}

    def close(self) -> None:
        """Closing twice is allowed."""
        for context in list(self._contexts):
            context.close()
        while self._held:
            self._held.pop()

    def _handle(self) -> Any:
        if not self._held:
            raise ModelError("This engine is closed; load the model again.")
        return self._held[-1]


def _profiler(trt: Any) -> Any:
    class Profiler(trt.IProfiler):  # type: ignore[misc]  # the package has no types
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.times_ms: defaultdict[str, list[float]] = defaultdict(list)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.times_ms[layer_name].append(ms)

    return Profiler()
