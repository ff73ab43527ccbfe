"""A toy problem that trains in a second: noise whose darkest colour channel is the class."""

from __future__ import annotations

import numpy as np
import pytest

from edgeattn.data.base import Sample, Splits
from edgeattn.errors import DataError
from edgeattn.recipe import Recipe, parse_settings


class Toy:
    def __init__(self, count, seed, broken=None):
        self.count, self.seed, self.broken = count, seed, broken

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index == self.broken:
            raise DataError(f"The image {index} is broken.")
        frame = np.random.default_rng((self.seed, index)).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        frame[..., index % 3] //= 4
        return Sample(frame, index % 3)

    def name(self, index):
        return str(index)


def toy_splits(train=20, evaluation=6, broken=None):
    return Splits(Toy(train, 0, broken), Toy(6, 1), Toy(evaluation, 2), ("blue", "green", "red"), "toy", "toy")


def toy_recipe(model=None, **train):
    augment = {"flip": True, "shift": 0.1, "rotate": 10, "light": 0.2, "contrast": 0.2, "erase": 0.3}
    values = {
        "name": "toy",
        "task": "classify",
        "model": model or {"name": "attention_cnn", "stages": [8, 8], "blocks": 1, "heads": 2},
        "input": {"height": 16, "width": 16},
        "data": {"format": "scenes"},
        "train": {"epochs": 3, "batch_size": 8, "learning_rate": 0.05, "augment": augment, **train},
    }
    return parse_settings(Recipe, values, "toy")


@pytest.fixture
def splits():
    return toy_splits


@pytest.fixture
def recipe():
    return toy_recipe


@pytest.fixture(autouse=True)
def one_thread():
    """Two cores shared with others: threads that wait for each other make a second last a minute."""
    import torch

    before, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    torch.use_deterministic_algorithms(deterministic)
