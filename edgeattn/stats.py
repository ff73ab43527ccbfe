"""Statistics as pure functions: percentiles, intervals, paired tests. NumPy only; every random draw is seeded.

All intervals are 95 % and two-sided. "A" is the thing measured, "B" what it is compared with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
Floats = NDArray[np.float64]

Z95 = NormalDist().inv_cdf(0.975)  # 1.959964
_RESAMPLES = 2000


def percentile(values: Sequence[float] | Floats, percent: float) -> float:
    """The value below which `percent` of the `values` lie, interpolated linearly between neighbours.

    The sorted values x0..x(n-1) stand at 0..n-1; the position asked for is (n - 1) percent / 100 (definition 7 of
    Hyndman & Fan, "Sample quantiles in statistical packages", 1996). p90 of 1, 2, 3, 4: position 2.7, hence 3.7.
    """
    return float(np.percentile(np.asarray(values, np.float64), percent))


def wilson_interval(successes: float, n: int) -> Interval:
    """Interval for a proportion: Wilson, "Probable inference", JASA 22 (1927).

    `(p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)`, which stays inside 0..1 and has a width even when all
    or none succeed. 8 of 10: 0.4902 to 0.9433. 10 of 10: 0.7225 to 1. Raises ValueError unless 0 <= successes <= n > 0.
    """
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"successes out of a positive number of trials are needed, got {successes} of {n}")
    p, z2 = successes / n, Z95**2
    centre = p + z2 / (2 * n)
    half = Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    low, high = (centre - half) / (1 + z2 / n), (centre + half) / (1 + z2 / n)
    # At the ends the formula gives exactly 0 and 1, float rounding nearly so.
    return (0.0 if successes == 0 else low), (1.0 if successes == n else high)


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Two-sided p-value that A and B are right equally often, from the pairs where just one of them is.

    Were they equal, each such pair would fall to either side like a coin: `p = min(1, 2 P(X <= min(only_a, only_b)))`
    with X binomial(only_a + only_b, 1/2), summed exactly (McNemar 1947 in the exact form). 1 against 5:
    2 (1 + 6) / 64 = 0.21875. No such pair: 1.
    """
    if only_a < 0 or only_b < 0:
        raise ValueError(f"counts cannot be negative, got {only_a} and {only_b}")
    n = only_a + only_b
    term = tail = 1
    for k in range(1, min(only_a, only_b) + 1):
        term = term * (n - k + 1) // k
        tail += term
    # Whole numbers of any length; Python divides them with correct rounding.
    return min(1.0, 2 * tail / (1 << n))


def paired_proportion_interval(both: int, only_a: int, only_b: int, neither: int) -> Interval:
    """Interval for `p_A - p_B` when A and B were tried on the same samples.

    Method 10 of Newcombe, "Improved confidence intervals for the difference between binomial proportions based on
    paired data", Statistics in Medicine 17 (1998): the Wilson limits (l, u) of the two proportions combined as
    `d - sqrt(dl_A^2 - 2 phi dl_A du_B + du_B^2)` to `d + sqrt(du_A^2 - 2 phi du_A dl_B + dl_B^2)`, with dl = p - l,
    du = u - p and phi the correlation of A and B, less a continuity correction. His example 36, 12, 2, 0: d = 0.2,
    interval 0.0569 to 0.3404.

    It keeps a width when no pair disagrees (900, 0, 0, 100: -0.0036 to 0.0036). The simpler Agresti & Min (2005) does
    too, but when one side alone loses two samples in a thousand its interval holds the truth 87 times in 100, by our
    own simulation, and that is the very case of a slightly broken model; method 10 did so 95 times or more throughout.
    """
    n = both + only_a + only_b + neither
    if min(both, only_a, only_b, neither) < 0 or n == 0:
        raise ValueError(f"four counts with at least one sample are needed, got {(both, only_a, only_b, neither)}")
    right_a, right_b = both + only_a, both + only_b
    p_a, p_b = right_a / n, right_b / n
    (low_a, high_a), (low_b, high_b) = wilson_interval(right_a, n), wilson_interval(right_b, n)
    covariance = float(both * neither - only_a * only_b)
    if covariance > 0:
        covariance = max(covariance - n / 2, 0.0)
    margins = right_a * (n - right_a) * right_b * (n - right_b)
    phi = covariance / math.sqrt(margins) if margins else 0.0
    difference = (only_a - only_b) / n

    def combined(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))

    low = difference - combined(p_a - low_a, high_b - p_b)
    high = difference + combined(high_a - p_a, p_b - low_b)
    return max(-1.0, low), min(1.0, high)


def bootstrap_interval(
    scores: Floats, summarize: Callable[[Floats], float], *, seed: int, resamples: int = _RESAMPLES
) -> Interval:
    """Interval for `summarize(scores)`; `scores` is `(N, K)`, one row per sample, and rows are what is resampled.

    The 2.5th and 97.5th percentile of the summaries of `resamples` draws of N rows with replacement (Efron &
    Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13). `summarize` is called once per resample (a mean
    of 5000 scores 2000 times: 0.05 s). NaN when a resample has no summary. Of the scores 0 and 1 the resampled means
    are 0, 1/2 and 1 with chances 1/4, 1/2 and 1/4: 0 to 1.
    """
    summaries = [summarize(scores[rows]) for rows in _resampled_rows(len(scores), seed, resamples)]
    return _middle(np.array(summaries))


