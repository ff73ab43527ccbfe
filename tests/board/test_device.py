import json
import threading

import pytest

from edgeattn.board import describe_device, jetson
from edgeattn.board.memory import memory_mb
from edgeattn.board.power_mode import PowerMode, power_mode


def test_an_orin_nano(make_board):
    found = describe_device(make_board("orin_nano").root)
    assert json.loads(json.dumps(found, allow_nan=False)) == {
        "model": "NVIDIA Jetson Orin Nano Developer Kit",
        "module": "p3767-0005",
        "l4t": "36.4.3",
        "jetpack": "6.2",
        "power_mode": "15W",
        "power_mode_number": 0,
        "clocks_held": False,
        "clocks_mhz": {"cpu0": 1510.4, "cpu4": 1510.4, "17000000.gpu": 306.0},
        "clocks_max_mhz": {"cpu0": 1510.4, "cpu4": 1510.4, "17000000.gpu": 624.8, "emc": 2133.0},
        "temperatures_c": {"cpu": 51.2, "soc0": 49.5, "tj": 51.2},
        "memory_mb": {"total": 7990.1, "available": 6144.0},
        "power_from": "VDD_IN (ina3221)",
    }


def test_what_a_board_does_not_tell_is_none(make_board):
    found = describe_device(make_board("agx_orin").root)
    assert (found["module"], found["jetpack"]) == ("p3701-0005", "6.2.1")
    assert found["power_from"].startswith("VDD_GPU_SOC + ")
    nothing = ["power_mode", "power_mode_number", "clocks_held", "clocks_mhz", "clocks_max_mhz", "temperatures_c"]
    assert {name: found[name] for name in [*nothing, "memory_mb"]} == dict.fromkeys([*nothing, "memory_mb"])


def test_a_thor(make_board):
    found = describe_device(make_board("thor").root)
    assert (found["jetpack"], found["power_mode"], found["clocks_held"]) == ("7.2.1", "MAXN", True)


def test_a_pc_is_no_board(tree):
    assert describe_device(tree.root) is None
    tree.put("etc/nv_tegra_release", "something else")
    tree.put("proc/device-tree/compatible", b"raspberrypi,4\0")
    tree.zone(0, "acpitz", 40000)
    assert describe_device(tree.root) is None


@pytest.mark.parametrize(
    ("release", "jetpack"),
    [
        ("36.4.3", "6.2"), ("36.3", "6.0"), ("36.4.0", "6.1"), ("39.2", "7.2"), ("35.6.1", "5.1.5"),
        ("36.4.7", "6.2.1"), ("40.0.0", None), (None, None),
    ],
)  # fmt: skip
def test_the_jetpack_of_a_release(release, jetpack):
    assert jetson.jetpack(release) == jetpack


@pytest.mark.parametrize(
    ("answer", "mode"),
    [
        ("NV Power Mode: 15W\n0", PowerMode("15W", 0)),
        ("NVPM WARN: fan mode is not set!\nNV Power Mode: MAXN_SUPER\n2", PowerMode("MAXN_SUPER", 2)),
        ("NV Power Mode: MODE_30W_ALL", PowerMode("MODE_30W_ALL", None)),
        ("NVPM ERROR: Error opening /var/lib/nvpmodel/status: 13", None),
        ("", None),
    ],
)
def test_power_modes(tree, answer, mode):
    tree.tool(answer, code=0 if mode else 1)
    assert power_mode(tree.root) == mode


def test_a_tool_that_cannot_run_or_never_answers(tree, monkeypatch):
    assert power_mode(tree.root) is None
    tree.put("usr/sbin/nvpmodel", "no program")
    assert power_mode(tree.root) is None  # not executable
    tree.put("usr/sbin/nvpmodel", "#!/bin/sh\nexec sleep 60")
    (tree.root / "usr/sbin/nvpmodel").chmod(0o755)
    monkeypatch.setattr("edgeattn.board.power_mode._PATIENCE_S", 0.1)
    assert power_mode(tree.root) is None


def test_memory(tree):
    assert memory_mb(tree.root) is None
    tree.put("proc/meminfo", "MemTotal:       1000000 kB\nSwapTotal:     500000 kB\nHugePages_Total:       0")
    assert memory_mb(tree.root) == {"total": 1024.0, "swap": 512.0}


def test_this_machine_can_be_described():
    """Whatever it is, nothing is raised and no thread is left."""
    describe_device()
    assert (jetson.l4t() is None) == (describe_device() is None)
    assert all(thread.name != "board-sampler" for thread in threading.enumerate())
