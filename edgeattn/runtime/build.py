"""Build a bundle's engine on the machine that it will run on, prove it, and keep it where `edgeattn.load` finds it.

The bundle stays as it was. In its folder of the cache (`$EDGEATTN_CACHE`, by default `~/.cache/edgeattn`):

    model.onnx, engine.*    as the bundle has them
    built-here/             what was built here, which goes before the bundle's own engine
    built-here.lock         held by whoever builds
    .building/              unfinished, and never opened by `load`; the next build clears it away

So an interrupted build leaves nothing that could be taken for an engine, and running again starts anew; TensorRT's
timings, which are most of its work, are kept from the last build that came to its end.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from edgeattn import backends
from edgeattn.backends.base import MODEL, Runner, Tensors
from edgeattn.board import describe_device
from edgeattn.board.jetson import ROOT
from edgeattn.bundle.golden import SelfTest, check_golden, golden_samples
from edgeattn.bundle.manifest import GOLDEN
from edgeattn.bundle.reader import Bundle, open_bundle
from edgeattn.errors import InputError, MachineError, NoEngine, storage_errors
from edgeattn.file_lock import locked
from edgeattn.progress import Progress, silent
from edgeattn.runtime.build_report import BuildReport
from edgeattn.runtime.cache import place_engine
from edgeattn.runtime.model import check_names, task_of, threads_of
from edgeattn.runtime.on_device import DESCRIPTION, BuiltRunner, OnDevice, builds, read_description
from edgeattn.runtime.spread import Built, Spread, compare
from edgeattn.tasks.base import Task

_UNFINISHED = ".building"


@dataclass(frozen=True)
class _Job:
    """What to build, of what, and with what: `folder` is the bundle's in the cache."""

    bundle: Bundle
    task: Task
    backend: OnDevice
    precision: str
    threads: int
    options: Mapping[str, int]
    folder: Path

    @property
    def here(self) -> Path:
        return self.folder / self.backend.BUILT_HERE

    def build(self, out: Path, progress: Progress, *, fresh: bool = False) -> float:
        """Returns the seconds that it took."""
        started = time.perf_counter()
        self.backend.build_here(
            self.folder / MODEL,
            out,
            precision=self.precision,
            threads=self.threads,
            options=self.options,
            progress=progress,
            fresh=fresh,
        )
        return time.perf_counter() - started

    def open(self, folder: Path) -> BuiltRunner:
        """The engine that is there; nothing is built. Raises NoEngine where none fits."""
        # What lies elsewhere than where the bundle was unpacked was built by this very process.
        trusted = folder != self.folder or self.bundle.signed == "verified"
        runner = cast(BuiltRunner, self.backend.load(folder, threads=self.threads, build=False, trusted=trusted))
        try:
            check_names(self.bundle, runner)
        except BaseException:
            runner.close()
            raise
        return runner

    def samples(self) -> list[Tensors]:
        """The inputs of the golden samples."""
        return [inputs for inputs, _ in golden_samples(self.bundle.read(GOLDEN))]

    def layer_ms(self, runner: Runner) -> dict[str, float] | None:
        """Mean milliseconds by layer; None where the backend's library times none."""
        timed = getattr(self.backend, "layer_times", None)
        return None if timed is None else {name: round(ms, 4) for name, ms in timed(runner, self.samples()[0]).items()}

    def prove(self, runner: Runner) -> SelfTest:
        return check_golden(runner, self.bundle.read(GOLDEN), comparable=self.task.comparable)


def build(
    path: Path,
    key: Path | None = None,
    *,
    threads: int | None = None,
    options: Mapping[str, int] | None = None,
    force: bool = False,
    twice: bool = False,
    progress: Progress = silent,
    root: Path = ROOT,
) -> BuildReport:
    """Build the engine of the bundle at `path` for this machine, unless one that fits is there, and run its self-test.

    An engine fits that is of this machine, was built with these `options` (as far as given) and passes the
    self-test; with `force` a new one is built all the same, every kernel timed anew. What fails the self-test is
    not kept: the report says so. `twice`: build a second engine, of measurements of its own, and report how far the
    two differ. `root` is the file system in which a board tells of itself.

    Raises BundleError and the other errors of `edgeattn.load`, MachineError where this machine lacks what the engine
    needs, InputError for a wrong option.
    """
    cores = threads_of(threads)
    bundle = open_bundle(path, key=key)
    backend = _backend(bundle)
    backend.check_options(options or {})
    precision = _precision(bundle, backend)
    folder = place_engine(bundle, keep=True).path
    job = _Job(bundle, task_of(bundle), backend, precision, cores, dict(options or {}), folder)
    device = describe_device(root)
    with locked(job.here):
        report = None if force else _standing(job, device)
        report = report or _built(job, device, progress, fresh=force)
    if twice and report.passed:
        report = report.with_spread(_spread(job, report.folder, progress))
    return report


