"""Temperatures of the thermal zones, and zones so hot that a processor is slowed down."""

from __future__ import annotations

import re
from pathlib import Path

from edgeattn.board import sysfs

_OFF = -256_000  # what a Tegra sensor reads that has no power (jetson_stats)
# Cooling devices that slow something down, as opposed to fans: the kernel's for processors and devfreq, the ones of
# Tegra that report what its firmware does, and ACPI's.
_SLOWS = re.compile(r"cpufreq|devfreq|throttle-alert$|^Processor$")


def temperatures(root: Path) -> dict[str, float]:
    """Degrees Celsius by zone, such as `cpu` and `tj`; zones that cannot be read now are left out.

    A zone of a part that is switched off gives an error or -256, as the GPU's of an idle board does.
    """
    found: dict[str, float] = {}
    for zone in _zones(root):
        value = sysfs.number(zone / "temp")
        if value is not None and value > _OFF:
            kind = sysfs.text(zone / "type") or zone.name
            name = re.sub(r"[-_]thermal$", "", kind)
            found[f"{name} {zone.name}" if name in found else name] = round(value / 1e3, 1)
    return found


def limits(root: Path) -> dict[str, int]:
    """How far each cooling device slows its processor down: 0 is not at all. Fans are not among them."""
    found = {}
    for device in sysfs.numbered(root / "sys/class/thermal", "cooling_device"):
        kind, state = sysfs.text(device / "type") or "", sysfs.number(device / "cur_state")
        if _SLOWS.search(kind) and state is not None:
            name = f"{kind} {device.name}" if kind in found else kind
            found[name] = max(state, 0)
    return found


def over_trip(root: Path) -> list[str]:
    """Zones at or above a temperature at which a processor is slowed down: each as "tj at 99.5 C (trip 99.0)"."""
    return [words for zone in _zones(root) if (words := _over(zone))]


def _over(zone: Path) -> str | None:
    value = sysfs.number(zone / "temp")
    if value is None:
        return None
    reached = []
    for path in zone.glob("trip_point_*_type"):
        trip = path.name.split("_")[2]
        # A trip that nothing is bound to is a notice; some PCs have such ones at any temperature.
        if sysfs.text(path) == "passive" and trip in _slowing(zone):
            at = sysfs.number(zone / f"trip_point_{trip}_temp")
            if at is not None and 0 < at <= value:
                reached.append(at)
    kind = re.sub(r"[-_]thermal$", "", sysfs.text(zone / "type") or zone.name)
    return f"{kind} at {value / 1e3:.1f} C (trip {min(reached) / 1e3:.1f})" if reached else None


def _slowing(zone: Path) -> set[str]:
    """The trips of a zone that a processor's cooling device is bound to."""
    bound = ((sysfs.text(cdev / "type"), sysfs.text(zone / f"{cdev.name}_trip_point")) for cdev in zone.glob("cdev*"))
    return {trip for kind, trip in bound if kind and trip and _SLOWS.search(kind)}


def _zones(root: Path) -> list[Path]:
    return sysfs.numbered(root / "sys/class/thermal", "thermal_zone")
