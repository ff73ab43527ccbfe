"""A network together with its camera-side preparation: the module that is trained, exported and compiled."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgeattn import models
from edgeattn.artifact import write_atomic
from edgeattn.errors import EdgeattnError, MachineError, ModelError, reason
from edgeattn.imaging import Preprocess
from edgeattn.recipe import parse_settings

SCHEMA = "edgeattn.model/1"
_OF_TORCH = (MemoryError, OverflowError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Description:
    """Everything besides the weights. `mean` and `std` are BGR, on the scale 0..255."""

    name: str
    settings: dict[str, Any]
    labels: tuple[str, ...]
    preprocess: Preprocess
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def task(self) -> str:
        return str(models.find(self.name).TASK)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the frames it takes."""
        return tuple(getattr(models.find(self.name), "INPUTS", ("frame",)))

    @property
    def outputs(self) -> tuple[str, ...]:
        module = models.find(self.name)
        if hasattr(module, "outputs"):
            return tuple(module.outputs(parse_settings(module.Settings, self.settings, f"model {self.name}")))
        return tuple(module.OUTPUTS)

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "task": self.task,
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            **asdict(self),
            "preprocess": self.preprocess.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Description:
        return cls(
            name=values["name"],
            settings=values["settings"],
            labels=tuple(values["labels"]),
            preprocess=Preprocess.from_dict(values["preprocess"]),
            mean=tuple(values["mean"]),
            std=tuple(values["std"]),
        )


class CameraModel(nn.Module):
    """uint8 BGR `(N, H, W, 3)`, as a camera delivers it, one for each input of the task -> the network's outputs.

    Layout and normalisation happen here, so they are inside every exported graph. The networks are trained on BGR, the
    camera's own order, so that no channel is ever moved.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, description: Description) -> None:
        super().__init__()
        module = models.find(description.name)
        settings = parse_settings(module.Settings, description.settings, f"model {description.name}")
        self.description = description
        self.network: nn.Module = module.Network(settings, len(description.labels))
        self.register_buffer("mean", torch.tensor(description.mean).reshape(1, 3, 1, 1))
        self.register_buffer("scale", (1.0 / torch.tensor(description.std)).reshape(1, 3, 1, 1))

    def normalise(self, x: Tensor) -> Tensor:
        """Float BGR `(N, 3, H, W)` in 0..255 -> as the network wants it, `(x - mean) / std`."""
        return (x - self.mean) * self.scale

    def forward(self, *frames: Tensor) -> Any:
        return self.network(*(self.normalise(frame.float().permute(0, 3, 1, 2)) for frame in frames))


def try_blank(model: CameraModel) -> tuple[Any, ...]:
    """The outputs for one blank frame, of the untrained network, which is left in evaluation mode.

    Raises what the network does with frames that it cannot take.
    """
    model.eval()
    size = model.description.preprocess
    blank = torch.zeros(1, size.height, size.width, 3, dtype=torch.uint8)
    with torch.inference_mode():
        outputs = model(*[blank] * len(model.description.inputs))
    return outputs if isinstance(outputs, tuple) else (outputs,)


def save(model: CameraModel, folder: Path) -> None:
    """Write `weights.safetensors` and `model.json` into `folder`."""
    from safetensors.torch import save as to_bytes

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_atomic(folder / "weights.safetensors", to_bytes(tensors))
    write_atomic(folder / "model.json", json.dumps(model.description.to_dict(), indent=1, sort_keys=True))


def load(folder: Path) -> CameraModel:
    """The model saved in `folder`, in evaluation mode.

    Raises ModelError when a file is missing, altered or holds values that are not finite.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        description = Description.from_dict(json.loads((folder / "model.json").read_text()))
        model = CameraModel(description)
        model.load_state_dict(load_file(folder / "weights.safetensors"))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"The model in {folder} cannot be loaded ({reason(error)}); expected model.json and weights.safetensors as "
            "the train stage writes them."
        ) from error
    check_finite(model, str(folder))
    return model.eval()


@contextmanager
def own_code() -> Iterator[None]:
    """Around calls of a network's own code, inside `torch_errors`, which then tells of whatever it raises.

    Around those calls alone: what our own code or a caller's progress raises is no mistake of the network.
    """
    try:
        yield
    except (EdgeattnError, OSError, *_OF_TORCH):
        raise
    except Exception as error:  # somebody else's code may raise anything
        raise RuntimeError(str(error)) from error


@contextmanager
def torch_errors(what: str, cure: str) -> Iterator[None]:
    """Turn what torch and its exporter raise inside into two clauses, "`what` (reason); `cure`.", as a ModelError.

    MachineError where the memory of this machine or its accelerator is not enough.
    """
    try:
        yield
    except _OF_TORCH as error:
        cause: BaseException = error
        while cause.__cause__ is not None:  # the exporter wraps what it met, with advice on its own use
            cause = cause.__cause__
        said = reason(cause)
        # Of memory for the processor torch says so in words only, behind the name of the part that allocates it.
        if isinstance(cause, (MemoryError, torch.OutOfMemoryError)) or "DefaultCPUAllocator" in said:
            raise MachineError(
                f"{what}: the memory of this machine is not enough; use a smaller model, input or train.batch_size."
            ) from error
        raise ModelError(f"{what} ({said}); {cure}.") from error


def check_finite(model: nn.Module, where: str) -> None:
    """Raise ModelError naming the first tensor that holds NaN or infinity."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(
                f"The weights in {where} are not finite: '{name}' holds NaN or infinity; train again with a lower "
                "learning rate (--set train.learning_rate=…) or use other weights."
            )
