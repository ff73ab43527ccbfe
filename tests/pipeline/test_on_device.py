"""What is asked of another machine and made of its answers, with a machine that is made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeattn.artifact import Precision, Stage, Store
from edgeattn.data.base import Sample, Splits
from edgeattn.errors import ConnectionFailed, MachineChanged, MachineError, StageFailed
from edgeattn.pipeline import bundling, checks
from edgeattn.pipeline.context import Context
from edgeattn.pipeline.on_device import OnDevice
from edgeattn.pipeline.rows import Row, built
from edgeattn.recipe import Recipe, Target
from edgeattn.remote.device import Device, Done
from edgeattn.remote.host import Host
from edgeattn.remote.shards import read_shards, write_shards

RECIPE = {
    "name": "mine",
    "task": "classify",
    "model": {"name": "attention_cnn"},
    "input": {"height": 8, "width": 8},
    "data": {"format": "scenes"},
    "train": {"epochs": 1},
}
FACTS = {
    "host": {"cpu": "Far CPU", "cores": 3, "packages": {"openvino": "1"}, "device": {}},
    "identity": {"cpu": "Far CPU", "cores": 3, "isa": []},
    "node": "far",
    "precisions": ["fp32", "int8"],
    "fingerprint": {"openvino": "1"},
    "board": None,
}


class Images(list):
    def name(self, index):
        return str(index)


class Box(Device):
    """`answers[step]` answers instead of a connection; `asked` holds what was asked."""

    answers: dict[str, Any]
    asked: list[tuple[str, str, dict[str, Any], dict[str, Any], bool]]
    now: dict[str, Any] | None = None

    def look_again(self):
        """`now` is what its board is set to by now."""
        self.facts = {**self.facts, "board": self.now or self.facts["board"]}

    def step(self, name, key, values, files, into, *, force=False):
        self.asked.append((name, key, dict(values), dict(files), force))
        into.mkdir(parents=True, exist_ok=True)
        return self.answers[name](values, files, into)


@pytest.fixture
def box() -> Box:
    made = Box(Host("me@box"), "openvino", b"", FACTS, lambda done, total, text: None)
    made.answers, made.asked = {}, []
    return made


@pytest.fixture
def context(tmp_path) -> Context:
    made = Context(
        recipe=Recipe(**RECIPE),
        target=Target(name="cpu", title="t", backend="openvino", precisions=("fp32", "int8")),
        store=Store(tmp_path / "store"),
        data_root=tmp_path,
        progress=lambda done, total, text: None,
    )
    images = Images(Sample(np.full((8, 8, 3), value, np.uint8), target=value % 2) for value in (1, 2, 3, 4, 5, 6))
    splits = Splits(Images(images[:2]), Images(images[2:4]), Images(images[4:]), ("even", "odd"), "f", "t")
    made.__dict__["splits"] = splits
    return made


def row(context: Context, stage: Stage, variant: str) -> Row:
    def write(work: Path, out: Path) -> None:
        (out / "engine.blob").write_text(f"{stage.value}/{variant}")

    return built(stage, variant, "openvino", context.store.build(stage, variant, {}, write))


def timed(failing=(), cached=False, lost=None):
    """A step `latency` in which `failing` could not be run; `lost` is what the reference raises."""

    def answer(values, files, into):
        if values["reference"] in (lost or {}):
            raise lost[values["reference"]]
        names = [one["name"] for one in values["candidates"] if one["name"] not in failing]
        latency = {"p50_ms": 2.0, "ratio_to_reference": 0.5, "ratio_ci95": [0.4, 0.6], "parent": None}
        figures = {name: {"latency": dict(latency), "memory": {"peak_rss_mb": 1.0}} for name in names}
        meanwhile = {"before": None, "after": None}
        failed = dict.fromkeys(failing, "It hangs.")
        return Done({"figures": figures, "failed": failed, "meanwhile": meanwhile}, {}, cached)

    return answer


def test_an_engine_is_what_comes_back(context, box):
    def build(values, files, into):
        assert files == {"model/model.onnx": graph.path / "model.onnx"}
        (into / "a").write_text("blob")
        return Done({}, {"engine.blob": into / "a", "more/engine.json": into / "a"}, False)

    box.answers["build"] = build
    graph = row(context, Stage.EXPORT, "fp32").artifact
    engine = OnDevice(box).compile_engine(context, graph, Precision.INT8)
    found = sorted(path.relative_to(engine.path).as_posix() for path in engine.path.rglob("*.*"))
    assert found == ["engine.blob", "manifest.json", "more/engine.json"]
    name, key, values, _, force = box.asked[0]
    assert (name, key, force) == ("build", engine.key, False)
    assert values == {"backend": "openvino", "precision": "int8", "threads": 3}
    assert OnDevice(box).compile_engine(context, graph, Precision.INT8).cached and len(box.asked) == 1


def test_outputs_are_scored_here(context, box):
    """Samples 5 (odd) and 6 (even): one right, one wrong."""

    def outputs(values, files, into):
        frames = [named["frame"] for named in read_shards([files[n] for n in sorted(files) if n.startswith("frames/")])]
        assert [frame[0, 0, 0] for frame in frames] == [5, 6] and values["samples"] == 2
        assert f"{values['path']}/engine.blob" in files
        logits = [{"logits": np.array([[0.0, 1.0]], np.float32)}] * 2
        return Done({}, {path.name: path for path in write_shards(logits, into)}, False)

    box.answers["outputs"] = outputs
    measured, check = OnDevice(box).accuracy(context, row(context, Stage.COMPILE, "fp32"), None)
    assert (measured.metric["value"], measured.metric["n"]) == (50.0, 2)
    assert len(checks.load_outputs(check)) == 2
    assert [asked[2]["raw"] for asked in box.asked] == [False]
    OnDevice(box).accuracy(context, row(context, Stage.BUNDLE, "fp32"), None)
    assert (box.asked[1][2]["raw"], box.asked[1][2]["path"]) == (True, "bundle")


def test_engines_are_timed_against_the_most_precise_one(context, box):
    box.answers["latency"] = timed()
    rows = [row(context, Stage.COMPILE, variant) for variant in ("int8", "fp32")]
    found = OnDevice(box).latency(context, rows)
    assert box.asked[0][2]["reference"] == "compile/fp32" and box.asked[0][2]["parents"] == {
        "compile/int8": ["compile/fp32"]
    }
    there = {"reference": "compile/fp32", "ratio": 0.5, "ratio_ci95": [0.4, 0.6]}
    assert found[0].latency["device_ratio"] == there
    assert (found[0].latency["ratio_to_reference"], found[0].latency["ratio_ci95"]) == (None, None)
    assert (found[0].candidate().ratio, found[0].candidate().ratio_ci95) == (0.5, (0.4, 0.6))


def test_where_the_most_precise_one_fails_the_next_takes_its_place(context, box):
    box.answers["latency"] = timed(lost={"compile/fp32": MachineError("It died.")})
    rows = [row(context, Stage.COMPILE, variant) for variant in ("fp32", "int8")]
    found = OnDevice(box).latency(context, rows)
    assert [(one.status, one.reason) for one in found] == [("failed", "It died."), ("ok", None)]
    assert found[1].latency["device_ratio"]["reference"] == "compile/int8"


def test_none_can_be_timed(context, box):
    box.answers["latency"] = timed(lost={name: StageFailed(name) for name in ("compile/fp32", "compile/int8")})
    found = OnDevice(box).latency(context, [row(context, Stage.COMPILE, variant) for variant in ("fp32", "int8")])
    assert [one.reason for one in found] == ["compile/fp32", "compile/int8"]


def test_a_lost_connection_is_no_failure_of_an_engine(context, box):
    box.answers["latency"] = timed(lost={"compile/fp32": ConnectionFailed("lost")})
    with pytest.raises(ConnectionFailed):
        OnDevice(box).latency(context, [row(context, Stage.COMPILE, "fp32")])


def test_a_failure_that_is_on_record_there_is_tried_again(context, box):
    box.answers["latency"] = timed(failing=["compile/int8"], cached=True)
    rows = [row(context, Stage.COMPILE, variant) for variant in ("fp32", "int8")]
    found = OnDevice(box).latency(context, rows)
    assert [one.status for one in found] == ["ok", "failed"]
    assert [asked[4] for asked in box.asked] == [False, True]


def test_a_bundle_is_timed_beside_its_engine_with_frames_as_they_come(context, box):
    box.answers["latency"] = timed()
    rows = [row(context, Stage.COMPILE, "int8"), row(context, Stage.BUNDLE, "int8")]
    OnDevice(box).latency(context, rows)
    _, _, values, files, _ = box.asked[0]
    assert values["parents"] == {"bundle/int8": ["compile/int8"]} and values["reference"] == "compile/int8"
    assert [(one["path"], one["frames"]) for one in values["candidates"]] == [
        ("model0/engine", None),
        ("model1/bundle", "raw"),
    ]
    assert {name.partition("/")[0] for name in files} == {"model0", "model1", "frames", "raw"}


def changed(box: Box, **facts: Any) -> Box:
    """The same machine on another day."""
    made = Box(box.host, box.backend, b"", {**FACTS, **facts}, box.progress)
    made.answers, made.asked = box.answers, box.asked
    return made


BOARD = {"power_mode": "15W", "clocks_held": False, "clocks_max_mhz": {"gpu": 625}, "temperatures_c": {"tj": 40.0}}


@pytest.mark.parametrize(
    "facts",
    [
        {"fingerprint": {"openvino": "1", "l4t": "36.4.4"}},  # an upgrade that leaves TensorRT's version as it was
        {"board": {**BOARD, "power_mode": "MAXN_SUPER"}},  # kernels were chosen by their times in another power mode
    ],
)
def test_an_engine_is_built_again_where_what_it_depends_on_changed(facts, context, box):
    def build(values, files, into):
        (into / "a").write_text("blob")
        return Done({}, {"engine.blob": into / "a"}, False)

    box.answers["build"] = build
    graph = row(context, Stage.EXPORT, "fp32").artifact
    before = changed(box, board=BOARD)
    for machine in (before, before, changed(box, **{"board": BOARD, **facts})):
        OnDevice(machine).compile_engine(context, graph, Precision.FP32)
    assert [asked[0] for asked in box.asked] == ["build", "build"]
    assert box.asked[0][1] != box.asked[1][1]


def test_latency_is_measured_again_in_another_power_mode(context, box):
    box.answers["latency"] = timed()
    rows = [row(context, Stage.COMPILE, "fp32")]
    warmer, faster = {**BOARD, "temperatures_c": {"tj": 60.0}}, {**BOARD, "power_mode": "25W"}
    for set_to in (BOARD, warmer, faster):
        OnDevice(changed(box, board=set_to)).latency(context, rows)
    assert len(box.asked) == 2, "heat is no setting"


def test_how_a_board_is_set_is_asked_before_it_is_timed(context, box):
    """It was set otherwise since the connection was made, as while a network was trained here."""
    box.answers["latency"] = timed()
    rows = [row(context, Stage.COMPILE, "fp32")]
    first, second = (changed(box, board=BOARD) for _ in range(2))
    second.now = {**BOARD, "power_mode": "MAXN_SUPER"}
    for machine in (first, second):
        OnDevice(machine).latency(context, rows)
    assert len(box.asked) == 2 and box.asked[0][1] != box.asked[1][1]
    assert second.describe()["power_mode"] == "MAXN_SUPER"


def test_a_board_that_is_set_otherwise_while_engines_are_sent(context, box):
    """Its figures belong to no setting that could be named: nothing is kept, and the run ends."""

    def latency(values, files, into):
        done = timed()(values, files, into)
        done.values["meanwhile"]["before"] = {**BOARD, "power_mode": "MAXN_SUPER"}
        return done

    box.answers["latency"] = latency
    with pytest.raises(MachineChanged, match=r"me@box was set to another power mode or other clocks while"):
        OnDevice(changed(box, board=BOARD)).latency(context, [row(context, Stage.COMPILE, "fp32")])
    assert len(box.asked) == 1


@pytest.mark.parametrize("error", [MachineError("No memory."), StageFailed("Not finite.")])
def test_without_a_second_engine_the_first_one_stays(context, box, error):
    def spread(values, files, into):
        raise error

    box.answers["spread"] = spread
    graph, engine = row(context, Stage.EXPORT, "fp32").artifact, row(context, Stage.COMPILE, "int8")
    found = OnDevice(box).spread(context, graph, engine)
    assert (found.status, found.spread) == (engine.status, None)
    assert found.notes[-1] == f"no second engine to compare with: {error}"


def test_a_connection_lost_while_a_second_engine_is_built_ends_the_run(context, box):
    def spread(values, files, into):
        raise ConnectionFailed("lost")

    box.answers["spread"] = spread
    with pytest.raises(ConnectionFailed):
        OnDevice(box).spread(context, row(context, Stage.EXPORT, "fp32").artifact, row(context, Stage.COMPILE, "int8"))


def test_a_proof_is_of_the_machine_as_it_is_now(context, box, monkeypatch, tmp_path):
    """So a record of an earlier one is not enough."""
    box.answers["self_test"] = lambda values, files, into: Done({}, {}, False)
    monkeypatch.setattr(bundling, "bundle", lambda context, graph, engine, machine: machine)
    graph, engine = (row(context, stage, "fp32").artifact for stage in (Stage.EXPORT, Stage.COMPILE))
    OnDevice(box).bundle(context, graph, engine).prove(tmp_path / "x.edgeattn", tmp_path / "work")
    name, _, values, files, force = box.asked[0]
    assert (name, values["path"], force) == ("self_test", "bundle/x.edgeattn", True)
    assert files == {"bundle/x.edgeattn": tmp_path / "x.edgeattn"}
