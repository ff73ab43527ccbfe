"""Golden I/O: a few inputs with the outputs the engine gave when it was built, to prove it again on the device.

How large may a difference be? The same graph on another processor or library rounds elsewhere, and a BF16 kernel may
stand in for an FP32 one. Measured on one model (SE-ResNet-20 trained on CIFAR, NNCF's default INT8, 16 samples of 10
logits), the worst difference in shares of the output's standard deviation:

    FP32 against BF16   1.7 %       a camera off by one pixel   48 %
    INT8, another library   5.9 %   red and blue exchanged     127 %
    INT8 against FP32  23 %         mirrored                   150 %

So the worst element may be off by 5 % of the standard deviation, by 15 % in a quantized engine, where a value near the
middle between two steps falls to either side. An output that hardly varies (a constant, or one dominated by an offset)
is given a thousandth of its greatest magnitude instead.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeattn.backends.base import Runner, Tensors
from edgeattn.bundle.archive import write_zip
from edgeattn.errors import BundleError, StageFailed

_FLOAT_SHARE_OF_STD = 0.05
_QUANTIZED_SHARE_OF_STD = 0.15
_SHARE_OF_MAX = 1e-3
_LEAST = 1e-6
_INCOMPLETE = (
    "The bundle's golden.npz is incomplete: every sample needs inputs and outputs, every output a tolerance; build the "
    "bundle again."
)

Comparable = Callable[[Tensors, Tensors], tuple[Tensors, Tensors]]


@dataclass(frozen=True)
class OutputCheck:
    """The worst absolute difference of one output, and the golden sample it was found in."""

    output: str
    worst_error: float
    tolerance: float
    sample: int

    @property
    def passed(self) -> bool:
        # Written so that NaN does not pass.
        return self.worst_error <= self.tolerance

    def sentence(self) -> str:
        verdict = "within" if self.passed else "beyond"
        return (
            f"output '{self.output}' is off by {self.worst_error:.3g} in golden sample {self.sample}, {verdict} the "
            f"tolerance of {self.tolerance:.3g}"
        )


@dataclass(frozen=True)
class SelfTest:
    """One check per output over all golden samples."""

    samples: int
    outputs: tuple[OutputCheck, ...]

    @property
    def failures(self) -> tuple[OutputCheck, ...]:
        return tuple(check for check in self.outputs if not check.passed)

    @property
    def passed(self) -> bool:
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "samples": self.samples,
            "outputs": {
                check.output: {
                    # JSON has no NaN or infinity: an error that is not a number is null.
                    "worst_error": check.worst_error if np.isfinite(check.worst_error) else None,
                    "tolerance": check.tolerance,
                    "sample": check.sample,
                    "passed": check.passed,
                }
                for check in self.outputs
            },
        }


def as_they_are(outputs: Tensors, expected: Tensors) -> tuple[Tensors, Tensors]:
    """Outputs whose entries have a fixed order are compared as they are."""
    return outputs, expected


def make_golden(
    runner: Runner, inputs: Sequence[Tensors], *, quantized: bool = False, comparable: Comparable = as_they_are
) -> bytes:
    """Run `inputs` (engine inputs by name, one mapping per sample) and keep them with what came out, as an npz.

    `quantized`: the engine executes INT8 layers, so the tolerance is the wider one. `comparable` brings outputs into an
    order in which they can be compared (`tasks.base.Task.comparable`); tolerances are of what it gives.
    Same runner outputs, same bytes. Raises ValueError without samples, StageFailed when an output is not finite.
    """
    if not inputs:
        raise ValueError("golden I/O needs at least one sample")
    arrays: dict[str, NDArray[Any]] = {}
    expected: dict[str, list[NDArray[Any]]] = {}
    for index, sample in enumerate(inputs):
        arrays.update({f"inputs/{index}/{name}": np.asarray(value) for name, value in sample.items()})
        outputs = runner.infer(sample)
        for name, value in outputs.items():
            if not np.isfinite(value).all():
                raise StageFailed(
                    f"The engine's output '{name}' is NaN or infinite for golden sample {index}, so it must not be "
                    "shipped; use a variant with a wider range."
                )
            arrays[f"outputs/{index}/{name}"] = value
        for name, value in comparable(outputs, outputs)[1].items():
            expected.setdefault(name, []).append(value)
    arrays.update(
        {f"tolerance/{name}": np.array(tolerance(values, quantized=quantized)) for name, values in expected.items()}
    )
    return _npz(arrays)


def tolerance(expected: Sequence[NDArray[Any]], *, quantized: bool = False) -> float:
    """The greatest allowed absolute error of an output whose golden values these are.

    Values -1 and 1 (standard deviation 1) allow 0.05, quantized 0.15; the constant 8 allows 0.008.
    """
    values = np.concatenate([np.asarray(value, np.float64).ravel() for value in expected])
    share = _QUANTIZED_SHARE_OF_STD if quantized else _FLOAT_SHARE_OF_STD
    return max(share * float(values.std()), _SHARE_OF_MAX * float(np.abs(values).max()), _LEAST)


def golden_samples(data: bytes) -> list[tuple[Tensors, Tensors]]:
    """Inputs and expected outputs of every sample of the npz `data`. Raises BundleError when it is not golden I/O."""
    return list(_parse(data)[0])


def check_golden(runner: Runner, data: bytes, *, comparable: Comparable = as_they_are) -> SelfTest:
    """Run the golden inputs of the npz `data` and compare. Raises BundleError when the npz is not golden I/O."""
    samples, tolerances = _parse(data)
    worst = dict.fromkeys(tolerances, (-1.0, 0))
    for index, (inputs, expected) in enumerate(samples):
        outputs = runner.infer(inputs)
        if outputs.keys() != expected.keys():
            raise BundleError(
                f"The engine gives the outputs {sorted(outputs)}, the bundle's golden I/O expects {sorted(expected)}; "
                "build the bundle again."
            )
        comparably_shaped = all(outputs[name].shape == want.shape for name, want in expected.items())
        ours, theirs = comparable(outputs, expected) if comparably_shaped else ({}, {})
        if comparably_shaped and theirs.keys() != tolerances.keys():
            raise BundleError(_INCOMPLETE)
        for name in worst:
            error = _error(theirs[name], ours[name]) if comparably_shaped else float("inf")
            if not error <= worst[name][0]:
                worst[name] = (error, index)
    checks = tuple(OutputCheck(name, error, tolerances[name], index) for name, (error, index) in sorted(worst.items()))
    return SelfTest(len(samples), checks)


def _error(expected: NDArray[Any], value: NDArray[Any]) -> float:
    """The largest absolute difference; infinite when the shapes differ or a value is not finite."""
    if expected.shape != value.shape:
        return float("inf")
    difference = np.abs(expected.astype(np.float64) - value.astype(np.float64))
    return float(difference.max(initial=0.0)) if np.isfinite(difference).all() else float("inf")


def _npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """As np.savez, but undated on every NumPy and Python."""
    entries: list[tuple[str, bytes]] = []
    for name, array in arrays.items():
        data = io.BytesIO()
        np.lib.format.write_array(data, np.ascontiguousarray(array).reshape(np.shape(array)), allow_pickle=False)
        entries.append((f"{name}.npy", data.getvalue()))
    file = io.BytesIO()
    write_zip(file, entries)
    return file.getvalue()


def _parse(data: bytes) -> tuple[list[tuple[dict[str, Any], dict[str, Any]]], dict[str, float]]:
    try:
        if not zipfile.is_zipfile(io.BytesIO(data)):
            raise ValueError("not an npz")  # np.load would take a single npy
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, RuntimeError, MemoryError) as error:
        raise BundleError("The bundle's golden.npz is not a NumPy archive; build the bundle again.") from error
    inputs: dict[int, dict[str, Any]] = {}
    outputs: dict[int, dict[str, Any]] = {}
    tolerances: dict[str, float] = {}
    for key, array in arrays.items():
        kind, _, rest = key.partition("/")
        index, _, name = rest.partition("/")
        if kind == "tolerance" and array.shape == () and array.dtype == np.float64:
            tolerances[rest] = float(array)
        elif kind in ("inputs", "outputs") and index.isdecimal() and name:
            (inputs if kind == "inputs" else outputs).setdefault(int(index), {})[name] = array
        else:
            raise BundleError(f"The bundle's golden.npz holds the unknown entry '{key}'; build the bundle again.")
    complete = inputs and sorted(inputs) == sorted(outputs) == list(range(len(inputs)))
    if not complete or not tolerances or len({frozenset(values) for values in outputs.values()}) != 1:
        raise BundleError(_INCOMPLETE)
    return [(inputs[index], outputs[index]) for index in range(len(inputs))], tolerances
