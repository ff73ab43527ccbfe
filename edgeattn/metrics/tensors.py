"""How far tensors have drifted from a reference: SQNR, cosine, largest difference, all in float64.

`Sums` adds up sample by sample, so that a whole evaluation set is compared as one long tensor without being
held as one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sums:
    """Sums over all elements: `signal` r^2, `energy` v^2, `product` r v, `noise` (r - v)^2; and the largest |r - v|."""

    signal: float = 0.0
    energy: float = 0.0
    product: float = 0.0
    noise: float = 0.0
    max_abs: float = 0.0

    @classmethod
    def of(cls, reference: NDArray[Any], value: NDArray[Any]) -> Sums:
        """The sums of one pair of tensors. Raises ValueError when their shapes differ."""
        if reference.shape != value.shape:
            raise ValueError(f"tensors of one shape are compared, got {reference.shape} and {value.shape}")
        r, v = reference.astype(np.float64).ravel(), value.astype(np.float64).ravel()
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is told by the figures
            error = r - v
            return cls(
                float(r @ r), float(v @ v), float(r @ v), float(error @ error), float(np.abs(error).max(initial=0.0))
            )

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.signal + other.signal,
            self.energy + other.energy,
            self.product + other.product,
            self.noise + other.noise,
            float(np.maximum(self.max_abs, other.max_abs)),  # the built-in max would lose a NaN
        )

    @property
    def sqnr_db(self) -> float:
        if math.isnan(self.signal) or math.isnan(self.noise):
            return math.nan
        if self.noise == 0.0:
            return math.inf
        if self.signal == 0.0 or self.noise == math.inf:
            return -math.inf
        return 10.0 * (math.log10(self.signal) - math.log10(self.noise))  # a quotient could leave a double's range

    @property
    def cosine(self) -> float:
        lengths = math.sqrt(self.signal) * math.sqrt(self.energy)
        if not math.isfinite(lengths):
            return math.nan
        # Rounding may carry the quotient a hair past 1.
        return max(-1.0, min(1.0, self.product / lengths)) if lengths else math.nan


def sums_by_name(pairs: Iterable[tuple[Mapping[str, NDArray[Any]], Mapping[str, NDArray[Any]]]]) -> dict[str, Sums]:
    """Sums over (values, references) of many samples, by the name of the tensor."""
    sums: dict[str, Sums] = {}
    for values, references in pairs:
        for name, value in values.items():
            sums[name] = sums.get(name, Sums()) + Sums.of(references[name], value)
    return sums


def sqnr_db(reference: NDArray[Any], value: NDArray[Any]) -> float:
    """Signal to quantization noise: `10 log10(sum r^2 / sum (r - v)^2)` in dB; infinite when equal.

    An error of a tenth of the signal everywhere is 20 dB, a hundredth 40 dB. Against an all-zero reference, or
    with infinite noise: -infinity. NaN where either holds NaN.
    """
    return Sums.of(reference, value).sqnr_db


def cosine(reference: NDArray[Any], value: NDArray[Any]) -> float:
    """Cosine of the angle between the flattened tensors, -1..1; NaN when one is all zero or not finite.

    (3, 4) and (4, 3): 0.96.
    """
    return Sums.of(reference, value).cosine


def max_abs(reference: NDArray[Any], value: NDArray[Any]) -> float:
    """The largest absolute difference of two elements; 0 for empty tensors, NaN where one holds it.

    (1, 2) and (1.5, -1): 3.
    """
    return Sums.of(reference, value).max_abs
