"""A system of one's own is one file: dropped beside a recipe, it goes through every stage."""

from __future__ import annotations

import pytest
import yaml

import edgeattn

NETWORK = '''"""Spatial attention over two convolutions; knows edgeattn by its attention room alone."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from edgeattn.models.attention import SpatialAttention

TASK = "classify"
OUTPUTS = ("logits",)


@dataclass(frozen=True)
class Settings:
    channels: int = 8


class Network(nn.Module):
    def __init__(self, settings, classes):
        super().__init__()
        self.convolution = nn.Conv2d(3, settings.channels, 3, stride=4, padding=1)
        self.attention = SpatialAttention(3)
        self.head = nn.Linear(settings.channels, classes)

    def forward(self, x):
        return self.head(self.attention(torch.relu(self.convolution(x))).mean(dim=(2, 3)))

    def loss(self, logits, targets, label_smoothing):
        return functional.cross_entropy(logits.float(), targets, label_smoothing=label_smoothing)
'''


@pytest.mark.slow
def test_one_file_is_deployed_without_touching_others(tool):
    package = tool.folder / "mynets"
    package.mkdir()
    (package / "glance.py").write_text(NETWORK)
    recipe = yaml.safe_load((tool.folder / "tiny.yaml").read_text())
    recipe["model"] = {"name": "mynets.glance", "channels": 12}
    (tool.folder / "own.yaml").write_text(yaml.safe_dump(recipe))
    ended = tool("deploy", "own.yaml", "--store", "store", "--out", "out")
    assert ended.code == 0, ended.err
    with edgeattn.load(tool.folder / "out/own-cpu.edgeattn") as model:
        assert model.task == "classify" and model.self_test().passed
    # Its code is part of the key: another network is another training.
    (package / "glance.py").write_text(NETWORK.replace("stride=4", "stride=2"))
    again = tool("train", "own.yaml", "--store", "store", "--out", "again")
    assert again.code == 0 and "cached" not in again.out, again.out
