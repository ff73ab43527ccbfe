"""The order of the stages with stages that do nothing: what follows what, and what a failed proof leaves behind."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from edgeattn import backends, host, pipeline, provenance, report
from edgeattn.artifact import Stage, Store
from edgeattn.errors import MissingLibrary, ModelError, StageFailed, StorageError
from edgeattn.pipeline import bundling, checks, gate, pictures, stages
from edgeattn.pipeline.context import Context
from edgeattn.pipeline.rows import ROUNDED
from edgeattn.recipe import Recipe, Target

RECIPE = {
    "name": "mine",
    "task": "classify",
    "model": {"name": "attention_cnn"},
    "input": {"height": 32, "width": 32},
    "data": {"format": "scenes", "size": 32, "train": 8, "evaluation": 4, "calibration": 4},
    "train": {"epochs": 1},
}


class Compiler:
    def precisions(self):
        return ["fp32", "int8"]

    def fingerprint(self):
        return {}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Stages and checks replaced; `failing` names what raises, `figures` what a row measures."""

    class World:
        def __init__(self) -> None:
            self.failing: dict[str, Exception] = {}
            self.ratios = {"compile/int8": 0.5}
            self.deltas: dict[str, float] = {}
            self.skipped: dict[str, str] = {}
            self.made: list[str] = []
            self.judges: dict[str, str] = {}
            self.timed: list[tuple[list[str], dict[str, str]]] = []

        def context(self, **changes: Any) -> Context:
            return Context(
                recipe=Recipe(**{**RECIPE, **changes}),
                target=Target(name="cpu", title="t", backend="openvino", precisions=("fp32", "bf16", "fp16", "int8")),
                store=Store(tmp_path),
                data_root=tmp_path,
                progress=lambda done, total, text: None,
            )

        def run(self, until=Stage.BUNDLE, **changes: Any) -> dict[str, Any]:
            self.heard: list[str] = []
            values = pipeline.run(self.context(**changes), lambda row: self.heard.append(row.name), until)
            report.validate(report.schema.plain(values))
            assert self.heard == [f"{row['stage']}/{row['variant']}" for row in values["rows"]]
            return values

    world = World()

    def make(context, stage, variant):
        name = f"{stage.value}/{variant}"
        world.made.append(name)
        if name in world.failing:
            raise world.failing[name]

        def write(work, out):
            (out / "x").write_text(name)
            (out / "training.json").write_text(json.dumps({"history": [], "params": 1}))
            record = {"setting": "s", "kept_by": "k", "float_nodes": {}, "search": [], "skipped": world.skipped}
            (out / "quantization.json").write_text(json.dumps(record))
            (out / "engine.json").write_text(json.dumps({"layers": {}, "macs": {"fp32": 7}, "notes": ["n"]}))
            (out / "mine.edgeattn").write_text("bundle")

        return context.store.build(stage, variant, {}, write)

    def accuracy(context, row, reference):
        if f"accuracy {row.name}" in world.failing:
            raise world.failing[f"accuracy {row.name}"]
        check = make(context, Stage.CHECK, row.name)
        world.judges[row.name] = row.judged_by
        metric = {"name": "top1", "unit": "%", "value": 90.0, "ci95": [80.0, 95.0], "n": 4, "higher_is_better": True}
        delta = world.deltas.get(row.name, 0.0)
        drift = {
            **dict.fromkeys(["p_value", "test", "cosine", "agreement"]),
            **{
                "reference": "train/fp32",
                "metric_delta": delta,
                "ci95": [delta, delta],
                "sqnr_db": 50.0,
                "max_abs": 1.0,
            },
        }
        return row.measured(check, metric=metric, drift=drift if reference else None), check

    def latency(context, rows):
        world.timed.append(([row.name for row in rows], checks.parents(rows)))
        done = []
        for row in rows:
            if error := world.failing.get(f"latency {row.name}"):
                done.append(replace(row, status="failed", reason=str(error)))
                continue
            ratio = world.ratios.get(row.name, 1.0)
            figures = {
                **dict.fromkeys(["threads", "batch", "n", "p90_ms", "mean_ms", "min_ms", "throttled", "engine_only"]),
                **{"p50_ms": ratio, "p99_ms": ratio, "ratio_to_reference": ratio, "ratio_ci95": [ratio, ratio]},
            }
            done.append(replace(row, latency=figures))
        return done

    monkeypatch.setattr(stages, "train", lambda context: make(context, Stage.TRAIN, "fp32"))
    monkeypatch.setattr(stages, "export", lambda context, trained: make(context, Stage.EXPORT, "fp32"))
    monkeypatch.setattr(stages, "quantize", lambda context, graph, p: make(context, Stage.QUANTIZE, p.value))
    monkeypatch.setattr(stages, "compile_engine", lambda context, graph, p: make(context, Stage.COMPILE, p.value))
    monkeypatch.setattr(bundling, "bundle", lambda context, graph, engine: make(context, Stage.BUNDLE, engine.variant))
    monkeypatch.setattr(checks, "accuracy", accuracy)
    monkeypatch.setattr(checks, "latency", latency)
    monkeypatch.setattr(pictures, "examples", lambda context, accuracy: [])
    monkeypatch.setattr(pictures, "gallery", lambda context, accuracy: None)
    monkeypatch.setattr(checks, "per_label", lambda context, accuracy: None)
    monkeypatch.setattr(pipeline, "git_revision", lambda: None)
    monkeypatch.setattr(backends, "find_compiler", lambda name: Compiler())
    return world


