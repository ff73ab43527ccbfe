"""The bundle stage: the chosen engine, its portable graph and golden samples into one file, proven by self-test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeattn import __version__, host, tasks
from edgeattn.artifact import Artifact, Precision, Stage
from edgeattn.errors import StageFailed
from edgeattn.pipeline.stages import Context, backend_modules, data_record, prepared
from edgeattn.provenance import code_version, library_versions

_GOLDEN_SAMPLES = 4


def bundle(context: Context, graph: Artifact, engine: Artifact) -> Artifact:
    """`<recipe>-<target>.edgeattn`. Raises StageFailed when the finished bundle fails its own self-test."""
    recipe, target = context.recipe, context.target
    name = f"{recipe.name}-{target.name}.edgeattn"

    def make(work: Path, out: Path) -> None:
        from edgeattn import backends, runtime
        from edgeattn.bundle.golden import make_golden
        from edgeattn.bundle.manifest import GOLDEN, MODEL
        from edgeattn.bundle.writer import write_bundle

        context.progress(0, 1, "bundling")
        runner = backends.find(target.backend).load(engine.path, threads=context.threads)
        try:
            samples = prepared(context, context.splits.evaluation, _GOLDEN_SAMPLES)
            golden = make_golden(
                runner,
                samples,
                quantized=engine.variant == Precision.INT8.value,
                comparable=tasks.find(recipe.task).comparable,
            )
            manifest = _manifest(context, runner.specs, graph, engine, engine.variant)
        finally:
            runner.close()
        files: dict[str, Path | bytes] = {MODEL: graph.path / "model.onnx", GOLDEN: golden}
        for file in sorted(engine.path.iterdir()):
            if file.name != "manifest.json":
                files[f"engine/{file.name}"] = file
        write_bundle(out / name, manifest, files, sign_key=context.sign_key)
        with runtime.load(out / name, threads=context.threads) as model:
            test = model.self_test()
        if not test.passed:
            raise StageFailed(f"The bundle fails its self-test: {test.failures[0].sentence()}.")

    inputs = {
        "graph": graph.sha256,
        "engine": engine.sha256,
        "evaluation": data_record(context).json("data.json")["eval_key"],
        "name": name,
        "signed_by": context.signed_by,
        "code": code_version(
            "edgeattn.pipeline.bundling",
            "edgeattn.runtime",
            tasks.module_name(recipe.task),
            *backend_modules(target.backend),
        ),
        "libraries": library_versions(target.backend),
    }
    return context.build(Stage.BUNDLE, engine.variant, inputs, make)


def bundle_portable(context: Context, graph: Artifact, variant: str) -> Artifact:
    """As `bundle`, without an engine: the device builds its own from the graph (`python -m edgeattn.runtime build`).

    Golden outputs are those of ONNX Runtime, node by node. Raises StageFailed when the finished bundle fails its own
    self-test there.
    """
    name = f"{context.recipe.name}-{context.target.name}.edgeattn"

    def make(work: Path, out: Path) -> None:
        from edgeattn import runtime
        from edgeattn.backends import onnxruntime
        from edgeattn.bundle.golden import make_golden
        from edgeattn.bundle.manifest import GOLDEN, MODEL
        from edgeattn.bundle.writer import write_bundle

        context.progress(0, 1, "bundling")
        runner = onnxruntime.load_as_written(graph.path, threads=context.threads)
        try:
            samples = prepared(context, context.splits.evaluation, _GOLDEN_SAMPLES)
            comparable = tasks.find(context.recipe.task).comparable
            golden = make_golden(runner, samples, quantized=variant == Precision.INT8.value, comparable=comparable)
            manifest = _manifest(context, runner.specs, graph, None, variant)
        finally:
            runner.close()
        files: dict[str, Path | bytes] = {MODEL: graph.path / "model.onnx", GOLDEN: golden}
        write_bundle(out / name, manifest, files, sign_key=context.sign_key)
        with runtime.open_emulated(out / name, threads=context.threads) as model:
            test = model.self_test()
        if not test.passed:
            raise StageFailed(f"The bundle fails its self-test: {test.failures[0].sentence()}.")

    inputs = {
        "graph": graph.sha256,
        "variant": variant,
        "target": context.target.name,
        "evaluation": data_record(context).json("data.json")["eval_key"],
        "name": name,
        "signed_by": context.signed_by,
        "code": code_version(
            "edgeattn.pipeline.bundling",
            "edgeattn.runtime",
            tasks.module_name(context.recipe.task),
            *backend_modules("onnxruntime"),
        ),
        "libraries": library_versions("onnxruntime"),
    }
    return context.build(Stage.BUNDLE, variant, inputs, make)


def _manifest(context: Context, specs: Any, graph: Artifact, engine: Artifact | None, variant: str) -> Any:
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
        variant=variant,
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
            "host": host.identity(),
            "packages": library_versions("torch", "onnx", "nncf", "openvino"),
        },
    )
