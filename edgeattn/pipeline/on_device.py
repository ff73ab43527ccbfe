"""Compiling, checking and bundling where the engine's own machine does the running and this one the judging.

Graphs, evaluation frames and the bundle are sent, engines, outputs and durations come back. Each is an entry of the
store here, as if it had been made here, and a record of the same content there: whichever is whole is not made again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeattn import tasks
from edgeattn.artifact import MANIFEST, Artifact, Precision, Stage, artifact_key, write_atomic
from edgeattn.backends.base import Specs, TensorSpec
from edgeattn.board import meanwhile_in_words, settings
from edgeattn.errors import ConnectionFailed, EdgeattnError, MachineChanged, MissingLibrary, StorageError
from edgeattn.measure import select
from edgeattn.pipeline import bundling, checks
from edgeattn.pipeline.context import Context, prepared
from edgeattn.pipeline.rows import Row
from edgeattn.pipeline.stages import backend_modules, data_record
from edgeattn.provenance import code_version
from edgeattn.remote.device import Device
from edgeattn.remote.shards import read_shards, shards_in, write_shards

_STEPS = "edgeattn.remote.steps"
_FRAMES_LAYOUT = 1
# What ends a run rather than a row: the other machine, not the engine, is at fault.
_FATAL = (ConnectionFailed, MachineChanged, MissingLibrary, StorageError)


class OnDevice:
    """See `place.Place`."""

    has_reference = False  # PyTorch is not there

    def __init__(self, device: Device) -> None:
        self._device = device

    def precisions(self, context: Context) -> list[str]:
        return self._device.precisions

    def processor(self) -> str:
        return f"{self._device.cpu} ({self._device.address})"

    def notes(self) -> tuple[str, ...]:
        there = f"{self._device.cpu}, {self._device.cores} core{'s' if self._device.cores != 1 else ''}"
        return (f"compiled and measured on {self._device.address} ({there}); the rows before it were measured here",)

    def compile_engine(self, context: Context, graph: Artifact, precision: Precision) -> Artifact:
        """The engine of `graph`, as that machine compiled it, on a board for the power mode and clocks it has now."""
        self._device.look_again()
        values = {"backend": context.target.backend, "precision": precision.value, "threads": self._threads(context)}
        inputs = {"graph": graph.sha256, **values, **self._origin(*backend_modules(context.target.backend))}
        inputs["board"] = self._set()

        def make(work: Path, out: Path) -> None:
            key = artifact_key(Stage.COMPILE, precision.value, inputs)
            files = {"model/model.onnx": graph.path / "model.onnx"}
            done = self._device.step("build", key, values, files, work / "fetched", force=context.force)
            for name, path in done.files.items():
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, out / name)

        return context.build(Stage.COMPILE, precision.value, inputs, make)

    def spread(self, context: Context, graph: Artifact, engine: Row) -> Row:
        """A second engine is built there and compared with the first one on golden calls."""
        artifact = _artifact(engine)
        values = {
            "backend": context.target.backend,
            "precision": engine.variant,
            "entry": engine.entry,
            "threads": self._threads(context),
            "task": context.recipe.task,
        }
        origin = self._origin("edgeattn.runtime.spread", *self._executed(context, engine))
        inputs = {**values, "graph": graph.sha256, "engine": artifact.sha256, "evaluation": _evaluation(context)}
        inputs |= {"preprocess": context.preprocess.to_dict(), **origin}

        def make(work: Path, out: Path) -> None:
            calls = prepared(context, context.splits.evaluation, bundling.GOLDEN_SAMPLES)
            frames = write_shards(calls, _emptied(work / "golden"))
            files = {"model/model.onnx": graph.path / "model.onnx", **_engine_files(artifact)}
            files |= _named("frames", frames)
            key = artifact_key(Stage.CHECK, "spread", inputs)
            done = self._device.step("spread", key, values, files, work / "fetched", force=context.force)
            write_atomic(out / "spread.json", json.dumps(done.values))

        try:
            found = context.build(Stage.CHECK, f"spread-{engine.variant}", inputs, make).json("spread.json")
        except _FATAL:
            raise
        except EdgeattnError as error:  # two at once may lack memory: the first one is not at fault
            return replace(engine, notes=(*engine.notes, f"no second engine to compare with: {error}"))
        return replace(engine, spread=found["spread"], notes=(*engine.notes, *map(str.strip, found["lines"])))

    def accuracy(self, context: Context, row: Row, reference: Artifact | None) -> tuple[Row, Artifact]:
        """Run there on all evaluation samples, scored here."""
        artifact = _artifact(row)
        values = {
            "name": row.name,
            "entry": row.entry,
            "path": _folder(row),
            "raw": row.stage is Stage.BUNDLE,
            "preprocess": context.preprocess.to_dict(),
            "threads": self._threads(context),
            "samples": len(context.splits.evaluation),
        }
        origin = self._origin(*self._executed(context, row))
        inputs = {**values, "artifact": artifact.sha256, "evaluation": _evaluation(context), **origin}

        def run(work: Path) -> checks.Outputs:
            key = artifact_key(Stage.CHECK, f"outputs-{row.name}", inputs)
            files = {**_files(row), **_named("frames", _frames(context))}
            done = self._device.step("outputs", key, values, files, work / "fetched", force=context.force)
            return list(read_shards([done.files[name] for name in sorted(done.files)]))

        # The other machine runs it; this one scores it.
        where = {"threads": values["threads"], "run_by": origin}
        return checks.accuracy(context, row, reference, run=run, where=where)

    def latency(self, context: Context, rows: Sequence[Row]) -> list[Row]:
        """Interleaved rounds there. Each row is compared with the most precise engine among them, and its parent."""
        self._device.look_again()
        origin = self._origin("edgeattn.measure.latency", "edgeattn.measure.worker")
        where = {"threads": self._threads(context), "run_by": origin, "board": self._set()}

        def run(work: Path) -> dict[str, Any]:
            left = sorted(rows, key=lambda row: (select.ORDER.index(row.variant), row.stage is Stage.BUNDLE))
            lost: dict[str, str] = {}
            while left:
                try:
                    found = self._timed(context, left, work)
                    return {"figures": found["figures"], "failed": {**lost, **found["failed"]}}
                except _FATAL:
                    raise
                except EdgeattnError as error:
                    lost[left.pop(0).name] = str(error)  # the one that all others were to be compared with
            return {"figures": {}, "failed": lost}

        timed = checks.latency(context, rows, run=run, where=where)
        return [
            replace(row, notes=(*row.notes, meanwhile_in_words(meanwhile)))
            if (meanwhile := (row.latency or {}).get("meanwhile"))
            else row
            for row in timed
        ]

    def bundle(self, context: Context, graph: Artifact, engine: Artifact) -> Artifact:
        """Written here of what was made there, and proven there."""
        device, threads = self._device, self._threads(context)
        origin = self._origin(tasks.module_name(context.recipe.task), *backend_modules(context.target.backend))

        def golden(work: Path) -> tuple[bytes, Any]:
            values = {
                "entry": f"edgeattn.backends.{context.target.backend}:load",
                "path": "engine",
                "threads": threads,
                "task": context.recipe.task,
                "quantized": bundling.quantized(engine),
            }
            calls = prepared(context, context.splits.evaluation, bundling.GOLDEN_SAMPLES)
            frames = write_shards(calls, _emptied(work / "golden"))
            inputs = {**values, "engine": engine.sha256, "evaluation": _evaluation(context), **origin}
            inputs["preprocess"] = context.preprocess.to_dict()
            key = artifact_key(Stage.CHECK, "golden", inputs)
            files = {**_engine_files(engine), **_named("frames", frames)}
            done = device.step("golden", key, values, files, work / "fetched", force=context.force)
            (path,) = done.files.values()
            return path.read_bytes(), Specs(*(_specs(done.values[kind]) for kind in ("inputs", "outputs")))

        def prove(bundle: Path, work: Path) -> None:
            path = f"bundle/{bundle.name}"
            values = {"path": path, "threads": threads}
            # Forced: a proof is short, and what it proves is the machine as it is now.
            key = artifact_key(Stage.CHECK, "self-test", values)
            device.step("self_test", key, values, {path: bundle}, work / "fetched", force=True)

        machine = bundling.Machine(golden, prove, self._device.facts["identity"], self._device.libraries)
        return bundling.bundle(context, graph, engine, machine)

    def _timed(self, context: Context, rows: Sequence[Row], work: Path) -> dict[str, Any]:
        """One run of interleaved rounds against the first of `rows`."""
        reference, parents = rows[0].name, checks.parents(rows)
        files: dict[str, Path] = {}
        candidates = []
        for index, row in enumerate(rows):
            folder = f"model{index}"
            files.update({f"{folder}/{name}": path for name, path in _files(row).items()})
            raw = row.stage is Stage.BUNDLE
            path = f"{folder}/{_folder(row)}"
            candidates.append({"name": row.name, "entry": row.entry, "path": path, "frames": "raw" if raw else None})
            if raw:
                frames = write_shards(_calls(checks.timed_frames(context, raw=True)), _emptied(work / "raw"))
                files.update(_named("raw", frames))
        frames = write_shards(_calls(checks.timed_frames(context)), _emptied(work / "frames"))
        files.update(_named("frames", frames))
        values = {
            "candidates": candidates,
            "reference": reference,
            "parents": parents,
            "threads": self._threads(context),
            "seconds": context.recipe.measure.latency_seconds,
            "seed": context.recipe.seed,
        }
        inputs = {
            **values,
            "artifacts": [_artifact(row).sha256 for row in rows],
            "evaluation": _evaluation(context),
            "preprocess": context.preprocess.to_dict(),
            "board": self._set(),
            **self._origin(
                *(module for row in rows for module in self._executed(context, row)),
                "edgeattn.measure.latency",
                "edgeattn.measure.worker",
            ),
        }
        key = artifact_key(Stage.CHECK, f"latency-{rows[-1].stage.value}", inputs)
        done = self._device.step("latency", key, values, files, work / "fetched", force=context.force)
        if done.cached and done.values["failed"]:
            # Figures stay true, but what failed may have lacked the memory or the time that there is now.
            done = self._device.step("latency", key, values, files, work / "fetched", force=True)
        found = done.values
        before = found["meanwhile"]["before"]
        if before is not None and settings(before) != self._set():  # between the look and the first round
            raise MachineChanged(
                f"{self._device.address} was set to another power mode or other clocks while the engines were sent; "
                "leave it as it is and run the same command again."
            )
        for figures in found["figures"].values():
            timed = figures["latency"]
            timed["device_ratio"] = {
                "reference": reference,
                "ratio": timed["ratio_to_reference"],
                "ratio_ci95": timed["ratio_ci95"],
            }
            timed["ratio_to_reference"] = timed["ratio_ci95"] = None
            timed["meanwhile"] = found["meanwhile"] if found["meanwhile"]["before"] else None  # of boards only
        return found

    def _origin(self, *modules: str) -> dict[str, Any]:
        """What decides a result besides what it is made from: the machine, its libraries, the code that is sent."""
        return {
            "host": {**self._device.facts["identity"], "node": self._device.facts["node"]},
            "fingerprint": self._device.fingerprint,
            "libraries": self._device.libraries,
            "code": code_version(_STEPS, *modules),
        }

    def _set(self) -> dict[str, Any] | None:
        """What a board is set to, on which every latency depends."""
        return settings(self._device.facts["board"])

    def _threads(self, context: Context) -> int:
        return context.recipe.measure.threads or context.target.threads or self._device.cores

    def _executed(self, context: Context, row: Row) -> list[str]:
        own = [row.entry.partition(":")[0], *backend_modules(row.backend)]
        return [*own, tasks.module_name(context.recipe.task)]


def _frames(context: Context) -> list[Path]:
    """All evaluation frames as the camera delivered them, as files that are sent once."""
    names = tasks.find(context.recipe.task).inputs
    samples = context.splits.evaluation

    def entries() -> Iterator[Mapping[str, Any]]:
        for index in range(len(samples)):
            context.progress(index, len(samples), "packing the evaluation frames")
            yield dict(zip(names, samples[index].frames, strict=True))

    def make(work: Path, out: Path) -> None:
        write_shards(entries(), out)

    inputs = {"layout": _FRAMES_LAYOUT, "evaluation": _evaluation(context), "inputs": list(names)}
    # Never forced: it is a pure function of frames that were just hashed.
    return shards_in(context.store.build(Stage.CHECK, "frames", inputs, make).path)


def _evaluation(context: Context) -> str:
    return str(data_record(context).json("data.json")["eval_key"])


def _artifact(row: Row) -> Artifact:
    assert row.artifact is not None, row.name
    return row.artifact


def _folder(row: Row) -> str:
    return "bundle" if row.stage is Stage.BUNDLE else "engine"


def _files(row: Row) -> dict[str, Path]:
    """The row's model as a step knows it: name -> file."""
    return _engine_files(_artifact(row), _folder(row))


def _engine_files(artifact: Artifact, folder: str = "engine") -> dict[str, Path]:
    found = sorted(path for path in artifact.path.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {f"{folder}/{path.relative_to(artifact.path).as_posix()}": path for path in found}


def _named(folder: str, paths: Sequence[Path]) -> dict[str, Path]:
    return {f"{folder}/{path.name}": path for path in paths}


def _calls(frames: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Each frame's engine calls as one mapping `<call>/<input>` -> array."""
    return [{f"{i}/{name}": value for i, call in enumerate(calls) for name, value in call.items()} for calls in frames]


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _specs(values: Sequence[Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(spec["name"], tuple(spec["shape"]), spec["dtype"]) for spec in values)
