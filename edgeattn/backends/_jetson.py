"""Which Jetson this is: release of its software and module, as the board itself tells."""

from __future__ import annotations

import re
from pathlib import Path

_RELEASE = Path("/etc/nv_tegra_release")
_COMPATIBLE = Path("/proc/device-tree/compatible")
# Modules of the Xavier, Orin and Thor families; the carrier boards that `compatible` names as well are not among them.
_MODULES = ("p3701", "p3767", "p3834", "p2888", "p3668")


def l4t() -> str | None:
    """Release of Linux for Tegra, such as "36.4.3" (JetPack 6.2); None where this is no Jetson."""
    try:
        text = _RELEASE.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return f"{found[1]}.{found[2]}" if found else None


def module_id() -> str | None:
    """The module's part number, such as "p3767-0005" (Orin Nano 8 GB); None where this is no Jetson."""
    try:
        text = _COMPATIBLE.read_bytes().decode("utf-8", errors="replace")
    except OSError:
        return None
    found = re.findall(r"p\d{4}-\d{4}", text)
    return next((part for part in found if part.startswith(_MODULES)), None)
