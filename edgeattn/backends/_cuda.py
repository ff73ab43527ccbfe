"""The CUDA runtime, through ctypes on libcudart: which GPU this is, and calls whose errors are sentences.

Why ctypes: JetPack installs libcudart, since TensorRT needs CUDA, but neither pycuda nor cuda-python, and building
either on a board takes a compiler and minutes. The functions used here keep their names and signatures from CUDA 11.4
to 13: compared with the headers and symbols of 11.8, 12.6, 12.9 and 13.5. `cudaGraphInstantiate`, which changed in 12,
is avoided, and of `cudaDeviceProp`, whose layout moves, only the first field is read, the name.

Loading, error texts and the answer to "no driver" were tried with those four libraries on a machine without a GPU; all
of it ran on an H100 with CUDA 13.0 (tests/backends/test_cuda_real.py), nothing on a Jetson yet.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Iterator
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_ulonglong, c_void_p
from functools import lru_cache
from pathlib import Path
from typing import Any

from edgeattn.errors import MachineError, MissingLibrary

DEVICE = 0  # the first GPU that CUDA_VISIBLE_DEVICES leaves visible, which is also where TensorRT builds

_OUT = POINTER(c_void_p)
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cudaDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cudaFree": (c_void_p,),
    "cudaFreeHost": (c_void_p,),
    "cudaGetDeviceCount": (POINTER(c_int),),
    "cudaGetDeviceProperties": (c_void_p, c_int),
    "cudaGetErrorName": (c_int,),
    "cudaGetErrorString": (c_int,),
    "cudaGetLastError": (),
    "cudaGraphDestroy": (c_void_p,),
    "cudaGraphExecDestroy": (c_void_p,),
    "cudaGraphInstantiateWithFlags": (_OUT, c_void_p, c_ulonglong),
    "cudaGraphLaunch": (c_void_p, c_void_p),
    "cudaHostAlloc": (_OUT, c_size_t, c_uint),
    "cudaHostGetDevicePointer": (_OUT, c_void_p, c_uint),
    "cudaMalloc": (_OUT, c_size_t),
    "cudaMemGetInfo": (POINTER(c_size_t), POINTER(c_size_t)),
    "cudaMemcpyAsync": (c_void_p, c_void_p, c_size_t, c_int, c_void_p),
    "cudaRuntimeGetVersion": (POINTER(c_int),),
    "cudaSetDevice": (c_int,),
    "cudaStreamBeginCapture": (c_void_p, c_int),
    "cudaStreamCreateWithFlags": (_OUT, c_uint),
    "cudaStreamDestroy": (c_void_p,),
    "cudaStreamEndCapture": (c_void_p, _OUT),
    "cudaStreamSynchronize": (c_void_p,),
}
_TEXTS = ("cudaGetErrorName", "cudaGetErrorString")
# cudaDeviceAttr and cudaError of driver_types.h, the same in 11.8 to 13.5.
_MULTIPROCESSORS, _INTEGRATED, _CAN_MAP_HOST_MEMORY, _MAJOR, _MINOR = 16, 18, 19, 75, 76
_OUT_OF_MEMORY, _INSUFFICIENT_DRIVER, _NO_DEVICE = 2, 35, 100
_PROPERTIES_SIZE = 16384  # cudaDeviceProp has about 1,000 bytes; its name comes first and has 256

_NAMES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so")
_FOLDERS = ("/usr/local/cuda/lib64", "/usr/local/cuda/targets/aarch64-linux/lib")


class Cuda:
    """One opened libcudart. `call` raises MachineError, `release` never does."""

    def __init__(self, library: Any) -> None:
        self._functions: dict[str, Any] = {}
        for name, arguments in _SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes = arguments
            function.restype = c_char_p if name in _TEXTS else c_int
            self._functions[name] = function

    def call(self, what: str, name: str, *arguments: Any) -> None:
        """Call `name`; `what` is what fails with it, as in "allocate memory"."""
        if code := self._functions[name](*arguments):
            self.release("cudaGetLastError")  # else the next caller, TensorRT among them, takes it for its own
            raise MachineError(self._sentence(what, code))

    def release(self, name: str, *arguments: Any) -> None:
        """Call `name` for its effect: after an error of the GPU even giving memory back fails, and means nothing."""
        self._functions[name](*arguments)

    def _sentence(self, what: str, code: int) -> str:
        text = self._functions["cudaGetErrorString"](code).decode(errors="replace")
        name = self._functions["cudaGetErrorName"](code).decode(errors="replace")
        said = f"CUDA cannot {what}: {text} ({name}, {code})"
        if code == _OUT_OF_MEMORY:
            return f"{said}; close other programs that use the GPU (on a Jetson the desktop too) and try again."
        if code in (_INSUFFICIENT_DRIVER, _NO_DEVICE):
            return f"{said}; this needs an NVIDIA GPU and its driver, check with: nvidia-smi."
        return f"{said}."

    def _integer(self, what: str, name: str, *arguments: Any) -> int:
        value = c_int()
        self.call(what, name, byref(value), *arguments)
        return value.value

    def _attribute(self, number: int) -> int:
        return self._integer("describe the GPU", "cudaDeviceGetAttribute", number, DEVICE)

    def device_count(self) -> int:
        return self._integer("find a GPU", "cudaGetDeviceCount")

    def use_device(self) -> None:
        """Make this thread's calls go to `DEVICE`; a new thread starts with the first one as well."""
        self.call("use the GPU", "cudaSetDevice", DEVICE)

    def version(self) -> str:
        """The runtime's, such as "12.6"."""
        number = self._integer("tell its version", "cudaRuntimeGetVersion")
        return f"{number // 1000}.{number % 1000 // 10}"

    def device_name(self) -> str:
        properties = ctypes.create_string_buffer(_PROPERTIES_SIZE)
        self.call("describe the GPU", "cudaGetDeviceProperties", properties, DEVICE)
        return properties.raw[:256].split(b"\0")[0].decode(errors="replace")

    def compute_capability(self) -> tuple[int, int]:
        return self._attribute(_MAJOR), self._attribute(_MINOR)

    def multiprocessors(self) -> int:
        return self._attribute(_MULTIPROCESSORS)

    def shares_memory(self) -> bool:
        """True where GPU and CPU have one memory, as on every Jetson, and the GPU can reach the CPU's part of it."""
        return bool(self._attribute(_INTEGRATED)) and bool(self._attribute(_CAN_MAP_HOST_MEMORY))

    def total_memory(self) -> int:
        """Bytes; on a Jetson the whole of its memory."""
        free, total = c_size_t(), c_size_t()
        self.call("tell how much memory it has", "cudaMemGetInfo", byref(free), byref(total))
        return total.value


