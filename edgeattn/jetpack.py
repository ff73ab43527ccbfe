"""NVIDIA's releases: the JetPack behind a Jetson's L4T, what it brings, why the older ones are refused, which opset a
TensorRT reads.

Sources: L4T and JetPack from jetson_stats (July 2026); TensorRT 8.5, 8.6 and 10.3 from jetson-containers and the
documentation of torch-tensorrt; 10.13.3.9 and 10.16.2.10 as devices report them; 11.4.1 from NVIDIA's release notes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

TENSORRT_MIN = (10, 3)
"""The oldest TensorRT whose Python API has strongly typed networks, that is, takes the precision from the graph."""

# The ceilings of 10.0 and 10.15 are those of onnx-tensorrt's docs/operators.md; the steps between are third-party.
_OPSET_MAX = (((10, 13), 24), ((10, 9), 22), ((10, 0), 20))
_FIRST_SUPPORTED = (36, 4)
_MAJORS = {32: "4", 35: "5", 36: "6.0"}  # of L4T releases that the table below does not name
_XAVIER = ("p2888", "p3668")


@dataclass(frozen=True)
class Release:
    """One JetPack. `l4t` are the releases of Linux for Tegra it came with; empty where that is not known exactly.

    An `l4t` of two numbers stands for all that begin with them. `devices` are the Jetsons it is for.
    """

    jetpack: str
    l4t: tuple[str, ...]
    tensorrt: str
    cuda: str
    python: str
    devices: str

    @property
    def supported(self) -> bool:
        return version(self.tensorrt) >= TENSORRT_MIN


RELEASES = (
    Release("5.1", ("35.2.1",), "8.5.2", "11.4", "3.8", "Xavier and Orin"),
    Release("5.1.1", ("35.3.1",), "8.5.2", "11.4", "3.8", "Xavier and Orin"),
    Release("5.1.2", ("35.4.1",), "8.5.2", "11.4", "3.8", "Xavier and Orin"),
    Release("5.1.3", ("35.5.0",), "8.5.2", "11.4", "3.8", "Xavier and Orin"),
    Release("5.1.4", ("35.6.0",), "8.5.2", "11.4", "3.8", "Xavier and Orin"),
    Release("5.1.5", ("35.6.1", "35.6.2", "35.6.3"), "8.5.2", "11.4", "3.8", "Xavier and Orin"),
    Release("5.1.6", ("35.6.4",), "8.5.2", "11.4", "3.8", "Xavier and Orin"),
    Release("6.0", ("36.3.0",), "8.6.2", "12.2", "3.10", "Orin"),
    Release("6.1", ("36.4.0", "36.4.2"), "10.3.0", "12.6", "3.10", "Orin"),
    Release("6.2", ("36.4.3",), "10.3.0", "12.6", "3.10", "Orin"),
    Release("6.2.1", ("36.4.4", "36.4.7"), "10.3.0", "12.6", "3.10", "Orin"),
    Release("6.2.2", ("36.5.0",), "10.3.0", "12.6", "3.10", "Orin"),
    Release("7.0", ("38.2",), "10.13.3.9", "13.0", "3.12", "Thor"),
    Release("7.1", ("38.4.0",), "10.13.3.9", "13.0", "3.12", "Thor"),
    Release("7.2", ("39.2.0",), "10.16.2.10", "13.2", "3.12", "Orin and Thor"),
    Release("7.2.1", ("39.2.1",), "10.16.2.10", "13.2", "3.12", "Orin and Thor"),
    # 11.4.1 is installed beside what the release brings itself; Orin NX and Nano are not named for it.
    Release("7.2.2", (), "11.4.1", "13.2", "3.12", "AGX Orin and Thor"),
)


def named(jetpack: str) -> Release | None:
    """The release called `jetpack`, such as "6.2.1"."""
    return next((release for release in RELEASES if release.jetpack == jetpack), None)


def of_l4t(l4t: str) -> Release | None:
    """The release that a board with this L4T, such as "36.4.3", has; None where the table does not know it."""
    return next((r for r in RELEASES if any(l4t == own or l4t.startswith(f"{own}.") for own in r.l4t)), None)


def check_release(l4t: str | None, module: str | None = None) -> str | None:
    """Why no engine can be built on a Jetson with this L4T and module id, in one sentence with what to install instead.

    None where one can be built, where it is no Jetson (`l4t` None), and for a release newer than the table.
    """
    try:
        numbers = version(l4t or "")
    except ValueError:
        return None
    if numbers >= _FIRST_SUPPORTED:
        return None
    release = of_l4t(str(l4t))
    name = release.jetpack if release else _MAJORS.get(numbers[0])
    board = f"JetPack {name} (L4T {l4t})" if name else f"L4T {l4t}"
    cure = "install JetPack 6.1 or newer, which brings TensorRT 10.3 or newer"
    if (module or "").startswith(_XAVIER):
        cure = "there is no newer JetPack for a Xavier, use an Orin or Thor with JetPack 6.1 or newer"
    return (
        f"{board} has TensorRT {release.tensorrt if release else '8'}, which has no strongly typed networks, and every "
        f"edgeattn engine takes its precision from the graph; {cure}."
    )


def opset_max(tensorrt: tuple[int, ...]) -> int:
    """The newest ONNX opset that the parser of this TensorRT reads. Raises ValueError for one older than 10.0."""
    for first, opset in _OPSET_MAX:
        if tensorrt >= first:
            return opset
    raise ValueError(f"the opsets that TensorRT {dotted(tensorrt)} reads are not known, only those of 10.0 and newer")


def opset_steps() -> tuple[tuple[tuple[int, ...], int], ...]:
    """Each TensorRT from which a newer opset is read, with that opset, oldest first."""
    return _OPSET_MAX[::-1]


def version(text: str) -> tuple[int, ...]:
    """`10.3` or `10.3.0.26` as numbers. Raises ValueError."""
    parts = text.split(".")
    if not 2 <= len(parts) <= 4 or not all(part.isascii() and part.isdecimal() and len(part) < 6 for part in parts):
        raise ValueError(f"a version is written as 10.3 or 10.16.2.10, got '{text[:40]}'")
    return tuple(int(part) for part in parts)


def of_package(text: str) -> tuple[int, ...]:
    """A package's `__version__` as numbers, without what it may end in (`10.13.3.9.post1`); empty where it has none."""
    found = re.match(r"\d+(\.\d+){0,3}", text)
    return tuple(map(int, found[0].split("."))) if found else ()


def dotted(numbers: Iterable[int]) -> str:
    """(10, 3) as "10.3"."""
    return ".".join(map(str, numbers))
