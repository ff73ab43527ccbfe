from __future__ import annotations

import pytest
import torch

from edgeattn import tasks
from edgeattn.imaging import Preprocess
from edgeattn.models import camera
from edgeattn.train.module import Training, steps_in


@pytest.mark.parametrize(
    ("epochs", "samples", "batch_size", "steps"),
    [(3, 20, 8, 6), (3, 16, 8, 6), (3, 7, 8, 3), (1, 1, 1, 1), (2, 12_000, 64, 374)],
)
def test_steps(epochs, samples, batch_size, steps):
    assert steps_in(epochs, samples, batch_size) == steps


def rates(recipe, steps, **train):
    settings = recipe(**train)
    description = camera.Description(
        settings.model.name, settings.model.settings, ("a", "b"), Preprocess(16, 16), (0, 0, 0), (1, 1, 1)
    )
    training = Training(camera.CameraModel(description), settings.train, tasks.find("classify"), 0, steps)
    parts = training.configure_optimizers()
    optimizer, schedule = parts["optimizer"], parts["lr_scheduler"]["scheduler"]
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen, optimizer, training


def test_one_cycle_rises_to_the_given_rate_and_falls_to_nothing(recipe):
    seen, _, _ = rates(recipe, 10, learning_rate=0.5, warmup=0.5)
    assert seen.index(max(seen)) == 4
    assert max(seen) == pytest.approx(0.5)
    assert seen[0] == pytest.approx(0.5 / 25)
    assert seen[-1] < 1e-4
    assert seen[:5] == sorted(seen[:5])
    assert seen[4:] == sorted(seen[4:], reverse=True)


@pytest.mark.parametrize("warmup", [0.0, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_every_length_and_warmup_has_a_schedule(recipe, warmup, steps):
    seen, _, _ = rates(recipe, steps, learning_rate=0.5, warmup=warmup)
    assert all(0 < rate <= 0.5 for rate in seen)


def test_only_matrices_and_kernels_decay(recipe):
    _, optimizer, training = rates(recipe, 3, weight_decay=0.25)
    decayed, plain = optimizer.param_groups
    assert decayed["weight_decay"] == 0.25
    assert plain["weight_decay"] == 0
    assert {p.ndim for p in plain["params"]} == {1}
    assert len(decayed["params"]) + len(plain["params"]) == len(list(training.model.parameters()))
    assert all(p.ndim in (2, 4) for p in decayed["params"])
    assert isinstance(optimizer, torch.optim.SGD)
