"""The bundle stage: the chosen engine, its portable graph and golden samples into one file, proven by self-test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeattn import __version__, host, tasks
from edgeattn.artifact import Artifact, Precision, Stage
from edgeattn.bundle.golden import SelfTest
from edgeattn.errors import StageFailed
from edgeattn.pipeline.context import Context, prepared
from edgeattn.pipeline.stages import backend_modules, data_record
from edgeattn.provenance import code_version, library_versions

GOLDEN_SAMPLES = 4


@dataclass(frozen=True)
class Machine:
    """Where the engine runs. `golden(work)` gives golden.npz and the engine's specs, `prove(bundle, work)` runs the
    finished bundle's self-test and raises StageFailed; `identity` and `libraries` are of that machine.
    """

    golden: Callable[[Path], tuple[bytes, Any]]
    prove: Callable[[Path, Path], None]
    identity: Mapping[str, Any]
    libraries: Mapping[str, str]


def here(context: Context, engine: Artifact) -> Machine:
    """This one."""

    def golden(work: Path) -> tuple[bytes, Any]:
        from edgeattn import backends
        from edgeattn.bundle.golden import make_golden

        runner = backends.find(context.target.backend).load(engine.path, threads=context.threads)
        try:
            samples = prepared(context, context.splits.evaluation, GOLDEN_SAMPLES)
            comparable = tasks.find(context.recipe.task).comparable
            return make_golden(runner, samples, quantized=quantized(engine), comparable=comparable), runner.specs
        finally:
            runner.close()

    def prove(bundle: Path, work: Path) -> None:
        from edgeattn import runtime

        with runtime.load(bundle, threads=context.threads) as model:
            _require(model.self_test())

    return Machine(golden, prove, host.identity(), library_versions(context.target.backend))


def emulated(context: Context, graph: Artifact) -> Machine:
    """None at hand: ONNX Runtime, node by node, in place of the engine that the device will build from `graph`."""

    def golden(work: Path) -> tuple[bytes, Any]:
        from edgeattn.bundle.golden import make_golden
        from edgeattn.pipeline.emulated import load

        runner = load(graph.path, threads=context.threads)
        try:
            samples = prepared(context, context.splits.evaluation, GOLDEN_SAMPLES)
            comparable = tasks.find(context.recipe.task).comparable
            return make_golden(runner, samples, quantized=quantized(graph), comparable=comparable), runner.specs
        finally:
            runner.close()

    def prove(bundle: Path, work: Path) -> None:
        from edgeattn.pipeline.emulated import open_bundle

        with open_bundle(bundle, threads=context.threads) as model:
            _require(model.self_test())

    return Machine(golden, prove, host.identity(), library_versions("onnxruntime"))


def _require(test: SelfTest) -> None:
    if not test.passed:
        raise StageFailed(f"The bundle fails its self-test: {test.failures[0].sentence()}.")


def quantized(engine: Artifact) -> bool:
    """Whether the golden samples need the wider tolerance."""
    return engine.variant == Precision.INT8.value


def bundle(context: Context, graph: Artifact, engine: Artifact | None, machine: Machine | None = None) -> Artifact:
    """`<recipe>-<target>.edgeattn`, for an engine of `machine`, by default of this one.

    Without an engine the bundle is portable: the device builds its own (`python -m edgeattn.runtime build`). Raises
    StageFailed when the finished bundle fails its own self-test.
    """
    recipe, target = context.recipe, context.target
    name = f"{recipe.name}-{target.name}.edgeattn"
    if machine is None:
        machine = emulated(context, graph) if engine is None else here(context, engine)

    def make(work: Path, out: Path) -> None:
        from edgeattn.bundle.manifest import GOLDEN, MODEL
        from edgeattn.bundle.writer import write_bundle

        context.progress(0, 1, "bundling")
        golden, specs = machine.golden(work)
        manifest = _manifest(context, specs, graph, engine, machine)
        files: dict[str, Path | bytes] = {MODEL: graph.path / "model.onnx", GOLDEN: golden}
        for file in sorted(engine.path.iterdir()) if engine else ():
            if file.name != "manifest.json":
                files[f"engine/{file.name}"] = file
        write_bundle(out / name, manifest, files, sign_key=context.sign_key)
        machine.prove(out / name, work)

    inputs = {
        "graph": graph.sha256,
        "engine": engine and engine.sha256,
        "target": target.name,
        "evaluation": data_record(context).json("data.json")["eval_key"],
        "name": name,
        "signed_by": context.signed_by,
        "code": code_version(
            "edgeattn.pipeline.bundling",
            "edgeattn.runtime",
            tasks.module_name(recipe.task),
            *backend_modules(target.backend),
        ),
        "libraries": dict(machine.libraries),
        "host": dict(machine.identity),
    }
    return context.build(Stage.BUNDLE, (engine or graph).variant, inputs, make)


def _manifest(context: Context, specs: Any, graph: Artifact, engine: Artifact | None, machine: Machine) -> Any:
    from edgeattn.bundle.manifest import Manifest, Tensor

    described = graph.json("model.json")
    recipe = context.recipe
    return Manifest(
        task=recipe.task,
        labels=tuple(described["labels"]),
        inputs=tuple(Tensor(s.name, s.shape, s.dtype, colour="bgr", value_range=(0.0, 255.0)) for s in specs.inputs),
        outputs=tuple(Tensor(s.name, s.shape, s.dtype) for s in specs.outputs),
        preprocess=context.preprocess,
        decoding=tasks.find(recipe.task).decoding,
        variant=(engine or graph).variant,
        target=context.target.name,
        backend=context.target.backend,
        engine_dir="engine" if engine else None,
        fingerprint=engine.json("engine.json")["fingerprint"] if engine else {},
        # No date and no commit: equal inputs make equal bundles; when and where is in the report beside it.
        provenance={
            "recipe": recipe.name,
            "seed": recipe.seed,
            "edgeattn": __version__,
            "graph_sha256": graph.sha256,
            **({"engine_sha256": engine.sha256} if engine else {}),
            "normalisation": {"order": "bgr", "mean": described["mean"], "std": described["std"]},
            "host": dict(machine.identity),
            "packages": {**library_versions("torch", "onnx", "nncf"), **machine.libraries},
        },
    )
