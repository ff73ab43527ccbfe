"""A stand-in for libcudart whose GPU memory is this process's, so that addresses, copies and order can be checked.

* The functions are C functions with the signatures of CUDA's headers, so the code under test goes through ctypes as on
  a device; what it declares itself is compared with the headers' by `wrong_signatures`.
* An address of the GPU is none of the CPU's: reading one as if it were crashes. Pinned memory is the CPU's; mapped, the
  GPU reaches it under another address.
* Work given to a stream is done when the stream is synchronized and not before: a result read too early is not there,
  an input overwritten too early is wrong.
* Work that is being recorded is not done at all; a recording can be launched once it was prepared.
* A thread has a GPU of its own; work for a stream must come from a thread that has the stream's.
* Freed memory stays allocated and is filled with 0xDD; whoever still uses it is found out.

What must not happen is collected in `violations`, for an exception cannot leave a C function; a test asserts that the
list is empty. A stand-in never counts as a result: no GPU is involved.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_size_t, c_uint, c_ulonglong, c_void_p
from dataclasses import dataclass, field
from typing import Any

OUT, INT = POINTER(c_void_p), POINTER(c_int)
# cuda_runtime_api.h of CUDA 11.8, 12.6, 12.9 and 13.5, where they are the same; enums are passed as int.
HEADER: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "cudaDeviceGetAttribute": (c_int, (INT, c_int, c_int)),
    "cudaFree": (c_int, (c_void_p,)),
    "cudaFreeHost": (c_int, (c_void_p,)),
    "cudaGetDeviceCount": (c_int, (INT,)),
    "cudaGetDeviceProperties": (c_int, (c_void_p, c_int)),
    "cudaGetErrorName": (c_char_p, (c_int,)),
    "cudaGetErrorString": (c_char_p, (c_int,)),
    "cudaGetLastError": (c_int, ()),
    "cudaGraphDestroy": (c_int, (c_void_p,)),
    "cudaGraphExecDestroy": (c_int, (c_void_p,)),
    "cudaGraphInstantiateWithFlags": (c_int, (OUT, c_void_p, c_ulonglong)),
    "cudaGraphLaunch": (c_int, (c_void_p, c_void_p)),
    "cudaHostAlloc": (c_int, (OUT, c_size_t, c_uint)),
    "cudaHostGetDevicePointer": (c_int, (OUT, c_void_p, c_uint)),
    "cudaMalloc": (c_int, (OUT, c_size_t)),
    "cudaMemGetInfo": (c_int, (POINTER(c_size_t), POINTER(c_size_t))),
    "cudaMemcpyAsync": (c_int, (c_void_p, c_void_p, c_size_t, c_int, c_void_p)),
    "cudaRuntimeGetVersion": (c_int, (INT,)),
    "cudaSetDevice": (c_int, (c_int,)),
    "cudaStreamBeginCapture": (c_int, (c_void_p, c_int)),
    "cudaStreamCreateWithFlags": (c_int, (OUT, c_uint)),
    "cudaStreamDestroy": (c_int, (c_void_p,)),
    "cudaStreamEndCapture": (c_int, (c_void_p, OUT)),
    "cudaStreamSynchronize": (c_int, (c_void_p,)),
}
TEXTS = {
    1: (b"cudaErrorInvalidValue", b"invalid argument"),
    2: (b"cudaErrorMemoryAllocation", b"out of memory"),
    35: (b"cudaErrorInsufficientDriver", b"CUDA driver version is insufficient for CUDA runtime version"),
    100: (b"cudaErrorNoDevice", b"no CUDA-capable device is detected"),
    400: (b"cudaErrorInvalidResourceHandle", b"invalid resource handle"),
    700: (b"cudaErrorIllegalAddress", b"an illegal memory access was encountered"),
    900: (b"cudaErrorStreamCaptureUnsupported", b"operation not permitted when stream is capturing"),
    901: (b"cudaErrorStreamCaptureInvalidated", b"operation failed due to a previous error during capture"),
}
_MAPPED = 2
_FIRST_ON_GPU = 0x6000_0000_0000  # where no process has memory
_APART = 1 << 20


@dataclass
class Block:
    """`kind` is "pinned", "mapped" or "device"; `memory` holds its bytes, wherever its `address` seems to be."""

    address: int
    size: int
    kind: str
    memory: Any
    alias: int = 0
    live: bool = True


@dataclass
class Operation:
    what: str
    run: Callable[[], None]


@dataclass
class StreamState:
    device: int = 0
    queue: list[Operation] = field(default_factory=list)
    capture: list[Operation] | None = None
    invalid: bool = False


@dataclass
class Gpu:
    """The device that is pretended."""

    name: str = "Orin"
    capability: tuple[int, int] = (8, 7)
    multiprocessors: int = 8
    integrated: bool = False
    maps_host_memory: bool = True
    memory: int = 8 << 30
    count: int = 1
    runtime: int = 12060


class FakeCudart:
    """`calls` is every call in order; `fail[name]` makes that function return this error."""

    def __init__(self, gpu: Gpu | None = None) -> None:
        self.gpu = gpu or Gpu()
        self.calls: list[str] = []
        self.done: list[str] = []
        self.violations: list[str] = []
        self.fail: dict[str, int] = {}
        self.blocks: list[Block] = []
        self.streams: dict[int, StreamState] = {}
        self.graphs: dict[int, list[Operation]] = {}
        self.executables: dict[int, list[Operation]] = {}
        self.sticky = self.last_error = 0
        self._texts: dict[bytes, Any] = {}
        self._thread = threading.local()
        self._handles = iter(range(0x1000, 1 << 30, 16))
        self._next_on_gpu = _FIRST_ON_GPU
        for name, (result, arguments) in HEADER.items():
            # A callback in Python cannot return text, only the address of one that stays.
            real = c_void_p if result is c_char_p else result
            setattr(self, name, CFUNCTYPE(real, *arguments)(self._guarded(name, result)))

    def _guarded(self, name: str, result: Any) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if result is c_char_p:
                text = TEXTS.get(arguments[0], (b"cudaErrorUnknown", b"unknown error"))[name == "cudaGetErrorString"]
                return ctypes.addressof(self._texts.setdefault(text, ctypes.create_string_buffer(text)))
            self.calls.append(name)
            if name in self.fail:
                return self.fail[name]
            try:
                return getattr(self, f"_{name}")(*arguments) or 0
            except Exception as error:  # none can leave a C function
                self.violations.append(f"{name}: {error!r}")
                return 1

        return call

    def wrong_signatures(self) -> list[str]:
        """Functions that the code under test declared otherwise than the headers do."""
        return [
            name
            for name, (result, arguments) in HEADER.items()
            if getattr(self, name).restype is not result or tuple(getattr(self, name).argtypes) != arguments
        ]

    def leaks(self) -> list[str]:
        """What was created and not given back."""
        return [
            *(f"{block.kind} memory of {block.size} bytes" for block in self.blocks if block.live),
            *("a stream" for _ in self.streams),
            *("a recording" for _ in self.graphs),
            *("a prepared recording" for _ in self.executables),
        ]

    # What the stand-in for TensorRT uses.

    def on_gpu(self, address: int, size: int) -> Any:
        """The bytes that the GPU finds at `address`."""
        for block in self.blocks:
            start = block.alias if block.kind == "mapped" else block.address
            if block.kind != "pinned" and start <= address < start + block.size:
                assert block.live, f"memory at {address:#x} was freed"
                assert address + size <= start + block.size, f"{size} bytes at {address:#x} pass its end"
                return memoryview(block.memory).cast("B")[address - start : address - start + size]
        raise AssertionError(f"the GPU has no memory of {size} bytes at {address:#x}")

    def on_host(self, address: int, size: int) -> Any:
        """The bytes that the CPU finds at `address`, which must be pinned."""
        for block in self.blocks:
            if block.kind != "device" and block.address <= address < block.address + block.size:
                assert block.live, f"pinned memory at {address:#x} was freed"
                assert address + size <= block.address + block.size, f"{size} bytes at {address:#x} pass its end"
                start = address - block.address
                return memoryview(block.memory).cast("B")[start : start + size]
        raise AssertionError(f"there is no pinned memory of {size} bytes at {address:#x}")

    def enqueue(self, stream: int, what: str, run: Callable[[], None]) -> None:
        """Give work to a stream, or to the recording that it is at."""
        assert stream in self.streams, f"{what} was given to {stream:#x}, which is no stream"
        made_on = self.streams[stream].device
        assert made_on == self.device, f"{what} was given to a stream of GPU {made_on} by a thread of {self.device}"
        state = self.streams[stream]
        (state.queue if state.capture is None else state.capture).append(Operation(what, run))

    def invalidate(self, stream: int) -> None:
        """What the driver does to a recording when something that cannot be recorded is asked for."""
        self.streams[stream].invalid = True

    def capturing(self, stream: int) -> bool:
        return stream in self.streams and self.streams[stream].capture is not None

    # libcudart.

    def _cudaGetLastError(self) -> int:  # noqa: N802 - as CUDA calls it; so below
        """The error is told once and forgotten; one that stays is told to whoever asks next, TensorRT among them."""
        told, self.last_error = self.last_error, 0
        return told

    def _cudaGetDeviceCount(self, count: Any) -> int:  # noqa: N802
        count[0] = self.gpu.count
        return 0 if self.gpu.count else 100

    def _cudaSetDevice(self, device: int) -> None:  # noqa: N802
        assert 0 <= device < self.gpu.count, f"there is no GPU {device}"
        self._thread.device = device

    @property
    def device(self) -> int:
        """The calling thread's GPU."""
        return getattr(self._thread, "device", 0)

    def _cudaRuntimeGetVersion(self, version: Any) -> None:  # noqa: N802
        version[0] = self.gpu.runtime

    def _cudaDeviceGetAttribute(self, value: Any, attribute: int, device: int) -> int:  # noqa: N802
        gpu = self.gpu
        known = {
            16: gpu.multiprocessors,
            18: int(gpu.integrated),
            19: int(gpu.maps_host_memory),
            75: gpu.capability[0],
            76: gpu.capability[1],
        }
        value[0] = known.get(attribute, 0)
        return 0 if attribute in known and device == 0 else 1

    def _cudaGetDeviceProperties(self, properties: int, device: int) -> None:  # noqa: N802
        ctypes.memset(properties, 0xEE, 1032)  # the size of cudaDeviceProp in 12.x
        ctypes.memmove(properties, self.gpu.name.encode() + b"\0", len(self.gpu.name) + 1)

    def _cudaMemGetInfo(self, free: Any, total: Any) -> None:  # noqa: N802
        free[0], total[0] = self.gpu.memory // 2, self.gpu.memory

    def _cudaMalloc(self, out: Any, size: int) -> None:  # noqa: N802
        assert size, "an allocation of nothing has no address"
        assert self.device == 0, f"memory was asked of GPU {self.device}, the engine is on 0"
        out[0] = self._block(size, "device").address

    def _cudaHostAlloc(self, out: Any, size: int, flags: int) -> None:  # noqa: N802
        assert size, "an allocation of nothing has no address"
        out[0] = self._block(size, "mapped" if flags & _MAPPED else "pinned").address

    def _block(self, size: int, kind: str) -> Block:
        memory = (ctypes.c_ubyte * size)()
        ctypes.memset(memory, 0xCC, size)  # nobody may count on zeros
        elsewhere = self._next_on_gpu
        self._next_on_gpu += max(_APART, -(-size // _APART) * _APART)
        address = elsewhere if kind == "device" else ctypes.addressof(memory)
        self.blocks.append(Block(address, size, kind, memory, alias=elsewhere))
        return self.blocks[-1]

    def _cudaHostGetDevicePointer(self, out: Any, host: int, flags: int) -> None:  # noqa: N802
        found = [block for block in self.blocks if block.kind == "mapped" and block.live and block.address == host]
        assert found, "this memory is not mapped for the GPU"
        out[0] = found[0].alias

    def _cudaFree(self, address: int | None) -> None:  # noqa: N802
        self._freed(address, ("device",))

    def _cudaFreeHost(self, address: int | None) -> None:  # noqa: N802
        self._freed(address, ("pinned", "mapped"))

    def _freed(self, address: int | None, kinds: tuple[str, ...]) -> None:
        found = [b for b in self.blocks if b.live and b.kind in kinds and b.address == address]
        assert found, f"{address} is no live {' or '.join(kinds)} memory"
        busy = [state for state in self.streams.values() if state.queue]
        assert not busy, "memory was freed while work was waiting in a stream"
        found[0].live = False
        ctypes.memset(found[0].memory, 0xDD, found[0].size)

    def _cudaMemcpyAsync(self, to: int, of: int, size: int, kind: int, stream: int | None) -> None:  # noqa: N802
        assert size, "nothing is copied"
        assert kind in (1, 2), f"a copy of kind {kind}"
        places = (self.on_gpu, self.on_host) if kind == 1 else (self.on_host, self.on_gpu)

        def find() -> tuple[Any, Any]:
            return places[0](to, size), places[1](of, size)

        find()

        def copy() -> None:
            target, source = find()
            target[:] = source

        self.enqueue(stream or 0, f"copy {size} {'to device' if kind == 1 else 'to host'}", copy)

    def _cudaStreamCreateWithFlags(self, out: Any, flags: int) -> None:  # noqa: N802
        assert flags == 1, "a stream that waits for the default one, where somebody else's work may be"
        handle = next(self._handles)
        self.streams[handle] = StreamState(self.device)
        out[0] = handle

    def _cudaStreamDestroy(self, stream: int | None) -> None:  # noqa: N802
        assert stream in self.streams, f"{stream} is no stream"
        assert not self.streams[stream].queue, "a stream was destroyed with work in it"
        del self.streams[stream]

    def _cudaStreamSynchronize(self, stream: int | None) -> int:  # noqa: N802
        assert stream in self.streams, f"{stream} is no stream"
        state = self.streams[stream]
        if state.capture is not None:
            state.invalid = True
            return 900
        while state.queue:
            operation = state.queue.pop(0)
            self.done.append(operation.what)
            operation.run()
        return self.sticky

    def _cudaStreamBeginCapture(self, stream: int | None, mode: int) -> None:  # noqa: N802
        assert stream in self.streams, f"{stream} is no stream"
        assert self.streams[stream].capture is None, "the stream is being recorded already"
        assert mode == 1, "other threads' calls would spoil the recording"
        self.streams[stream].capture, self.streams[stream].invalid = [], False

    def _cudaStreamEndCapture(self, stream: int | None, out: Any) -> int:  # noqa: N802
        assert stream in self.streams, f"{stream} is no stream"
        state = self.streams[stream]
        assert state.capture is not None, "the stream is not being recorded"
        recorded, state.capture = state.capture, None
        if state.invalid:
            out[0] = None
            self.last_error = 901
            return 901
        handle = next(self._handles)
        self.graphs[handle] = recorded
        out[0] = handle
        return 0

    def _cudaGraphInstantiateWithFlags(self, out: Any, graph: int | None, flags: int) -> None:  # noqa: N802
        assert graph in self.graphs, f"{graph} is no recording"
        assert flags == 0, f"flags {flags:#x}"
        handle = next(self._handles)
        self.executables[handle] = list(self.graphs[graph])
        out[0] = handle

    def _cudaGraphLaunch(self, executable: int | None, stream: int | None) -> None:  # noqa: N802
        assert executable in self.executables, f"{executable} is no prepared recording"
        for operation in self.executables[executable]:
            self.enqueue(stream or 0, f"replayed {operation.what}", operation.run)

    def _cudaGraphDestroy(self, graph: int | None) -> None:  # noqa: N802
        assert graph in self.graphs, f"{graph} is no recording"
        del self.graphs[graph]

    def _cudaGraphExecDestroy(self, executable: int | None) -> None:  # noqa: N802
        assert executable in self.executables, f"{executable} is no prepared recording"
        del self.executables[executable]
