"""Which Jetson this is: release of its software and module, as the board itself tells."""

from __future__ import annotations

import re
from pathlib import Path

from edgeattn.board import sysfs

ROOT = Path("/")
# Modules of the Xavier, Orin and Thor families; the carrier boards that `compatible` names as well are not among them.
_MODULES = ("p3701", "p3767", "p3834", "p2888", "p3668")
# NVIDIA's JetPack archive as others noted it in September 2026. Only releases listed there: 36.4.7, which came as an
# update of packages, is no JetPack of its own.
_JETPACKS = {
    **{"35.5.0": "5.1.3", "35.6.0": "5.1.4", "35.6.1": "5.1.5", "36.2.0": "6.0 DP", "36.3.0": "6.0"},
    **{"36.4.0": "6.1", "36.4.3": "6.2", "36.4.4": "6.2.1", "36.5.0": "6.2.2", "36.5.2": "6.2.3"},
    **{"38.2.0": "7.0", "38.2.1": "7.0", "38.4.0": "7.1", "39.2.0": "7.2", "39.2.1": "7.2.1"},
}


def l4t(root: Path = ROOT) -> str | None:
    """Release of Linux for Tegra, such as "36.4.3" (JetPack 6.2); None where this is no Jetson."""
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", sysfs.text(root / "etc/nv_tegra_release") or "")
    return f"{found[1]}.{found[2]}" if found else None


def jetpack(release: str | None) -> str | None:
    """The JetPack that an L4T release belongs to, such as "6.2"; None for one that is not known here."""
    if release is None:
        return None
    return _JETPACKS.get(release if release.count(".") > 1 else f"{release}.0")


def module_id(root: Path = ROOT) -> str | None:
    """The module's part number, such as "p3767-0005" (Orin Nano 8 GB); None where this is no Jetson."""
    found = re.findall(r"p\d{4}-\d{4}", sysfs.text(root / "proc/device-tree/compatible") or "")
    return next((part for part in found if part.startswith(_MODULES)), None)


def model(root: Path = ROOT) -> str | None:
    """What the device tree calls the board, such as "NVIDIA Jetson Orin Nano Developer Kit"."""
    return sysfs.text(root / "proc/device-tree/model")
