"""Entries for worker processes: runners that sleep, fail, die or hang. Each leaves its process id below `path`."""

import os
import signal
import time

import numpy as np

from edgeattn.backends.base import Specs, TensorSpec
from edgeattn.errors import BundleError, MissingLibrary, StorageError


class SpecialBundleError(BundleError):
    """A class that errors.py does not know."""


class Sleeper:
    specs = Specs((TensorSpec("frame", (1, 2, 2, 3), "uint8"),), (TensorSpec("y", (1,), "float32"),))

    def __init__(self, seconds):
        self._seconds = seconds

    def infer(self, inputs):
        assert inputs["frame"].shape == (1, 2, 2, 3)
        time.sleep(self._seconds)
        return {"y": np.zeros(1, np.float32)}

    def close(self):
        pass


def _note(path):
    (path / str(os.getpid())).touch()
    print("libraries print things")


def fast(path, *, threads):
    _note(path)
    return Sleeper(0.001)


def slow(path, *, threads):
    _note(path)
    return Sleeper(0.004)


def ballast(path, *, threads):
    runner = fast(path, threads=threads)
    runner.ballast = np.ones(20_000_000)  # 160 MB
    return runner


class Pairs(Sleeper):
    """`b` is `a` plus 7, in every call."""

    def infer(self, inputs):
        b, a = inputs["b"], inputs.get("a")
        assert a.shape == b.shape == (1, 2, 2, 3)
        assert (b == a + 7).all()
        time.sleep(self._seconds)
        return {"y": np.zeros(1, np.float32)}


def two_inputs(path, *, threads):
    _note(path)
    return Pairs(0.001)


def refuses(path, *, threads):
    _note(path)
    raise SpecialBundleError("It is truncated.")


def breaks(path, *, threads):
    _note(path)
    raise RuntimeError("layer 7 exploded")


def breaks_when_called(path, *, threads):
    runner = fast(path, threads=threads)
    runner.infer = lambda inputs: _explode()
    return runner


def breaks_when_told(path, *, threads):
    """Works until a file `<path>.now` appears."""
    runner = fast(path, threads=threads)
    infer, now = runner.infer, path.with_name(f"{path.name}.now")
    runner.infer = lambda inputs: _explode() if now.exists() else infer(inputs)
    return runner


def _explode():
    raise RuntimeError("layer 7 exploded")


def needs_a_library(path, *, threads):
    _note(path)
    raise MissingLibrary("OpenVINO cannot be used.")


def needs_a_disk(path, *, threads):
    _note(path)
    raise StorageError("No space is left on the disk.")


def dies(path, *, threads):
    _note(path)
    print("assertion failed: engine.cc", flush=True)
    os._exit(7)


def killed(path, *, threads):
    _note(path)
    os.kill(os.getpid(), signal.SIGKILL)


def hangs(path, *, threads):
    _note(path)
    time.sleep(60)


def dies_at_the_end(path, *, threads):
    runner = fast(path, threads=threads)
    runner.close = lambda: os._exit(1)
    return runner
