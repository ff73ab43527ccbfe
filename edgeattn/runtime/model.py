"""A loaded bundle as a callable: camera frames in, a result in the frame's own coordinates out."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from edgeattn import backends, host, tasks
from edgeattn.backends.base import Runner
from edgeattn.bundle.golden import SelfTest, check_golden
from edgeattn.bundle.manifest import GOLDEN, Manifest
from edgeattn.bundle.reader import Bundle, open_bundle
from edgeattn.errors import BundleError, InputError, ModelError, NoEngine, StageFailed
from edgeattn.framing import frame_up
from edgeattn.imaging import Frame
from edgeattn.progress import Progress, silent
from edgeattn.runtime.cache import EngineFolder, place_engine
from edgeattn.runtime.on_device import builds
from edgeattn.tasks.base import Result, Task

NOT_KEPT = (
    "The engine was built for this process alone, and is again at the next start: this user's cache cannot be written; "
    "name a folder with EDGEATTN_CACHE=FOLDER."
)


class Model:
    """Call it with as many frames as it has inputs.

    Not thread-safe: load one Model per thread. Use it as a context manager or call `close` to give the engine's memory
    back.
    """

    def __init__(self, bundle: Bundle, runner: Runner, task: Task, folder: EngineFolder) -> None:
        self._bundle, self._task, self._folder = bundle, task, folder
        self._runner: Runner | None = runner

    def __call__(self, *frames: Frame) -> Result:
        """`frames`: uint8 `(H, W, 3)` BGR of any size, not changed. `latency_ms` of the result is this whole call.

        Raises DataError for a wrong frame or number of frames, ModelError when the engine gives NaN or infinity.
        """
        return self.call(*frames)[0]

    def call(self, *frames: Frame) -> tuple[Result, dict[str, NDArray[Any]]]:
        """As `model(*frames)`, with the engine's own outputs besides the result."""
        started = time.perf_counter()
        framing = frame_up(self.manifest.preprocess, frames, [spec.name for spec in self.manifest.inputs])
        outputs = framing.merge([self.runner.infer(call) for call in framing.calls])
        self._check_finite(outputs)
        result = self._task.decode(outputs, framing.views, self.labels, 0.0)
        latency_ms = (time.perf_counter() - started) * 1e3
        # Decoding belongs to the call, so its result is stamped afterwards.
        return cast(Result, dataclasses.replace(cast(Any, result), latency_ms=latency_ms)), outputs

    def _check_finite(self, outputs: Mapping[str, NDArray[Any]]) -> None:
        """Raises ModelError. Decoding would make a result of it that looks like any other: the first class, black."""
        for name, value in outputs.items():
            # Either end is NaN where one value is; unlike isfinite of each this needs no memory.
            if value.size and not (np.isfinite(value.min()) and np.isfinite(value.max())):
                raise ModelError(
                    f"The engine of {self._bundle.path} gives NaN or infinity in its output '{name}' for this frame; "
                    "use a bundle of higher precision, and check this one with `edgeattn verify`."
                )

    def self_test(self) -> SelfTest:
        """Run the bundle's golden samples on this engine. Raises BundleError when the bundle changed meanwhile."""
        return check_golden(self.runner, self._bundle.read(GOLDEN), comparable=self._task.comparable)

    @property
    def task(self) -> str:
        return self._task.name

    @property
    def inputs(self) -> int:
        """How many frames one call takes."""
        return len(self.manifest.inputs)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.manifest.labels

    @property
    def manifest(self) -> Manifest:
        return self._bundle.manifest

    @property
    def bundle(self) -> Bundle:
        return self._bundle

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what its user must know, such as that the engine must be built anew at the next start."""
        said = tuple(getattr(self.runner, "notes", ()))
        built = getattr(self.runner, "engine_folder", None)
        lost = built is not None and built != self._folder.path and self._folder.temporary is not None
        return (*said, NOT_KEPT) if lost else said

    @property
    def runner(self) -> Runner:
        """The engine itself, which takes prepared frames. Raises ModelError when the model is closed."""
        if self._runner is None:
            raise ModelError(f"The model of {self._bundle.path} was closed; load it again.")
        return self._runner

    def close(self) -> None:
        """Give the engine's memory back; closing twice is allowed."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None
            self._folder.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_model(
    path: Path,
    *,
    key: Path | None,
    threads: int | None,
    self_test: bool,
    build: bool = True,
    progress: Progress = silent,
    opener: Callable[..., Runner] | None = None,
) -> Model:
    """See `edgeattn.runtime.load`. `opener` takes the place of the bundle's backend's `load`."""
    cores = threads_of(threads)
    bundle = open_bundle(path, key=key)
    task = task_of(bundle)
    opener = opener or _opener(bundle, build=build, progress=progress)
    folder = place_engine(bundle)
    try:
        runner = opener(folder.path, threads=cores)
    except BaseException:
        folder.close()
        raise
    model = Model(bundle, runner, task, folder)
    try:
        check_names(bundle, runner)
        if self_test:
            _require(model.self_test(), path)
    except BaseException:
        model.close()
        raise
    return model


def _opener(bundle: Bundle, *, build: bool, progress: Progress) -> Callable[..., Runner]:
    """What opens the engine's folder. Raises MissingLibrary at once, before anything is unpacked."""
    backend = backends.find(bundle.manifest.backend)
    builder = builds(backend)
    if builder is None:
        return backend.load

    def open_engine(folder: Path, *, threads: int) -> Runner:
        try:
            trusted = bundle.signed == "verified"
            return builder.load(folder, threads=threads, build=build, trusted=trusted, progress=progress)
        except NoEngine as error:
            raise BundleError(
                f"The bundle {bundle.path} has no engine for this machine ({error.reason}), and none may be built "
                f"(build=False); build it, once, with: python -m edgeattn.runtime build {bundle.path}."
            ) from error

    return open_engine


def threads_of(asked: int | None) -> int:
    """How many threads the engine gets: by default all. Raises InputError."""
    if asked is not None and asked < 1:
        raise InputError(f"The number of threads must be 1 or more, got {asked}.")
    return asked or host.cores()


def task_of(bundle: Bundle) -> Task:
    """What reads the outputs. Raises InputError, of a task of the maker's own BundleError: it must be here too."""
    name = bundle.manifest.task
    try:
        return tasks.find(name)
    except InputError as error:
        if "." not in name:
            raise
        raise BundleError(f"The bundle {bundle.path} needs a task of its maker's own. {error}") from error


def check_names(bundle: Bundle, runner: Runner) -> None:
    """Raise BundleError unless the engine has the inputs and outputs that the manifest names."""
    manifest, specs = bundle.manifest, runner.specs
    for kind, listed, real in (
        ("inputs", manifest.inputs, specs.inputs),
        ("outputs", manifest.outputs, specs.outputs),
    ):
        want, got = sorted(tensor.name for tensor in listed), sorted(tensor.name for tensor in real)
        if want != got:
            raise BundleError(
                f"The engine in {bundle.path} has the {kind} {got}, its manifest says {want}; build the bundle again."
            )


def _require(test: SelfTest, path: Path) -> None:
    if not test.passed:
        raise StageFailed(
            f"The self-test of {path} failed: {test.failures[0].sentence()}. The engine does not compute here what it "
            "did where it was built; build the bundle for this machine."
        )
