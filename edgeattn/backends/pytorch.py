"""PyTorch eager, the reference every other backend is compared with. Loads what the train stage writes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeattn.backends.base import Runner, Specs, Tensors, TensorSpec, check_inputs
from edgeattn.errors import ModelError


def missing() -> str | None:
    """None when torch is importable."""
    if importlib.util.find_spec("torch"):
        return None
    return 'PyTorch is not installed; install it with: pip install "edgeattn[train]".'


def load(folder: Path, *, threads: int) -> Runner:
    """The trained model in `folder` (`model.json`, `weights.safetensors`), FP32 on the CPU. Raises ModelError."""
    import torch

    from edgeattn.models import camera

    torch.set_num_threads(threads)
    return _PyTorchRunner(camera.load(folder))


class _PyTorchRunner:
    def __init__(self, model: Any) -> None:
        self._model = model
        size = model.description.preprocess
        self._specs = Specs(
            inputs=tuple(
                TensorSpec(name, (None, size.height, size.width, 3), "uint8") for name in model.description.inputs
            ),
            outputs=tuple(TensorSpec(name, (), "float32") for name in model.description.outputs),
        )

    @property
    def specs(self) -> Specs:
        return self._specs

    def infer(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        import torch

        if self._model is None:
            raise ModelError("This runner is closed; load the model again.")
        check_inputs(self._specs, inputs)
        with torch.inference_mode():
            # Torch warns of an array that is read-only: such a one is copied.
            arrays = (np.require(inputs[spec.name], requirements=("C", "W")) for spec in self._specs.inputs)
            frames = (torch.from_numpy(array) for array in arrays)
            outputs = self._model(*frames)
        values = outputs if isinstance(outputs, tuple) else (outputs,)
        return {spec.name: value.numpy() for spec, value in zip(self._specs.outputs, values, strict=True)}

    def close(self) -> None:
        self._model = None
