"""File systems as boards have them, made of what their documents and their owners tell; no board was read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

RELEASE = "# R{0} (release), REVISION: {1}, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 2025\n"


class Tree:
    """A root below which a test puts files."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, path: str, content: object) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else f"{content}\n".encode())

    def unreadable(self, path: str) -> None:
        """What stands there gives an error when it is read, to root too."""
        (self.root / path).mkdir(parents=True)

    def board(self, name: str, module: str, release: tuple[str, str]) -> None:
        self.put("etc/nv_tegra_release", RELEASE.format(*release))
        self.put("proc/device-tree/model", f"NVIDIA Jetson {name}".encode() + b"\0")
        self.put("proc/device-tree/compatible", f"nvidia,p3768-0000+{module}\0nvidia,{module}\0nvidia,tegra\0".encode())

    def monitor(self, number: int, *rails: tuple[str, int, int]) -> None:
        """An INA3221 with up to three rails as (label, mV, mA)."""
        folder = f"sys/class/hwmon/hwmon{number}"
        self.put(f"{folder}/name", "ina3221")
        for channel, (label, millivolts, milliamperes) in enumerate(rails, start=1):
            self.put(f"{folder}/in{channel}_label", label)
            self.put(f"{folder}/in{channel}_input", millivolts)
            self.put(f"{folder}/curr{channel}_input", milliamperes)
            self.put(f"{folder}/in{channel + 3}_input", 30)  # the voltage over its shunt
        self.put(f"{folder}/in7_label", "sum of shunt voltages")
        self.put(f"{folder}/in7_input", 90)

    def events(self, number: int, *counts: int, enabled: int = 1) -> None:
        folder = f"sys/class/hwmon/hwmon{number}"
        self.put(f"{folder}/name", "soctherm_oc")
        for event, count in enumerate(counts, start=1):
            self.put(f"{folder}/oc{event}_event_cnt", count)
            self.put(f"{folder}/oc{event}_throt_en", enabled)

    def zone(self, number: int, kind: str, millidegrees: int | None) -> None:
        folder = f"sys/class/thermal/thermal_zone{number}"
        self.put(f"{folder}/type", kind)
        if millidegrees is None:
            self.unreadable(f"{folder}/temp")
        else:
            self.put(f"{folder}/temp", millidegrees)

    def cooling(self, number: int, kind: str, state: int) -> None:
        self.put(f"sys/class/thermal/cooling_device{number}/type", kind)
        self.put(f"sys/class/thermal/cooling_device{number}/cur_state", state)

    def clock(self, folder: str, now: int, least: int, most: int, *, prefix: str = "") -> None:
        for name, value in (("cur", now), ("min", least), ("max", most)):
            self.put(f"{folder}/{prefix}{name}_freq", value)

    def tool(self, answer: str, *, code: int = 0) -> None:
        """`nvpmodel`, which says `answer`."""
        self.put("usr/sbin/nvpmodel", f"#!/bin/sh\n[ \"$*\" = -q ] || exit 9\ncat <<'END'\n{answer}\nEND\nexit {code}")
        (self.root / "usr/sbin/nvpmodel").chmod(0o755)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """An empty one: of a PC that tells nothing."""
    return Tree(tmp_path)


def orin_nano(tree: Tree) -> None:
    tree.board("Orin Nano Developer Kit", "p3767-0005", ("36", "4.3"))
    tree.monitor(1, ("VDD_IN", 5000, 1200), ("VDD_CPU_GPU_CV", 5000, 300), ("VDD_SOC", 5000, 400))
    tree.events(2, 0, 15, 37)
    for number, (kind, value) in enumerate(
        [("cpu-thermal", 51187), ("gpu-thermal", None), ("cv0-thermal", -256000), ("soc0-thermal", 49500)]
    ):
        tree.zone(number, kind, value)
    tree.zone(10, "tj-thermal", 51187)
    for number, kind in enumerate(["pwm-fan", "cpu-throttle-alert", "gpu-throttle-alert", "hot-surface-alert"]):
        tree.cooling(number, kind, 3 if kind == "pwm-fan" else 0)
    for policy in (0, 4):
        tree.clock(f"sys/devices/system/cpu/cpufreq/policy{policy}", 1510400, 729600, 1510400, prefix="scaling_")
    tree.clock("sys/class/devfreq/17000000.gpu", 306000000, 306000000, 624750000)
    tree.put("sys/kernel/nvpmodel_clk_cap/emc", 2133000000)
    tree.tool("NVPM WARN: fan mode is not set!\nNV Power Mode: 15W\n0")
    tree.put("proc/meminfo", "MemTotal:        7802816 kB\nMemFree:          5000 kB\nMemAvailable:    6000000 kB")


def agx_orin(tree: Tree) -> None:
    """No rail is the whole; the second monitor measures one rail of three."""
    tree.board("AGX Orin Developer Kit", "p3701-0005", ("36", "4.4"))
    tree.monitor(3, ("VDD_GPU_SOC", 20000, 160), ("VDD_CPU_CV", 20000, 40), ("VIN_SYS_5V0", 5000, 1000))
    tree.monitor(4, ("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 5000, 200), ("NC", 0, 0))


def thor(tree: Tree) -> None:
    """Other labels, and an INA238 that measures the whole in µW."""
    tree.board("AGX Thor Developer Kit", "p3834-0008", ("39", "2.1"))
    tree.monitor(5, ("VDD_GPU", 12000, 600), ("VDD_CPU_SOC_MSS", 12000, 900), ("VIN_SYS_5V0", 5000, 1700))
    tree.put("sys/class/hwmon/hwmon6/name", "ina238")
    tree.put("sys/class/hwmon/hwmon6/label", "VIN")
    tree.put("sys/class/hwmon/hwmon6/power1_input", 31500000)
    tree.cooling(12, "devfreq-gpu-gpc-0", 0)
    tree.clock("sys/class/devfreq/gpu-gpc-0", 1575000000, 1575000000, 1575000000)
    tree.clock("sys/class/devfreq/bwmgr", 4266000000, 665600000, 4266000000)
    tree.clock("sys/devices/system/cpu/cpufreq/policy0", 2601000, 2601000, 2601000, prefix="scaling_")
    tree.tool("NV Power Mode: MAXN\n0")


BOARDS: dict[str, Callable[[Tree], None]] = {made.__name__: made for made in (orin_nano, agx_orin, thor)}


@pytest.fixture
def make_board(tree: Tree) -> Callable[[str], Tree]:
    def make(name: str) -> Tree:
        BOARDS[name](tree)
        return tree

    return make
