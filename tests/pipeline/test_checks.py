"""What the checks keep in the store, with a measurement that is made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeattn import provenance
from edgeattn.artifact import Stage, Store
from edgeattn.backends.base import Specs, TensorSpec
from edgeattn.data.base import Sample, Splits
from edgeattn.errors import MachineError
from edgeattn.measure import candidate, latency
from edgeattn.measure.drift import Scored
from edgeattn.pipeline import checks
from edgeattn.pipeline.context import Context
from edgeattn.pipeline.rows import Row, built
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
            parents={name: [p for p in others if p in names] for name, others in parents.items() if name in names},
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


@pytest.mark.parametrize("same", [True, False], ids=["of one shape", "of several"])
def test_outputs_come_back_sample_by_sample(same, tmp_path):
    """Frames of their own sizes give maps of their own sizes."""
    rng = np.random.default_rng(0)
    sizes = [(4, 5), (4, 5), (4, 5)] if same else [(4, 5), (2, 3), (4, 5)]
    outputs = [{"map": rng.random((1, 2, *size)), "scores": rng.random((1, 7))} for size in sizes]
    (tmp_path / "check").mkdir()
    checks._save_outputs(outputs, tmp_path / "check/outputs.npz")
    check = SimpleNamespace(path=tmp_path / "check")
    found = checks.load_outputs(check)
    assert [{name: value.shape for name, value in o.items()} for o in found] == [
        {"map": (1, 2, *size), "scores": (1, 7)} for size in sizes
    ]
    assert all((ours[name] == theirs[name]).all() for ours, theirs in zip(found, outputs, strict=True) for name in ours)
    for only in ([], [0], [2, 0], [0, 1, 2]):
        few = checks.load_outputs(check, only)
        assert len(few) == len(only)
        for index, ours in zip(only, few, strict=True):
            assert ours.keys() == outputs[index].keys()
            assert all((value == outputs[index][name]).all() for name, value in ours.items())
            # A view would keep all samples in memory.
            assert all(value.base is None or value.base.nbytes == value.nbytes for value in ours.values())


def test_many_outputs_of_several_shapes_keep_their_order(tmp_path):
    """Also past ten, where names no longer sort like numbers."""
    outputs = [{"map": np.full((1, 1, 2 + i % 2), i)} for i in range(12)]
    checks._save_outputs(outputs, tmp_path / "outputs.npz")
    found = checks.load_outputs(SimpleNamespace(path=tmp_path))
    assert [int(output["map"].max()) for output in found] == list(range(12))


def pairs(*sizes):
    rng = np.random.default_rng(0)
    return Images(
        Sample(rng.integers(0, 256, (*first, 3), dtype=np.uint8), np.eye(3), np.full((*second, 3), 9, np.uint8))
        for first, second in sizes
    )


@pytest.fixture
def aligning(context) -> Context:
    made = replace(context, recipe=Recipe(**{**RECIPE, "task": "align"}))
    evaluation = pairs(((8, 10), (8, 8)), ((8, 10), (8, 8)), ((8, 10), (8, 9)), ((9, 10), (8, 8)))
    made.__dict__["splits"] = Splits(images(), images(), evaluation, (), "f", "t", kind="homography")
    return made


def test_both_frames_are_given_as_they_are_or_prepared(aligning):
    samples = aligning.splits.evaluation
    for raw in (True, False):
        targets: list[Any] = []
        for framing, sample in zip(checks._framings(aligning, targets, raw=raw), samples, strict=True):
            (call,) = framing.calls
            assert list(call) == ["frame_a", "frame_b"]
            sizes = {name: frame.shape[1:3] for name, frame in call.items()}
            whole = {"frame_a": sample.frame.shape[:2], "frame_b": sample.second.shape[:2]}
            assert sizes == (whole if raw else {"frame_a": (8, 8), "frame_b": (8, 8)})
            # What is scored is seen from the prepared frames either way.
            pairs = zip(framing.views, sample.frames, strict=True)
            assert all(np.shares_memory(view.frame, frame) and view.frame.shape == frame.shape for view, frame in pairs)
            seen = aligning.preprocess.apply_with_matrix(sample.frame)[1]
            assert (framing.views[0].matrix == seen).all() and (seen != np.eye(3)).any()
        assert len(targets) == 4


def test_frames_that_are_timed_together_are_of_one_size(aligning):
    """An engine call takes arrays of one shape: pairs of which either frame differs are left out."""
    frames = checks.timed_frames(aligning, raw=True)
    assert [[{name: value.shape for name, value in call.items()} for call in frame] for frame in frames] == [
        [{"frame_a": (1, 8, 10, 3), "frame_b": (1, 8, 8, 3)}]
    ] * 2


def test_prepared_frames_are_of_one_size_anyway(aligning):
    frames = checks.timed_frames(aligning)
    assert [[{name: value.shape for name, value in call.items()} for call in frame] for frame in frames] == [
        [{"frame_a": (1, 8, 8, 3), "frame_b": (1, 8, 8, 3)}]
    ] * 4


def test_of_tiled_frames_whole_ones_are_timed_in_every_row(context, rows, monkeypatch):
    """16 x 24 pixels are six tiles of 8; the engines get all of them and the bundle the same frames as they are."""
    tile = Recipe(**{**RECIPE, "task": "segment", "input": {"height": 8, "width": 8, "fit": "tile", "overlap": 0}})
    tiling = replace(context, recipe=tile)
    sizes = [(16, 24), (16, 24), (8, 24), (16, 24)]
    rng = np.random.default_rng(0)
    evaluation = Images(
        Sample(rng.integers(0, 256, (*size, 3), dtype=np.uint8), np.zeros(size, np.uint8)) for size in sizes
    )
    tiling.__dict__["splits"] = Splits(images(1), images(2), evaluation, ("a", "b"), "f", "t", kind="mask")
    given = {}

    def measured(candidates, frames, **settings):
        given.update({c.name: c.frames or frames for c in candidates})
        return latency.Measured({}, dict.fromkeys(given, "made up"))

    monkeypatch.setattr(latency, "measure_latency", measured)
    bundle = replace(rows[2], stage=Stage.BUNDLE)
    checks.latency(tiling, [*rows, bundle])
    for row in rows:
        assert [[call["frame"].shape for call in frame] for frame in given[row.name]] == [[(1, 8, 8, 3)] * 6] * 3
    whole = [call["frame"][0] for (call,) in given["bundle/int8"]]
    assert [frame.shape for frame in whole] == [(16, 24, 3)] * 3
    for calls, frame in zip(given["compile/int8"], whole, strict=True):
        assert (calls[5]["frame"][0] == frame[8:, 16:]).all()


def test_a_changed_network_is_another_figure_of_pytorch_only(context, rows, tmp_path, monkeypatch):
    """Its module is found by name, so no import statement of the backend leads to it."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "checknets").mkdir()
    own = replace(context, recipe=Recipe(**{**RECIPE, "model": {"name": "checknets.net"}}))
    own.__dict__["splits"] = context.splits
    found = []
    for line in ("ONE = 1\n", "ONE = 2\n"):
        for cached in (provenance._source, provenance._module_hash, provenance._folders):
            cached.cache_clear()
        (tmp_path / "checknets/net.py").write_text(line)
        codes = [checks._accuracy_inputs(own, row, None)["code"] for row in rows]
        found.append([*codes, checks._latency_inputs(own, rows)["code"], checks._latency_inputs(own, rows[1:])["code"]])
    assert [one != other for one, other in zip(*found, strict=True)] == [True, False, False, True, False]


def test_the_metric_that_is_asked_for_is_another_check(context, rows, monkeypatch):
    monkeypatch.setattr(candidate, "open_entry", lambda *arguments: Brightness())
    inputs = checks._accuracy_inputs(context, rows[0], None)
    assert inputs["metric"] == "top1"
    row, check = checks.accuracy(context, rows[0], None)
    assert row.metric["others"] == {}
    scored = Scored.load(check.path / "scores.npz")
    assert scored.scores.tolist() == [[1.0, 1.0], [1.0, 0.0]]
    assert (scored.metric, scored.seed, scored.sources) == ("top1", context.recipe.seed, None)
