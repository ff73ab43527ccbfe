"""The check after every stage: accuracy and drift on the evaluation split, latency by interleaved rounds.

Both are entries of the store, named by the hash of the artifact they were measured on: a figure can never be shown
beside another file than its own.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeattn import host, tasks
from edgeattn.artifact import Artifact, Stage, write_atomic
from edgeattn.backends.base import Runner
from edgeattn.imaging import Frame, encode_png
from edgeattn.pipeline.rows import Row
from edgeattn.pipeline.stages import Context, backend_modules, data_record, prepared
from edgeattn.provenance import code_version, library_versions

REFERENCE = "train/fp32"
_BACKENDS = ("torch", "onnxruntime", "openvino", "numpy")
_LATENCY_FRAMES = 8
_EXAMPLES = 8
# Of check.json with the arrays beside it, and of latency.json; raise one when its files hold something else.
_ACCURACY_LAYOUT = 1
_LATENCY_LAYOUT = 1

Outputs = list[dict[str, NDArray[Any]]]


def accuracy(context: Context, row: Row, reference: Artifact | None) -> tuple[Row, Artifact]:
    """The row with its metric and, against the reference's check, its drift; and the check itself.

    Raises StageFailed when an output is not finite.
    """
    artifact = _artifact(row)

    def make(work: Path, out: Path) -> None:
        from edgeattn.measure.candidate import open_entry
        from edgeattn.measure.drift import measure_drift, measure_metric, run_outputs

        context.progress(0, 1, f"checking the accuracy of {row.name}")
        task, seed = tasks.find(context.recipe.task), context.recipe.seed
        targets: list[Any] = []
        runner: Runner = open_entry(row.entry, artifact.path, context.threads)
        try:
            frames = _frames(context, targets, raw=row.stage is Stage.BUNDLE)
            outputs = run_outputs(runner, frames, runner.specs.inputs[0].name)
        finally:
            runner.close()
        metric, scores = measure_metric(task, outputs, targets, seed=seed)
        record: dict[str, Any] = {"metric": metric.to_dict(), "drift": None}
        if reference is not None:
            baseline, base_scores = load_outputs(reference), np.load(reference.path / "scores.npy")
            drift = measure_drift(task, baseline, outputs, base_scores, scores, REFERENCE, seed=seed)
            record["drift"] = drift.to_dict()
        stacked: dict[str, Any] = {name: np.concatenate([o[name] for o in outputs]) for name in outputs[0]}
        np.savez(out / "outputs.npz", **stacked)
        np.save(out / "scores.npy", scores)
        np.save(out / "targets.npy", np.asarray(targets))
        write_atomic(out / "check.json", json.dumps(record, indent=1))

    check = context.build(Stage.CHECK, f"accuracy-{row.name}", _accuracy_inputs(context, row, reference), make)
    record = check.json("check.json")
    seconds = round((row.seconds or 0.0) + check.seconds, 3)
    return row.measured(check, metric=record["metric"], drift=record["drift"], seconds=seconds), check


def latency(context: Context, rows: Sequence[Row]) -> list[Row]:
    """The rows, the reference among them, with latency and memory from interleaved rounds of all of them.

    One that could not be loaded or run comes back as failed. Raises what the reference raises.
    """

    def make(work: Path, out: Path) -> None:
        from edgeattn.measure.candidate import Candidate
        from edgeattn.measure.latency import measure_latency

        def candidate(row: Row) -> Candidate:
            own = _camera_frames(context) if row.stage is Stage.BUNDLE else None
            return Candidate(row.name, row.entry, _artifact(row).path, context.threads, frames=own)

        measured = measure_latency(
            [candidate(row) for row in rows],
            prepared(context.splits.evaluation, context.preprocess, _LATENCY_FRAMES),
            reference=REFERENCE,
            parents=_parents(rows),
            seconds=context.recipe.measure.latency_seconds,
            seed=context.recipe.seed,
            progress=lambda message: context.progress(0, 1, message),
        )
        figures = {
            name: {"latency": result.to_dict(), "memory": result.memory.to_dict()}
            for name, result in measured.latencies.items()
        }
        write_atomic(out / "latency.json", json.dumps({"figures": figures, "failed": measured.failed}))

    variant, inputs = f"latency-{rows[-1].stage.value}", _latency_inputs(context, rows)
    check = context.build(Stage.CHECK, variant, inputs, make)
    if check.cached and check.json("latency.json")["failed"]:
        # Figures stay true, but what failed may have lacked the memory or the time that there is now.
        check = context.store.build(Stage.CHECK, variant, inputs, make, force=True)
    record = check.json("latency.json")
    figures, failed = record["figures"], record["failed"]
    for values in figures.values():
        if parent := values["latency"]["parent"]:
            parent["variant"] = parent["variant"].partition("/")[2]
    return [
        replace(row, status="failed", reason=failed[row.name])
        if row.name in failed
        else row.measured(check, **figures[row.name])
        for row in rows
    ]


def _accuracy_inputs(context: Context, row: Row, reference: Artifact | None) -> dict[str, Any]:
    return {
        "layout": _ACCURACY_LAYOUT,
        "artifact": _artifact(row).sha256,
        "entry": row.entry,
        "reference": reference and reference.sha256,
        "evaluation": data_record(context).json("data.json")["eval_key"],
        "preprocess": context.preprocess.to_dict(),
        "threads": context.threads,
        "host": host.identity(),
        "seed": context.recipe.seed,
        "code": code_version("edgeattn.measure.drift", *_executed(context, row)),
        "libraries": library_versions(*_BACKENDS),
    }


def _latency_inputs(context: Context, rows: Sequence[Row]) -> dict[str, Any]:
    executed = [module for row in rows for module in _executed(context, row)]
    return {
        "layout": _LATENCY_LAYOUT,
        "artifacts": {row.name: _artifact(row).sha256 for row in rows},
        "entries": {row.name: row.entry for row in rows},
        "parents": _parents(rows),
        "threads": context.threads,
        "seconds": context.recipe.measure.latency_seconds,
        "seed": context.recipe.seed,
        "evaluation": data_record(context).json("data.json")["eval_key"],
        "preprocess": context.preprocess.to_dict(),
        "host": host.identity(),
        "code": code_version("edgeattn.measure.latency", "edgeattn.measure.worker", *executed),
        "libraries": library_versions(*_BACKENDS),
    }


def _executed(context: Context, row: Row) -> list[str]:
    """The modules that run when the row's model is called: what they do is part of every figure."""
    return [row.entry.partition(":")[0], *backend_modules(row.backend), f"edgeattn.tasks.{context.recipe.task}"]


