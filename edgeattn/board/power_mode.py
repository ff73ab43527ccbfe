"""The power mode of a Jetson, which caps clocks and switches cores off, by its own tool `nvpmodel`."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

_TOOL = Path("usr/sbin/nvpmodel")
_PATIENCE_S = 5.0


@dataclass(frozen=True)
class PowerMode:
    """`name` tells more than `number`: "25W" is number 1 on one module and 3 on another."""

    name: str
    number: int | None


def power_mode(root: Path) -> PowerMode | None:
    """What `nvpmodel -q` says; None where there is no such tool, or it does not answer, as without root on some."""
    tool = root / _TOOL
    if not tool.is_file():
        return None
    try:
        said = subprocess.run(
            [str(tool), "-q"], capture_output=True, text=True, errors="replace", timeout=_PATIENCE_S, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    # "NV Power Mode: 15W", then its number on a line of its own; warnings may come before.
    found = re.search(r"^NV Power Mode:\s*(\S.*?)\s*$(?:\s*^(\d+)\s*$)?", said, re.MULTILINE)
    return PowerMode(found[1], int(found[2]) if found[2] else None) if found else None
