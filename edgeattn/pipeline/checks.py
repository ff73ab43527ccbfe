"""The check after every stage: accuracy and drift on the evaluation split, latency by interleaved rounds.

Both are entries of the store, named by the hash of the artifact they were measured on: a figure can never be shown
beside another file than its own.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
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
from edgeattn.pipeline.stages import Context, data_record, prepared
from edgeattn.provenance import code_version, library_versions

REFERENCE = "train/fp32"
_BACKENDS = ("torch", "onnxruntime", "openvino", "numpy")
_LATENCY_FRAMES = 8
_EXAMPLES = 8

Outputs = list[dict[str, NDArray[Any]]]


def accuracy(context: Context, row: Row, entry: str, reference: Artifact | None) -> tuple[Row, Artifact]:
    """The row with its metric and, against the reference's check, its drift; and the check itself.

    `entry` names the function that loads the row's artifact (see `measure.candidate`).
    """
    assert row.artifact is not None
    artifact = row.artifact
    task = tasks.find(context.recipe.task)
    whole_call = row.stage is Stage.BUNDLE

    def make(work: Path, out: Path) -> None:
        from edgeattn.measure.candidate import open_entry
        from edgeattn.measure.drift import measure_drift, measure_metric, run_outputs

        context.progress(0, 1, f"checking the accuracy of {row.name}")
        samples = context.splits.evaluation
        # The bundle prepares frames itself: giving it raw ones proves that app and training see the same pixels.
        frames = _raw(context) if whole_call else prepared(samples, context.preprocess)
        targets = [samples[i].target for i in range(len(samples))]
        runner: Runner = open_entry(entry, artifact.path, context.threads)
        try:
            outputs = run_outputs(runner, frames, runner.specs.inputs[0].name)
        finally:
            runner.close()
        metric, scores = measure_metric(task, outputs, targets, seed=context.recipe.seed)
        record: dict[str, Any] = {"metric": metric.to_dict(), "drift": None}
        if reference is not None:
            baseline = load_outputs(reference)
            drift = measure_drift(
                task,
                baseline,
                outputs,
                np.load(reference.path / "scores.npy"),
                scores,
                REFERENCE,
                seed=context.recipe.seed,
            )
            record["drift"] = drift.to_dict()
        stacked: dict[str, Any] = {name: np.concatenate([o[name] for o in outputs]) for name in outputs[0]}
        np.savez(out / "outputs.npz", **stacked)
        np.save(out / "scores.npy", scores)
        np.save(out / "targets.npy", np.asarray(targets))
        write_atomic(out / "check.json", json.dumps(record, indent=1))

    inputs = {
        "artifact": artifact.sha256,
        "entry": entry,
        "reference": reference and reference.sha256,
        "evaluation": data_record(context).json("data.json")["eval_sha256"],
        "preprocess": context.preprocess.to_dict(),
        "threads": context.threads,
        "host": host.identity(),
        "seed": context.recipe.seed,
        "code": code_version("edgeattn.measure.drift", f"edgeattn.tasks.{context.recipe.task}", entry.split(":")[0]),
        "libraries": library_versions(*_BACKENDS),
    }
    check = context.build(Stage.CHECK, f"accuracy-{row.name}", inputs, make)
    record = check.json("check.json")
    return row.measured((check,), metric=record["metric"], drift=record["drift"]), check


def latency(
    context: Context, rows: Sequence[Row], entry_of: Callable[[Row], str], parents: dict[str, str]
) -> list[Row]:
    """The rows, the reference among them, with latency and memory from interleaved rounds of all of them."""
    artifacts = {row.name: row.artifact for row in rows if row.artifact is not None}

    def make(work: Path, out: Path) -> None:
        from edgeattn.measure.candidate import Candidate
        from edgeattn.measure.latency import measure_latency

        def tell(message: str) -> None:
            context.progress(0, 1, message)

        candidates = [
            Candidate(
                row.name,
                entry_of(row),
                artifacts[row.name].path,
                context.threads,
                frames=_camera_frames(context) if row.stage is Stage.BUNDLE else None,
            )
            for row in rows
            if row.name in artifacts
        ]
        results = measure_latency(
            candidates,
            prepared(context.splits.evaluation, context.preprocess, _LATENCY_FRAMES),
            reference=REFERENCE,
            parents=parents,
            seconds=context.recipe.measure.latency_seconds,
            seed=context.recipe.seed,
            progress=tell,
        )
        record = {
            name: {"latency": result.to_dict(), "memory": result.memory.to_dict()} for name, result in results.items()
        }
        write_atomic(out / "latency.json", json.dumps(record))

    inputs = {
        "artifacts": {name: artifact.sha256 for name, artifact in artifacts.items()},
        "entries": {row.name: entry_of(row) for row in rows},
        "parents": parents,
        "threads": context.threads,
        "seconds": context.recipe.measure.latency_seconds,
        "seed": context.recipe.seed,
        "evaluation": data_record(context).json("data.json")["eval_sha256"],
        "host": host.identity(),
        "code": code_version("edgeattn.measure.latency", "edgeattn.measure.worker"),
        "libraries": library_versions(*_BACKENDS),
    }
    check = context.build(Stage.CHECK, f"latency-{rows[-1].stage.value}", inputs, make)
    record = check.json("latency.json")
    for values in record.values():
        if parent := values["latency"]["parent"]:
            parent["variant"] = parent["variant"].partition("/")[2]
    return [row.measured((check,), **record[row.name]) if row.name in record else row for row in rows]


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
    """The metric of each label in each row, where the task has such a thing."""
    task = tasks.find(context.recipe.task)
    values = {
        name: task.per_label(
            np.load(check.path / "scores.npy"), np.load(check.path / "targets.npy"), len(context.splits.labels)
        )
        for name, check in checks.items()
    }
    if any(value is None for value in values.values()):
        return None
    return {"labels": list(context.splits.labels), "values": values}


def _raw(context: Context) -> list[Frame]:
    samples = context.splits.evaluation
    return [samples[i].frame for i in range(len(samples))]


def _camera_frames(context: Context) -> tuple[Frame, ...]:
    """A few evaluation frames as the camera delivers them, all of the first one's size."""
    frames = [context.splits.evaluation[i].frame for i in range(min(_LATENCY_FRAMES, len(context.splits.evaluation)))]
    return tuple(frame for frame in frames if frame.shape == frames[0].shape)


def _thumbnail(frame: Frame, side: int = 128) -> Frame:
    scale = side / max(frame.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(frame, None, fx=scale, fy=scale, interpolation=method), np.uint8)
