"""Which Jetson this is: release of its software and module, as the board itself tells."""

from __future__ import annotations

import re
from pathlib import Path

from edgeattn import jetpack as releases
from edgeattn.board import sysfs

ROOT = Path("/")
# Modules of the Xavier, Orin and Thor families; the carrier boards that `compatible` names as well are not among them.
_MODULES = ("p3701", "p3767", "p3834", "p2888", "p3668")


def l4t(root: Path = ROOT) -> str | None:
    """Release of Linux for Tegra, such as "36.4.3" (JetPack 6.2); None where this is no Jetson."""
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", sysfs.text(root / "etc/nv_tegra_release") or "")
    return f"{found[1]}.{found[2]}" if found else None


def jetpack(release: str | None) -> str | None:
    """The JetPack that an L4T release belongs to, such as "6.2"; None for one that is not known here."""
    found = releases.of_l4t(release if release.count(".") > 1 else f"{release}.0") if release else None
    return found.jetpack if found else None


def module_id(root: Path = ROOT) -> str | None:
    """The module's part number, such as "p3767-0005" (Orin Nano 8 GB); None where this is no Jetson."""
    found = re.findall(r"p\d{4}-\d{4}", sysfs.text(root / "proc/device-tree/compatible") or "")
    return next((part for part in found if part.startswith(_MODULES)), None)


def model(root: Path = ROOT) -> str | None:
    """What the device tree calls the board, such as "NVIDIA Jetson Orin Nano Developer Kit"."""
    return sysfs.text(root / "proc/device-tree/model")
