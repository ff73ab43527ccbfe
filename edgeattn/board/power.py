"""What a board draws, from its own power monitors (INA3221, on Thor INA238 too).

The kernel gives each channel of an INA3221 as `in{k}_label`, `in{k}_input` (mV) and `curr{k}_input` (mA), and an
INA238 as one channel with `label` and `power1_input` (µW). Channel 7 of an INA3221 is the sum of the voltages over its
shunts and no rail; it has no current of its own. (Documentation/hwmon/ina3221.rst and ina238.rst of the kernel.)

What is the whole differs. Orin NX and Nano measure it as VDD_IN: the module without its carrier board. Thor measures
VIN, the carrier board included. AGX Orin has no such rail: its rails are added up, but VDDQ_VDD2_1V8AO, which is drawn
from VIN_SYS_5V0 and measured at 5 V, is inside that one (NVIDIA's forum, topic 223111; jetson_stats adds it). It is
never what a wall plug delivers. The labels are NVIDIA's device trees'; no board has been read yet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgeattn.board import sysfs

_TOTALS = ("VDD_IN", "POM_5V_IN", "VIN")
_INSIDE = {"VDDQ_VDD2_1V8AO": "VIN_SYS_5V0"}
_CARRIER = "CVB_"  # rails of the carrier board beside those of the module, as on IGX Orin
_NO_RAIL = {"", "NC", "sum of shunt voltages"}


@dataclass(frozen=True)
class Rail:
    """One measured supply. `files` are one of µW, or those of mV and mA."""

    chip: str
    label: str
    files: tuple[Path, ...]

    def watts(self) -> float | None:
        """Now; None where it cannot be read."""
        read = [sysfs.number(file) for file in self.files]
        values = [value for value in read if value is not None]
        if len(values) < len(read):
            return None
        return values[0] / 1e6 if len(values) == 1 else values[0] * values[1] / 1e6


@dataclass(frozen=True)
class Meter:
    """The board's whole power: of one rail, or of several added up. `source` says which, for a report."""

    rails: tuple[Rail, ...]

    @property
    def source(self) -> str:
        chips = ", ".join(dict.fromkeys(rail.chip for rail in self.rails))
        return f"{' + '.join(rail.label for rail in self.rails)} ({chips})"

    def watts(self) -> float | None:
        """Now; None unless all its rails can be read, since part of a sum is not the board's power."""
        read = [rail.watts() for rail in self.rails]
        values = [value for value in read if value is not None]
        return sum(values) if len(values) == len(read) else None


def rails(root: Path) -> list[Rail]:
    """Every rail that is measured; none where there is no power monitor."""
    found = []
    for folder in sysfs.sensors(root):
        chip = sysfs.text(folder / "name") or ""
        if chip.startswith("ina"):
            found += _channels(chip, folder) or _single(chip, folder)
    return found


def meter(root: Path) -> Meter | None:
    """What measures the whole board; None where nothing does."""
    found = rails(root)
    labels = {rail.label for rail in found}
    for total in _TOTALS:
        if total in labels:
            return Meter((next(rail for rail in found if rail.label == total),))
    parts = [rail for rail in found if _INSIDE.get(rail.label) not in labels and not rail.label.startswith(_CARRIER)]
    return Meter(tuple(parts)) if parts else None


def _channels(chip: str, folder: Path) -> list[Rail]:
    found = []
    for path in folder.glob("in*_label"):
        index = re.fullmatch(r"in(\d+)_label", path.name)
        label = sysfs.text(path) or ""
        if index and label not in _NO_RAIL and (current := folder / f"curr{index[1]}_input").exists():
            found.append((int(index[1]), Rail(chip, label, (folder / f"in{index[1]}_input", current))))
    return [rail for _, rail in sorted(found, key=lambda entry: entry[0])]


def _single(chip: str, folder: Path) -> list[Rail]:
    label, power = sysfs.text(folder / "label"), folder / "power1_input"
    return [Rail(chip, label, (power,))] if label and power.exists() else []
