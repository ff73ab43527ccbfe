"""Every network trains on a GPU, and what it learned there runs on a CPU. Skipped, with the reason, without one."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from edgeattn import data
from edgeattn.models import camera
from edgeattn.progress import silent
from edgeattn.recipe import load_recipe, parse_settings
from edgeattn.train import run

if not torch.cuda.is_available():
    pytest.skip("torch finds no GPU here", allow_module_level=True)

pytestmark = pytest.mark.gpu

RECIPES = (
    "digit_scenes", "scenes_align", "scenes_cct", "scenes_detect", "scenes_region", "scenes_restore",
    "scenes_se_resnet", "scenes_segment",
)  # fmt: skip
FEW = ("data.train=64", "data.calibration=4", "data.evaluation=8", "train.epochs=2", "train.batch_size=16")


# A loss whose gradient has no deterministic form on CUDA; see models/attention_align.py.
PHOTOMETRIC = ("model.photometric=0.1",)
CASES = {**{name: (name, ()) for name in RECIPES}, "scenes_align, photometric": ("scenes_align", PHOTOMETRIC)}


@pytest.mark.parametrize(("name", "more"), CASES.values(), ids=CASES)
def test_every_network_trains_there_and_runs_on_a_cpu(name, more, tmp_path):
    recipe = load_recipe(name, (*FEW, *more))
    module = data.find(recipe.data.format)
    splits = module.load(parse_settings(module.Settings, recipe.data.settings, name), tmp_path, recipe.seed)
    out = tmp_path / "out"
    out.mkdir()
    torch.cuda.reset_peak_memory_stats()
    run.train(recipe, splits, tmp_path, out, silent)
    assert torch.cuda.max_memory_allocated() > 1 << 20
    record = json.loads((out / "training.json").read_text())
    history = record["history"]
    assert (len(history), record["gpu"]) == (2, torch.cuda.get_device_name())
    assert all(np.isfinite([epoch["train_loss"], epoch["eval_metric"]]).all() for epoch in history)
    model = camera.load(out)
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"cpu"}
    assert camera.try_blank(model)