def status(values):
    return {f"{row['stage']}/{row['variant']}": row["status"] for row in values["rows"]}


def test_all_of_it(world):
    values = world.run()
    assert status(values) == {
        "train/fp32": "ok",
        "export/fp32": "ok",
        "quantize/fp16": "ok",
        "quantize/int8": "ok",
        "compile/bf16": "unsupported",
        "compile/fp16": "unsupported",
        "compile/fp32": "ok",
        "compile/int8": "ok",
        "bundle/int8": "ok",
    }
    assert values["selected"]["variant"] == "int8"
    assert " ".join(values["verdict"]["reasons"]) == values["selected"]["why"]
    assert values["training"]["macs"] == 7 and values["bundle"]["size_bytes"] == 6
    # The reference runs along every time; a bundle also against its engine.
    assert world.timed == [
        (["train/fp32"], {}),
        (["train/fp32", "export/fp32"], {}),
        (["train/fp32", "quantize/fp16", "quantize/int8"], {"quantize/int8": ["quantize/fp16"]}),
        (["train/fp32", "compile/fp32", "compile/int8"], {"compile/int8": ["compile/fp32"]}),
        (["train/fp32", "compile/int8", "bundle/int8"], {"bundle/int8": ["compile/int8"]}),
    ]


def test_fp16_is_judged_with_its_results_rounded(world):
    """ONNX Runtime by itself computes such a graph in FP32, so that an overflow passed for 90 dB."""
    values = world.run()
    assert world.judges["quantize/fp16"] == ROUNDED and world.judges["quantize/int8"].startswith("edgeattn.backends")
    notes = next(row["notes"] for row in values["rows"] if row["variant"] == "fp16" and row["stage"] == "quantize")
    assert "rounded" in notes[0]


@pytest.mark.parametrize(
    ("ended", "written"), [("a" * 40, "a" * 40), ("b" * 40, "a" * 40 + "+changes"), (None, "a" * 40 + "+changes")]
)
def test_the_report_names_the_commit_that_the_run_began_with(world, monkeypatch, ended, written):
    revisions = ["a" * 40]  # a commit is made while the network is trained
    monkeypatch.setattr(pipeline, "git_revision", lambda: revisions[-1])
    monkeypatch.setattr(provenance, "git_revision", lambda: revisions[-1])
    trained = stages.train
    monkeypatch.setattr(stages, "train", lambda context: revisions.append(ended) or trained(context))
    assert world.run(Stage.TRAIN)["git"] == written


@pytest.mark.parametrize(
    ("until", "rows"), [(Stage.TRAIN, 1), (Stage.EXPORT, 2), (Stage.QUANTIZE, 4), (Stage.COMPILE, 8)]
)
def test_it_ends_where_it_is_told_to(world, until, rows):
    values = world.run(until)
    assert len(values["rows"]) == rows and values["rows"][-1]["stage"] == until.value
    assert values["verdict"]["passed"] is True and until.value in values["verdict"]["reasons"][0]
    assert (values["selected"], values["bundle"]) == (None, None)


def test_only_what_recipe_and_target_both_name(world):
    values = world.run(variants=("int8",))
    assert list(status(values)) == ["train/fp32", "export/fp32", "quantize/int8", "compile/int8", "bundle/int8"]
    assert world.timed[3] == (["train/fp32", "compile/int8"], {})


