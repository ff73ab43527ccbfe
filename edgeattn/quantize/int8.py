"""FP32 graph -> INT8 graph with Q/DQ nodes, by NNCF under the attention-safe policy, chosen by a small search.

No one setting of NNCF wins everywhere (docs/decisions.md), so a few are tried. Each is calibrated on one part of the
calibration split and judged by SQNR on the other; the evaluation split is never looked at.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgeattn.backends import onnxruntime
from edgeattn.backends._telemetry import silence_telemetry
from edgeattn.backends.base import Tensors, last_line
from edgeattn.errors import EdgeattnError, MachineError, ModelError, RecipeError, StageFailed
from edgeattn.metrics.tensors import sums_by_name
from edgeattn.onnxgraph.file import serialized
from edgeattn.progress import Progress
from edgeattn.quantize import emulate, policy
from edgeattn.quantize.form import CPU, Form
from edgeattn.tasks.base import Outputs, Task


@dataclass(frozen=True)
class Candidate:
    """One way of quantizing. `applies` says for which graphs it differs from the others.

    `transformer` is NNCF's model type: its own patterns of attention stay in float, and smoothing becomes possible.
    """

    name: str
    activation_range: str = "minmax"
    bias_correction: bool = False
    transformer: bool = False
    smooth_quant: bool = False
    float_classifier: bool = False
    applies: Callable[[onnx.GraphProto], bool] = field(default=lambda graph: True, compare=False)


def _has_matmul(graph: onnx.GraphProto) -> bool:
    return any(node.op_type == "MatMul" for node in graph.node)


CANDIDATES = (
    Candidate("minmax"),
    Candidate("minmax+float-classifier", float_classifier=True, applies=lambda g: bool(policy.classifier_nodes(g))),
    Candidate("mean-minmax", activation_range="mean-minmax"),
    Candidate("minmax+transformer", transformer=True, applies=_has_matmul),
    Candidate("minmax+smooth-quant", transformer=True, smooth_quant=True, applies=_has_matmul),
    Candidate("minmax+bias-correction", bias_correction=True),
)


@dataclass(frozen=True)
class Trial:
    """`sqnr_db` is None for a setting that was skipped; `problem` says why."""

    setting: str
    sqnr_db: float | None
    problem: str | None = None


def check_names(names: Sequence[str]) -> None:
    """Raise RecipeError unless there is at least one name and each is that of a candidate."""
    known = [candidate.name for candidate in CANDIDATES]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        got = f"got '{unknown[0]}'" if unknown else "the list is empty"
        raise RecipeError(f"quantize.candidates takes names of INT8 settings, {got}; known: {', '.join(known)}.")


def candidates(names: Sequence[str] | None, graph: onnx.GraphProto, form: Form = CPU) -> list[Candidate]:
    """Those of `names` (all when None) that make sense for `graph` in `form`. Raises RecipeError on an unknown name."""
    if names is not None:
        check_names(names)
    chosen = [candidate for candidate in CANDIDATES if names is None or candidate.name in names]
    return [
        candidate for candidate in chosen if candidate.applies(graph) and (form.smoothing or not candidate.smooth_quant)
    ]


def search(
    model: onnx.ModelProto,
    task: Task,
    calibrate: Sequence[Tensors],
    judge: Sequence[Tensors],
    tried: Sequence[Candidate],
    progress: Progress,
    *,
    form: Form = CPU,
    spare_bit: bool,
    ranges: Mapping[str, float] | None = None,
) -> tuple[onnx.ModelProto, list[Trial]]:
    """The candidate with the highest SQNR on `judge`, and every trial. Both are engine inputs, batch 1; `ranges` are
    the largest |x| of the model's tensors, for a form whose rest is FP16.

    The SQNR is that of the output that suffers most, as the report's is.

    A candidate that NNCF cannot apply, or whose graph does not run or overflows, is skipped. Raises RecipeError when
    `tried` is empty, StageFailed when every candidate was skipped.
    """
    if not tried:
        raise RecipeError(
            "None of the INT8 settings in quantize.candidates applies to this graph; add 'minmax', which always does."
        )
    reference = _outputs(model, judge, form)
    best: tuple[float, onnx.ModelProto] | None = None
    trials: list[Trial] = []
    for index, candidate in enumerate(tried):
        progress(index, len(tried), f"INT8 setting {candidate.name}")
        try:
            quantized = _quantized(model, calibrate, candidate, form=form, spare_bit=spare_bit, ranges=ranges)
            outputs = _outputs(quantized, judge, form)
            if not all(np.isfinite(value).all() for output in outputs for value in output.values()):
                raise ModelError("its outputs are not finite")
        except ModelError as error:
            trials.append(Trial(candidate.name, None, str(error)))
            continue
        quality = _worst_db(task, reference, outputs)
        trials.append(Trial(candidate.name, quality))
        if best is None or quality > best[0]:
            best = (quality, quantized)
    if best is None:
        raise _none_is_left(trials)
    progress(len(tried), len(tried), "INT8 setting chosen")
    return best[1], trials


def _none_is_left(trials: Sequence[Trial]) -> StageFailed:
    settings: dict[str, list[str]] = {}
    for trial in trials:
        settings.setdefault((trial.problem or "").rstrip("."), []).append(trial.setting)
    tried = "; ".join(f"{', '.join(names)}: {problem}" for problem, names in settings.items())
    return StageFailed(
        f"No INT8 setting works on this graph ({tried}). Leave int8 out of the recipe's variants, or name other "
        "settings in quantize.candidates."
    )


def _quantized(
    model: onnx.ModelProto,
    calls: Sequence[Tensors],
    candidate: Candidate,
    *,
    form: Form,
    spare_bit: bool,
    ranges: Mapping[str, float] | None,
) -> onnx.ModelProto:
    """`quantize`, with whatever NNCF and onnx raise about the graph as a ModelError."""
    try:
        return quantize(model, calls, candidate, form=form, spare_bit=spare_bit, ranges=ranges)
    except (EdgeattnError, OSError, ImportError):  # a full disk or a missing library is no matter of the setting
        raise
    except MemoryError as error:
        raise MachineError(
            f"The memory of this machine is not enough for the INT8 setting {candidate.name}; "
            "name others in quantize.candidates."
        ) from error
    except Exception as error:  # NNCF's and onnx's exceptions have only this class in common
        raise ModelError(f"NNCF cannot apply it ({last_line(error)})") from error


def quantize(
    model: onnx.ModelProto,
    calls: Sequence[Tensors],
    candidate: Candidate,
    *,
    form: Form = CPU,
    spare_bit: bool,
    ranges: Mapping[str, float] | None = None,
) -> onnx.ModelProto:
    """`model` with Q/DQ nodes calibrated on `calls`, one at a time, in the order given.

    `spare_bit` halves the weights' range: without VNNI two 8-bit products are added in 16 bits and saturate, while
    with it nothing does and the bit is worth up to 2 dB (docs/decisions.md).
    """
    silence_telemetry()
    import nncf
    from nncf.quantization.advanced_parameters import (
        AdvancedQuantizationParameters,
        AdvancedSmoothQuantParameters,
        OverflowFix,
        QuantizationParameters,
    )
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    kept = list(kept_back(model, candidate, form))
    estimators = {
        "minmax": RangeEstimatorParametersSet.MINMAX,
        "mean-minmax": RangeEstimatorParametersSet.MEAN_MINMAX,
    }
    alpha = 0.95 if candidate.smooth_quant else -1.0
    advanced = AdvancedQuantizationParameters(
        overflow_fix=OverflowFix.ENABLE if spare_bit else OverflowFix.DISABLE,
        disable_bias_correction=not candidate.bias_correction,
        smooth_quant_alphas=AdvancedSmoothQuantParameters(convolution=-1.0, matmul=alpha),
        activations_range_estimator_params=estimators[candidate.activation_range],
        # Left alone NNCF gives depthwise convolutions a scale for each channel of their input.
        activations_quantization_params=QuantizationParameters(per_channel=False) if form.per_tensor else None,
    )

    def without(kept: list[str]) -> onnx.ModelProto:
        with _quiet():
            made: onnx.ModelProto = nncf.quantize(
                model,
                nncf.Dataset([dict(call) for call in calls]),
                subset_size=len(calls),
                # NNCF smooths nothing, and says nothing, unless the model is called a transformer.
                model_type=nncf.ModelType.TRANSFORMER if candidate.transformer else None,
                # Which is "mixed", activations with a zero point, for transformers alone.
                preset=nncf.QuantizationPreset.PERFORMANCE if form.symmetric else None,
                ignored_scope=nncf.IgnoredScope(names=kept) if kept else None,
                advanced_parameters=advanced,
            )
        return made

    quantized = without(kept)
    if halves := form.halves(quantized):
        quantized = without([*kept, *halves])
    return form.finish(quantized, ranges or {})


def kept_back(model: onnx.ModelProto, candidate: Candidate, form: Form = CPU) -> dict[str, str]:
    """Names of the nodes that NNCF is told to leave in float, each with the reason: the policy's, the form's, or the
    setting's."""
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    released = form.released(graph)
    reasons = {name: why for name, why in policy.float_nodes(graph).items() if name not in released}
    for name, why in form.kept(graph).items():
        reasons.setdefault(name, why)
    if candidate.float_classifier:
        for name in policy.classifier_nodes(graph):
            reasons.setdefault(name, "classifier: this setting leaves the last product in float")
    if candidate.smooth_quant:
        for name in policy.smoothed_wrongly(graph):
            reasons.setdefault(name, "OpenVINO 2026.4 smooths the product behind a reduction wrongly")
    return reasons


