"""The whole call of a bundle (prepare, infer, decode) as a Runner, so that it can be timed like an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgeattn.backends.base import Specs, Tensors, TensorSpec, check_inputs
from edgeattn.errors import BundleError
from edgeattn.runtime.model import Model

SUFFIX = ".edgeattn"


class WholeCall:
    """Takes camera frames `(1, H, W, 3)` uint8 of any size under the names of the model's inputs.

    `infer` prepares them, runs the engine, decodes a result and returns the engine's own outputs.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._specs = Specs(
            inputs=tuple(TensorSpec(spec.name, (1, None, None, 3), "uint8") for spec in model.manifest.inputs),
            outputs=tuple(TensorSpec(spec.name, spec.shape, spec.dtype) for spec in model.manifest.outputs),
        )

    @property
    def specs(self) -> Specs:
        return self._specs

    def infer(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        check_inputs(self._specs, inputs)
        return self._model.call(*(inputs[spec.name][0] for spec in self._specs.inputs))[1]

    def close(self) -> None:
        self._model.close()


def only_bundle(path: Path) -> Path:
    """`path` itself, or the one bundle in it when it is a folder. Raises BundleError."""
    if not path.is_dir():
        return path
    found = sorted(path.glob(f"*{SUFFIX}"))
    if len(found) != 1:
        names = ", ".join(bundle.name for bundle in found) or "none"
        raise BundleError(
            f"The folder {path} must hold exactly one *{SUFFIX} file, found {names}; give the file itself."
        )
    return found[0]
