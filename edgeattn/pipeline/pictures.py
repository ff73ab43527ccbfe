"""Pictures for the report: evaluation samples whose result changed, and one sample as every stage sees it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeattn import tasks
from edgeattn.artifact import Artifact
from edgeattn.data.base import Sample
from edgeattn.imaging import Frame, View, encode_png
from edgeattn.pipeline.checks import REFERENCE, load_outputs
from edgeattn.pipeline.context import Context, framing
from edgeattn.tasks.base import Task

_EXAMPLES = 8
_THUMBNAIL, _PICTURE = 128, 320
_QUALITY = 85

Outputs = Mapping[str, NDArray[Any]]


def examples(context: Context, checks: dict[str, Artifact]) -> list[dict[str, Any]]:
    """Evaluation images whose decision differs from the reference's in some row, at most eight of them.

    Of labels those that changed in most rows come first. Of maps or places, which always differ a little, those that
    agree least in some row; of these there are pictures too: the reference's and that of the row that agrees least.
    """
    task = tasks.find(context.recipe.task)
    changed = _agreements(task, checks)
    label = task.target == "label"
    ranked = sorted(
        changed, key=lambda index: (-len(changed[index]) if label else 0, min(changed[index].values()), index)
    )[:_EXAMPLES]
    if not ranked:
        return []
    outputs = {name: dict(zip(ranked, load_outputs(check, ranked), strict=True)) for name, check in checks.items()}
    return [
        _example(context, index, changed[index], {name: few[index] for name, few in outputs.items()})
        for index in ranked
    ]


def _agreements(task: Task, checks: dict[str, Artifact]) -> dict[int, dict[str, float]]:
    """Sample -> row -> agreement with the reference, where it is below 1.

    The outputs of one row beside the reference's are in memory at a time: those of maps take hundreds of megabytes.
    """
    reference = load_outputs(checks[REFERENCE])
    changed: dict[int, dict[str, float]] = {}
    for name in (name for name in checks if name != REFERENCE):
        for index, agreement in enumerate(_of_a_row(task, checks[name], reference)):
            if agreement < 1.0:
                changed.setdefault(index, {})[name] = agreement
    return changed


def _of_a_row(task: Task, check: Artifact, reference: list[dict[str, NDArray[Any]]]) -> list[float]:
    return [task.agreement(*both) for both in zip(load_outputs(check), reference, strict=True)]


def _example(
    context: Context, index: int, agreements: dict[str, float], outputs: dict[str, dict[str, NDArray[Any]]]
) -> dict[str, Any]:
    """What the report shows of one sample; `agreements` below 1 and `outputs` by row."""
    task, labels = tasks.find(context.recipe.task), context.splits.labels
    samples = context.splits.evaluation
    sample = samples[index]
    views = framing(context, sample).views
    words = task.describe(outputs[REFERENCE], sample.target, labels, views)
    entry: dict[str, Any] = {
        "name": samples.name(index),
        "image_png_base64": _png(sample.frame, _THUMBNAIL),
        "truth": words["truth"],
        "reference": words["predicted"],
        "changed": {
            name: task.describe(outputs[name], sample.target, labels, views)["predicted"] for name in agreements
        },
    }
    if task.target != "label":
        worst = min(agreements, key=lambda name: agreements[name])
        entry["pictures"] = {name: _drawn(context, sample, outputs[name]) for name in (REFERENCE, worst)}
    return entry


def _drawn(context: Context, sample: Sample, outputs: dict[str, NDArray[Any]]) -> str:
    views = framing(context, sample).views
    result = tasks.find(context.recipe.task).decode(outputs, views, context.splits.labels, 0.0)
    return _jpeg(result.draw(sample.frames[-1]), _PICTURE)


def gallery(context: Context, checks: dict[str, Artifact]) -> dict[str, Any]:
    """The first evaluation sample: its frames, the attention map where the network gives one, and each row's result."""
    sample = context.splits.evaluation[0]
    outputs = {name: load_outputs(check, [0])[0] for name, check in checks.items()}
    reference = outputs[REFERENCE]
    attention = reference.get("attention")
    return {
        "name": context.splits.evaluation.name(0),
        "frames": [_jpeg(frame, _PICTURE) for frame in sample.frames],
        "attention": None if attention is None else _jpeg(_attention(context, sample, attention), _PICTURE),
        "results": {name: _drawn(context, sample, values) for name, values in outputs.items()},
    }


def _attention(context: Context, sample: Sample, attention: NDArray[Any]) -> Frame:
    """Tiles were joined in the frame's own pixels; else the map lies in the prepared frame."""
    preprocess = context.preprocess
    size = sample.frame.shape[:2] if preprocess.fit == "tile" else (preprocess.height, preprocess.width)
    return _heat(attention[0, 0], framing(context, sample).views[0], size)


def _heat(attention: NDArray[Any], view: View, size: tuple[int, int]) -> Frame:
    """The map over the frame, scaled to its own greatest value, since weights over many places are all small.

    `size` is the height and width of the network's frame, which the map is spread over; of the camera's frame what the
    network did not see stays as it is.
    """
    frame = view.frame
    scaled = np.asarray(attention, np.float32) / max(float(attention.max()), 1e-6)
    spread = cv2.resize(np.clip(scaled * 255, 0, 255).astype(np.uint8), size[::-1], interpolation=cv2.INTER_LINEAR)
    matrix, whole = view.matrix[:2], frame.shape[1::-1]
    back = cv2.warpAffine(
        spread, matrix, whole, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    seen = cv2.warpAffine(np.ones(size, np.uint8), matrix, whole, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    mixed = cv2.addWeighted(frame, 0.5, cv2.applyColorMap(back, cv2.COLORMAP_VIRIDIS), 0.5, 0)
    return np.where(seen[..., None] > 0, mixed, frame).astype(np.uint8)


def _png(frame: Frame, side: int) -> str:
    return base64.b64encode(encode_png(_scaled(frame, side))).decode()


def _jpeg(frame: Frame, side: int) -> str:
    """A tenth of a PNG's size: these are for looking at, and a report is one file that people pass on."""
    done, data = cv2.imencode(".jpg", _scaled(frame, side), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    assert done, "a uint8 frame can always be encoded"
    return base64.b64encode(data.tobytes()).decode()


def _scaled(frame: Frame, side: int) -> Frame:
    scale = side / max(frame.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(frame, None, fx=scale, fy=scale, interpolation=method), np.uint8)
