"""One way of running an engine: a stream, buffers, and with fixed shapes a recording of the whole call.

With fixed shapes everything is prepared once: buffers, addresses, and a CUDA graph of copy, layers and copy back that a
call launches as one, instead of one launch per layer. With dynamic shapes each call sets them and grows the buffers.
"""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeattn.backends import _tensorrt_library as lib
from edgeattn.backends._cuda import Cuda
from edgeattn.backends._cuda_memory import Buffer, Graph, Stream
from edgeattn.backends._tensorrt_tensor import Tensor
from edgeattn.backends.base import Specs, Tensors, check_inputs
from edgeattn.errors import MachineError, ModelError

_WITH_THESE = "run the model with these shapes"


class Context:
    """A `Runner`. `notes` says when the call could not be recorded, which costs speed and changes no result."""

    def __init__(
        self,
        engine: Any,
        tensors: tuple[Tensor, ...],
        specs: Specs,
        cuda: Cuda,
        *,
        graph: bool,
        shared: bool,
    ) -> None:
        self._specs = specs
        self._tensors = {tensor.name: tensor for tensor in tensors}
        self._cuda, self._shared = cuda, shared
        self._buffers: dict[str, Buffer] = {}
        self._views: dict[str, NDArray[Any]] = {}
        self._graph: Graph | None = None
        self._profiler: Any = None
        self.notes: tuple[str, ...] = ()
        # Released in reverse: recording, TensorRT's context, buffers, stream; also where nobody calls `close`.
        self._stack = ExitStack()
        self._release = weakref.finalize(self, self._stack.close)
        try:
            cuda.use_device()  # the caller's thread may have chosen another GPU
            self._stream = Stream(cuda)
            self._stack.callback(self._stream.close)
            self._stack.callback(_close_all, self._buffers)
            with lib.Operation().heard():
                self._held = [_create(engine)]
                self._stack.callback(self._held.clear)
                self._stack.callback(self._stream.settle)
                self._reads_values = any(tensor.on_host and tensor.is_input for tensor in tensors)
                self._static = all(None not in spec.shape for spec in specs.inputs) and not self._reads_values
                if self._static:
                    self._prepare(graph)
        except BaseException:
            self._release()
            raise

    @property
    def specs(self) -> Specs:
        return self._specs

    @property
    def recorded(self) -> bool:
        """True when a call launches a recording."""
        return self._graph is not None

    def infer(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        """See `Runner`. Leaves the calling thread with the first GPU as its own. Raises MachineError when it fails."""
        if not self._release.alive:
            raise ModelError("This runner is closed; load the model again.")
        check_inputs(self._specs, inputs)
        self._cuda.use_device()  # this thread may have chosen another one since it last called, or be a new one
        with lib.Operation().heard():
            return self._infer(inputs)

    def _infer(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        if not self._static:
            self._resize(inputs)
        for name, array in inputs.items():
            np.copyto(self._views[name], array)
        try:
            if self._graph is not None:
                self._graph.launch(self._stream)
            else:
                self._enqueue()
            self._stream.synchronize()
        except BaseException:
            self._stream.settle()  # half a call may be under way, in the buffers that the next one writes to
            raise
        if self._profiler is not None and not self._held[0].report_to_profiler():
            raise lib.refusal("time the layers")
        return {spec.name: self._views[spec.name].copy() for spec in self._specs.outputs}

    def attach(self, profiler: Any) -> None:
        """Report each layer's time of the calls that follow to an `IProfiler`."""
        context = self._held[0]
        context.profiler = profiler
        context.enqueue_emits_profile = False  # told after the call: else TensorRT waits inside it
        self._profiler = profiler

    def close(self) -> None:
        self._views = {}
        self._release()

    def _prepare(self, graph: bool) -> None:
        """Shapes, buffers, addresses; a first call, which TensorRT wants before a recording; the recording."""
        zeros = {spec.name: np.zeros([size or 0 for size in spec.shape], spec.dtype) for spec in self._specs.inputs}
        self._resize(zeros)
        for name, array in zeros.items():
            np.copyto(self._views[name], array)
        self._enqueue()
        self._stream.synchronize()
        if not graph:
            return
        try:
            self._graph = self._stream.record(self._enqueue)
        except (MachineError, ModelError) as error:
            self.notes = (f"Layers are launched one by one, for the call cannot be recorded: {error}",)
            return
        self._stack.callback(self._graph.close)

    def _enqueue(self) -> None:
        """Give the whole call to the stream."""
        on_gpu = [tensor for tensor in self._tensors.values() if not tensor.on_host]
        for tensor in on_gpu:
            if tensor.is_input:
                self._buffers[tensor.name].to_device(self._views[tensor.name].nbytes, self._stream)
        if not self._held[0].execute_async_v3(self._stream.handle):
            raise lib.refusal("run the model")
        for tensor in on_gpu:
            if not tensor.is_input:
                self._buffers[tensor.name].to_host(self._views[tensor.name].nbytes, self._stream)

    def _resize(self, inputs: Tensors) -> None:
        """Tell TensorRT the inputs' shapes, learn the outputs', and make room for both."""
        shapes = {name: array.shape for name, array in inputs.items()}
        if not self._reads_values and all(
            name in self._views and self._views[name].shape == shape for name, shape in shapes.items()
        ):
            return
        self._views = {}  # until all is well: a call that fails half-way leaves no wrong ones
        context = self._held[0]
        with lib.translated(_WITH_THESE):
            for name, shape in shapes.items():
                self._tensors[name].check_range(shape)
                self._reserve(name, shape)
                if self._tensors[name].on_host:  # TensorRT reads it now, for the shapes that follow from it
                    np.copyto(self._view(name, shape), inputs[name])
                if not context.set_input_shape(name, shape):
                    raise lib.refusal(f"take {shape} as the shape of '{name}'")
            # Not `infer_shapes()`: where shapes do not go together, the bindings of 10.3 and 10.7 raise its
            # RuntimeError without holding the GIL, and the process ends in a segmentation fault.
            if not context.all_binding_shapes_specified:
                raise lib.refusal(_WITH_THESE)
            for spec in self._specs.outputs:
                shape = shapes[spec.name] = self._output_shape(spec.name)
                self._reserve(spec.name, shape)
        self._views = {name: self._view(name, shape) for name, shape in shapes.items()}

    def _output_shape(self, name: str) -> tuple[int, ...]:
        """What follows from the inputs' shapes. Raises ModelError where they do not go together, or nothing does."""
        shape = _sizes(self._held[0].get_tensor_shape(name))
        unknown = shape is None or min(shape, default=0) < 0
        if shape is None or (unknown and lib.said_errors()):
            raise lib.refusal(_WITH_THESE)
        if unknown:
            raise ModelError(
                f"The shape of output '{name}', {shape}, depends on the input's values; end the model with a fixed "
                "number of results, such as the best 100."
            )
        return shape

    def _reserve(self, name: str, shape: tuple[int, ...]) -> None:
        """Room for `shape`, its address told to TensorRT; until it has taken that, it has the old one's."""
        tensor, held = self._tensors[name], self._buffers.get(name)
        size = tensor.size(shape)
        if held is not None and held.size >= size:
            return
        made = Buffer(self._cuda, size, shared=self._shared)
        try:
            if not self._held[0].set_tensor_address(name, made.host_address if tensor.on_host else made.address):
                raise lib.refusal(f"take memory for '{name}'")
        except BaseException:
            made.close()
            raise
        self._buffers[name] = made
        if held is not None:
            held.close()

    def _view(self, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
        return self._buffers[name].view(shape, self._tensors[name].dtype)


def _sizes(dims: Any) -> tuple[int, ...] | None:
    """None for -1 dimensions: TensorRT's word for an error, which Python does not take for a length."""
    try:
        return tuple(int(dims[index]) for index in range(len(dims)))
    except ValueError:
        return None


def _create(engine: Any) -> Any:
    context = engine.create_execution_context()
    if context is None:
        raise lib.refusal("make room to run the model")
    return context


def _close_all(buffers: dict[str, Buffer]) -> None:
    while buffers:
        buffers.popitem()[1].close()
