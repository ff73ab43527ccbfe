"""How far two engines of one model differ: what they compute, and how long they take.

TensorRT chooses among its kernels by how fast they were while it built, so two builds are two engines; OpenVINO writes
the same bytes each time.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeattn.artifact import sha256_file
from edgeattn.backends.base import Runner, Tensors
from edgeattn.bundle.golden import Comparable
from edgeattn.metrics.tensors import Sums, sums_by_name
from edgeattn.runtime.on_device import DESCRIPTION, read_description
from edgeattn.stats import Interval, percentile, ratio_of_rounds

_ROUNDS = 20
_TURN_S = 0.05
_CALLS_MAX = 100
_WARM_UP = 10
_KEYS = ("name", "kind", "precision", "tactic")  # of an executed layer; OpenVINO has no tactics


@dataclass(frozen=True)
class Spread:
    """`outputs`: the second engine's against the first one's over all samples, by name of the output.

    `layers_differing`: executed layers that only one of the two has, counting what they were fused of, their precision
    and their kernel. `latency_ratio` is the second's latency divided by the first's, from interleaved rounds.
    """

    identical: bool
    layers_differing: int
    outputs: Mapping[str, Sums]
    latency_ratio: float
    latency_ratio_ci95: Interval
    p50_ms: tuple[float, float]
    rounds: int
    second_build_s: float

    def lines(self) -> list[str]:
        """For a person, one finding per line."""
        low, high = self.latency_ratio_ci95
        same = "the same bytes" if self.identical else f"{self.layers_differing} executed layers differ"
        return [
            f"second build: {same}, {self.second_build_s:.1f} s",
            *(f"  output '{name}' {_words(sums)}" for name, sums in sorted(self.outputs.items())),
            f"  latency {self.p50_ms[0]:.3f} and {self.p50_ms[1]:.3f} ms (median), second ÷ first "
            f"{self.latency_ratio:.3f} ({low:.3f} to {high:.3f}) in {self.rounds} interleaved rounds",
        ]

    def to_dict(self) -> dict[str, Any]:
        """JSON knows no infinity: an SQNR of null with no difference at all is that of equal outputs."""
        return {
            "identical": self.identical,
            "layers_differing": self.layers_differing,
            "outputs": {
                name: {
                    "sqnr_db": sums.sqnr_db if math.isfinite(sums.sqnr_db) else None,
                    "max_abs": sums.max_abs if math.isfinite(sums.max_abs) else None,
                }
                for name, sums in sorted(self.outputs.items())
            },
            "latency_ratio": self.latency_ratio,
            "latency_ratio_ci95": list(self.latency_ratio_ci95),
            "p50_ms": list(self.p50_ms),
            "rounds": self.rounds,
            "second_build_s": round(self.second_build_s, 3),
        }


@dataclass(frozen=True)
class Built:
    """An opened engine with its description, and the hashes of its files but that one, by name."""

    runner: Runner
    description: Mapping[str, Any]
    sha256: Mapping[str, str]

    @classmethod
    def of(cls, runner: Runner, folder: Path) -> Built:
        """`runner` has opened the engine that lies in `folder`. Raises ModelError where its description is none."""
        hashes = {file.name: sha256_file(file) for file in folder.glob("engine.*") if file.name != DESCRIPTION}
        return cls(runner, read_description(folder), hashes)


def compare(
    first: Built, second: Built, inputs: Sequence[Tensors], comparable: Comparable, *, second_build_s: float
) -> Spread:
    """Run both on `inputs`: once to compare what comes out, then in turns to compare how long it takes."""
    pairs = (comparable(second.runner.infer(sample), first.runner.infer(sample)) for sample in inputs)
    outputs = sums_by_name(pairs)
    rounds = interleaved_ms([first.runner, second.runner], inputs)
    medians = [[statistics.median(turn) for turn in turns] for turns in rounds]
    ratio, ratio_ci95 = ratio_of_rounds(medians[1], medians[0], seed=0)
    middle = [percentile([ms for turn in turns for ms in turn], 50) for turns in rounds]
    return Spread(
        identical=first.sha256 == second.sha256,
        layers_differing=layers_differing(first.description, second.description),
        outputs=outputs,
        latency_ratio=ratio,
        latency_ratio_ci95=ratio_ci95,
        p50_ms=(middle[0], middle[1]),
        rounds=len(rounds[0]),
        second_build_s=second_build_s,
    )


def layers_differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> int:
    """Executed layers of two engines' descriptions that only one has. A tactic that differs makes two: one each."""
    counts = [
        Counter(tuple(str(layer.get(key)) for key in _KEYS) for layer in description.get("executed", []))
        for description in (first, second)
    ]
    return sum(((counts[0] - counts[1]) + (counts[1] - counts[0])).values())


def interleaved_ms(
    runners: Sequence[Runner],
    inputs: Sequence[Tensors],
    *,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> list[list[list[float]]]:
    """Milliseconds per call, by runner and round: 20 rounds in which each has one turn, in a fresh random order.

    A turn is about 50 ms of calls over the `inputs` after one that is not recorded. All are in this process, unlike a
    report's latencies: what threads of one leave behind meets the other, so it is their ratio that counts.
    """

    def timed(runner: Runner, number: int) -> float:
        started = clock_ns()
        runner.infer(inputs[number % len(inputs)])
        return (clock_ns() - started) / 1e6

    typical = [statistics.median(timed(runner, number) for number in range(_WARM_UP)) for runner in runners]
    calls = max(1, min(_CALLS_MAX, int(_TURN_S * 1e3 / max(*typical, 1e-3))))
    random = np.random.default_rng(0)
    rounds: list[list[list[float]]] = [[] for _ in runners]
    for _ in range(_ROUNDS):
        for index in random.permutation(len(runners)):
            timed(runners[index], 0)
            rounds[index].append([timed(runners[index], number) for number in range(calls)])
    return rounds


def _words(sums: Sums) -> str:
    if sums.max_abs == 0:
        return "is the same in every sample"
    return f"differs by {sums.sqnr_db:.1f} dB SQNR, at most {sums.max_abs:.3g}"
