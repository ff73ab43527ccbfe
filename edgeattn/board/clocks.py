"""Clock frequencies: processors, GPU, memory, and whether they are held at one value, as `jetson_clocks` does.

`jetson_clocks --show` would tell too, but only to root, and so does the memory's clock in debugfs. What it does to
processors and GPU can be seen by anyone: the lowest frequency allowed is the highest one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgeattn.board import sysfs

_GPU = re.compile(r"gpu|g[apv]\d\db")  # 17000000.gpu (Orin, JetPack 6), 17000000.ga10b (5), gpu-gpc-0 (Thor)
_KHZ, _HZ = 1e3, 1e6  # how many make one MHz
_EMC = Path("sys/kernel/debug/bpmp/debug/clk/emc/rate")
_EMC_CAP = Path("sys/kernel/nvpmodel_clk_cap/emc")  # what the power mode allows; 0 is no cap


@dataclass(frozen=True)
class Clock:
    """In MHz: what it runs at now, and the least and most that it may; None where that is not told."""

    mhz: float | None
    least_mhz: float | None = None
    most_mhz: float | None = None

    @property
    def held(self) -> bool | None:
        """True when only one frequency is allowed."""
        if self.least_mhz is None or self.most_mhz is None:
            return None
        return self.least_mhz == self.most_mhz


def clocks(root: Path) -> dict[str, Clock]:
    """By name: `cpu<first of those that share it>`, `emc` (memory), and what else the kernel scales, GPU among it."""
    found = {}
    for policy in sysfs.numbered(root / "sys/devices/system/cpu/cpufreq", "policy"):
        found[policy.name.replace("policy", "cpu")] = _clock(policy, "scaling_", _KHZ)
    for device in sorted((root / "sys/class/devfreq").glob("*")):
        found["emc" if device.name == "bwmgr" else device.name] = _clock(device, "", _HZ)
    emc = Clock(_mhz(root / _EMC, _HZ), None, _mhz(root / _EMC_CAP, _HZ) or None)
    if "emc" not in found and emc != Clock(None):
        found["emc"] = emc
    return found


def held(root: Path) -> bool | None:
    """Whether processors and GPU are all held at one frequency; None where none of them tells."""
    found = [clock.held for name, clock in clocks(root).items() if name.startswith("cpu") or _GPU.search(name)]
    known = [value for value in found if value is not None]
    return all(known) if known else None


def _clock(folder: Path, prefix: str, scale: float) -> Clock:
    now, least, most = (_mhz(folder / f"{prefix}{name}_freq", scale) for name in ("cur", "min", "max"))
    return Clock(now, least, most)


def _mhz(path: Path, scale: float) -> float | None:
    value = sysfs.number(path)
    return None if value is None else round(value / scale, 1)
