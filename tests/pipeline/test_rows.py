from __future__ import annotations

import importlib
import math
from dataclasses import replace
from pathlib import Path

import pytest

from edgeattn.artifact import Artifact, Stage
from edgeattn.pipeline.rows import FUSED, ROUNDED, Row, built, unlike_its_file


def artifact(cached=False, seconds=2.0):
    return Artifact(Path("store/artifacts/compile/k"), "compile", "int8", "k", "f" * 64, 1_500_000, seconds, cached)


def test_built_then_measured():
    row = built(Stage.COMPILE, "int8", "openvino", artifact(), notes=("a note",))
    assert (row.name, row.status, row.seconds, row.notes) == ("compile/int8", "ok", 2.0, ("a note",))
    measured = row.measured(artifact(seconds=0.25), metric={"value": 97.5}, seconds=2.25)
    assert (measured.seconds, measured.metric) == (2.25, {"value": 97.5})
    assert row.metric is None and row.seconds == 2.0, "rows are values"


@pytest.mark.parametrize(
    ("engine", "check", "status"),
    [(True, True, "cached"), (True, False, "ok"), (False, True, "ok"), (False, False, "ok")],
)
def test_cached_means_that_nothing_was_done(engine, check, status):
    row = built(Stage.COMPILE, "int8", "openvino", artifact(cached=engine))
    assert row.measured(artifact(cached=check)).status == status


@pytest.mark.parametrize(
    ("stage", "backend", "entry"),
    [
        (Stage.TRAIN, "pytorch", "edgeattn.backends.pytorch:load"),
        (Stage.COMPILE, "openvino", "edgeattn.backends.openvino:load"),
        (Stage.BUNDLE, "openvino", "edgeattn.runtime:load_runner"),
    ],
)
def test_who_loads_it(stage, backend, entry):
    assert Row(stage, "fp32", backend, "ok").entry == entry


def test_accuracy_may_be_checked_by_another_function():
    row = Row(Stage.QUANTIZE, "fp16", "onnxruntime", "ok")
    assert row.judged_by == row.entry == "edgeattn.backends.onnxruntime:load"
    rounded = replace(row, judge=ROUNDED)
    assert (rounded.judged_by, rounded.entry) == ("edgeattn.pipeline.emulated:load", row.entry)
    for name in (ROUNDED, FUSED):  # by name, so that nothing else notices one that is gone
        module, _, function = name.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_as_the_contract_has_it():
    assert built(Stage.COMPILE, "int8", "openvino", artifact(), notes=("n",)).to_dict() == {
        "stage": "compile",
        "variant": "int8",
        "backend": "openvino",
        "status": "ok",
        "reason": None,
        "artifact": {"path": "store/artifacts/compile/k", "sha256": "f" * 64, "size_bytes": 1_500_000},
        "seconds": 2.0,
        "metric": None,
        "drift": None,
        "latency": None,
        "memory": None,
        "energy": None,
        "emulated": False,
        "emulation": None,
        "estimate": None,
        "spread": None,
        "execution": None,
        "notes": ["n"],
    }
    refused = Row(Stage.COMPILE, "fp16", "openvino", "unsupported", reason="no FP16 here").to_dict()
    assert (refused["artifact"], refused["seconds"], refused["reason"]) == (None, None, "no FP16 here")


def test_what_the_selection_sees():
    row = Row(
        Stage.COMPILE,
        "int8",
        "openvino",
        "ok",
        artifact=artifact(),
        metric={"higher_is_better": False},
        drift={"metric_delta": 0.25, "sqnr_db": 31.0, "max_abs": 0.5},
        latency={
            "p99_ms": 4.0,
            "ratio_to_reference": 0.5,
            "ratio_ci95": [0.4, 0.6],
            "parent": {"variant": "bf16", "ratio": 0.9, "ratio_ci95": [0.8, 1.0]},
        },
    )
    seen = row.candidate()
    assert (seen.variant, seen.metric_delta, seen.higher_is_better, seen.sqnr_db) == ("int8", 0.25, False, 31.0)
    assert (seen.p99_ms, seen.size_mb, seen.ratio, seen.ratio_ci95) == (4.0, 1.5, 0.5, (0.4, 0.6))
    assert seen.parent is not None and seen.parent["variant"] == "bf16"


def test_equal_outputs_are_not_unmeasured_ones():
    """In JSON both have an SQNR of null; what tells them apart is the largest difference."""
    equal = Row(Stage.COMPILE, "fp32", "b", "ok", drift={"metric_delta": 0.0, "sqnr_db": None, "max_abs": 0.0})
    assert equal.candidate().sqnr_db == math.inf
    unknown = Row(Stage.COMPILE, "fp32", "b", "ok").candidate()
    assert (unknown.sqnr_db, unknown.metric_delta, unknown.p99_ms, unknown.size_mb, unknown.ratio_ci95) == (None,) * 5


@pytest.mark.parametrize(
    ("engine_db", "file_db", "said"),
    [
        (5.1, 37.5, True),
        (31.4, 37.5, True),
        (31.5, 37.5, False),
        (40.0, 37.5, False),
        (None, 37.5, False),
        (5, None, False),
    ],
)
def test_an_engine_that_is_far_from_its_own_file(engine_db, file_db, said):
    engine = Row(Stage.COMPILE, "int8", "openvino", "ok", drift={"sqnr_db": engine_db})
    file = Row(Stage.QUANTIZE, "int8", "onnxruntime", "ok", drift={"sqnr_db": file_db})
    note = unlike_its_file(engine, file)
    assert bool(note) is said
    if said:
        assert f"keeps {engine_db:.1f} dB SQNR where its own ONNX file keeps 37.5: openvino computes" in note
    assert unlike_its_file(engine, None) is None
