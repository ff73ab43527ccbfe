"""Everything that can be found wrong before anything is changed: names, fields, data, libraries."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edgeattn import backends, data, models, tasks
from edgeattn.artifact import Precision, Stage
from edgeattn.errors import EdgeattnError, MissingLibrary, ModelError, RecipeError, reason
from edgeattn.pipeline import stages
from edgeattn.pipeline.context import Context
from edgeattn.pipeline.stages import ORDER
from edgeattn.quantize import calibration
from edgeattn.recipe import parse_settings
from edgeattn.tasks.base import Task
from edgeattn.train import changes

# What the stages up to each need besides those before: a machine that only trains has no use for NNCF.
_NEEDED = {
    Stage.TRAIN: ("torch", "lightning", "kornia", "safetensors", "scipy"),
    Stage.EXPORT: ("onnx", "onnxscript", "onnxruntime"),
    Stage.QUANTIZE: ("nncf",),
}


def validate(context: Context, until: Stage) -> None:
    """Raises RecipeError, DataError, MissingLibrary or BundleError (a signing key that cannot sign)."""
    recipe = context.recipe
    task = tasks.find(recipe.task)
    _ = context.metric
    _check_input(context, task)
    section = recipe.data
    parse_settings(data.find(section.format).Settings, section.settings, f"recipe {recipe.name}, data")
    if not models.exists(recipe.model.name):
        models.find(recipe.model.name)  # says which there are
    last = ORDER.index(until)
    needed = [name for stage, names in _NEEDED.items() if ORDER.index(stage) <= last for name in names]
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise MissingLibrary(f'{", ".join(missing)} cannot be found; install with: pip install "edgeattn[train]".')
    if until in (Stage.COMPILE, Stage.BUNDLE) and context.remote is None and context.elsewhere is None:
        backends.find_compiler(context.target.backend)
    _ = context.signed_by  # a key that cannot sign must not be found out after the training
    _check_variants(context)
    if recipe.quantize.candidates is not None and last >= ORDER.index(Stage.QUANTIZE):
        from edgeattn.quantize import int8

        int8.check_names(recipe.quantize.candidates)
    splits = context.splits  # opens the data: a missing folder or an empty class is found here
    if splits.kind != task.target:
        raise RecipeError(
            f"recipe {recipe.name}: the task {task.name} is trained on targets of the kind '{task.target}', the data "
            f"give '{splits.kind}'; change task or data."
        )
    _check_metric(context, task)
    _check_augment(context)
    if until not in (Stage.TRAIN, Stage.EXPORT) and Precision.INT8 in context.wanted and recipe.input.fit != "tile":
        calibration.held_back(len(splits.calibration), recipe.quantize.search_samples)
    # Importing a network costs torch's start; a model that was trained already has proven its settings, on these data
    # unless its weights were given.
    unproven = recipe.weights is not None and splits.kind == "image"
    if context.force or unproven or stages.trained(context) is None:
        _check_model(context)
    _ = context.device  # last: another machine is not asked for anything while something is wrong here


def _check_frame(context: Context) -> None:
    """One blank frame through the untrained network: sides that do not fit it are found before the training."""
    from edgeattn.models.camera import CameraModel, Description, try_blank

    recipe = context.recipe
    zero, one = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    labels = context.splits.labels
    with _own_code(context, "fails on a blank frame"):
        description = Description(recipe.model.name, recipe.model.settings, labels, context.preprocess, zero, one)
        try:
            model = CameraModel(description)
            outputs = try_blank(model)
        except NotImplementedError:  # it has no `forward`; a RuntimeError as well
            raise
        except (ValueError, RuntimeError, ModelError) as error:
            raise RecipeError(
                f"recipe {recipe.name}: the model {recipe.model.name} cannot take frames of {recipe.input.height} x "
                f"{recipe.input.width} pixels ({reason(error)}); change input or model."
            ) from error
        names = description.outputs
    _check_outputs(context, names, outputs)
    if recipe.weights is None and not any(hasattr(model.network, name) for name in ("loss", "training_loss")):
        raise RecipeError(
            f"recipe {recipe.name}: the model {recipe.model.name} cannot be trained: its Network has neither loss nor "
            "training_loss; see edgeattn/models/__init__.py."
        )


def _check_outputs(context: Context, names: tuple[str, ...], outputs: tuple[Any, ...]) -> None:
    kinds = [type(output).__name__ for output in outputs]
    if len(outputs) != len(names) or any(not hasattr(output, "shape") for output in outputs):
        raise RecipeError(
            f"recipe {context.recipe.name}: the model {context.recipe.model.name} names the outputs "
            f"{', '.join(names)}, but returns {', '.join(kinds)}; it must return one tensor for each, several as a "
            "tuple."
        )
    shapes = {name: tuple(output.shape) for name, output in zip(names, outputs, strict=True)}
    if context.splits.kind == "image":
        _check_scale(context, shapes)
    if context.splits.kind == "mask":
        _check_map(context, shapes)


def _check_map(context: Context, shapes: dict[str, tuple[int, ...]]) -> None:
    """Maps are read in the pixels of the network's frame: one that is coarser would be taken for its corner."""
    recipe = context.recipe
    found, frame = _map_sides(context, shapes), (recipe.input.height, recipe.input.width)
    if found and found != frame:
        raise RecipeError(
            f"recipe {recipe.name}: the model {recipe.model.name} makes a map of {found[0]} x {found[1]} of a frame of "
            f"{frame[0]} x {frame[1]} pixels, and a mask needs one value per pixel; let the network enlarge its "
            "logits to its frame."
        )


