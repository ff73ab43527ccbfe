"""Latency of several models by interleaved rounds, each model in a process of its own; peak memory comes with it.

What is timed is a whole frame: all engine calls that it needs, which are several where it is cut into tiles.
In each round every candidate has one turn, in a fresh random order, so that what the machine does meanwhile meets all
of them alike. Nothing is clipped and no outlier is removed.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeattn.backends.base import Tensors
from edgeattn.board.jetson import ROOT
from edgeattn.board.throttle import Watch
from edgeattn.errors import DataError, storage_errors
from edgeattn.measure.candidate import Candidate
from edgeattn.measure.energy import measure_energy
from edgeattn.measure.process import Workers
from edgeattn.stats import Interval, percentile, ratio_of_rounds

MIN_ROUNDS, MAX_ROUNDS = 20, 50
MIN_CALLS, MAX_CALLS = 10, 100
TURN_S = 0.5  # of recorded calls are enough for a turn, however few they are
WARM_UP = {"window": 10, "tolerance": 0.05, "min_s": 0.3, "max_s": 10.0}
# The caches and the clock frequency were somebody else's before the turn.
UNRECORDED = {"unrecorded": 3, "unrecorded_s": 0.005}
MAX_SAMPLES = 400
PATIENCE = 4.0  # times the recorded seconds asked for

Rounds = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Parent:
    """`ratio` = this latency divided by that of `variant`, the fastest of the parents, from the same rounds: below 1 is
    faster."""

    variant: str
    ratio: float
    ratio_ci95: Interval


@dataclass(frozen=True)
class Memory:
    """`peak_rss_mb`, in 10^6 bytes, is the whole process: interpreter, library and model. None where unknown."""

    peak_rss_mb: float | None

    def to_dict(self) -> dict[str, Any]:
        return {"peak_rss_mb": self.peak_rss_mb}


@dataclass(frozen=True)
class Latency:
    """Whole frames, `n` of them, each by one or more calls of `Runner.infer`.

    `samples_ms` is a seeded sample of at most 400, in order of time.

    `engine_only` is false: copies to and from the engine are inside the measured span. `throttled` is whether something
    was slowed down for heat or current during the rounds, None where the machine does not say. `memory` and `energy`
    are fields of the row, not of `to_dict()`.
    """

    threads: int
    batch: int
    n: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float
    min_ms: float
    ratio_to_reference: float
    ratio_ci95: Interval
    throttled: bool | None
    engine_only: bool
    parent: Parent | None
    protocol: str
    samples_ms: tuple[float, ...]
    memory: Memory
    energy: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self)
        del values["memory"], values["energy"]
        return values


@dataclass(frozen=True)
class Measured:
    """`failed` gives the reason of each candidate that could not be loaded or run; `latencies` holds the others."""

    latencies: dict[str, Latency]
    failed: dict[str, str]


@dataclass(frozen=True)
class Plan:
    """`rounds` for all candidates, and how many recorded calls each makes per round."""

    rounds: int
    calls: Mapping[str, int]


def plan_rounds(typical_ns: Mapping[str, float], seconds: float) -> Plan:
    """Spend about `seconds` of recorded calls per candidate, but at least 20 rounds of 10 and at most 50 of 100.

    The slowest decides the number of rounds; the faster ones make more calls in each. 2 ms and 20 ms, 5 seconds:
    5 / (10 x 0.020) = 25 rounds; 5 / (25 x 0.002) = 100 calls for the first, 10 for the second. Where ten calls take
    longer than half a second, as of large frames in tiles, fewer will do: 2 of 250 ms.
    """
    typical_s = {name: ns / 1e9 for name, ns in typical_ns.items()}
    fewest = {name: _clamp(TURN_S / call_s, 1, MIN_CALLS) for name, call_s in typical_s.items()}
    slowest = max(typical_s, key=lambda name: typical_s[name])
    rounds = _clamp(seconds / (fewest[slowest] * typical_s[slowest]), MIN_ROUNDS, MAX_ROUNDS)
    calls = {name: _clamp(seconds / (rounds * typical_s[name]), fewest[name], MAX_CALLS) for name in typical_s}
    return Plan(rounds, calls)


def schedule(names: Sequence[str], rounds: int, seed: int) -> list[list[str]]:
    """The order of the candidates in each round: every name once per round, freshly shuffled."""
    random = np.random.default_rng(seed)
    return [[names[i] for i in random.permutation(len(names))] for _ in range(rounds)]


def summarize_rounds(
    rounds: Mapping[str, Rounds],
    *,
    reference: str,
    parents: Mapping[str, Sequence[str]],
    threads: Mapping[str, int],
    protocols: Mapping[str, str],
    throttled: bool | None,
    peak_rss_bytes: Mapping[str, int | None],
    seed: int,
    energies: Mapping[str, dict[str, Any]] | None = None,
) -> dict[str, Latency]:
    """Recorded nanoseconds, per candidate and round, to a `Latency` per candidate."""
    medians = {name: [statistics.median(turn) for turn in turns] for name, turns in rounds.items()}
    results = {}
    for name, turns in rounds.items():
        all_ms = np.array([ns for turn in turns for ns in turn], np.float64) / 1e6
        ratio, ratio_ci95 = ratio_of_rounds(medians[name], medians[reference], seed=seed)
        parent = None
        if others := parents.get(name):
            fastest = min(others, key=lambda other: statistics.median(medians[other]))
            parent = Parent(fastest, *ratio_of_rounds(medians[name], medians[fastest], seed=seed))
        kept = np.random.default_rng(seed).choice(all_ms.size, min(all_ms.size, MAX_SAMPLES), replace=False)
        peak = peak_rss_bytes[name]
        results[name] = Latency(
            threads=threads[name],
            batch=1,
            n=all_ms.size,
            p50_ms=percentile(all_ms, 50),
            p90_ms=percentile(all_ms, 90),
            p99_ms=percentile(all_ms, 99),
            mean_ms=float(all_ms.mean()),
            min_ms=float(all_ms.min()),
            ratio_to_reference=ratio,
            ratio_ci95=ratio_ci95,
            throttled=throttled,
            engine_only=False,
            parent=parent,
            protocol=protocols[name],
            samples_ms=tuple(all_ms[np.sort(kept)].round(4).tolist()),
            memory=Memory(None if peak is None else round(peak / 1e6, 1)),
            energy=(energies or {}).get(name),
        )
    return results


def measure_latency(
    candidates: Sequence[Candidate],
    frames: Sequence[Sequence[Tensors]],
    *,
    reference: str,
    parents: Mapping[str, Sequence[str]],
    seconds: float = 3.0,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    timeout_s: float = 600.0,
    root: Path = ROOT,
) -> Measured:
    """Measure all candidates against `reference`, and each against the fastest of its `parents`, where any are named.

    `frames` are a handful of real ones, each as the engine calls that it needs (batch 1), which are timed together as
    one; all of as many calls, and each input of one size throughout. `timeout_s` limits any one answer of a
    worker, loading included. A candidate that cannot be loaded or run, or whose process dies or hangs, is left out; its
    reason names it. Where that is the reference, its error is raised (MachineError for a process that died or hangs),
    as are MissingLibrary and StorageError of any. All processes have ended when this returns or raises. `root` is the
    file system in which a board tells of its power and throttling.
    """
    names = [candidate.name for candidate in candidates]
    asked = {reference, *parents, *chain(*parents.values())}
    if len(set(names)) != len(names) or not asked <= set(names):
        raise ValueError(f"unique candidates with the reference and all parents among them are needed, got {names}")
    if not frames:
        raise DataError("Latency needs at least one evaluation frame; the evaluation split is empty.")
    tell = progress or (lambda message: None)
    with (
        tempfile.TemporaryDirectory(prefix="edgeattn-") as folder,
        Workers(essential=reference, timeout_s=timeout_s) as workers,
    ):
        tell(f"latency: loading {', '.join(names)}")
        for index, candidate in enumerate(candidates):
            path = Path(folder) / f"{index}.npz"
            with storage_errors(path):
                arrays: dict[str, Any] = _stacked(candidate.frames or frames)
                np.savez(path, **arrays)
            workers.start(candidate, path)
        workers.wait_loaded()  # opened side by side, for much of it is one thread's work; timed when all are open
        warm = {}
        for candidate in candidates:
            tell(f"latency: warming up {candidate.name}")
            if answer := workers.ask(candidate.name, "warm", **WARM_UP):
                warm[candidate.name] = answer
        window = int(WARM_UP["window"])
        plan = plan_rounds({n: statistics.median(w["durations_ns"][-window:]) for n, w in warm.items()}, seconds)
        watch = Watch(root)
        # On a machine that others keep busy a round takes many times longer; the least number of them must do then.
        rounds, quiet = _run_rounds(workers, plan, seed, tell, watch, patience_s=PATIENCE * seconds * len(warm))
        plan = Plan(len(rounds[reference]), plan.calls)
        throttled = watch.result().throttled
        typical_ns = {name: statistics.median(ns for turn in turns for ns in turn) for name, turns in rounds.items()}
        energies = measure_energy(workers, typical_ns, root, seconds=seconds)
        peaks = {name: answer["peak_rss_bytes"] for name in rounds if (answer := workers.ask(name, "peak"))}
    whole = [candidate for candidate in candidates if candidate.name in peaks]
    latencies = summarize_rounds(
        {c.name: rounds[c.name] for c in whole},
        reference=reference,
        parents={name: [p for p in others if p in peaks] for name, others in parents.items() if name in peaks},
        threads={c.name: c.threads for c in whole},
        protocols={
            c.name: _protocol(plan, c, warm[c.name], quiet=quiet[c.name], frames=c.frames or frames, seed=seed)
            for c in whole
        },
        throttled=throttled,
        peak_rss_bytes=peaks,
        seed=seed,
        energies=energies,
    )
    return Measured(latencies, workers.failed)


def _run_rounds(
    workers: Workers, plan: Plan, seed: int, tell: Callable[[str], None], watch: Watch, *, patience_s: float
) -> tuple[dict[str, list[list[int]]], dict[str, bool]]:
    """Nanoseconds per candidate and round, and whether its threads slept between turns; without those that failed."""
    rounds: dict[str, list[list[int]]] = {name: [] for name in plan.calls}
    quiet = dict.fromkeys(plan.calls, True)
    give_up = time.monotonic() + patience_s
    for number, order in enumerate(schedule(list(plan.calls), plan.rounds, seed), start=1):
        if number > MIN_ROUNDS and time.monotonic() > give_up:
            break
        tell(f"latency: round {number} of {plan.rounds}")
        for name in order:
            if answer := workers.ask(name, "turn", calls=plan.calls[name], **_unrecorded(plan.calls[name])):
                rounds[name].append(answer["durations_ns"])
                quiet[name] = quiet[name] and answer["quiet"]
            else:
                rounds.pop(name, None)
        watch.look()  # while nobody is timed
    return rounds, quiet


def _unrecorded(calls: int) -> dict[str, Any]:
    """Of calls so long that few are recorded as few are thrown away."""
    return UNRECORDED | {"unrecorded": min(calls, int(UNRECORDED["unrecorded"]))}


def _stacked(frames: Sequence[Sequence[Tensors]]) -> dict[str, NDArray[Any]]:
    """Per input one array `(frames, calls, h, w, 3)`, as the worker reads it."""
    return {
        name: np.stack([np.concatenate([call[name] for call in frame]) for frame in frames]) for name in frames[0][0]
    }


def _protocol(
    plan: Plan,
    candidate: Candidate,
    warm: Mapping[str, Any],
    *,
    quiet: bool,
    frames: Sequence[Sequence[Tensors]],
    seed: int,
) -> str:
    """One paragraph that lets somebody else measure the same."""
    tiles, unrecorded = len(frames[0]), _unrecorded(plan.calls[candidate.name])
    each = "" if tiles == 1 else f", each in {tiles} engine calls (its tiles) that are timed together"
    steady = "until steady" if warm["steady"] else "without becoming steady"
    spinning = "" if quiet else " Its threads kept the CPU busy between turns, which disturbs the other models."
    return (
        f"{plan.rounds} interleaved rounds, models in a fresh random order in each (seed {seed}), one process per "
        f"model; per round {unrecorded['unrecorded']} or more unrecorded calls (at least "
        f"{unrecorded['unrecorded_s'] * 1e3:g} ms) and {plan.calls[candidate.name]} recorded ones, then a pause until "
        f"the engine's threads sleep; warm-up of {len(warm['durations_ns'])} calls {steady} (medians of two successive "
        f"windows of {WARM_UP['window']} calls within {WARM_UP['tolerance']:.0%}); threads: {candidate.threads}; "
        f"batch 1; {len(frames)} evaluation frame(s) in turn{each}; perf_counter_ns around Runner.infer, "
        f"outputs on the host; no call removed.{spinning}"
    )


def _clamp(value: float, low: int, high: int) -> int:
    # Float rounding must not turn 100 into 99.
    return max(low, min(high, int(value + 1e-9)))
