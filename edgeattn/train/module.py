"""What Lightning trains: a camera model, its own loss, one-cycle learning rate."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR

from edgeattn.models.camera import CameraModel
from edgeattn.recipe import TrainSection
from edgeattn.tasks.base import Task
from edgeattn.train import augment


class Training(pl.LightningModule):
    """Losses per epoch and the metric on the monitoring split are collected in `history`.

    The metric is watched, never acted on: no checkpoint is chosen by it, the last epoch's weights are the result.
    """

    def __init__(self, model: CameraModel, settings: TrainSection, task: Task, seed: int, total_steps: int) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        self.task = task
        self.seed = seed
        self.total_steps = total_steps
        size = model.description.preprocess
        self.augmentation = augment.augmentation(settings.augment, size.height, size.width)
        self.history: list[dict[str, float]] = []
        self._losses: list[Tensor] = []
        self._scores: list[Any] = []

    def on_train_epoch_start(self) -> None:
        self._losses = []

    def on_train_batch_start(self, batch: Any, index: int) -> None:
        # Each epoch draws from its own seed, so that a resumed run sees the same augmentations as an unbroken one. Not
        # before its first batch: the loader draws a number too, earlier in the first epoch of a process than in others.
        if index == 0:
            torch.manual_seed(self.seed * 100_003 + self.current_epoch)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        frames, targets = batch
        x = self.model.normalise(augment.apply(self.augmentation, frames))
        outputs = self.model.network(x.contiguous(memory_format=torch.channels_last))
        network: Any = self.model.network
        loss: Tensor = network.loss(outputs, targets, self.settings.label_smoothing)
        self._losses.append(loss.detach())
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        frames, targets = batch
        outputs = self.model(frames)
        values = outputs if isinstance(outputs, tuple) else (outputs,)
        arrays = dict(zip(self.model.description.outputs, (v.float().cpu().numpy() for v in values), strict=True))
        for i, target in enumerate(targets.cpu().numpy()):
            one = {name: array[i : i + 1] for name, array in arrays.items()}
            self._scores.append(self.task.score(one, target))

    def on_validation_epoch_end(self) -> None:
        import numpy as np

        if self.trainer.sanity_checking or not self._losses:
            self._scores = []
            return
        metric = self.task.summarize(np.stack(self._scores))
        self._scores = []
        loss = float(torch.stack(self._losses).mean())
        self.history.append({"epoch": self.current_epoch + 1, "train_loss": loss, "eval_metric": metric})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = checkpoint["history"]

    def configure_optimizers(self) -> Any:
        # Weight decay shrinks matrices and kernels only; on norms and biases it would shift what they are for.
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        plain = [p for p in self.model.parameters() if p.ndim <= 1]
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


def steps_in(epochs: int, samples: int, batch_size: int) -> int:
    """Optimizer steps of a run whose last, smaller batch of each epoch is dropped when there is a full one."""
    return epochs * max(1, math.floor(samples / batch_size))