def _map_sides(context: Context, shapes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Height and width of the output that the task decodes; () where it does not say which, or there is no such."""
    return shapes.get(tasks.find(context.recipe.task).decoding.get("output", ""), ())[-2:]


@contextmanager
def _own_code(context: Context, what: str) -> Iterator[None]:
    """What a model's own code raises inside is one sentence that names its line: a mistake of the user's, not ours."""
    try:
        yield
    except (EdgeattnError, MemoryError):
        raise
    except Exception as error:  # somebody else's code may raise anything
        name = context.recipe.model.name
        raise RecipeError(
            f"recipe {context.recipe.name}: the model {name} {what} ({models.blame(error, name)}); mend the model."
        ) from error


def _check_scale(context: Context, shapes: dict[str, tuple[int, ...]]) -> None:
    """A restored image must be as large as its clean one, whose frame the data's degradation makes smaller."""
    recipe, degradation = context.recipe, context.splits.degradation
    scale = 1 if degradation is None else degradation.scale
    found = _map_sides(context, shapes)
    if found and found != (recipe.input.height * scale, recipe.input.width * scale):
        raise RecipeError(
            f"recipe {recipe.name}: the model {recipe.model.name} makes {found[0]} x {found[1]} pixels of a frame of "
            f"{recipe.input.height} x {recipe.input.width}, the data's clean images are {scale} time(s) as large as "
            "their frames; make the scale of model and data equal."
        )


def _check_metric(context: Context, task: Task) -> None:
    metric, labels = context.metric, len(context.splits.labels)
    if metric.labels not in (None, labels):
        others = ", ".join(other.name for other in task.metrics if other.labels in (None, labels))
        raise RecipeError(
            f"recipe {context.recipe.name}: the metric {metric.name} is of {metric.labels} labels, the data give "
            f"{labels}; choose another: {others}."
        )


def _check_augment(context: Context) -> None:
    recipe, splits = context.recipe, context.splits
    if recipe.weights is not None:  # no frames are changed where nothing is trained
        return
    try:
        changes.check(recipe.train.augment, splits.kind, degraded=splits.degradation is not None)
    except RecipeError as error:
        raise RecipeError(f"recipe {recipe.name}: {error}") from error


def _check_input(context: Context, task: Task) -> None:
    section = context.recipe.input
    if section.fit != "tile":
        return
    if not task.tiles:
        raise RecipeError(
            f"recipe {context.recipe.name}: input.fit tile cuts frames into tiles and joins maps, which the task "
            f"{task.name} does not give; choose crop, letterbox or stretch."
        )
    if section.overlap >= min(section.height, section.width):
        raise RecipeError(
            f"recipe {context.recipe.name}: input.overlap must be less than a tile of {section.height} x "
            f"{section.width} pixels, got {section.overlap}."
        )


def _check_variants(context: Context) -> None:
    variants, offered = context.recipe.variants, context.target.precisions
    if len(set(variants)) != len(variants) or not context.wanted:
        raise RecipeError(
            f"recipe {context.recipe.name}: variants must name at least one precision of the target "
            f"{context.target.name} ({', '.join(p.value for p in offered)}), each once, got "
            f"[{', '.join(p.value for p in variants)}]."
        )


def _check_model(context: Context) -> None:
    recipe = context.recipe
    module = models.find(recipe.model.name)
    with _own_code(context, "fails with these settings"):
        parse_settings(module.Settings, recipe.model.settings, f"recipe {recipe.name}, model {recipe.model.name}")
    if recipe.task != module.TASK:
        raise RecipeError(
            f"recipe {recipe.name}: the model {recipe.model.name} is made for the task '{module.TASK}', got "
            f"'{recipe.task}'; change task or model.name."
        )
    _check_frame(context)
    inputs = tasks.find(recipe.task).inputs
    if tuple(getattr(module, "INPUTS", ("frame",))) != inputs:
        raise RecipeError(
            f"recipe {recipe.name}: the task {recipe.task} gives a network the frames {', '.join(inputs)}; the model "
            f"{recipe.model.name} does not take those: its INPUTS must name them."
        )