def _parents(rows: Sequence[Row]) -> dict[str, str]:
    """Whom each row must beat: INT8 the fastest usual float form there is, the others FP32, a bundle its own engine."""
    names = {row.name for row in rows}
    floats = {"int8": ("fp16", "bf16", "fp32"), "bf16": ("fp32",), "fp16": ("fp32",)}
    parents = {}
    for row in rows:
        found = [f"{row.stage.value}/{variant}" for variant in floats.get(row.variant, ())]
        if row.stage is Stage.BUNDLE:
            found = [f"{Stage.COMPILE.value}/{row.variant}"]
        if parent := next((name for name in found if name in names), None):
            parents[row.name] = parent
    return parents


def load_outputs(check: Artifact) -> Outputs:
    """The outputs of an accuracy check, one dictionary of batch-1 arrays per sample."""
    with np.load(check.path / "outputs.npz", allow_pickle=False) as arrays:
        stacked = {name: arrays[name] for name in arrays.files}
    count = len(next(iter(stacked.values())))
    return [{name: values[i : i + 1] for name, values in stacked.items()} for i in range(count)]


def examples(context: Context, checks: dict[str, Artifact]) -> list[dict[str, Any]]:
    """Evaluation images whose decision differs from the reference's in some row, those of most rows first."""
    task = tasks.find(context.recipe.task)
    samples, labels = context.splits.evaluation, context.splits.labels
    outputs = {name: load_outputs(check) for name, check in checks.items()}
    reference = outputs.pop(REFERENCE)
    changed: dict[int, list[str]] = {}
    for name, values in outputs.items():
        for index, (ours, theirs) in enumerate(zip(values, reference, strict=True)):
            if task.agreement(ours, theirs) < 1.0:
                changed.setdefault(index, []).append(name)
    found = []
    for index, names in sorted(changed.items(), key=lambda item: (-len(item[1]), item[0]))[:_EXAMPLES]:
        sample = samples[index]
        words = task.describe(reference[index], sample.target, labels)
        found.append(
            {
                "name": samples.name(index),
                "image_png_base64": base64.b64encode(encode_png(_thumbnail(sample.frame))).decode(),
                "truth": words["truth"],
                "reference": words["predicted"],
                "changed": {n: task.describe(outputs[n][index], sample.target, labels)["predicted"] for n in names},
            }
        )
    return found


def per_label(context: Context, checks: dict[str, Artifact]) -> dict[str, Any] | None:
    """The metric of each label in each row, where the task has such a thing and a row was checked."""
    task = tasks.find(context.recipe.task)
    values = {
        name: task.per_label(
            np.load(check.path / "scores.npy"), np.load(check.path / "targets.npy"), len(context.splits.labels)
        )
        for name, check in checks.items()
    }
    if not values or any(value is None for value in values.values()):
        return None
    return {"labels": list(context.splits.labels), "values": values}


def _frames(context: Context, targets: list[Any], *, raw: bool) -> Iterator[Frame]:
    """The evaluation frames one by one, appending each one's target to `targets`.

    `raw` ones are as the camera delivers them: a bundle prepares frames itself, and giving it those proves that app and
    training see the same pixels.
    """
    samples = context.splits.evaluation
    for index in range(len(samples)):
        sample = samples[index]
        targets.append(sample.target)
        yield sample.frame if raw else context.preprocess.apply(sample.frame)


def _artifact(row: Row) -> Artifact:
    assert row.artifact is not None, row.name
    return row.artifact


def _camera_frames(context: Context) -> tuple[Frame, ...]:
    """A few evaluation frames as the camera delivers them, all of the first one's size."""
    frames = [context.splits.evaluation[i].frame for i in range(min(_LATENCY_FRAMES, len(context.splits.evaluation)))]
    return tuple(frame for frame in frames if frame.shape == frames[0].shape)


def _thumbnail(frame: Frame, side: int = 128) -> Frame:
    scale = side / max(frame.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(frame, None, fx=scale, fy=scale, interpolation=method), np.uint8)
