"""Watches a board in a thread of its own while something runs: its power, its heat, and what slows it down."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

from edgeattn.board import heat, jetson, power
from edgeattn.board.throttle import Throttling, Watch

# A reading of three rails is six short transfers on a bus, some milliseconds; monitors average over about as long.
_INTERVAL_S = 0.05
_HEAT_EVERY_S = 1.0


@dataclass(frozen=True)
class Telemetry:
    """What a board did during `seconds`; what it does not tell is None.

    `mean_w` is of `readings` readings of `source`, weighted by time. `hottest_c` is each zone's highest temperature.
    """

    seconds: float
    mean_w: float | None
    readings: int
    source: str | None
    throttling: Throttling
    hottest_c: dict[str, float] | None

    def energy(self, frames: int) -> dict[str, Any] | None:
        """A report row's `energy`, where `frames` frames were all that was done meanwhile; None without readings.

        2 W for 3 s and 100 frames: 60 mJ per frame.
        """
        if self.mean_w is None:
            return None
        each = self.mean_w * self.seconds / frames * 1e3 if frames else None
        return {
            "mean_w": round(self.mean_w, 3),
            "mj_per_frame": None if each is None else round(each, 4),
            "source": f"{self.source}, {self.readings} readings in {self.seconds:.1f} s",
        }

    def to_dict(self) -> dict[str, Any]:
        return {
            "seconds": round(self.seconds, 3),
            "mean_w": None if self.mean_w is None else round(self.mean_w, 3),
            "readings": self.readings,
            "source": self.source,
            "throttled": self.throttling.throttled,
            "throttle_events": dict(self.throttling.events),
            "limited_by": list(self.throttling.limited),
            "hottest_c": self.hottest_c,
        }


class Sampler:
    """A context manager; `telemetry` is there once it has ended, however it ended.

        with Sampler() as sampler:
            for frame in frames:
                runner.infer(frame)
        sampler.telemetry.energy(len(frames))

    Where nothing can be read there is no thread. Threads and processes that are timed share the CPU with it: it wakes
    20 times a second and reads a few small files.
    """

    def __init__(self, root: Path = jetson.ROOT, *, interval_s: float = _INTERVAL_S) -> None:
        self._root, self._interval_s = root, interval_s
        self._meter = power.meter(root)
        self._watch: Watch | None = None
        self._powers: list[tuple[float, float]] = []
        self._hottest: dict[str, float] = {}
        self._looked = self._started = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._telemetry: Telemetry | None = None

    @property
    def telemetry(self) -> Telemetry:
        if self._telemetry is None:
            raise RuntimeError("telemetry is there when the sampler's block has ended")
        return self._telemetry

    def __enter__(self) -> Sampler:
        self._watch = Watch(self._root)
        self._look()
        self._started = time.monotonic()
        self._read_power()
        if self._meter or self._hottest or heat.limits(self._root):
            self._thread = threading.Thread(target=self._run, name="board-sampler", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._read_power()
        seconds = time.monotonic() - self._started
        self._look()
        assert self._watch is not None
        self._telemetry = Telemetry(
            seconds=seconds,
            mean_w=mean_power(self._powers),
            readings=len(self._powers),
            source=self._meter.source if self._meter and self._powers else None,
            throttling=self._watch.result(),
            hottest_c=dict(sorted(self._hottest.items())) or None,
        )

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._read_power()
            if time.monotonic() - self._looked > _HEAT_EVERY_S:
                self._look()

    def _read_power(self) -> None:
        before = time.monotonic()
        watts = self._meter.watts() if self._meter else None
        if watts is not None:
            self._powers.append(((before + time.monotonic()) / 2, watts))

    def _look(self) -> None:
        self._looked = time.monotonic()
        for name, value in heat.temperatures(self._root).items():
            self._hottest[name] = max(value, self._hottest.get(name, value))
        if self._watch is not None:
            self._watch.look()


def mean_power(readings: Sequence[tuple[float, float]]) -> float | None:
    """Mean watts over time of `(seconds, watts)` in order, straight lines between them; None without any.

    (0, 2), (1, 4), (3, 4): 3 W for 1 s, 4 W for 2 s, hence 11 / 3 W. One reading is its own mean.
    """
    if not readings:
        return None
    span = readings[-1][0] - readings[0][0]
    if span <= 0:
        return sum(watts for _, watts in readings) / len(readings)
    pairs = pairwise(readings)
    return sum((after - before) * (first + last) / 2 for (before, first), (after, last) in pairs) / span
