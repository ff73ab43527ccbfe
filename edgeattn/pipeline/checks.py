"""The check after every stage: accuracy and drift on the evaluation split, latency by interleaved rounds.

Both are entries of the store, named by the hash of the artifact they were measured on: a figure can never be shown
beside another file than its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeattn import host, models, tasks
from edgeattn.artifact import Artifact, Stage, write_atomic
from edgeattn.backends.base import Runner
from edgeattn.board import describe_device, settings
from edgeattn.data.base import Sample, sources
from edgeattn.framing import Framing
from edgeattn.pipeline.context import Context, framing
from edgeattn.pipeline.rows import Row
from edgeattn.pipeline.stages import backend_modules, data_record
from edgeattn.provenance import code_version, library_versions

REFERENCE = "train/fp32"
_BACKENDS = ("torch", "onnx", "onnxruntime", "openvino", "numpy")
_LATENCY_FRAMES = 8
# Of check.json with the arrays beside it, and of latency.json; raise one when its files hold something else.
_ACCURACY_LAYOUT = 4
_LATENCY_LAYOUT = 3
_SCORES = "scores.npz"

Outputs = list[dict[str, NDArray[Any]]]


def accuracy(
    context: Context,
    row: Row,
    reference: Artifact | None,
    *,
    run: Callable[[Path], Outputs] | None = None,
    where: Mapping[str, Any] | None = None,
) -> tuple[Row, Artifact]:
    """The row with its metric and, against the reference's check, its drift; and the check itself.

    `run(work)` gives the outputs of all evaluation samples in order where it is not this process that runs the model,
    and `where` the inputs of the check that are then others. Raises StageFailed when an output is not finite.
    """
    artifact = _artifact(row)

    def make(work: Path, out: Path) -> None:
        from edgeattn.measure.candidate import open_entry
        from edgeattn.measure.drift import Scored, measure_drift, measure_metric, run_outputs

        context.progress(0, 1, f"checking the accuracy of {row.name}")
        task, seed = tasks.find(context.recipe.task), context.recipe.seed
        targets: list[Any] = []
        framings = _framings(context, targets, raw=row.stage is Stage.BUNDLE)
        if run is not None:
            outputs, views = run(work), [framing.views for framing in framings]
        else:
            runner: Runner = open_entry(row.judged_by, artifact.path, context.threads)
            try:
                outputs, views = run_outputs(runner, framings)
            finally:
                runner.close()
        origins = sources(context.splits.evaluation)
        metric, scored = measure_metric(task, context.metric, outputs, targets, views, sources=origins, seed=seed)
        record: dict[str, Any] = {"metric": metric.to_dict(), "drift": None}
        if reference is not None:
            compared = (load_outputs(reference), outputs, Scored.load(reference.path / _SCORES), scored)
            drift = measure_drift(task, context.metric, *compared, REFERENCE)
            record["drift"] = drift.to_dict()
        _save_outputs(outputs, out / "outputs.npz")
        scored.save(out / _SCORES)
        write_atomic(out / "check.json", json.dumps(record, indent=1))

    inputs = {**_accuracy_inputs(context, row, reference), **(where or {})}
    check = context.build(Stage.CHECK, f"accuracy-{row.name}", inputs, make)
    record = check.json("check.json")
    seconds = round((row.seconds or 0.0) + check.seconds, 3)
    return row.measured(check, metric=record["metric"], drift=record["drift"], seconds=seconds), check


def latency(
    context: Context,
    rows: Sequence[Row],
    *,
    run: Callable[[Path], dict[str, Any]] | None = None,
    where: Mapping[str, Any] | None = None,
) -> list[Row]:
    """The rows, the reference among them, with latency and memory from interleaved rounds of all of them.

    One that could not be loaded or run comes back as failed. Raises what the reference raises. `run(work)` gives
    `{figures, failed}` where it is not this machine that is timed; `where` as in `accuracy`.
    """

    def make(work: Path, out: Path) -> None:
        write_atomic(out / "latency.json", json.dumps(run(work) if run is not None else measure()))

    def measure() -> dict[str, Any]:
        from edgeattn.measure.candidate import Candidate
        from edgeattn.measure.latency import measure_latency

        def candidate(row: Row) -> Candidate:
            own = timed_frames(context, raw=True) if row.stage is Stage.BUNDLE else None
            return Candidate(row.name, row.entry, _artifact(row).path, context.threads, frames=own)

        measured = measure_latency(
            [candidate(row) for row in rows],
            timed_frames(context),
            reference=REFERENCE,
            parents=parents(rows),
            seconds=context.recipe.measure.latency_seconds,
            seed=context.recipe.seed,
            progress=lambda message: context.progress(0, 1, message),
        )
        figures = {
            name: {"latency": result.to_dict(), "memory": result.memory.to_dict(), "energy": result.energy}
            for name, result in measured.latencies.items()
        }
        return {"figures": figures, "failed": measured.failed}

    variant, inputs = f"latency-{rows[-1].stage.value}", {**_latency_inputs(context, rows), **(where or {})}
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
        "entry": row.judged_by,
        "reference": reference and reference.sha256,
        "evaluation": data_record(context).json("data.json")["eval_key"],
        "sources": sources(context.splits.evaluation),
        "preprocess": context.preprocess.to_dict(),
        "threads": context.threads,
        "host": host.identity(),
        "seed": context.recipe.seed,
        "metric": context.metric.name,
        "code": code_version("edgeattn.measure.drift", *_executed(context, row, row.judged_by)),
        "libraries": library_versions(*_BACKENDS),
    }


def _latency_inputs(context: Context, rows: Sequence[Row]) -> dict[str, Any]:
    executed = [module for row in rows for module in _executed(context, row, row.entry)]
    return {
        "layout": _LATENCY_LAYOUT,
        "artifacts": {row.name: _artifact(row).sha256 for row in rows},
        "entries": {row.name: row.entry for row in rows},
        "parents": parents(rows),
        "threads": context.threads,
        "seconds": context.recipe.measure.latency_seconds,
        "seed": context.recipe.seed,
        "evaluation": data_record(context).json("data.json")["eval_key"],
        "preprocess": context.preprocess.to_dict(),
        "host": host.identity(),
        "board": settings(describe_device()),
        "code": code_version("edgeattn.measure.latency", "edgeattn.measure.worker", *executed),
        "libraries": library_versions(*_BACKENDS),
    }


def _executed(context: Context, row: Row, entry: str) -> list[str]:
    """The modules that run when the row's model is called: what they do is part of every figure.

    PyTorch imports the network's own module by its name, so that no import statement leads to it.
    """
    recipe = context.recipe
    network = [models.module_name(recipe.model.name)] if row.backend == "pytorch" else []
    return [entry.partition(":")[0], *backend_modules(row.backend), tasks.module_name(recipe.task), *network]


def parents(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Whom each row must beat: INT8 the fastest of the float forms, the others FP32, a bundle its own engine."""
    names = {row.name for row in rows}
    floats = {"int8": ("fp16", "bf16", "fp32"), "bf16": ("fp32",), "fp16": ("fp32",)}
    found = {}
    for row in rows:
        wanted = [f"{row.stage.value}/{variant}" for variant in floats.get(row.variant, ())]
        if row.stage is Stage.BUNDLE:
            wanted = [f"{Stage.COMPILE.value}/{row.variant}"]
        if there := [name for name in wanted if name in names]:
            found[row.name] = there
    return found