def _backend(bundle: Bundle) -> OnDevice:
    """Raises MissingLibrary where its library cannot be used here, InputError where it builds nothing."""
    name = bundle.manifest.backend
    backend = backends.find(name)
    if (builder := builds(backend)) is None:
        raise InputError(
            f"The bundle {bundle.path} runs on {name}, which opens the graph as it is; there is no engine to build."
        )
    return builder


def _precision(bundle: Bundle, backend: OnDevice) -> str:
    precision, offered = bundle.manifest.variant.partition("-")[0], backend.precisions()
    if precision not in offered:
        raise MachineError(
            f"The bundle {bundle.path} is {bundle.manifest.variant}, which this machine does not execute natively (it "
            f"has {', '.join(offered)}); use a bundle of one of those, or another machine."
        )
    return precision


def _standing(job: _Job, device: dict[str, Any] | None) -> BuildReport | None:
    """The engine that `load` would use, if it is what was asked for; one built here that fails its test is removed."""
    try:
        runner = job.open(job.folder)
    except NoEngine:
        return None
    with closing(runner):
        place = runner.engine_folder
        description = read_description(place)
        given = description.get("settings", {})
        if any(given.get(name) != value for name, value in job.options.items()):
            return None
        test = job.prove(runner)
        layer_ms = job.layer_ms(runner) if test.passed else None
    if test.passed:
        size = _size(place)
        return BuildReport(job.bundle, "kept", place, description, size, None, test, device, None, layer_ms=layer_ms)
    if place == job.here:
        with storage_errors(place):
            shutil.rmtree(place)
    return None


def _built(job: _Job, device: dict[str, Any] | None, progress: Progress, *, fresh: bool) -> BuildReport:
    """A new engine, moved to `built-here` once it has passed its test; `fresh`: of measurements of its own."""
    unfinished = job.folder / _UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)  # of a build that was killed
    try:
        seconds = job.build(unfinished, progress, fresh=fresh)
        progress(0, 1, "running the golden self-test")
        with closing(job.open(unfinished)) as runner:
            test = job.prove(runner)
            layer_ms = job.layer_ms(runner) if test.passed else None
        description, size = read_description(unfinished), _size(unfinished)
        if test.passed:
            _keep(unfinished, job.here)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return BuildReport(
        bundle=job.bundle,
        engine="built" if test.passed else "refused",
        folder=job.here,
        description=description,
        size_bytes=size,
        build_s=seconds,
        self_test=test,
        device=device,
        telemetry=description.get("telemetry"),
        layer_ms=layer_ms,
    )


def _keep(made: Path, here: Path) -> None:
    """Put the files of `made` in the place of those in `here`, the description last.

    Killed in between it leaves a description that is not of the engine beside it, which every `load` notices.
    """
    with storage_errors(here):
        here.mkdir(exist_ok=True)
        for file in sorted(made.iterdir(), key=lambda file: file.name == DESCRIPTION):
            file.replace(here / file.name)


def _spread(job: _Job, first: Path, progress: Progress) -> Spread:
    """How far the engine in `first` and a second one of the same model differ; the second one is thrown away."""

    def tell(done: int, total: int, text: str) -> None:
        progress(done, total, f"a second time: {text}")

    with storage_errors(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory(prefix="edgeattn-") as folder:
        second = Path(folder)
        # As the first one was built, which may have been with other options than this call's: numbers and switches.
        given = read_description(first).get("settings", {})
        numbers = {name: value for name, value in given.items() if isinstance(value, int)}
        seconds = replace(job, options={**numbers, **job.options}).build(second, tell, fresh=True)
        progress(0, 1, "comparing the two engines")
        with closing(job.open(job.folder)) as one, closing(job.open(second)) as other:
            pair = Built.of(one, first), Built.of(other, second)
            return compare(*pair, job.samples(), job.task.comparable, second_build_s=seconds)


def _size(folder: Path) -> int:
    """Bytes of the engine and its description."""
    return sum(file.stat().st_size for file in folder.glob("engine.*"))
