"""PyTorch -> ONNX, proven equal on real frames before anything is built on it."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from edgeattn import backends, tasks
from edgeattn.artifact import write_atomic
from edgeattn.backends.base import Tensors, last_line
from edgeattn.errors import ModelError, StageFailed
from edgeattn.metrics.tensors import max_abs, sqnr_db
from edgeattn.models import camera
from edgeattn.onnxgraph.file import serialized
from edgeattn.recipe import ExportSection

_CURE = "change the model, the input's size or the export fields of the recipe"


def export(source: Path, settings: ExportSection, calls: Sequence[Tensors], out: Path) -> None:
    """Write `model.onnx` and `model.json` of the trained model in `source` into `out`.

    `calls` are real engine inputs, batch 1, for the parity proof. Raises StageFailed naming the output and the
    size of the error when ONNX Runtime and PyTorch differ, ModelError for a network that the exporter cannot take and
    MachineError when memory is short.
    """
    model = camera.load(source)
    with camera.torch_errors(f"The network in {source} cannot be exported to ONNX", _CURE):
        graph = to_onnx(model, dynamic_batch=settings.dynamic_batch, opset=settings.opset)
    write_atomic(out / "model.onnx", serialized(graph))
    shutil.copyfile(source / "model.json", out / "model.json")
    prove_parity(source, out, settings, calls)


def to_onnx(model: camera.CameraModel, *, dynamic_batch: bool, opset: int) -> onnx.ModelProto:
    """The graph by the current exporter, checked; without the exporter's notes on source files and stack traces."""
    size = model.description.preprocess
    names = model.description.inputs
    # A tensor of its own for each input: given the same one twice, the exporter takes them for one.
    count = 2 if dynamic_batch else 1
    example = tuple(torch.zeros(count, size.height, size.width, 3, dtype=torch.uint8) for _ in names)
    shapes = {"frames": tuple({0: torch.export.Dim("batch")} for _ in names)} if dynamic_batch else None
    with _quiet():
        program = torch.onnx.export(
            model,
            example,
            input_names=list(names),
            output_names=list(model.description.outputs),
            opset_version=opset,
            dynamo=True,
            dynamic_shapes=shapes,
            verbose=False,
        )
    if program is None:
        raise StageFailed("torch.onnx.export returned no program; report this with the recipe.")
    graph: onnx.ModelProto = program.model_proto
    _strip_notes(graph)
    if dynamic_batch:
        _check_batch(graph, model.description.name)
    try:
        onnx.checker.check_model(graph, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"The exported graph is not valid ONNX ({last_line(error)}); {_CURE}.") from error
    return graph


def _check_batch(model: onnx.ModelProto, name: str) -> None:
    """The exporter fixes the batch, and says nothing, where a network computes with its size."""
    fixed = [v.type.tensor_type.shape.dim[0].dim_value for v in model.graph.input]
    if any(fixed):
        raise ModelError(
            f"The network {name} has no graph of a dynamic batch (the exporter fixed it at {max(fixed)}); export it "
            "with dynamic_batch: false, one frame a call."
        )


def prove_parity(source: Path, exported: Path, settings: ExportSection, calls: Sequence[Tensors]) -> None:
    """Compare both on `calls`, one by one and, when the batch is dynamic, in a batch of all. Raises StageFailed.

    A batch needs two different frames to show one that is mixed up: a single frame is joined by its mirror image.
    """
    task = tasks.find(camera.load(source).description.task)
    reference = backends.find("pytorch").load(source, threads=1)
    candidate = backends.find("onnxruntime").load(exported, threads=1)
    batches = [dict(call) for call in calls]
    if settings.dynamic_batch:
        several = (
            calls if len(calls) > 1 else [*calls, *({n: v[:, :, ::-1] for n, v in call.items()} for call in calls)]
        )
        batches.append({name: np.concatenate([call[name] for call in several]) for name in calls[0]})
    try:
        for batch in batches:
            count = len(next(iter(batch.values())))
            want, got = reference.infer(batch), candidate.infer(batch)
            for index in range(count):
                ours, theirs = task.comparable(_one(got, index), _one(want, index))
                for name, value in theirs.items():
                    quality = sqnr_db(value, ours[name])
                    if not quality >= settings.parity_db_min:
                        raise StageFailed(
                            f"The exported graph does not equal PyTorch: output '{name}' at batch {count} differs by "
                            f"up to {max_abs(value, ours[name]):.3g} ({quality:.1f} dB, at least "
                            f"{settings.parity_db_min:g} dB expected); an operator was exported with another meaning."
                        )
    finally:
        reference.close()
        candidate.close()


def _one(outputs: Tensors, index: int) -> dict[str, NDArray[Any]]:
    return {name: value[index : index + 1] for name, value in outputs.items()}


def _strip_notes(graph: onnx.ModelProto) -> None:
    """Node metadata holds this machine's paths, so equal models would hash differently on two machines."""
    del graph.metadata_props[:]
    for part in [graph.graph, *graph.functions]:
        del part.metadata_props[:]
        part.doc_string = ""
        for node in part.node:
            del node.metadata_props[:]
            node.doc_string = ""
    for value in [*graph.graph.value_info, *graph.graph.input, *graph.graph.output, *graph.graph.initializer]:
        del value.metadata_props[:]
        value.doc_string = ""


@contextlib.contextmanager
def _quiet() -> Any:
    """The exporter prints its own progress and warns of its internals; failures still raise."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
