"""A compiled model as a Runner: frames are copied into memory that OpenVINO already knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeattn.backends._openvino_library import library, translated
from edgeattn.backends.base import Specs, Tensors, TensorSpec, check_inputs
from edgeattn.errors import ModelError


class OpenvinoRunner:
    """`rebuilt` says why an engine built from `model.onnx` stands in for the folder's; None when that one is used.

    `engine_folder` is where the engine was read from; None when it was compiled in memory.
    """

    def __init__(self, compiled: Any, rebuilt: str | None = None, engine_folder: Path | None = None) -> None:
        self.rebuilt, self.engine_folder = rebuilt, engine_folder
        self._specs = Specs(
            inputs=tuple(_spec(port) for port in compiled.inputs),
            outputs=tuple(_spec(port) for port in compiled.outputs),
        )
        self._names = [spec.name for spec in self._specs.outputs]
        self._dynamic = any(None in spec.shape for spec in self._specs.inputs + self._specs.outputs)
        self._request = compiled.create_infer_request()
        self._bound: dict[str, NDArray[Any]] = {}
        self._results: list[Any] = []
        if not self._dynamic:
            # Handing arrays over in each call costs 15 to 20 us, a tenth of a small network's time; copying a frame
            # into memory that OpenVINO already knows costs next to nothing.
            library_tensor = library().Tensor
            for spec in self._specs.inputs:
                self._bound[spec.name] = np.zeros([size or 0 for size in spec.shape], spec.dtype)
                self._request.set_tensor(spec.name, library_tensor(self._bound[spec.name], shared_memory=True))
            self._results = [self._request.get_output_tensor(i) for i in range(len(self._names))]

    @property
    def specs(self) -> Specs:
        return self._specs

    def infer(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        if self._request is None:
            raise ModelError("This runner is closed; load the model again.")
        check_inputs(self._specs, inputs)
        with translated("run the model"):
            if not self._dynamic:
                for name, memory in self._bound.items():
                    np.copyto(memory, inputs[name])
                self._request.infer()
                tensors = self._results
            else:
                # With one thread, `infer` (2026.4) drops the error when dynamic shapes do not fit each other inside the
                # graph and returns empty arrays; `wait` raises it, at the price of a switch between threads.
                arrays = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
                self._request.start_async(arrays, share_inputs=True)
                self._request.wait()
                tensors = self._request.output_tensors
            # The tensors are OpenVINO's and change with the next call.
            return {name: tensor.data.copy() for name, tensor in zip(self._names, tensors, strict=True)}

    def close(self) -> None:
        self._request = None
        self._bound, self._results = {}, []


def _spec(port: Any) -> TensorSpec:
    shape = tuple(size.get_length() if size.is_static else None for size in port.get_partial_shape())
    return TensorSpec(_name(port), shape, np.dtype(port.get_element_type().to_dtype()).name)


def _name(port: Any) -> str:
    """Compiled, a port has the names of the tensors that were joined with it too, as by a Cast that fell away; what the
    graph calls it is in the name of its node."""
    own = str(port.get_node().get_friendly_name()).removesuffix("/sink_port_0")
    return own if own in port.get_names() else str(port.get_any_name())
