from __future__ import annotations

import subprocess
import sys

import pytest

from edgeattn.errors import RecipeError
from edgeattn.recipe import Augment
from edgeattn.train.changes import check


@pytest.mark.parametrize(
    ("settings", "kind", "degraded", "says"),
    [
        ({"noise": 5}, "image", True, r"^train\.augment\.noise and train\.augment\.erase are not for clean images"),
        ({"erase": 0.5}, "image", True, r"^train\.augment\.noise and train\.augment\.erase are not for clean images"),
        ({"noise": 5, "erase": 0.5}, "image", False, None),
        ({"rotate": 15}, "boxes", False, r"^train\.augment\.rotate must be 0 where boxes are taught, got 15:"),
        ({"rotate": 15}, "mask", False, None),
        ({"shift": 0.1, "scale": 0.2, "noise": 5}, "boxes", False, None),
    ],
)
def test_what_is_allowed(settings, kind, degraded, says):
    if says is None:
        check(Augment(**settings), kind, degraded=degraded)
        return
    with pytest.raises(RecipeError, match=says):
        check(Augment(**settings), kind, degraded=degraded)


def test_a_recipe_is_judged_without_torch():
    code = (
        "import sys, edgeattn.pipeline.validate\nprint('edgeattn.train.changes' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
