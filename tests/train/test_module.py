from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from edgeattn import tasks
from edgeattn.imaging import Preprocess
from edgeattn.models import camera
from edgeattn.models.attention import AdditiveAttention, Cosine, LearnedPositions
from edgeattn.train.module import Training, decays, steps_in


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
    training = Training(camera.CameraModel(description), settings.train, tasks.find("classify"), 0, steps, "top1")
    parts = training.configure_optimizers()
    optimizer, schedule = parts["optimizer"], parts["lr_scheduler"]["scheduler"]
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen, optimizer, training


def test_the_gpus_it_was_trained_on_survive_a_resumption(monkeypatch):
    names = iter(["H100", "H100", "H200"])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: next(names))
    training = SimpleNamespace(device=torch.device("cuda", 0), gpus=[], history=[])
    checkpoint = {}
    for _ in range(3):
        Training.on_train_start(training)
        Training.on_save_checkpoint(training, checkpoint)
        training = SimpleNamespace(device=torch.device("cuda", 0))
        Training.on_load_checkpoint(training, checkpoint)
    assert training.gpus == ["H100", "H200"]
    training.device = torch.device("cpu")
    Training.on_train_start(training)
    assert training.gpus == ["H100", "H200"]


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


class Attending(torch.nn.Module):
    """A parameter of every kind there is in the attention room, and a parametrisation of torch's own."""

    def __init__(self):
        super().__init__()
        self.scores = Cosine(2)
        self.positions = LearnedPositions(3, 4, 8)
        self.pool = AdditiveAttention(8, 4)
        self.norm = torch.nn.LayerNorm(8)
        self.attention = torch.nn.MultiheadAttention(8, 2)
        self.token = torch.nn.Parameter(torch.zeros(1, 1, 8))


def test_temperatures_positions_and_tokens_do_not_decay():
    network = Attending()
    decayed = {name for name, parameter in network.named_parameters() if decays(name, parameter)}
    assert network.scores.log_scale.ndim == 3 and network.positions.row.ndim == 2
    assert decayed == {
        "pool.item.weight",
        "pool.score.weight",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
    }


class Network(torch.nn.Module):
    """Its outputs are the means of its inputs; what `loss` is given is kept."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, *inputs):
        self.inputs = inputs
        return tuple(x.mean(dim=(1, 2, 3)) for x in inputs)

    def loss(self, outputs, targets, label_smoothing):
        self.given = ("loss", outputs, targets, label_smoothing)
        return self.weight + 2.0


class Another(Network):
    def training_loss(self, *arguments):
        self.given = ("training_loss", *arguments)
        return self.weight + 3.0


class Camera(torch.nn.Module):
    """A camera model of `count` inputs; it normalises by subtracting 100."""

    def __init__(self, network, count):
        super().__init__()
        self.network = network
        names = tuple(f"mean_{i}" for i in range(count))
        self.description = SimpleNamespace(preprocess=Preprocess(4, 4), outputs=names)

    def normalise(self, x):
        return x - 100.0

    def forward(self, *frames):
        return self.network(*(self.normalise(frame.permute(0, 3, 1, 2).float()) for frame in frames))


class Scorer:
    """Keeps what it is asked to score."""

    def __init__(self, target):
        self.target = target
        self.seen = []

    def score(self, outputs, target, views):
        self.seen.append((outputs, target, views))
        return np.array([1.0, 2.0])


def training(recipe, network, count, target, **train):
    return Training(Camera(network, count), recipe(augment={}, **train).train, Scorer(target), 0, 1, "any")


def pair():
    """Two samples of two frames each, grey: 110 and 130, 150 and 170."""
    frames = torch.tensor([[110, 130], [150, 170]], dtype=torch.uint8)
    return frames[:, :, None, None, None].expand(2, 2, 4, 4, 3)


def test_two_frames_reach_the_network_normalised_and_apart(recipe):
    network = Network()
    step = training(recipe, network, 2, "homography", label_smoothing=0.25)
    targets = torch.eye(3).expand(2, 3, 3)
    assert step.training_step((pair(), targets), 0).item() == 2.0
    name, outputs, given, smoothing = network.given
    assert (name, smoothing) == ("loss", 0.25) and given is targets
    assert [output.tolist() for output in outputs] == [pytest.approx([10, 50]), pytest.approx([30, 70])]
    assert all(x.shape == (2, 3, 4, 4) and x.is_contiguous(memory_format=torch.channels_last) for x in network.inputs)


def test_a_network_may_train_another_way_than_it_answers(recipe):
    network = Another()
    step = training(recipe, network, 2, "homography", label_smoothing=0.25)
    targets = torch.eye(3).expand(2, 3, 3)
    assert step.training_step((pair(), targets), 0).item() == 3.0
    name, first, second, given, smoothing = network.given
    assert (name, smoothing) == ("training_loss", 0.25) and given is targets
    assert (float(first[1].mean()), float(second[1].mean())) == (pytest.approx(50), pytest.approx(70))


def test_watching_scores_each_sample_on_its_own(recipe):
    watched = training(recipe, Network(), 2, "homography")
    targets = torch.arange(18.0).reshape(2, 3, 3)
    watched.validation_step((pair(), targets), 0)
    assert len(watched.task.seen) == 2
    for index, (outputs, target, views) in enumerate(watched.task.seen):
        assert {name: value.tolist() for name, value in outputs.items()} == {
            "mean_0": pytest.approx([10 + 40 * index]),
            "mean_1": pytest.approx([30 + 40 * index]),
        }
        assert (target == targets[index].numpy()).all()
        assert [int(view.frame[0, 0, 0]) for view in views] == [110 + 40 * index, 130 + 40 * index]
        assert all((view.matrix == np.eye(3)).all() and view.frame.dtype == np.uint8 for view in views)


def test_rows_that_fill_up_are_no_boxes_to_score(recipe):
    watched = training(recipe, Network(), 1, "boxes")
    targets = torch.full((2, 4, 5), -1.0)
    targets[1, 2] = torch.tensor([1.0, 2, 3, 4, 0])
    watched.validation_step((pair()[:, :1], targets), 0)
    none, one = (target for _, target, _ in watched.task.seen)
    assert none.shape == (0, 5) and one.tolist() == [[1, 2, 3, 4, 0]]
