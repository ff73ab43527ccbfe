"""libcudart through ctypes: found, declared as its headers declare it, its errors as sentences.

The last test uses a true libcudart where one is installed, with or without a GPU; the others a stand-in.
"""

import ctypes
import importlib.util
import sys

import pytest

from edgeattn.backends import _cuda
from edgeattn.errors import MachineError, MissingLibrary

cudart = sys.modules["cudart_fake"]


@pytest.fixture(autouse=True)
def fresh():
    _cuda.runtime.cache_clear()
    yield
    _cuda.runtime.cache_clear()


@pytest.fixture
def found(monkeypatch):
    """found(path=library, ...): what opening each path gives; an exception is raised, another path is not there."""

    def install(libraries):
        def opened(path):
            library = libraries.get(path, OSError(f"{path}: cannot open shared object file"))
            if isinstance(library, Exception):
                raise library
            return library

        monkeypatch.setattr(_cuda, "_open", opened)

    return install


def test_what_a_gpu_is(found):
    gpu = cudart.Gpu(name="NVIDIA Thor", capability=(11, 0), multiprocessors=20, integrated=True, memory=1 << 37)
    library = cudart.FakeCudart(gpu)
    found({"libcudart.so.12": library})
    cuda = _cuda.runtime()
    assert cuda is _cuda.runtime()
    assert (cuda.device_name(), cuda.compute_capability(), cuda.multiprocessors()) == ("NVIDIA Thor", (11, 0), 20)
    assert (cuda.version(), cuda.total_memory(), cuda.shares_memory()) == ("12.6", 1 << 37, True)
    assert library.wrong_signatures() == []
    assert library.violations == []


@pytest.mark.parametrize(
    ("integrated", "maps", "shares"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_memory_is_shared_only_where_the_gpu_reaches_it(found, integrated, maps, shares):
    found({"libcudart.so.12": cudart.FakeCudart(cudart.Gpu(integrated=integrated, maps_host_memory=maps))})
    assert _cuda.runtime().shares_memory() is shares


def test_the_names_and_types_are_those_of_the_headers():
    results = {name: ctypes.c_char_p if name in _cuda._TEXTS else ctypes.c_int for name in _cuda._SIGNATURES}
    assert {name: (results[name], arguments) for name, arguments in _cuda._SIGNATURES.items()} == cudart.HEADER


def test_of_several_the_first_that_finds_a_gpu_is_taken(found):
    too_new, fits = cudart.FakeCudart(), cudart.FakeCudart()
    too_new.fail["cudaGetDeviceCount"] = 35
    found({"libcudart.so.13": too_new, "libcudart.so.12": fits})
    assert _cuda.runtime().device_count() == 1
    assert "cudaSetDevice" in fits.calls


def test_one_that_is_too_old_is_passed_over(found):
    class Old:
        """Has no function at all, as far as ctypes can see."""

        def __getattr__(self, name):
            raise AttributeError(f"undefined symbol: {name}")

    found({"libcudart.so.11.0": Old(), "libcudart.so": cudart.FakeCudart()})
    assert _cuda.runtime().version() == "12.6"


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (
            {"cudaGetDeviceCount": 35},
            "cannot find a GPU: CUDA driver version is insufficient .* its driver, check with",
        ),
        ({"cudaGetDeviceCount": 100}, r"no CUDA-capable device is detected \(cudaErrorNoDevice, 100\)"),
        ({}, "libcudart.so.12 finds no GPU"),
    ],
)
def test_without_a_gpu(found, failure, says):
    library = cudart.FakeCudart(cudart.Gpu(count=0) if failure else cudart.Gpu())
    library.fail = failure
    if not failure:
        library._cudaGetDeviceCount = lambda count: 0
        count = cudart.INT(ctypes.c_int(0))
        assert library.cudaGetDeviceCount(count) == 0
    found({"libcudart.so.12": library})
    with pytest.raises(MissingLibrary, match=says):
        _cuda.runtime()


def test_without_libcudart(found):
    found({})
    with pytest.raises(MissingLibrary, match=r"libcudart of CUDA 11.4 or newer was not found; .* apt install"):
        _cuda.runtime()


def test_it_is_looked_for_beside_the_packages_of_pypi(monkeypatch, tmp_path):
    lib = tmp_path / "nvidia" / "cuda_runtime" / "lib"
    lib.mkdir(parents=True)
    (lib / "libcudart.so.12").touch()
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    assert str(lib / "libcudart.so.12") in list(_cuda._candidates())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert list(_cuda._candidates())[-1].startswith("/usr/local/cuda")


def test_an_error_is_a_sentence_and_is_not_left_for_the_next_caller(found):
    library = cudart.FakeCudart()
    found({"libcudart.so.12": library})
    cuda = _cuda.runtime()
    library.fail["cudaMalloc"] = 2
    with pytest.raises(MachineError) as caught:
        cuda.call("allocate 16 bytes on the GPU", "cudaMalloc", ctypes.byref(ctypes.c_void_p()), 16)
    assert str(caught.value) == (
        "CUDA cannot allocate 16 bytes on the GPU: out of memory (cudaErrorMemoryAllocation, 2); close other programs "
        "that use the GPU (on a Jetson the desktop too) and try again."
    )
    assert library.calls[-1] == "cudaGetLastError"


def real_libraries():
    for path in _cuda._candidates():
        try:
            yield path, ctypes.CDLL(path)
        except OSError:
            continue


def test_a_true_libcudart_has_all_that_is_called():
    opened = list(real_libraries())
    if not opened:
        pytest.skip("no libcudart is installed here (pip install nvidia-cuda-runtime-cu12 brings one)")
    for path, library in opened:
        cuda = _cuda.Cuda(library)  # AttributeError where a function is missing
        try:
            assert cuda.version().partition(".")[0] in {"11", "12", "13"}, path  # 11 wants a driver even for that
            assert cuda.device_count() > 0
        except MachineError as error:
            assert "check with: nvidia-smi" in str(error)