def test_the_engine_that_is_not_faster_is_not_shipped(world):
    world.ratios = {"compile/int8": 1.0}
    values = world.run()
    assert values["selected"]["variant"] == "fp32"
    assert "int8 is not worth it against fp32" in values["selected"]["why"]
    assert list(status(values))[-1] == "bundle/fp32"


def test_nothing_inside_the_budget(world):
    world.deltas = {"compile/fp32": -2.0, "compile/int8": -3.0}
    values = world.run(budget={"metric_drop_max": 1.0})
    assert values["verdict"]["passed"] is False and (values["selected"], values["bundle"]) == (None, None)
    assert any("fp32 loses 2" in reason for reason in values["verdict"]["reasons"])
    assert not any(name.startswith("bundle") for name in world.made)


def test_a_drop_exactly_on_the_budget_ships(world):
    """4 of 2,000 samples, and what rounding adds to them."""
    world.deltas = {"compile/int8": 98.35 - 98.55, "bundle/int8": 98.35 - 98.55}
    values = world.run(budget={"metric_drop_max": 0.2})
    assert values["verdict"]["passed"] is True and values["selected"]["variant"] == "int8"


def test_a_bundle_outside_the_budget_as_an_app_calls_it(world):
    """The engine alone is inside; with preparing and decoding the call takes longer."""
    world.ratios = {"compile/int8": 0.5, "bundle/int8": 2.0}
    values = world.run(budget={"latency_p99_ms_max": 1.5})
    assert values["selected"]["variant"] == "int8"
    assert values["verdict"]["passed"] is False
    (reason,) = values["verdict"]["reasons"]
    assert reason.startswith("The bundle is outside the budget: ") and "takes 2 ms at p99, at most 1.5" in reason


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ("train/fp32", []),
        ("accuracy train/fp32", []),
        ("export/fp32", ["train/fp32"]),
        ("accuracy export/fp32", ["train/fp32"]),
        ("latency export/fp32", ["train/fp32"]),
    ],
)
def test_a_failed_proof_that_nothing_can_go_on_without(world, where, rows):
    world.failing = {where: StageFailed("It is not equal.")}
    values = world.run()
    failed = where.split()[-1]
    assert status(values) == {**dict.fromkeys(rows, "ok"), failed: "failed"}
    assert values["rows"][-1]["reason"] == "It is not equal."
    assert values["verdict"] == {"passed": False, "reasons": [f"{failed}: It is not equal."]}
    assert (values["selected"], values["bundle"]) == (None, None)


@pytest.mark.parametrize(
    ("where", "lost"),
    [
        ("quantize/int8", {"quantize/int8": "failed", "compile/int8": "unsupported"}),
        ("accuracy quantize/int8", {"quantize/int8": "failed", "compile/int8": "unsupported"}),
        ("latency quantize/int8", {"quantize/int8": "failed", "compile/int8": "unsupported"}),
        ("compile/int8", {"quantize/int8": "ok", "compile/int8": "failed"}),
        ("accuracy compile/int8", {"quantize/int8": "ok", "compile/int8": "failed"}),
        ("latency compile/int8", {"quantize/int8": "ok", "compile/int8": "failed"}),
    ],
)
@pytest.mark.parametrize("error", [StageFailed, ModelError])
def test_a_variant_that_fails_its_proof_or_is_refused_by_a_library_is_left_out(world, where, lost, error):
    world.failing = {where: error("It overflows.")}
    values = world.run()
    found = status(values)
    assert {name: found[name] for name in lost} == lost
    assert found["compile/fp32"] == found["bundle/fp32"] == "ok"
    assert values["verdict"]["passed"] is True and values["selected"]["variant"] == "fp32"
    assert any("It overflows." in reason for reason in values["verdict"]["reasons"])


@pytest.mark.parametrize("error", [StageFailed, ModelError])
@pytest.mark.parametrize("where", ["bundle/int8", "accuracy bundle/int8", "latency bundle/int8"])
def test_a_bundle_that_fails_its_self_test_or_cannot_be_run(world, where, error):
    world.failing = {where: error("It does not run.")}
    values = world.run()
    assert status(values)["bundle/int8"] == "failed"
    assert values["verdict"]["passed"] is False and values["bundle"] is None
    assert "bundle/int8: It does not run." in values["verdict"]["reasons"]


