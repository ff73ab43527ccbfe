"""Energy of a frame: each candidate runs alone, frame after frame, while the board's power monitor is read.

Not during the interleaved rounds: a monitor averages over longer than a turn lasts, so that it would mix neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeattn.board import Sampler
from edgeattn.board.power import meter
from edgeattn.measure.process import Workers

_SETTLE_S = 0.5


def measure_energy(
    workers: Workers, typical_ns: Mapping[str, float], root: Path, *, seconds: float
) -> dict[str, dict[str, Any]]:
    """A row's `energy` per candidate, from about `seconds` of calls each; empty where no monitor is below `root`.

    Of the whole board, at rest it draws power too: it is what a frame costs at full load, not what it adds.
    """
    if meter(root) is None:
        return {}
    found = {}
    for name, call_ns in typical_ns.items():
        calls = max(1, round(seconds * 1e9 / call_ns))
        if not workers.ask(name, "turn", calls=1, unrecorded=1, unrecorded_s=_SETTLE_S):
            continue
        with Sampler(root) as sampler:
            answer = workers.ask(name, "turn", calls=calls, unrecorded=0, unrecorded_s=0.0)
        energy = sampler.telemetry.energy(calls)
        if answer and energy:
            found[name] = energy
    return found
