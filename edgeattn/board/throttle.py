"""Whether a board was slowed down: counters that only grow, and what limits it at one moment.

Tegra's `soctherm_oc` counts under-voltage (oc1), average over-current (oc2) and instantaneous over-current (oc3)
events; `oc{k}_throt_en` 0 says that one is counted without consequence (NVIDIA's Jetson Linux guide, "Platform Power
and Performance"; drivers/hwmon of L4T). On x86 each core counts how often heat slowed it down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeattn.board import heat, sysfs

_EVENTS = {1: "under-voltage (oc1)", 2: "average over-current (oc2)", 3: "instantaneous over-current (oc3)"}


@dataclass(frozen=True)
class Throttling:
    """`throttled` is None where the machine does not say. `events`: counters that moved, and by how much.

    `limited`: cooling devices that slowed something down, and zones over their trip.
    """

    throttled: bool | None
    events: Mapping[str, int]
    limited: tuple[str, ...]


class Watch:
    """What slowed the machine between its making and `result`; `look` in between sees limits that come and go."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._before = counters(root)
        self._tells = bool(self._before)
        self._limited: dict[str, None] = {}
        self.look()

    def look(self) -> None:
        """Note what limits the machine now."""
        states = heat.limits(self._root)
        self._tells = self._tells or bool(states)
        self._limited.update(dict.fromkeys(name for name, state in states.items() if state))
        self._limited.update(dict.fromkeys(heat.over_trip(self._root)))

    def result(self) -> Throttling:
        """From the making until now."""
        self.look()
        after = counters(self._root)
        events = {name: after[name] - count for name, count in self._before.items() if after.get(name, count) > count}
        throttled = bool(events or self._limited) if self._tells or self._limited else None
        return Throttling(throttled, events, tuple(self._limited))


def counters(root: Path) -> dict[str, int]:
    """Events since the machine started, by name; empty where none are counted."""
    found: dict[str, int] = {}
    for folder in sysfs.sensors(root):
        if sysfs.text(folder / "name") != "soctherm_oc":
            continue
        for number, name in _EVENTS.items():
            count = sysfs.number(folder / f"oc{number}_event_cnt")
            if count is not None and sysfs.number(folder / f"oc{number}_throt_en") != 0:
                found[name] = count
    cores = root.glob("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count")
    counts = [count for core in cores if (count := sysfs.number(core)) is not None]
    return {**found, "cores slowed down for heat": sum(counts)} if counts else found
