"""ONNX Runtime on the CPU: runs any exported or quantized graph as it is, and so judges its accuracy on any machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeattn.backends.base import MODEL, Runner, Specs, Tensors, TensorSpec, check_inputs, last_line
from edgeattn.errors import ModelError

_NUMPY = {"float": "float32", "double": "float64"}  # every other ONNX Runtime type is called as NumPy calls it


def missing() -> str | None:
    """None when ONNX Runtime can be imported."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError as error:
        return f'ONNX Runtime cannot be used ({last_line(error)}); install it with: pip install "edgeattn[train]".'
    return None


def load(folder: Path, *, threads: int, as_written: bool = False) -> Runner:
    """`folder/model.onnx` on the CPU with `threads` threads; `as_written`: without optimizations. Raises ModelError."""
    import onnxruntime

    path = folder / MODEL
    if not path.is_file():
        raise ModelError(f"There is no {MODEL} in {folder}; give a folder that an export or quantize stage wrote.")
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    if as_written:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4  # what goes wrong is raised; nothing is printed as well
    # Threads spin inside a run, where sleeping between two operators would cost small models most of their time, and
    # stop with it: by default they go on spinning for a while and take the cores from the engine timed next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have only this class in common
        raise ModelError(f"ONNX Runtime cannot load {path}: {last_line(error)}.") from error
    return _OnnxRuntimeRunner(session)


class _OnnxRuntimeRunner:
    def __init__(self, session: Any) -> None:
        self._session = session
        self._specs = Specs(
            inputs=tuple(_spec(argument) for argument in session.get_inputs()),
            outputs=tuple(_spec(argument) for argument in session.get_outputs()),
        )
        self._names = [spec.name for spec in self._specs.outputs]

    @property
    def specs(self) -> Specs:
        return self._specs

    def infer(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        if self._session is None:
            raise ModelError("This runner is closed; load the model again.")
        check_inputs(self._specs, inputs)
        try:
            return dict(zip(self._names, self._session.run(self._names, dict(inputs)), strict=True))
        except Exception as error:  # its exceptions have only this class in common
            raise ModelError(f"ONNX Runtime failed while running the model: {last_line(error)}.") from error

    def close(self) -> None:
        self._session = None


def _spec(argument: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else None for size in argument.shape)
    kind = argument.type.removeprefix("tensor(").removesuffix(")")
    try:
        return TensorSpec(argument.name, shape, np.dtype(_NUMPY.get(kind, kind)).name)
    except TypeError as error:
        raise ModelError(
            f"'{argument.name}' is a {argument.type}, which NumPy cannot hold; export it as float."
        ) from error
