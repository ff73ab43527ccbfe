"""The board below a model: which Jetson it is, its clocks and power mode, what it draws, how hot it gets, if it slows.

    describe_device()                 who it is and how it is set: a report's `host.device`; None where there is none
    with Sampler() as sampler: ...    what it did meanwhile: watts, heat, throttling

Standard library only, since it ships to the device. Everything is read from files of the kernel, below a root that
tests choose; what a machine does not tell is None, never 0. Written from NVIDIA's and the kernel's documents and from
what others saw on boards; none of it has run on a board yet.
"""

from __future__ import annotations

from edgeattn.board.device import (
    describe_device,
    in_words,
    meanwhile_in_words,
    set_otherwise,
    settings,
    while_building,
)
from edgeattn.board.sampler import Sampler, Telemetry

__all__ = ["Sampler", "Telemetry", "describe_device", "in_words", "meanwhile_in_words", "set_otherwise", "settings"]
__all__ += ["while_building"]
