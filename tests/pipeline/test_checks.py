"""What the checks keep in the store, with a measurement that is made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeattn.artifact import Stage, Store
from edgeattn.backends.base import Specs, TensorSpec
from edgeattn.data.base import Sample, Splits
from edgeattn.errors import MachineError
from edgeattn.measure import candidate, latency
from edgeattn.pipeline import checks
from edgeattn.pipeline.rows import Row, built
from edgeattn.pipeline.stages import Context
from edgeattn.recipe import Recipe, Target

RECIPE = {
    "name": "mine",
    "task": "classify",
    "model": {"name": "attention_cnn"},
    "input": {"height": 8, "width": 8},
    "data": {"format": "scenes"},
    "train": {"epochs": 1},
}


class Images(list):
    def name(self, index):
        return str(index)


def images(*values):
    return Images(Sample(np.full((8, 8, 3), value, np.uint8), target=value % 2) for value in values)


@pytest.fixture
def context(tmp_path) -> Context:
    made = Context(
        recipe=Recipe(**RECIPE),
        target=Target(name="cpu", title="t", backend="openvino", precisions=("fp32", "int8"), threads=1),
        store=Store(tmp_path / "store"),
        data_root=tmp_path,
        progress=lambda done, total, text: None,
    )
    made.__dict__["splits"] = Splits(images(1, 2), images(3, 4), images(5, 6), ("even", "odd"), "f", "t")
    return made


@pytest.fixture
def rows(context) -> list[Row]:
    def row(stage: Stage, variant: str, backend: str) -> Row:
        def write(work: Path, out: Path) -> None:
            (out / "x").write_text(f"{stage.value}/{variant}")

        return built(stage, variant, backend, context.store.build(stage, variant, {}, write))

    return [
        row(Stage.TRAIN, "fp32", "pytorch"),
        row(Stage.COMPILE, "fp32", "openvino"),
        row(Stage.COMPILE, "int8", "openvino"),
    ]


class Measuring:
    """Stands in for `measure_latency`: counts its calls; `failing` could not be run."""

    def __init__(self) -> None:
        self.calls = 0
        self.failing: dict[str, str] = {}

    def __call__(self, candidates: Any, frames: Any, *, reference: str, parents: Any, **settings: Any) -> Any:
        self.calls += 1
        if reference in self.failing:
            raise MachineError(self.failing[reference])
        names = [c.name for c in candidates if c.name not in self.failing]
        figures = latency.summarize_rounds(
            {name: [[1_000_000]] * 3 for name in names},
            reference=reference,
            parents={name: parent for name, parent in parents.items() if {name, parent} <= set(names)},
            threads=dict.fromkeys(names, 1),
            protocols=dict.fromkeys(names, "made up"),
            throttled=None,
            peak_rss_bytes=dict.fromkeys(names),
            seed=0,
        )
        return latency.Measured(figures, self.failing)


@pytest.fixture
def measuring(monkeypatch) -> Measuring:
    made = Measuring()
    monkeypatch.setattr(latency, "measure_latency", made)
    return made


def test_latency_of_all_and_from_the_store(context, rows, measuring):
    first = checks.latency(context, rows)
    assert [row.latency["p50_ms"] for row in first] == [1.0, 1.0, 1.0]
    assert first[2].latency["parent"]["variant"] == "fp32"
    rows = [replace(row, status="cached") for row in rows]
    assert [row.status for row in checks.latency(context, rows)] == ["cached"] * 3
    assert measuring.calls == 1


def test_one_that_cannot_be_timed_is_failed_and_the_others_are_not(context, rows, measuring):
    measuring.failing = {"compile/fp32": "Its process was ended by SIGKILL."}
    timed = checks.latency(context, rows)
    assert [row.status for row in timed] == ["ok", "failed", "ok"]
    assert (timed[1].reason, timed[1].latency) == ("Its process was ended by SIGKILL.", None)
    assert timed[1].artifact == rows[1].artifact
    assert timed[2].latency["parent"] is None


def test_a_failure_is_tried_again(context, rows, measuring):
    measuring.failing = {"compile/int8": "The memory ran out."}
    for calls in (1, 2):
        assert checks.latency(context, rows)[2].status == "failed"
        assert measuring.calls == calls
    measuring.failing = {}
    for _ in range(2):
        assert checks.latency(context, rows)[2].status == "ok"
        assert measuring.calls == 3


def test_a_reference_that_cannot_be_timed_is_an_error(context, rows, measuring):
    measuring.failing = {"train/fp32": "It hangs."}
    with pytest.raises(MachineError, match="It hangs"):
        checks.latency(context, rows)


class Brightness:
    """Two logits: whether the frame is brighter than 5."""

    specs = Specs((TensorSpec("frame", (1, 8, 8, 3), "uint8"),), (TensorSpec("logits", (1, 2), "float32"),))

    def infer(self, inputs):
        bright = float(inputs["frame"].mean() > 5)
        return {"logits": np.array([[bright, 1 - bright]], np.float32)}

    def close(self):
        pass


@pytest.mark.parametrize("name", ["_ACCURACY_LAYOUT", "_LATENCY_LAYOUT"])
def test_another_layout_is_another_check(context, rows, measuring, name, monkeypatch):
    """Files written before a field was added must not be read as if they had it."""
    opened = []
    monkeypatch.setattr(candidate, "open_entry", lambda *arguments: opened.append(arguments) or Brightness())

    def check() -> int:
        if name == "_LATENCY_LAYOUT":
            checks.latency(context, rows)
            return measuring.calls
        row, _ = checks.accuracy(context, rows[0], None)
        assert row.metric["value"] == 100.0
        return len(opened)

    assert (check(), check()) == (1, 1)
    monkeypatch.setattr(checks, name, 99)
    assert check() == 2
