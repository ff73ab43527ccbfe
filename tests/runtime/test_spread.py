from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import pytest

from edgeattn.runtime.spread import interleaved_ms, layers_differing


def layer(name: str, **changes: str) -> dict[str, str]:
    return {"name": name, "kind": "conv", "precision": "int8", "tactic": "t1", **changes}


@pytest.mark.parametrize(
    ("first", "second", "differing"),
    [
        ([layer("a"), layer("b")], [layer("b"), layer("a")], 0),  # in another order
        ([layer("a")], [layer("a", tactic="t2")], 2),
        ([layer("a")], [layer("a", precision="fp16")], 2),
        ([layer("a + b")], [layer("a"), layer("b")], 3),  # fused in one, not in the other
        ([layer("a"), layer("a")], [layer("a")], 1),
        ([], [], 0),
    ],
)
def test_layers_that_only_one_has(first: Any, second: Any, differing: int) -> None:
    assert layers_differing({"executed": first}, {"executed": second}) == differing


def test_engines_without_a_list_of_layers() -> None:
    assert layers_differing({}, {}) == 0


class Timed:
    """Takes `ms` by a clock that only its calls move."""

    def __init__(self, ms: float, clock: list[int], order: list[str], name: str) -> None:
        self.ms, self.clock, self.order, self.name = ms, clock, order, name

    def infer(self, inputs: Any) -> dict[str, Any]:
        self.clock[0] += int(self.ms * 1e6)
        self.order.append(self.name)
        return {}


def test_turns_alternate_and_last_about_as_long() -> None:
    clock, order = [0], []
    runners: list[Any] = [Timed(2.0, clock, order, "a"), Timed(5.0, clock, order, "b")]
    rounds = interleaved_ms(runners, [{}, {}], clock_ns=lambda: clock[0])
    assert [len(turns) for turns in rounds] == [20, 20]
    assert {len(turn) for turns in rounds for turn in turns} == {10}  # 50 ms of the slower one
    assert {ms for turn in rounds[0] for ms in turn} == {2.0}
    assert {ms for turn in rounds[1] for ms in turn} == {5.0}
    turns = order[20:]
    assert len(turns) == 2 * 20 * 11  # one call of each turn is not recorded
    starts = [turns[index] for index in range(0, len(turns), 11)]
    assert sorted(starts[:2]) == ["a", "b"] and len(set(zip(starts[::2], starts[1::2], strict=True))) == 2


@pytest.mark.parametrize(("ms", "calls"), [(0.0001, 100), (400.0, 1)])
def test_the_number_of_calls_is_bounded(ms: float, calls: int) -> None:
    clock: list[int] = [0]
    rounds = interleaved_ms([Timed(ms, clock, [], "a")], [{}], clock_ns=lambda: clock[0])  # type: ignore[list-item]
    assert {len(turn) for turn in rounds[0]} == {calls}


def test_inputs_come_in_turn() -> None:
    seen: list[int] = []

    class Sees:
        def infer(self, inputs: Any) -> dict[str, Any]:
            seen.append(int(inputs["x"][0]))
            return {}

    ticks = count(step=25_000_000)
    interleaved_ms([Sees()], [{"x": np.array([i])} for i in range(3)], clock_ns=lambda: next(ticks))  # type: ignore[list-item]
    assert set(seen) == {0, 1, 2}
