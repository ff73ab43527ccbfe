"""One value of a file that the kernel makes up when it is read."""

from __future__ import annotations

import re
from pathlib import Path


def text(path: Path) -> str | None:
    """None where there is no such file, or it cannot be read: forbidden, or of a sensor that is switched off."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip(" \t\n\0")  # device trees end texts with 0
    except OSError:
        return None


def number(path: Path) -> int | None:
    """As `text`, for a whole number; None for anything else."""
    try:
        return int(text(path) or "")
    except ValueError:
        return None


def numbered(folder: Path, name: str) -> list[Path]:
    """`name0`, `name1`, … in `folder`, by number: 10 comes after 9."""
    found = ((re.fullmatch(rf"{name}(\d+)", path.name), path) for path in folder.glob(f"{name}*"))
    return [path for _, path in sorted((int(match[1]), path) for match, path in found if match)]


def sensors(root: Path) -> list[Path]:
    """The folders of hardware sensors. Their numbers change from start to start; what they are is in their `name`."""
    return numbered(root / "sys/class/hwmon", "hwmon")