@lru_cache(maxsize=1)
def runtime() -> Cuda:
    """This process's one libcudart that finds a GPU. Raises MissingLibrary when there is none, with the reason."""
    reason = ""
    for path in _candidates():
        try:
            cuda = Cuda(_open(path))
        except (OSError, AttributeError):  # not there, or too old to have all functions
            continue
        try:
            if cuda.device_count():
                cuda.use_device()
                return cuda
            reason = reason or f"{path} finds no GPU; check with: nvidia-smi."
        except MachineError as error:  # of several the next one may fit the driver
            reason = reason or str(error)
    raise MissingLibrary(
        reason
        or "libcudart of CUDA 11.4 or newer was not found; on a Jetson install it with: "
        "sudo apt install nvidia-jetpack, elsewhere with: pip install nvidia-cuda-runtime-cu12."
    )


def _open(path: str) -> Any:
    return ctypes.CDLL(path)


def _candidates() -> Iterator[str]:
    """Where the linker looks, then JetPack's folder, then what TensorRT's packages of PyPI bring along."""
    yield from _NAMES
    for folder in _FOLDERS:
        yield str(Path(folder) / "libcudart.so")
    found = importlib.util.find_spec("nvidia")
    for place in (found.submodule_search_locations or ()) if found else ():
        yield from map(str, sorted(Path(place).glob("*/lib/libcudart.so.*"), reverse=True))
