"""Memory that CPU and GPU both see, a stream of work, and a recording of it that is launched as one.

Buffers are pinned: the GPU copies from and to them by itself, while the CPU goes on. Where CPU and GPU have one memory
(every Jetson) nothing is copied: the GPU is given the pinned memory itself. Not managed memory: on Orin
(`concurrentManagedAccess` 0) the CPU must not touch any of it while any kernel runs, which a second stream would break;
pinned memory is coherent there and cached for the CPU, though not for the GPU, which does not matter to frames that are
read once. That is recalled from NVIDIA's "CUDA for Tegra" (I/O coherency, unified memory), not measured: on an H100,
whose memory is its own, both ways ran and agreed (tests/backends/test_cuda_real.py), on a Jetson nothing yet.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import byref, c_ubyte, c_void_p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeattn.backends._cuda import Cuda

# driver_types.h
_TO_DEVICE, _TO_HOST = 1, 2
_NON_BLOCKING = 1  # does not wait for the default stream, where somebody else's work may be
_MAPPED = 2
_THIS_THREAD = 1  # cudaStreamCaptureModeThreadLocal: what other threads do with their streams spoils no recording


class Stream:
    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._handle = c_void_p()
        cuda.call("create a stream", "cudaStreamCreateWithFlags", byref(self._handle), _NON_BLOCKING)

    @property
    def handle(self) -> int:
        return self._handle.value or 0

    def synchronize(self) -> None:
        """Wait until all that was enqueued is done. Raises MachineError for what went wrong in it."""
        self._cuda.call("finish its work", "cudaStreamSynchronize", self._handle)

    def settle(self) -> None:
        """As `synchronize`, before what the work used is released; whether it succeeded matters no more."""
        self._cuda.release("cudaStreamSynchronize", self._handle)

    def record(self, enqueue: Callable[[], None]) -> Graph:
        """What `enqueue` gives to this stream, recorded and not run. Raises MachineError, and what `enqueue` raises."""
        self._cuda.call("begin a recording", "cudaStreamBeginCapture", self._handle, _THIS_THREAD)
        recorded = c_void_p()
        try:
            enqueue()
        except BaseException:
            self._cuda.release("cudaStreamEndCapture", self._handle, byref(recorded))
            if recorded.value:
                self._cuda.release("cudaGraphDestroy", recorded)
            self._cuda.release("cudaGetLastError")
            raise
        self._cuda.call("end a recording", "cudaStreamEndCapture", self._handle, byref(recorded))
        try:
            return Graph(self._cuda, recorded)
        finally:
            self._cuda.release("cudaGraphDestroy", recorded)

    def close(self) -> None:
        """No work may be left in it."""
        self._cuda.release("cudaStreamDestroy", self._handle)


class Graph:
    """A recording that can be launched; the addresses in it must stay what they were."""

    def __init__(self, cuda: Cuda, recorded: c_void_p) -> None:
        self._cuda = cuda
        self._handle = c_void_p()
        cuda.call(
            "prepare a recording", "cudaGraphInstantiateWithFlags", byref(self._handle), recorded, ctypes.c_ulonglong(0)
        )

    def launch(self, stream: Stream) -> None:
        self._cuda.call("launch a recording", "cudaGraphLaunch", self._handle, stream.handle)

    def close(self) -> None:
        self._cuda.release("cudaGraphExecDestroy", self._handle)


class Buffer:
    """`size` bytes at `address` for the GPU, and the same as seen by the CPU in `view`; with `shared` they are one."""

    def __init__(self, cuda: Cuda, size: int, *, shared: bool) -> None:
        self.size = size
        self._cuda = cuda
        self._host, self._device = c_void_p(), c_void_p()
        self._copied = not shared
        whole = max(size, 1)  # an allocation of nothing has no address
        cuda.call(
            f"allocate {size} bytes of pinned memory",
            "cudaHostAlloc", byref(self._host), whole, _MAPPED if shared else 0,
        )  # fmt: skip
        try:
            if shared:
                cuda.call(
                    "reach pinned memory from the GPU",
                    "cudaHostGetDevicePointer", byref(self._device), self._host, 0,
                )  # fmt: skip
            else:
                cuda.call(f"allocate {size} bytes on the GPU", "cudaMalloc", byref(self._device), whole)
        except BaseException:
            cuda.release("cudaFreeHost", self._host)
            raise

    @property
    def address(self) -> int:
        """Of the GPU's side."""
        return self._device.value or 0

    @property
    def host_address(self) -> int:
        return self._host.value or 0

    def view(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """The CPU's side, from its start; of no use once the buffer is closed."""
        count = int(np.prod(shape, dtype=np.int64))
        memory: Any = (c_ubyte * max(self.size, 1)).from_address(self.host_address)
        flat: NDArray[Any] = np.frombuffer(memory, dtype=dtype, count=count)
        return flat.reshape(shape)

    def to_device(self, size: int, stream: Stream) -> None:
        """Enqueue the first `size` bytes."""
        if self._copied and size:
            self._copy(self._device, self._host, size, _TO_DEVICE, stream)

    def to_host(self, size: int, stream: Stream) -> None:
        """Enqueue the first `size` bytes; they are there once the stream is synchronized."""
        if self._copied and size:
            self._copy(self._host, self._device, size, _TO_HOST, stream)

    def _copy(self, to: c_void_p, of: c_void_p, size: int, kind: int, stream: Stream) -> None:
        self._cuda.call("copy a tensor", "cudaMemcpyAsync", to, of, size, kind, stream.handle)

    def close(self) -> None:
        """No work that uses it may be left in a stream."""
        if self._copied:
            self._cuda.release("cudaFree", self._device)
        self._cuda.release("cudaFreeHost", self._host)
