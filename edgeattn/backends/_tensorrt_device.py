"""What this GPU is, what it can do, and where its timings are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeattn import host
from edgeattn.artifact import canonical_json, sha256_bytes
from edgeattn.backends import _cuda
from edgeattn.backends import _tensorrt_library as lib
from edgeattn.board import describe_device, jetson, settings

# The least compute capability with fast arithmetic of the kind (CUDA programming guide, arithmetic instructions).
_SINCE = {"fp32": (0, 0), "bf16": (8, 0), "fp16": (7, 0), "int8": (7, 2)}


def precisions() -> list[str]:
    """What this GPU executes natively, as variant names."""
    capability = _cuda.runtime().compute_capability()
    return [name for name, since in _SINCE.items() if capability >= since]


INFORMATION = "cuda"
"""Told in a fingerprint and not compared: which libcudart is found depends on what else this process has loaded, and
TensorRT brings along the one that its engines use."""


def fingerprint() -> dict[str, str]:
    """What an engine depends on, and `INFORMATION`; `l4t` and `module` are "none" where this is no Jetson."""
    cuda = _cuda.runtime()
    return {
        "tensorrt": str(lib.library().__version__),
        "cuda": cuda.version(),
        "gpu": cuda.device_name(),
        "compute_capability": ".".join(map(str, cuda.compute_capability())),
        "multiprocessors": str(cuda.multiprocessors()),
        "l4t": jetson.l4t(lib.ROOT) or "none",
        "module": jetson.module_id(lib.ROOT) or "none",
    }


def timing_cache() -> Path | None:
    """This user's timing cache for this GPU, software and setting of the board; None where the user has no home."""
    folder = host.cache_folder()
    if folder is None:
        return None
    # Times of another power mode, or of clocks that were free to change, say nothing of those that are held now.
    of: dict[str, Any] = {key: value for key, value in fingerprint().items() if key != INFORMATION}
    of["board"] = settings(describe_device(lib.ROOT))
    return folder / f"timing-{of['tensorrt']}-{sha256_bytes(canonical_json(of).encode())[:8]}.cache"
