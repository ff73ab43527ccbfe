"""What is done on the far side: the functions that are called here for a target that is here, on files that were sent.

A step is a function of a `Job`: files in, files out, and values for its record. Scores, drift and verdicts are made on
the near side from what comes back, by the code that makes them of local runs.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeattn import backends, host, tasks
from edgeattn.board import Sampler, describe_device
from edgeattn.board.jetson import ROOT
from edgeattn.errors import InputError, StageFailed
from edgeattn.progress import Progress
from edgeattn.remote.shards import read_shards, shards_in, write_shards

_LOOK_EVERY_S = 1.0  # at the board, while it is busy with what is timed
_PACKAGES = ("numpy", "opencv-python-headless", "opencv-python", "openvino", "tensorrt")


@dataclass(frozen=True)
class Job:
    """`files`: what was sent, under the names it was sent by. `out`: what a step writes there comes back."""

    files: Path
    out: Path
    values: Mapping[str, Any]
    progress: Progress


def describe(job: Job) -> dict[str, Any]:
    """What this machine is and can do for `values.backend`. Raises MissingLibrary when it cannot be used here."""
    from edgeattn.provenance import library_versions

    compiler = backends.find_compiler(job.values["backend"])
    return {
        "host": {**host.describe(), "packages": library_versions(*_PACKAGES)},
        "identity": host.identity(),
        "node": platform.node(),
        "precisions": compiler.precisions(),
        "fingerprint": compiler.fingerprint(),
        "board": describe_device(ROOT),
    }


def build(job: Job) -> dict[str, Any]:
    """`model/model.onnx` -> the engine, in `values.precision` by `values.backend`."""
    compiler = backends.find_compiler(job.values["backend"])
    job.progress(0, 1, f"compiling the {job.values['precision']} engine")
    model, values = job.files / "model" / "model.onnx", job.values
    compiler.compile(model, job.out, precision=values["precision"], threads=values["threads"], progress=job.progress)
    return {}


def spread(job: Job) -> dict[str, Any]:
    """How far a second engine of `model/model.onnx`, timed anew, differs from the one in `engine/`, on `frames/`.

    Raises InputError where the backend builds none.
    """
    from edgeattn.measure.candidate import open_entry
    from edgeattn.runtime.on_device import builds
    from edgeattn.runtime.spread import Built, compare

    values = job.values
    builder = builds(backends.find(values["backend"]))
    if builder is None:
        raise InputError(f"{values['backend']} opens every graph as it is; there is no engine to build twice.")
    first, second = job.files / "engine", job.out.parent / "second"
    started = time.perf_counter()

    def tell(done: int, total: int, text: str) -> None:
        job.progress(done, total, f"a second time: {text}")

    builder.build_here(
        job.files / "model" / "model.onnx",
        second,
        precision=values["precision"],
        threads=values["threads"],
        options={},
        progress=tell,
        fresh=True,
    )
    seconds = time.perf_counter() - started
    job.progress(0, 1, "comparing the two engines")
    inputs = list(read_shards(shards_in(job.files / "frames")))
    with ExitStack() as opened:

        def built(folder: Path) -> Built:
            runner = open_entry(values["entry"], folder, values["threads"])
            opened.callback(runner.close)
            return Built.of(runner, folder)

        comparable = tasks.find(values["task"]).comparable
        found = compare(built(first), built(second), inputs, comparable, second_build_s=seconds)
    return {"spread": found.to_dict(), "lines": found.lines()}


def outputs(job: Job) -> dict[str, Any]:
    """What the model gives for every frame of `frames/`, in their order.

    `values.raw`: it takes frames as the camera delivers them, and prepares them itself. Raises StageFailed when an
    output is NaN or infinite.
    """
    from edgeattn.framing import Framing, frame_up
    from edgeattn.imaging import Preprocess
    from edgeattn.measure.drift import frame_outputs

    values = job.values
    preprocess, total = Preprocess(**values["preprocess"]), values["samples"]
    runner = _opened(job, values["entry"], values["path"])

    def made() -> Iterator[Mapping[str, Any]]:
        for index, named in enumerate(read_shards(shards_in(job.files / "frames"))):
            job.progress(index, total, f"checking the accuracy of {values['name']}")
            if values["raw"]:
                framing = Framing(({name: frame[None] for name, frame in named.items()},), ())
            else:
                framing = frame_up(preprocess, list(named.values()), list(named))
            yield frame_outputs(runner, framing, index)

    try:
        write_shards(made(), job.out)
    finally:
        runner.close()
    return {}


def latency(job: Job) -> dict[str, Any]:
    """Interleaved rounds of all `values.candidates` against `values.reference`, as `measure.latency` takes them."""
    from edgeattn.measure.candidate import Candidate
    from edgeattn.measure.latency import measure_latency

    values = job.values
    _cache(job)
    candidates = [
        Candidate(
            one["name"],
            one["entry"],
            job.files / one["path"],
            values["threads"],
            frames=_timed(job, one["frames"]) if one["frames"] else None,
        )
        for one in values["candidates"]
    ]
    before = describe_device(ROOT)
    with Sampler(ROOT, interval_s=_LOOK_EVERY_S) as sampler:
        measured = measure_latency(
            candidates,
            _timed(job, "frames"),
            reference=values["reference"],
            parents=values["parents"],
            seconds=values["seconds"],
            seed=values["seed"],
            progress=lambda message: job.progress(0, 1, message),
            root=ROOT,
        )
    figures = {
        name: {"latency": result.to_dict(), "memory": result.memory.to_dict(), "energy": result.energy}
        for name, result in measured.latencies.items()
    }
    meanwhile = {"before": before, "after": describe_device(ROOT), **sampler.telemetry.to_dict()}
    return {"figures": figures, "failed": measured.failed, "meanwhile": meanwhile}


def golden(job: Job) -> dict[str, Any]:
    """`golden.npz` of the engine for the calls in `frames/`, and the tensors that the engine takes and gives."""
    from edgeattn.bundle.golden import make_golden
    from edgeattn.bundle.manifest import GOLDEN

    values = job.values
    job.progress(0, 1, "making the golden samples")
    runner = _opened(job, values["entry"], values["path"])
    try:
        calls = list(read_shards(shards_in(job.files / "frames")))
        comparable = tasks.find(values["task"]).comparable
        (job.out / GOLDEN).write_bytes(make_golden(runner, calls, quantized=values["quantized"], comparable=comparable))
        specs = runner.specs
    finally:
        runner.close()
    return {"inputs": [asdict(spec) for spec in specs.inputs], "outputs": [asdict(spec) for spec in specs.outputs]}


def self_test(job: Job) -> dict[str, Any]:
    """The bundle's own proof on the machine it is for. Raises StageFailed when its engine cannot be used as it is."""
    from edgeattn import runtime

    job.progress(0, 1, "self-test of the bundle")
    _cache(job)
    with runtime.load(job.files / job.values["path"], threads=job.values["threads"]) as model:
        if rebuilt := getattr(model.runner, "rebuilt", None):
            raise StageFailed(f"The bundle's engine cannot be used on the machine it was compiled on: {rebuilt}.")
        test = model.self_test()
    if not test.passed:
        raise StageFailed(f"The bundle fails its self-test: {test.failures[0].sentence()}.")
    return test.to_dict()


STEPS: dict[str, Callable[[Job], dict[str, Any]]] = {
    step.__name__: step for step in (describe, build, spread, outputs, latency, golden, self_test)
}


def _opened(job: Job, entry: str, path: str) -> Any:
    from edgeattn.measure.candidate import open_entry

    _cache(job)
    return open_entry(entry, job.files / path, job.values["threads"])


def _cache(job: Job) -> None:
    """What is unpacked of bundles, here and by the processes that are timed, goes when the step ends."""
    os.environ["EDGEATTN_CACHE"] = str(job.files.parent / "cache")


def _timed(job: Job, folder: str) -> tuple[tuple[dict[str, Any], ...], ...]:
    """Frames, each as the calls that it needs: arrays are named `<call>/<input>`."""
    frames = []
    for named in read_shards(shards_in(job.files / folder)):
        calls: dict[str, dict[str, Any]] = {}
        for key, array in named.items():
            call, _, name = key.partition("/")
            calls.setdefault(call, {})[name] = array
        frames.append(tuple(calls[call] for call in sorted(calls, key=int)))
    return tuple(frames)