def float_nodes(
    model: onnx.ModelProto, quantized: onnx.ModelProto, candidate: Candidate, form: Form = CPU
) -> dict[str, str]:
    """What really stayed in float: what NNCF was told to leave, and products with weights that it left by itself."""
    unasked = policy.unquantized_products(quantized.graph) & {node.name for node in model.graph.node}
    reason = "left in float since NNCF quantizes one side alone, or none: a pattern of its own such as a gate"
    return {**dict.fromkeys(sorted(unasked), reason), **kept_back(model, candidate, form)}


def _outputs(model: onnx.ModelProto, calls: Sequence[Tensors], form: Form = CPU) -> list[dict[str, NDArray[Any]]]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model.onnx").write_bytes(serialized(model))
        loader = emulate.load if form.as_written else onnxruntime.load
        runner = loader(Path(folder), threads=1)
        try:
            return [runner.infer(call) for call in calls]
        finally:
            runner.close()


def _worst_db(task: Task, references: Sequence[Outputs], outputs: Sequence[Outputs]) -> float:
    sums = sums_by_name(task.comparable(*pair) for pair in zip(outputs, references, strict=True))
    return min(total.sqnr_db for total in sums.values())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """NNCF draws its own bars and logs its steps; the stage reports progress itself."""
    silence_telemetry()
    import nncf

    nncf.set_log_level(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def describe(trials: Sequence[Trial], chosen: str, kept: dict[str, str], samples: int) -> dict[str, Any]:
    """What `quantization.json` says."""
    measured = [(trial.setting, trial.sqnr_db) for trial in trials if trial.sqnr_db is not None]
    return {
        "setting": chosen,
        "calibration_samples": samples,
        "search": [{"setting": name, "sqnr_db": round(db, 2), "chosen": name == chosen} for name, db in measured],
        "skipped": {trial.setting: trial.problem for trial in trials if trial.problem is not None},
        "float_nodes": kept,
    }