def paired_bootstrap(
    scores_a: Floats,
    scores_b: Floats,
    summarize: Callable[[Floats], float],
    *,
    seed: int,
    resamples: int = _RESAMPLES,
) -> tuple[Interval, float]:
    """Interval and two-sided p-value for `summarize(scores_a) - summarize(scores_b)`, rows being the same samples.

    Each resample draws the same rows from both `(N, K)` arrays (Efron & Tibshirani 1993, chapters 13 and 16). With L
    and G the resampled differences <= 0 and >= 0 among R, `p = min(1, 2 (min(L, G) + 1) / (R + 1))`: the level at which
    the percentile interval would just touch 0; the 1 keeps it from being 0 (Davison & Hinkley 1997, section 4.2).
    Scores that differ by 1 in every row, R = 2000: interval 1 to 1, p = 2/2001. Equal scores: 0 to 0, p = 1.
    NaN when a resample has no summary.
    """
    if scores_a.shape != scores_b.shape:
        raise ValueError(f"paired scores have one shape, got {scores_a.shape} and {scores_b.shape}")
    differences = np.array(
        [
            summarize(scores_a[rows]) - summarize(scores_b[rows])
            for rows in _resampled_rows(len(scores_a), seed, resamples)
        ]
    )
    if np.isnan(differences).any():
        return (math.nan, math.nan), math.nan
    smaller = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return _middle(differences), min(1.0, 2 * (smaller + 1) / (resamples + 1))


def ratio_of_rounds(
    rounds_a: Sequence[float] | Floats, rounds_b: Sequence[float] | Floats, *, seed: int, resamples: int = _RESAMPLES
) -> tuple[float, Interval]:
    """How long A takes as a multiple of B, from one typical (median) duration of each per round; with its interval.

    `exp(median over rounds of ln(a_r / b_r))`. Within a round both met the same machine, so what slows a round down
    (heat, neighbours) divides out, which it does not in a ratio of overall medians; the logarithm makes A to B the
    inverse of B to A. The interval is a percentile bootstrap over rounds: calls within a round resemble each other,
    so that resampling single calls would claim more than is known.
    a = 1, 2, 6 and b = 2, 2, 2: ratios 0.5, 1, 3, hence 1. a = 1, 4 and b = 2, 2: 0.5 and 2, hence 1.
    """
    a, b = np.asarray(rounds_a, np.float64), np.asarray(rounds_b, np.float64)
    if a.shape != b.shape or a.ndim != 1 or not a.size or min(a.min(), b.min()) <= 0:
        raise ValueError(f"one positive duration per round and side is needed, got shapes {a.shape} and {b.shape}")
    logs = np.log(a / b)
    drawn = np.random.default_rng(seed).integers(0, logs.size, (resamples, logs.size))
    low, high = _middle(np.median(logs[drawn], axis=1))
    return math.exp(np.median(logs)), (math.exp(low), math.exp(high))


def overlaps(first: Interval, second: Interval) -> bool:
    """Whether two intervals share a point. (1, 2) and (2, 3) do; (1, 2) and (2.1, 3) do not."""
    return first[0] <= second[1] and second[0] <= first[1]


def within_limit(value: float, limit: float, *, least: bool = False) -> bool:
    """Whether `value` is at most `limit` (at least with `least`), a value on the limit counting as within.

    Rounding puts a difference of percentages beside the limit it stands on: 98.55 - 98.35 is 0.20000000000000284. The
    limit is therefore wider by 1e-9, above 1 by 1e-9 of itself; one sample in a hundred million is 1e-6 %.
    """
    slack = 1e-9 * max(1.0, abs(limit))
    return value >= limit - slack if least else value <= limit + slack


def is_steady(durations: Sequence[float], *, window: int = 10, tolerance: float = 0.05) -> bool:
    """Whether a warm-up is over: the median of the last `window` is within `tolerance` of that of the `window` before.

    False while there are fewer than two windows. window 2, tolerance 0.05: 9, 9, 4, 4 is not; 4, 4, 4.1, 4.1 is
    (2.5 %).
    """
    if len(durations) < 2 * window:
        return False
    last = float(np.median(durations[-window:]))
    before = float(np.median(durations[-2 * window : -window]))
    return abs(last - before) <= tolerance * before


def _resampled_rows(n: int, seed: int, resamples: int) -> Iterator[NDArray[np.int64]]:
    if n == 0:
        raise ValueError("at least one row is needed to resample")
    random = np.random.default_rng(seed)
    return (random.integers(0, n, n) for _ in range(resamples))


def _middle(summaries: Floats) -> Interval:
    low, high = np.percentile(summaries, (2.5, 97.5))
    return float(low), float(high)