def load_outputs(check: Artifact, only: Sequence[int] | None = None) -> Outputs:
    """The outputs of an accuracy check, one dictionary of batch-1 arrays per sample, of all or of the samples `only`.

    Those of a few samples are copies, so that the arrays of all samples, which may be large, do not stay in memory.
    """
    with np.load(check.path / "outputs.npz", allow_pickle=False) as arrays:
        if not any("/" in name for name in arrays.files):
            stored = {name: arrays[name] for name in arrays.files}
            if only is not None:
                return [{name: values[i : i + 1].copy() for name, values in stored.items()} for i in only]
            count = len(next(iter(stored.values())))
            return [{name: values[i : i + 1] for name, values in stored.items()} for i in range(count)]
        names: dict[int, list[str]] = {}
        for key in arrays.files:
            index, _, name = key.partition("/")
            names.setdefault(int(index), []).append(name)
        return [{name: arrays[f"{i}/{name}"] for name in names[i]} for i in (sorted(names) if only is None else only)]


def _save_outputs(outputs: Outputs, path: Path) -> None:
    """All samples of an output as one array where they share a shape, which is quick to read; else one by one."""
    arrays: dict[str, Any]
    shapes = {(name, value.shape) for output in outputs for name, value in output.items()}
    if len(shapes) == len(outputs[0]):
        arrays = {name: np.concatenate([output[name] for output in outputs]) for name in outputs[0]}
    else:
        arrays = {f"{index}/{name}": value for index, output in enumerate(outputs) for name, value in output.items()}
    np.savez(path, **arrays)


def per_label(context: Context, checks: dict[str, Artifact]) -> dict[str, Any] | None:
    """The metric of each label in each row, where the task has such a thing and a row was checked."""
    from edgeattn.measure.drift import Scored

    task = tasks.find(context.recipe.task)
    values = {
        name: task.per_label(Scored.load(check.path / _SCORES).scores, len(context.splits.labels))
        for name, check in checks.items()
    }
    if not values or any(value is None for value in values.values()):
        return None
    return {"labels": list(context.splits.labels), "values": values}


def _framings(context: Context, targets: list[Any], *, raw: bool) -> Iterator[Framing]:
    """The evaluation samples one by one, appending each one's target to `targets`.

    `raw` calls are camera frames: a bundle prepares frames itself, and giving it those proves that app and training see
    the same pixels.
    """
    samples = context.evaluation
    for index in range(len(samples)):
        sample = samples[index]
        targets.append(sample.target)
        prepared_calls = framing(context, sample)
        yield Framing((_raw(context, sample),), prepared_calls.views) if raw else prepared_calls


def _raw(context: Context, sample: Sample) -> dict[str, NDArray[np.uint8]]:
    names = tasks.find(context.recipe.task).inputs
    return {name: frame[None] for name, frame in zip(names, sample.frames, strict=True)}


def _artifact(row: Row) -> Artifact:
    assert row.artifact is not None, row.name
    return row.artifact


def timed_frames(context: Context, *, raw: bool = False) -> tuple[tuple[dict[str, NDArray[np.uint8]], ...], ...]:
    """A few evaluation samples, of each all the engine calls it needs; with `raw` as the camera delivers them.

    Where the size of a frame decides what one costs, as of raw ones and of tiled ones, all are of the first one's.
    """
    samples = context.splits.evaluation
    few = [samples[i] for i in range(min(_LATENCY_FRAMES, len(samples)))]
    if raw or context.preprocess.fit == "tile":
        few = [sample for sample in few if _sizes(sample) == _sizes(few[0])]
    return tuple((_raw(context, sample),) if raw else framing(context, sample).calls for sample in few)


def _sizes(sample: Sample) -> list[tuple[int, ...]]:
    return [frame.shape for frame in sample.frames]
