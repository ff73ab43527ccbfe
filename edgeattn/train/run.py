"""Train one recipe's network; resumable at every epoch."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from numpy.typing import NDArray
from torch.utils.data import DataLoader, TensorDataset

from edgeattn import host, models, tasks
from edgeattn.artifact import ELAPSED, elapsed_s, write_atomic
from edgeattn.data.base import Degradation, Splits
from edgeattn.errors import DataError, ModelError, StageFailed
from edgeattn.imaging import Preprocess
from edgeattn.models import camera
from edgeattn.progress import Progress
from edgeattn.recipe import Recipe
from edgeattn.tasks.base import Task, metric_of
from edgeattn.train import changes, memory
from edgeattn.train.frames import Fitting, Watch, prepare, shapes_of, training_fitting
from edgeattn.train.module import Training, steps_in

# Of one batch of the evaluation split: of small frames many, of large ones few.
_WATCH_PIXELS = 256 * 32 * 32
_CURE = "change the model, the input's size or train.batch_size in the recipe"


def train(recipe: Recipe, splits: Splits, work: Path, out: Path, progress: Progress) -> None:
    """Write the trained model and `training.json` into `out`; checkpoints live in `work` and are resumed from.

    Raises StageFailed when loss or weights are no longer finite, ModelError when the network cannot be trained with
    these settings, RecipeError when frames cannot be changed as it asks, MachineError when memory is short, DataError
    when a sample cannot be read.
    """
    _check_sizes(recipe, splits)
    changes.check(recipe.train.augment, tasks.find(recipe.task).target, degraded=splits.degradation is not None)
    with _quiet():
        pl.seed_everything(recipe.seed, verbose=False)
        # Deterministic algorithms also fill every new tensor, to show who reads one unwritten: 5 % of a step.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # stubs lack it
        preprocess = Preprocess(**recipe.input.model_dump())
        workers = host.cores()
        task = tasks.find(recipe.task)
        frames, targets = _training_items(splits, preprocess, task, work / "train", workers, progress)
        watched = Watch(splits.evaluation, preprocess, task.target)
        whole = replace(preprocess, fit="crop") if preprocess.fit == "tile" else preprocess
        fitting = Fitting(whole, task.inputs, task.target)
        watch_frames, watch_targets = prepare(watched, fitting, work / "watch", workers, progress)
        mean, std = _normalisation(recipe.model.name, frames, recipe.seed)
        description = camera.Description(recipe.model.name, recipe.model.settings, splits.labels, preprocess, mean, std)
        loader = _loader(frames, targets, recipe.train.batch_size, recipe.seed)
        together = max(1, _WATCH_PIXELS // (preprocess.height * preprocess.width))
        watch = _loader(watch_frames, watch_targets, together, seed=None)
        trainer = _trainer(recipe, work, progress)
        with camera.torch_errors(f"The network of {recipe.name} cannot be trained", _CURE), memory.kept():
            training = _training(recipe, description, len(targets), splits.degradation)
            _fit(trainer, training, loader, watch, work / _Checkpoint.NAME)
    model = training.model
    _check_finite(model)
    camera.save(model.eval(), out)
    record = {
        "history": training.history,
        "params": sum(p.numel() for p in model.parameters()),
        "gpu": ", ".join(training.gpus) or None,
    }
    write_atomic(out / "training.json", json.dumps(record, indent=1))


def _training(
    recipe: Recipe, description: camera.Description, samples: int, degradation: Degradation | None
) -> Training:
    # Torch documents `to` with a memory format alone; its stubs have no overload for that.
    model = camera.CameraModel(description).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = steps_in(recipe.train.epochs, samples, recipe.train.batch_size)
    task = tasks.find(recipe.task)
    return Training(model, recipe.train, task, recipe.seed, steps, metric_of(task, recipe.metric).name, degradation)


def _fit(
    trainer: pl.Trainer, training: Training, loader: DataLoader[Any], watch: DataLoader[Any], checkpoint: Path
) -> None:
    resume = str(checkpoint) if checkpoint.is_file() else None
    with _interruptible():
        trainer.fit(training, loader, watch, ckpt_path=resume, weights_only=False)


def _check_finite(model: camera.CameraModel) -> None:
    """As `camera.check_finite`, but these weights are nobody's input: the training has failed."""
    try:
        camera.check_finite(model, "the training run")
    except ModelError as error:
        raise StageFailed(str(error)) from error


def _check_sizes(recipe: Recipe, splits: Splits) -> None:
    if len(splits.train) < 2 or not len(splits.evaluation):
        raise DataError(
            f"The data of {recipe.name} has {len(splits.train)} training and {len(splits.evaluation)} evaluation "
            "images; at least 2 and 1 are needed: check the split fields under data."
        )


def _training_items(
    splits: Splits, preprocess: Preprocess, task: Task, folder: Path, workers: int, progress: Progress
) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    scale = splits.degradation.scale if splits.degradation is not None else None
    if preprocess.fit != "tile":
        fitting = training_fitting(preprocess, task.inputs, task.target, [], scale)
        return prepare(splits.train, fitting, folder, workers, progress)
    shapes = shapes_of(splits.train, workers, of_target=scale is not None)
    fitting = training_fitting(preprocess, task.inputs, task.target, shapes, scale)
    return prepare(splits.train, fitting, folder, workers, progress, count=fitting.count(shapes))


