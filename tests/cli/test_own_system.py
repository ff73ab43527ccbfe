"""A system of one's own is one file: dropped beside a recipe, it goes through every stage."""

from __future__ import annotations

import json

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


TASK = '''"""Whether a digit is odd: a metric, a result and a picture of its own, and nothing heavy."""

from dataclasses import dataclass

import cv2
import numpy as np

from edgeattn.tasks.base import MetricSpec


@dataclass(frozen=True)
class Parity:
    odd: bool
    latency_ms: float
    attention: object = None

    def __str__(self):
        return "odd" if self.odd else "even"

    def to_dict(self):
        return {"odd": self.odd, "latency_ms": round(self.latency_ms, 4)}

    def draw(self, frame):
        return cv2.copyMakeBorder(frame, 0, 4, 0, 0, cv2.BORDER_CONSTANT, value=(0, 0, 255 * self.odd))


class OddOrEven:
    name = "odd_or_even"
    target = "label"
    inputs = ("frame",)
    tiles = False
    metrics = (MetricSpec("parity", "%", higher_is_better=True, binary=True),)
    decoding = {"output": "logits", "odd": "the sum over odd labels exceeds that over even ones"}

    def score(self, outputs, target, views):
        return np.array([float(odd(outputs) == int(target) % 2)])

    def summarize(self, scores, metric):
        return 100.0 * float(scores[:, 0].mean())

    def agreement(self, outputs, reference):
        return float(odd(outputs) == odd(reference))

    def comparable(self, outputs, reference):
        return outputs, reference

    def per_label(self, scores, labels):
        return None

    def describe(self, outputs, target, labels, views):
        return {"predicted": "odd" if odd(outputs) else "even", "truth": "odd" if int(target) % 2 else "even"}

    def decode(self, outputs, views, labels, latency_ms):
        return Parity(odd(outputs), latency_ms)


def odd(outputs):
    shares = np.exp(outputs["logits"][0] - outputs["logits"].max())
    return bool(shares[1::2].sum() > shares[::2].sum())


TASK = OddOrEven()
'''


@pytest.mark.slow
def test_a_task_of_ones_own_goes_through_every_stage_and_is_needed_where_its_bundle_runs(tool, photos):
    package = tool.folder / "myparity"
    package.mkdir()
    (package / "odd.py").write_text(TASK)
    (package / "glance.py").write_text(NETWORK.replace('TASK = "classify"', 'TASK = "myparity.odd"'))
    recipe = yaml.safe_load((tool.folder / "tiny.yaml").read_text())
    recipe |= {"task": "myparity.odd", "model": {"name": "myparity.glance"}, "metric": "parity"}
    (tool.folder / "own.yaml").write_text(yaml.safe_dump(recipe))
    ended = tool("deploy", "own.yaml", "--store", "store", "--out", "out")
    assert ended.code == 0, ended.err
    report = json.loads((tool.folder / "out/report.json").read_text())
    assert report["task"] == "myparity.odd"
    assert {row["metric"]["name"] for row in report["rows"] if row["metric"]} == {"parity"}
    # Its code decides what is measured, so it is part of the checks' keys.
    (package / "odd.py").write_text(TASK.replace("shares[1::2].sum() >", "shares[1::2].sum() >="))
    again = tool("train", "own.yaml", "--store", "store", "--out", "again")
    assert again.code == 0 and "cached" not in again.out, again.out
    bundle = tool.folder / "out/own-cpu.edgeattn"
    ended = tool("run", bundle, "--source", photos / "cat/00.png", "--json", "--out", "drawn.png")
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out)["odd"] in (True, False) and (tool.folder / "drawn.png").exists()
    assert tool("verify", bundle).code == 0
    package.rename(tool.folder / "elsewhere")
    ended = tool("run", bundle, "--source", photos / "cat/00.png")
    assert ended.code == 2 and "needs a task of its maker's own. There is no task 'myparity.odd'" in ended.error
