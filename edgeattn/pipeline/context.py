"""One run's inputs, and what is derived from them: every room of the pipeline is handed a `Context`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeattn import data, host, tasks
from edgeattn.artifact import Artifact, Precision, Stage, Store
from edgeattn.data.base import Dataset, Sample, Splits
from edgeattn.data.kept import Kept
from edgeattn.errors import MachineError
from edgeattn.framing import Framing, choose_calls, frame_up
from edgeattn.imaging import Preprocess
from edgeattn.pipeline.elsewhere import elsewhere, unsuited
from edgeattn.progress import Progress
from edgeattn.recipe import Recipe, Target, parse_settings
from edgeattn.remote.device import Device, connect
from edgeattn.remote.host import Host
from edgeattn.tasks.base import MetricSpec, metric_of


@dataclass(frozen=True)
class Context:
    """One run's inputs. `force` rebuilds artifacts that exist; `sign_key` is a private key (PEM) for the bundle.

    `remote`: another machine that engines are compiled, proven and measured on; None for this one. `twice`: each engine
    is compiled a second time there, to tell how far two of them differ.
    """

    recipe: Recipe
    target: Target
    store: Store
    data_root: Path
    progress: Progress
    force: bool = False
    sign_key: Path | None = None
    remote: Host | None = None
    twice: bool = False

    @cached_property
    def device(self) -> Device | None:
        """`remote`, reached when it is first asked for.

        Raises ConnectionFailed, MissingLibrary, StorageError, and MachineError for one that the target is not.
        """
        if self.remote is None:
            return None
        found = connect(self.remote, self.target.backend, tasks.module_name(self.recipe.task), self.progress)
        if reason := unsuited(self.target, found.address, found.module, found.fingerprint):
            raise MachineError(f"{reason} Choose the target it is; see: edgeattn targets.")
        return found

    @cached_property
    def splits(self) -> Splits:
        section = self.recipe.data
        module = data.find(section.format)
        settings = parse_settings(module.Settings, section.settings, f"{self.recipe.name}: data")
        splits: Splits = module.load(settings, self.data_root, self.recipe.seed)
        return splits

    @cached_property
    def evaluation(self) -> Dataset:
        """The evaluation split, for who reads all of it."""
        return Kept(self.splits.evaluation)

    @cached_property
    def signed_by(self) -> str | None:
        """Which key signs the bundle; None when none does. Raises BundleError for a key that cannot sign."""
        from edgeattn.bundle.signature import identity

        return None if self.sign_key is None else identity(self.sign_key)

    @property
    def preprocess(self) -> Preprocess:
        return Preprocess(**self.recipe.input.model_dump())

    @property
    def metric(self) -> MetricSpec:
        """What the budget counts in. Raises RecipeError for a metric the task lacks."""
        return metric_of(tasks.find(self.recipe.task), self.recipe.metric)

    @cached_property
    def elsewhere(self) -> str | None:
        """Why engines for the target cannot be built in this run; None when they can, here or on `remote`."""
        return None if self.remote else elsewhere(self.target)

    @property
    def threads(self) -> int:
        return self.recipe.measure.threads or self.target.threads or host.cores()

    @property
    def wanted(self) -> list[Precision]:
        """The variants that the recipe names and the target has, in the target's order."""
        return [precision for precision in self.target.precisions if precision in self.recipe.variants]

    def left_out(self, precision: Precision) -> str | None:
        """That the recipe keeps a variant from the target's backend; None when it does not."""
        backend = self.target.backend
        if not any(name == backend and precision in left for name, left in self.recipe.leave_out.items()):
            return None
        return f"The recipe leaves {precision.value} out for {backend} (leave_out)."

    def build(self, stage: Stage, variant: str, inputs: dict[str, Any], make: Any) -> Artifact:
        return self.store.build(stage, variant, inputs, make, force=self.force)


def framing(context: Context, sample: Sample) -> Framing:
    """The engine calls for one sample, as the device makes them."""
    return frame_up(context.preprocess, sample.frames, tasks.find(context.recipe.task).inputs)


def prepared(context: Context, dataset: Dataset, count: int | None = None) -> list[dict[str, NDArray[np.uint8]]]:
    """Engine inputs of the first `count` samples of a split (all when None), one of each.

    Of samples that are cut into tiles it may be more (see `choose_calls`).
    """
    number = len(dataset) if count is None else min(count, len(dataset))
    return choose_calls([framing(context, dataset[i]).calls for i in range(number)], count)
