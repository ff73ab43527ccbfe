"""The memory that processor and GPU of a Jetson share."""

from __future__ import annotations

import re
from pathlib import Path

from edgeattn.board import sysfs


def memory_mb(root: Path) -> dict[str, float] | None:
    """`total`, `available` (without swapping) and `swap` (total), in 10^6 bytes; None where Linux does not say."""
    kb = dict(re.findall(r"^(\w+):\s+(\d+) kB$", sysfs.text(root / "proc/meminfo") or "", re.MULTILINE))
    names = {"total": "MemTotal", "available": "MemAvailable", "swap": "SwapTotal"}
    found = {name: round(int(kb[key]) * 1.024e-3, 1) for name, key in names.items() if key in kb}
    return found or None