def _normalisation(
    model: str, frames: NDArray[np.uint8], seed: int
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of the training pixels; 0 and 255 for a network that wants 0..1."""
    if getattr(models.find(model), "NORMALISED", True):
        return _pixel_statistics(frames, seed)
    return (0.0, 0.0, 0.0), (255.0, 255.0, 255.0)


def _pixel_statistics(
    frames: NDArray[np.uint8], seed: int
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """BGR mean and standard deviation, 0..255, over at most 2,000 training frames."""
    chosen = np.random.default_rng(seed).permutation(len(frames))[:2000]
    # Exact sums of integers, one frame at a time: all pixels in float64 would be gigabytes.
    total, squares = np.zeros(3, np.int64), np.zeros(3, np.int64)
    for index in np.sort(chosen):
        pixels = frames[index].reshape(-1, 3).astype(np.int64)
        total += pixels.sum(axis=0)
        squares += (pixels**2).sum(axis=0)
    count = len(chosen) * (frames[0].size // 3)
    mean = total / count
    std = np.maximum(np.sqrt(np.maximum(squares / count - mean**2, 0.0)), 1.0)
    b, g, r = (round(float(v), 3) for v in mean)
    sb, sg, sr = (round(float(v), 3) for v in std)
    return (b, g, r), (sb, sg, sr)


class _Batches(TensorDataset):
    """Whole batches at once: indexing one memory map with many indices is much cheaper than collating samples."""

    def __getitems__(self, indices: list[int]) -> tuple[torch.Tensor, ...]:
        chosen = torch.as_tensor(indices)
        return tuple(tensor[chosen] for tensor in self.tensors)


class _EpochShuffle(torch.utils.data.Sampler[int]):
    """A new order each epoch that depends on seed and epoch only, so that a resumed run continues identically."""

    def __init__(self, count: int, seed: int) -> None:
        self.count = count
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.default_rng((self.seed, self.epoch)).permutation(self.count).tolist())


def _loader(
    frames: NDArray[np.uint8],
    targets: NDArray[Any],
    batch_size: int,
    seed: int | None,
) -> DataLoader[Any]:
    """Batches of uint8 frames and targets; shuffled, and without the last incomplete batch, when a seed is given."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the memory map is read-only to us; torch warns it might not be
        dataset = _Batches(torch.from_numpy(frames), torch.from_numpy(targets))
    size = min(batch_size, len(targets))
    if seed is None:
        return DataLoader(dataset, batch_size=size, collate_fn=_whole)
    sampler = _EpochShuffle(len(targets), seed)
    return DataLoader(dataset, batch_size=size, sampler=sampler, drop_last=True, collate_fn=_whole)


def _whole(batch: Any) -> Any:
    return batch


class _Checkpoint(Callback):
    """After every epoch: write to a temporary name, rename. A kill -9 leaves the previous epoch's file whole."""

    NAME = "last.ckpt"

    def __init__(self, work: Path) -> None:
        self._path = work / self.NAME
        self._elapsed = work / ELAPSED
        self._earlier_s = elapsed_s(work)
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        temporary = self._path.with_suffix(".tmp")
        trainer.save_checkpoint(temporary)
        # After a loss of power a renamed file whose content never reached the disk would be an empty checkpoint.
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(self._path)
        write_atomic(self._elapsed, f"{self._earlier_s + time.monotonic() - self._started:.3f}")


class _Averaging(EMAWeightAveraging):
    """Hands over the average also when a run resumes after its last epoch, where Lightning calls no `on_train_end`."""

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_train_end(trainer, pl_module)


class _Watch(Callback):
    """Reports progress, and stops at once when the loss is not finite."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        total = int(trainer.max_epochs or 1) * int(trainer.num_training_batches)
        text = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        history = getattr(module, "history", [])
        if history:
            text += f", loss {history[-1]['train_loss']:.3f}, evaluation metric {history[-1]['eval_metric']:.2f}"
        self._progress(trainer.global_step, total, text)
        if not torch.isfinite(outputs["loss"]):
            raise StageFailed(
                f"The training loss became {float(outputs['loss'])} in epoch {trainer.current_epoch + 1}: the weights "
                "are lost; lower the learning rate (--set train.learning_rate=…)."
            )


def _trainer(recipe: Recipe, work: Path, progress: Progress) -> pl.Trainer:
    settings = recipe.train
    callbacks: list[Callback] = [_Watch(progress), _Checkpoint(work)]
    if settings.ema_decay is not None:
        callbacks.insert(0, _Averaging(decay=settings.ema_decay))
    return pl.Trainer(
        accelerator="auto",
        devices=1,
        precision="bf16-mixed" if settings.precision == "bf16" else "32-true",
        max_epochs=settings.epochs,
        gradient_clip_val=1.0 if settings.optimizer == "adamw" else None,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        # CUDA has no deterministic gradient of resizing and sampling images, which most networks here do.
        deterministic="warn" if torch.cuda.is_available() else True,
        default_root_dir=work,
    )


@contextmanager
def _interruptible() -> Iterator[None]:
    """Lightning answers Ctrl-C with `sys.exit(1)` and leaves further ones ignored; both are put right here."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's remarks on hardware and loaders are not the user's business; its errors stay."""
    loggers = [logging.getLogger(name) for name in ("lightning", "lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
