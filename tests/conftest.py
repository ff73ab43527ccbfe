"""For all tests."""

import os
import signal
from typing import Any

import pytest

# Workers side by side share the cores: threads of one that wait for each other would wait for the other worker too.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts background jobs, and some CI systems start everything, with SIGINT ignored; tests of Ctrl-C and the
# processes they start would inherit that and never be interrupted.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Side of the frame and settings of each family of our own networks, tiny: as many kinds of operators as there are in
# each, every optional part and output.
FAMILIES: dict[str, tuple[int, dict[str, Any]]] = {
    "attention_align": (64, {"channels": [8, 16, 32], "fine": 16, "rounds": 1, "heads": 2, "attention_output": True}),
    "attention_cnn": (32, {"stages": [8, 16], "heads": 2, "blocks": 1}),
    "attention_rcnn": (
        64,
        {
            **{"anchor_sizes": [12, 20, 28, 36], "candidates": 32, "proposals": 12, "detections": 6, "channels": 16},
            **{"widths": [8, 8, 16, 16], "blocks": [1, 1, 1, 1], "hidden": 16, "embedding": 16},
            "attention_output": True,
        },
    ),
    "attention_unet": (32, {"widths": [8, 16, 32], "bottleneck_heads": 2, "attention_output": True}),
    "compact_transformer": (48, {"layers": 1, "heads": 2, "channels": 16, "positions": "learned"}),
    "region_attention": (32, {"stages": [8, 8], "grids": [2, 4], "hidden": 8, "attention_output": True}),
    "restore_unet": (
        32,
        {"widths": [8, 16], "blocks": [1, 1], "attention_heads": 2, "attention_output": True, "scale": 2},
    ),
    "se_resnet": (32, {"depth": 14, "width": 8}),
}


@pytest.fixture(scope="session")
def families() -> dict[str, tuple[int, dict[str, Any]]]:
    return FAMILIES
