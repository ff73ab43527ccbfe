"""Runners that stand in for arithmetic that this machine lacks (`quantize.emulate`); rows name them as entries."""

from __future__ import annotations

from pathlib import Path

from edgeattn.backends.base import Runner
from edgeattn.quantize import emulate
from edgeattn.runtime.model import Model, open_model
from edgeattn.runtime.whole_call import WholeCall, only_bundle


def load(folder: Path, *, threads: int) -> Runner:
    """The `model.onnx` in `folder`. Raises ModelError."""
    return emulate.load(folder, threads=threads)


def load_fused(folder: Path, *, threads: int) -> Runner:
    """As `load`, by ONNX Runtime with its optimizations: it fuses nodes, as a device does. Raises ModelError."""
    return emulate.load(folder, threads=threads, as_written=False)


def open_bundle(path: Path, *, threads: int) -> Model:
    """The bundle at `path`, with the emulation in place of its backend. Raises as `edgeattn.load`."""
    return open_model(path, key=None, threads=threads, self_test=False, opener=emulate.load)


def load_bundle(path: Path, *, threads: int) -> Runner:
    """The bundle at `path`, or the only one in the folder `path`, as a Runner of the whole call."""
    return WholeCall(open_bundle(only_bundle(path), threads=threads))
