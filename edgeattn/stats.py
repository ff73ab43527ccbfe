"""Statistics as pure functions: percentiles, intervals, paired tests. NumPy only; every random draw is seeded.

All intervals are 95 % and two-sided. "A" is the thing measured, "B" what it is compared with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
Floats = NDArray[np.float64]

Groups = Sequence[int] | Sequence[str] | NDArray[Any]
"""Of every row the group it belongs to; rows of one group are not independent of each other."""

Z95 = NormalDist().inv_cdf(0.975)  # 1.959964
_RESAMPLES = 2000
_EXACT_EXCHANGES = 2**11


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


def student_quantile(degrees: int) -> float:
    """The 97.5 % point of Student's t distribution with `degrees` >= 1 of freedom.

    The expansion in 1 / degrees of Abramowitz & Stegun, "Handbook of Mathematical Functions", 26.7.5: 2.2010 for 11
    (exact 2.2010), 3.179 for 3 (exact 3.182). With 1 it is 11.3 where 12.7 is exact, beyond what resampling can tell.
    """
    if degrees < 1:
        raise ValueError(f"at least one degree of freedom is needed, got {degrees}")
    z = Z95
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(z + sum(term / degrees**power for power, term in enumerate(terms, start=1)))


def resampled(
    scores: Floats,
    summarize: Callable[[Floats], float],
    *,
    seed: int,
    groups: Groups | None = None,
    resamples: int = _RESAMPLES,
) -> Floats:
    """`summarize` of each of `resamples` draws with replacement from `scores` `(N, K)`, one row per sample:
    `(resamples,)`.

    Drawn are rows or, with `groups`, all rows of a group together: samples cut from one photograph resemble each other,
    and taking each for news would claim more than is known (Davison & Hinkley, "Bootstrap Methods and their
    Application", 1997, section 3.8). `summarize` is called once per draw (a mean of 5000 scores 2000 times: 0.05 s).
    Of the scores 0 and 1 the means are 0, 1/2 and 1 with chances 1/4, 1/2 and 1/4.

    With the same N, seed, groups and number the draws are the same rows, so that those of A minus those of B are a
    paired bootstrap of the difference, for which neither has to be summarized again.
    """
    return np.array([summarize(scores[rows]) for rows in _resampled_rows(len(scores), groups, seed, resamples)])


def interval_of(summaries: Floats, n: int, groups: Groups | None = None) -> Interval:
    """The middle of what `resampled` gave for `n` rows, or of A's draws minus B's.

    Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13. With G rows or groups the middle reaches
    from `Phi(-t)` to `Phi(t)`, `t = sqrt(G / (G - 1)) t_0.975(G - 1)`: the plain 2.5th and 97.5th percentile are too
    narrow where G is small (Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 69,
    2015, on expanded percentiles). One row alone has no spread. NaN when a draw has no summary. Of the scores 0 and 1:
    0 to 1. Of the differences of scores that differ by 1 in every row: 1 to 1.
    """
    count = _count(n, groups)
    if count < 2:
        return _middle(summaries)
    tail = NormalDist().cdf(-math.sqrt(count / (count - 1)) * student_quantile(count - 1))
    low, high = np.percentile(summaries, (100 * tail, 100 * (1 - tail)))
    return float(low), float(high)


def paired_permutation(
    scores_a: Floats,
    scores_b: Floats,
    summarize: Callable[[Floats], float],
    *,
    seed: int,
    groups: Groups | None = None,
    resamples: int = _RESAMPLES,
) -> float:
    """Two-sided p-value that A and B are alike: how often exchanging both sides' rows differs as much as is seen.

    Were they alike, each sample's two rows (with `groups`, all of a group's) could as well be the other way round. Up
    to 2^11 exchanges are tried one and all, which is exact; of more, `resamples` drawn ones, `p = (hits + 1) /
    (resamples + 1)` (Davison & Hinkley 1997, sections 4.3 and 4.2). Six samples that all lose: 2 of 64 exchanges differ
    as much, p = 0.03125, the least that six samples can show. Equal scores: 1. NaN when an exchange has no summary.
    """
    _check_paired(scores_a, scores_b)
    count = _count(len(scores_a), groups)
    group_of = np.arange(count) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    exact = 2**count <= _EXACT_EXCHANGES
    exchanges = _every_exchange(count) if exact else np.random.default_rng(seed).random((resamples, count)) < 0.5
    # What differs as much but for float rounding counts as much.
    seen = abs(summarize(scores_a) - summarize(scores_b))
    slack = 1e-9 * max(1.0, seen)
    hits = 0
    for exchange in exchanges:
        swapped = exchange[group_of][:, None]
        difference = summarize(np.where(swapped, scores_b, scores_a)) - summarize(np.where(swapped, scores_a, scores_b))
        if math.isnan(difference):
            return math.nan
        hits += abs(difference) >= seen - slack
    return hits / len(exchanges) if exact else (hits + 1) / (resamples + 1)


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


def _check_paired(scores_a: Floats, scores_b: Floats) -> None:
    if scores_a.shape != scores_b.shape:
        raise ValueError(f"paired scores have one shape, got {scores_a.shape} and {scores_b.shape}")


def _count(n: int, groups: Groups | None) -> int:
    """How many independent things there are: rows, or groups of rows."""
    if groups is not None and len(groups) != n:
        raise ValueError(f"every row has a group, got {len(groups)} groups for {n} rows")
    return n if groups is None else len(np.unique(np.asarray(groups)))


def _resampled_rows(n: int, groups: Groups | None, seed: int, resamples: int) -> Iterator[NDArray[np.intp]]:
    if n == 0:
        raise ValueError("at least one row is needed to resample")
    random = np.random.default_rng(seed)
    count = _count(n, groups)
    if groups is None:
        return (random.integers(0, n, n) for _ in range(resamples))
    members = [np.flatnonzero(np.asarray(groups) == group) for group in np.unique(np.asarray(groups))]
    return (np.concatenate([members[i] for i in random.integers(0, count, count)]) for _ in range(resamples))


def _every_exchange(count: int) -> NDArray[np.bool_]:
    """`(2 ** count, count)`: every way of exchanging some of `count` pairs."""
    return (np.arange(2**count)[:, None] >> np.arange(count) & 1).astype(bool)


def _middle(summaries: Floats) -> Interval:
    low, high = np.percentile(summaries, (2.5, 97.5))
    return float(low), float(high)
