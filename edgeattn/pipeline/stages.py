"""Each stage as an entry of the store: what it is made from, and the call that makes it.

Keys hold the content hash of the stage before, the settings that matter, the code of the stage and the versions of the
libraries it calls, so that changing one thing re-runs exactly what depends on it. Heavy rooms are imported only when
something is really made: a run in which everything is cached never loads torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from edgeattn import backends, host, models, tasks
from edgeattn.artifact import (
    WEIGHT_FILES,
    Artifact,
    Precision,
    Stage,
    artifact_key,
    sha256_bytes,
    sha256_file,
    sha256_json,
    write_atomic,
)
from edgeattn.data.base import Derived, assert_disjoint, origin_hashes, sample_hash, set_hash
from edgeattn.errors import ModelError
from edgeattn.pipeline.context import Context, prepared
from edgeattn.provenance import code_version, library_versions

ORDER = (Stage.TRAIN, Stage.EXPORT, Stage.QUANTIZE, Stage.COMPILE, Stage.BUNDLE)

_RANGE_SAMPLES = 32
RANGES = "ranges.json"


def data_record(context: Context) -> Artifact:
    """Sizes and content hashes of the splits, proven disjoint. Raises DataError when they share an image.

    The hashes are of the frames, as they are checked; what is proven is that no image is in two splits, whatever was
    made of it.
    """
    splits = context.splits

    def make(work: Path, out: Path) -> None:
        hashes: dict[str, list[str]] = {}
        origins: dict[str, list[str]] = {}
        targets: list[str] = []
        for index, name in enumerate(("train", "calibration", "evaluation")):
            context.progress(index, 3, "hashing the data")
            samples = getattr(splits, name)
            # Of what is cut from photographs the frames prove nothing: two skies are white all over.
            known = samples.origins() if isinstance(samples, Derived) else None
            hashes[name], origins[name] = [], known or []
            for sample in (samples[i] for i in range(len(samples))):
                hashes[name].append(sample_hash(sample))
                if known is None:
                    origins[name] += origin_hashes(sample, splits.kind)
                if name == "evaluation":
                    targets.append(_target_hash(sample.target))
        for first, second in (("train", "evaluation"), ("calibration", "evaluation")):
            assert_disjoint(origins[first], origins[second], f"{first} and {second}")
        record = {
            "train_n": len(hashes["train"]),
            "calibration_n": len(hashes["calibration"]),
            "eval_n": len(hashes["evaluation"]),
            "calibration_sha256": set_hash(hashes["calibration"]),
            "eval_sha256": set_hash(hashes["evaluation"]),
            # Other pairs, or other noise, of the same held-back photographs have the same hash here.
            "eval_origins_sha256": set_hash(list(set(origins["evaluation"]))),
            # Some stages take the first few calibration samples, so that their order counts.
            "calibration_key": sha256_json(hashes["calibration"]),
            # Checks keep outputs sample by sample, so their key knows the order and the targets too.
            "eval_key": sha256_json([hashes["evaluation"], targets, list(splits.labels)]),
        }
        write_atomic(out / "data.json", json.dumps(record, indent=1))

    inputs = {
        "fingerprint": splits.fingerprint,
        "code": code_version("edgeattn.data.base", _format(context)),
        # Of data.json and of what is proven, which this function decides: raise it when a field comes or goes, or when
        # more is proven. It may hold nothing that the images do not decide, such as their folder's name.
        "layout": 7,
    }
    # Never forced: it is a pure function of bytes that were just hashed.
    return context.store.build(Stage.CHECK, "data", inputs, make)


def _weight_hashes(folder: Path) -> dict[str, str]:
    try:
        return {name: sha256_file(folder / name) for name in WEIGHT_FILES}
    except OSError as error:
        raise ModelError(
            f"The weights in {folder} are incomplete ({error.strerror}: {Path(error.filename).name}); expected "
            f"{', '.join(WEIGHT_FILES)} as the train stage writes them. Correct weights, or train with weights: null."
        ) from error


def _target_hash(target: Any) -> str:
    array = np.asarray(target)
    return sha256_bytes(f"{array.dtype.str}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())


def train(context: Context) -> Artifact:
    """The trained network: `weights.safetensors`, `model.json`, `training.json`."""

    recipe = context.recipe

    def make(work: Path, out: Path) -> None:
        if recipe.weights is None:
            from edgeattn.train.run import train as run

            run(recipe, context.splits, work, out, context.progress)
        else:
            from edgeattn.train.given import take

            take(recipe, context.splits.labels, Path(recipe.weights), out)

    return context.build(Stage.TRAIN, "fp32", _train_inputs(context), make)


def trained(context: Context) -> Artifact | None:
    """The trained network if the store holds it."""
    return context.store.find(Stage.TRAIN, artifact_key(Stage.TRAIN, "fp32", _train_inputs(context)))


def _train_inputs(context: Context) -> dict[str, Any]:
    recipe = context.recipe
    if recipe.weights is not None:
        return {
            "weights": _weight_hashes(Path(recipe.weights)),
            "model": {"name": recipe.model.name, **recipe.model.settings},
            "input": context.preprocess.to_dict(),
            "labels": list(context.splits.labels),
            "code": code_version("edgeattn.train.given", models.module_name(recipe.model.name)),
        }
    return {
        "data": context.splits.training_fingerprint,
        "model": {"name": recipe.model.name, **recipe.model.settings},
        "input": context.preprocess.to_dict(),
        "train": recipe.train.model_dump(),
        "task": recipe.task,
        "metric": context.metric.name,
        "seed": recipe.seed,
        "code": code_version(
            "edgeattn.train.run",
            models.module_name(recipe.model.name),
            tasks.module_name(recipe.task),
            _format(context),
        ),
        "libraries": library_versions("torch", "lightning", "kornia", "numpy", "opencv-python-headless"),
    }


def export(context: Context, trained: Artifact) -> Artifact:
    """The FP32 graph: `model.onnx`, `model.json`. Raises StageFailed when it is not equal to the trained network."""
    recipe = context.recipe

    def make(work: Path, out: Path) -> None:
        from edgeattn.export.run import export as run

        context.progress(0, 1, "exporting to ONNX")
        run(trained.path, recipe.export, prepared(context, context.splits.calibration, 8), out)

    inputs = {
        "model": trained.sha256,
        "export": recipe.export.model_dump(),
        "code": code_version(
            "edgeattn.export.run", models.module_name(recipe.model.name), *backend_modules("onnxruntime")
        ),
        "libraries": library_versions("torch", "onnx", "onnxscript", "onnxruntime"),
    }
    return context.build(Stage.EXPORT, "fp32", inputs, make)


def ranges(context: Context, exported: Artifact) -> Artifact:
    """`RANGES`: the largest |x| of every tensor of the FP32 graph on `_RANGE_SAMPLES` calibration samples."""

    def make(work: Path, out: Path) -> None:
        from edgeattn.quantize.ranges import largest

        calls = prepared(context, context.splits.calibration, _RANGE_SAMPLES)
        found = largest(exported.path / "model.onnx", calls, context.progress)
        write_atomic(out / RANGES, json.dumps(found, indent=1))

    inputs = {
        "model": exported.sha256,
        "samples": _RANGE_SAMPLES,
        "calibration": data_record(context).json("data.json")["calibration_key"],
        "preprocess": context.preprocess.to_dict(),
        "code": code_version("edgeattn.quantize.ranges", "edgeattn.framing", *backend_modules("onnxruntime")),
        "libraries": library_versions("onnx", "onnxruntime"),
    }
    return context.build(Stage.CHECK, "ranges", inputs, make)


def quantize(context: Context, exported: Artifact, precision: Precision) -> Artifact:
    """The graph in another precision: `model.onnx`, `model.json`, `quantization.json`."""
    recipe = context.recipe

    def make(work: Path, out: Path) -> None:
        from edgeattn.quantize.run import quantize as run

        context.progress(0, 1, f"making the {precision.value} graph")
        calls = [] if precision is Precision.FP16 else prepared(context, context.splits.calibration)
        spare = form.name == "cpu" and not vnni
        reached = measured.json(RANGES) if measured else None
        run(
            exported.path, precision, calls, recipe.quantize, out, context.progress,
            form=form, spare_bit=spare, ranges=reached,
        )  # fmt: skip

    from edgeattn.quantize.form import of_backend

    form, vnni = of_backend(context.target.backend), host.has_int8_products()
    measured = ranges(context, exported) if precision is Precision.FP16 or form.rest_is_fp16 else None
    inputs: dict[str, Any] = {
        "model": exported.sha256,
        "code": code_version("edgeattn.quantize.run", *backend_modules("onnxruntime")),
        "libraries": library_versions("onnx", "nncf", "onnxruntime"),
    }
    if measured is not None:
        inputs["ranges"] = measured.sha256
    if precision is Precision.INT8:
        inputs["quantize"] = recipe.quantize.model_dump()
        inputs["calibration"] = data_record(context).json("data.json")["calibration_key"]
        inputs["preprocess"] = context.preprocess.to_dict()
        inputs["prepared_by"] = code_version("edgeattn.framing")
        inputs["compared_by"] = code_version(tasks.module_name(recipe.task))
        inputs["form"] = form.name
        inputs["vnni"] = vnni
    return context.build(Stage.QUANTIZE, precision.value, inputs, make)


def compile_engine(context: Context, graph: Artifact, precision: Precision) -> Artifact:
    """The engine of `graph`, on this machine, by the target's backend."""

    def make(work: Path, out: Path) -> None:
        context.progress(0, 1, f"compiling the {precision.value} engine")
        compiler = backends.find_compiler(context.target.backend)
        model, progress = graph.path / "model.onnx", context.progress
        compiler.compile(model, out, precision=precision.value, threads=context.threads, progress=progress)

    inputs = {
        "graph": graph.sha256,
        "precision": precision.value,
        "threads": context.threads,
        "host": host.identity(),
        # The GPU too, its driver's release and the board: an engine of another is refused where it is loaded.
        "fingerprint": backends.find_compiler(context.target.backend).fingerprint(),
        "code": code_version(*backend_modules(context.target.backend)),
        "libraries": library_versions(context.target.backend),
    }
    return context.build(Stage.COMPILE, precision.value, inputs, make)


def backend_modules(name: str) -> list[str]:
    """The modules of a backend, the private ones that it starts as processes among them."""
    folder = Path(backends.__file__).parent
    stems = sorted(path.stem for path in folder.glob("*.py"))
    return [f"edgeattn.backends.{stem}" for stem in stems if stem.lstrip("_").startswith(name)]


def _format(context: Context) -> str:
    return f"edgeattn.data.{context.recipe.data.format}"
