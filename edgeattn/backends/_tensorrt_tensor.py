"""The inputs and outputs of an opened engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeattn.backends.base import TensorSpec
from edgeattn.errors import ModelError

# TensorRT's names for what NumPy can hold; BF16, FP8, INT4 and FP4 it cannot.
_NUMPY = {
    **{"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "UINT8": "uint8", "INT32": "int32", "INT64": "int64"},
    "BOOL": "bool",
}


@dataclass(frozen=True)
class Tensor:
    """`shape` has None where it is dynamic. Of an input, `lowest` and `highest` are the shapes that the engine takes.
    `on_host`: TensorRT reads or writes it in the CPU's memory, as it does with shapes."""

    name: str
    is_input: bool
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]
    lowest: tuple[int, ...]
    highest: tuple[int, ...]
    on_host: bool

    @property
    def spec(self) -> TensorSpec:
        return TensorSpec(self.name, self.shape, self.dtype.name)

    def size(self, shape: tuple[int, ...]) -> int:
        """Bytes that it takes with `shape`."""
        return int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize

    def check_range(self, shape: tuple[int, ...]) -> None:
        """Raise ModelError unless the engine takes this input with `shape`."""
        if not all(low <= size <= high for low, size, high in zip(self.lowest, shape, self.highest, strict=True)):
            raise ModelError(
                f"Input '{self.name}' must have a shape from {self.lowest} to {self.highest}, got {shape}; build the "
                "engine with another profile."
            )


def tensor(trt: Any, engine: Any, index: int) -> Tensor:
    """The input or output number `index` of an ICudaEngine. Raises ModelError for a type that NumPy lacks."""
    name = str(engine.get_tensor_name(index))
    kind = engine.get_tensor_dtype(name).name
    if kind not in _NUMPY:
        raise ModelError(
            f"'{name}' is {kind}, which NumPy cannot hold; export the model with float inputs and outputs."
        )
    is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
    on_host = engine.get_tensor_location(name) == trt.TensorLocation.HOST
    sizes = tuple(int(size) for size in engine.get_tensor_shape(name))
    lowest = highest = sizes
    if is_input and -1 in sizes:
        low, _, high = engine.get_tensor_profile_shape(name, 0)
        lowest, highest = tuple(map(int, low)), tuple(map(int, high))
    # What may only have one size is not dynamic for who calls.
    shape = tuple(
        (low if low == high else None) if size == -1 else size
        for size, low, high in zip(sizes, lowest, highest, strict=True)
    )
    if not is_input:
        shape = tuple(None if size == -1 else size for size in sizes)
    return Tensor(name, is_input, np.dtype(_NUMPY[kind]), shape, lowest, highest, on_host)