def test_a_variant_that_is_left_out_for_a_backend_is_made_and_checked_all_the_same(world):
    values = world.run(leave_out={"openvino": ["int8"], "tensorrt": ["fp32"]})
    assert status(values)["quantize/int8"] == status(values)["compile/fp32"] == "ok"
    row = next(row for row in values["rows"] if (row["stage"], row["variant"]) == ("compile", "int8"))
    assert (row["status"], row["reason"]) == ("unsupported", "The recipe leaves int8 out for openvino (leave_out).")
    assert values["selected"]["variant"] == "fp32"


def test_what_the_target_would_refuse_is_not_compiled(world, monkeypatch):
    def refusal(context, graph, ranges):
        return ("It overflows.", ()) if graph.variant == "int8" else (None, ("A warning.",))

    monkeypatch.setattr(gate, "refusal", refusal)
    values = world.run()
    rows = {f"{row['stage']}/{row['variant']}": row for row in values["rows"]}
    assert (rows["compile/int8"]["status"], rows["compile/int8"]["reason"]) == ("failed", "It overflows.")
    assert "compile/int8" not in world.made and "A warning." in rows["compile/fp32"]["notes"]
    assert values["selected"]["variant"] == "fp32"


@pytest.mark.parametrize("variants", [("fp16",), ("bf16", "fp16")])
def test_no_engine_could_be_built(world, monkeypatch, variants):
    """The target names these precisions, this processor has none of them: no budget was weighed."""
    monkeypatch.setattr(host, "cpu_model", lambda: "This CPU")
    values = world.run(variants=variants)
    assert values["verdict"] == {
        "passed": False,
        "reasons": [
            *(f"This CPU does not execute {v} natively; it has fp32, int8." for v in variants),
            "No engine could be built here.",
        ],
    }
    assert (values["selected"], values["bundle"]) == (None, None)


def test_no_engine_is_left(world):
    """One was built, so it is not said that none could be."""
    world.failing = {"latency compile/int8": StageFailed("It hangs.")}
    reasons = world.run(variants=("fp16", "int8"))["verdict"]["reasons"]
    assert reasons[0] == "compile/int8: It hangs."
    assert "does not execute fp16" in reasons[1]
    assert reasons[2:] == ["No engine passed its checks here."]


def test_a_stage_command_tells_of_a_failed_variant(world):
    world.failing = {"quantize/int8": StageFailed("It overflows.")}
    assert world.run(Stage.QUANTIZE)["verdict"] == {"passed": False, "reasons": ["quantize/int8: It overflows."]}


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("train/fp32", ModelError),
        ("accuracy train/fp32", ModelError),
        ("export/fp32", ModelError),
        ("quantize/int8", MissingLibrary),
        ("compile/int8", StorageError),
        ("accuracy compile/int8", StorageError),
    ],
)
def test_what_could_not_run_is_raised(world, where, error):
    """What is handed in is wrong, or the machine lacks something: no other variant would be better off."""
    world.failing = {where: error("No such operator.")}
    with pytest.raises(error, match="No such operator"):
        world.run()


def test_an_exported_graph_that_does_not_run_ends_it_with_a_report(world):
    world.failing = {"accuracy export/fp32": ModelError("No such operator.")}
    values = world.run()
    assert status(values) == {"train/fp32": "ok", "export/fp32": "failed"}
    assert values["verdict"] == {"passed": False, "reasons": ["export/fp32: No such operator."]}


def test_the_skipped_settings_are_noted(world):
    world.skipped = {"minmax": "its outputs are not finite"}
    row = next(row for row in world.run()["rows"] if (row["stage"], row["variant"]) == ("quantize", "int8"))
    assert row["notes"][1:] == ["INT8 setting minmax was skipped: its outputs are not finite"]


def test_splits_that_share_an_image_end_it_before_anything_is_trained(world, monkeypatch):
    from edgeattn.errors import DataError

    def shared(context):
        raise DataError("shared")

    monkeypatch.setattr(stages, "data_record", shared)
    with pytest.raises(DataError):
        world.run()
    assert world.made == []


def test_weights_of_an_unknown_training_are_said_to_be_in_every_form_of_the_report(world, tmp_path):
    """Their row carries the sentence; the page and the comment show it."""
    values = world.run(Stage.EXPORT, weights=str(tmp_path / "given"))
    sentence = (
        "What they were trained on is unknown, so that images that are evaluated on here may have been trained on."
    )
    assert values["rows"][0]["notes"][1] == sentence
    assert all(sentence not in note for row in values["rows"][1:] for note in row["notes"])
    for path in report.render(values, tmp_path / "out"):
        assert sentence in path.read_text()
