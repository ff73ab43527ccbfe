"""What Lightning trains: a camera model, its own loss, one-cycle learning rate."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR

from edgeattn.data.base import Degradation
from edgeattn.imaging import View
from edgeattn.models.camera import CameraModel, own_code
from edgeattn.recipe import TrainSection
from edgeattn.tasks.base import Task
from edgeattn.train.augment import Augmentation


class Training(pl.LightningModule):
    """Losses per epoch and the metric on the monitoring split are collected in `history`, in `gpus` the names of those
    it was trained on, before it was resumed too; none for the CPU.

    The metric is watched, never acted on: no checkpoint is chosen by it, the last epoch's weights are the result.
    """

    def __init__(
        self,
        model: CameraModel,
        settings: TrainSection,
        task: Task,
        seed: int,
        total_steps: int,
        metric: str,
        degradation: Degradation | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        self.task = task
        self.metric = metric
        self.seed = seed
        self.total_steps = total_steps
        size = model.description.preprocess
        self.augmentation = Augmentation(settings.augment, task.target, size.height, size.width, degradation)
        self.history: list[dict[str, float]] = []
        self.gpus: list[str] = []
        self._losses: list[Tensor] = []
        self._scores: list[Any] = []

    def on_train_start(self) -> None:
        if self.device.type == "cuda" and (name := torch.cuda.get_device_name(self.device)) not in self.gpus:
            self.gpus.append(name)

    def on_train_epoch_start(self) -> None:
        self._losses = []

    def on_train_batch_start(self, batch: Any, index: int) -> None:
        # Each epoch draws from its own seed, so that a resumed run sees the same augmentations as an unbroken one. Not
        # before its first batch: the loader draws a number too, earlier in the first epoch of a process than in others.
        if index == 0:
            torch.manual_seed(self.seed * 100_003 + self.current_epoch)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        frames, targets = self.augmentation(*batch)
        inputs = [
            self.model.normalise(frames[:, i] * 255.0).contiguous(memory_format=torch.channels_last)
            for i in range(frames.shape[1])
        ]
        network: Any = self.model.network
        smoothing = self.settings.label_smoothing
        loss: Tensor
        with own_code():
            if hasattr(network, "training_loss"):
                loss = network.training_loss(*inputs, targets, smoothing)
            else:
                loss = network.loss(network(*inputs), targets, smoothing)
        self._losses.append(loss.detach())
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        frames, targets = batch
        outputs = self.model(*frames.unbind(1))
        values = outputs if isinstance(outputs, tuple) else (outputs,)
        arrays = dict(zip(self.model.description.outputs, (v.float().cpu().numpy() for v in values), strict=True))
        for i, (target, seen) in enumerate(zip(targets.cpu().numpy(), frames.cpu().numpy(), strict=True)):
            one = {name: array[i : i + 1] for name, array in arrays.items()}
            real = target[target[:, 4] >= 0] if self.task.target == "boxes" else target  # without unused rows
            # As if the network's frames were the camera's: the targets were fitted to them.
            self._scores.append(self.task.score(one, real, tuple(View(frame, np.eye(3)) for frame in seen)))

    def on_validation_epoch_end(self) -> None:
        if self.trainer.sanity_checking or not self._losses:
            self._scores = []
            return
        metric = self.task.summarize(np.stack(self._scores), self.metric)
        self._scores = []
        loss = float(torch.stack(self._losses).mean())
        self.history.append({"epoch": self.current_epoch + 1, "train_loss": loss, "eval_metric": metric})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"], checkpoint["gpus"] = self.history, self.gpus

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history, self.gpus = checkpoint["history"], checkpoint["gpus"]

    def configure_optimizers(self) -> Any:
        named = list(self.model.named_parameters())
        decayed = [p for name, p in named if decays(name, p)]
        plain = [p for name, p in named if not decays(name, p)]
        groups = [{"params": decayed, "weight_decay": self.settings.weight_decay}, {"params": plain, "weight_decay": 0}]
        rate = self.settings.learning_rate
        optimizer: torch.optim.Optimizer
        if self.settings.optimizer == "sgd":
            optimizer = torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)
        else:
            optimizer = torch.optim.AdamW(groups, lr=rate)
        # One cycle: Smith and Topin, "Super-Convergence", 2018, arXiv:1708.07120. Torch divides by the length of each
        # of its two phases, so that neither may be empty.
        steps = max(3, self.total_steps)
        rising = min(max(self.settings.warmup, 2 / steps), 1 - 1 / steps)
        schedule = OneCycleLR(optimizer, max_lr=rate, total_steps=steps, pct_start=rising, cycle_momentum=False)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def decays(name: str, parameter: Tensor) -> bool:
    """Whether weight decay shrinks a parameter: a matrix or kernel, which torch's layers call `weight`, and no other.

    On norms, biases, temperatures, learned positions and queries it would shift what they are for.
    """
    return parameter.ndim > 1 and name.endswith("weight")


def steps_in(epochs: int, samples: int, batch_size: int) -> int:
    """Optimizer steps of a run whose last, smaller batch of each epoch is dropped when there is a full one."""
    return epochs * max(1, math.floor(samples / batch_size))
