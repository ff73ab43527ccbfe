"""The machine a result was measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from edgeattn.provenance import library_versions

# The instruction sets that decide which precision is fast and which kernels an engine is built of; names as Linux
# lists them on x86 and ARM.
_ISA = (
    "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8", "amx_fp16",
    "asimd", "asimdhp", "asimddp", "fphp", "bf16", "i8mm", "sve", "sve2",
)  # fmt: skip
_INT8_PRODUCTS = {"avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"}
_PACKAGES = (
    "numpy", "opencv-python-headless", "torch", "lightning", "kornia", "onnx", "onnxscript", "onnxruntime", "nncf",
    "openvino",
)  # fmt: skip


def cache_folder() -> Path | None:
    """Where engines and timings are kept between runs; None where this user has no home."""
    if chosen := os.environ.get("EDGEATTN_CACHE"):
        return Path(chosen)
    try:
        return Path.home() / ".cache" / "edgeattn"
    except RuntimeError:
        return None


def cpu_model() -> str:
    """The processor's name as the system gives it."""
    for line in _cpuinfo():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def isa() -> list[str]:
    """The instruction sets of this CPU that matter for inference; none where the system is not Linux."""
    for line in _cpuinfo():
        if line.startswith(("flags", "Features")):
            flags = set(line.partition(":")[2].split())
            return [name for name in _ISA if name in flags]
    return []


def has_int8_products() -> bool:
    """True when 8-bit products accumulate in 32 bits (VNNI and its kin), so that nothing saturates on the way."""
    return bool(_INT8_PRODUCTS & set(isa()))


def cores() -> int:
    """The CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe() -> dict[str, Any]:
    """The report's `host`."""
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "isa": isa(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "os": platform.platform(),
        "python": platform.python_version(),
        "packages": library_versions(*_PACKAGES),
        "device": {},
    }


def identity() -> dict[str, Any]:
    """What a measured latency belongs to: it is not comparable with one taken elsewhere."""
    return {"cpu": cpu_model(), "cores": cores(), "isa": isa()}


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
