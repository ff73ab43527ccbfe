import subprocess
import sys
import time

import numpy as np
import pytest

from edgeattn.stats import (
    interval_of,
    is_steady,
    mcnemar_exact,
    overlaps,
    paired_permutation,
    paired_proportion_interval,
    percentile,
    ratio_of_rounds,
    resampled,
    student_quantile,
    wilson_interval,
    within_limit,
)


def mean(scores):
    return float(scores.mean())


def bootstrap(scores, summarize, groups=None, **options):
    return interval_of(resampled(scores, summarize, groups=groups, **options), len(scores), groups)


def paired(scores_a, scores_b, summarize, **options):
    a, b = (resampled(scores, summarize, **options) for scores in (scores_a, scores_b))
    return interval_of(a - b, len(scores_a))


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([4, 1, 3, 2], 50, 2.5),
        ([4, 1, 3, 2], 90, 3.7),  # position 3 * 0.9 = 2.7 between 3 and 4
        ([1, 2, 3, 4], 0, 1.0),
        ([1, 2, 3, 4], 100, 4.0),
        ([7], 99, 7.0),
        (list(range(101)), 99, 99.0),
    ],
)
def test_percentile(values, percent, expected):
    assert percentile(values, percent) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # z^2 = 3.841459; (0.8 + 0.192073 -+ 1.959964 sqrt(0.016 + 0.0096036)) / 1.3841459
        (8, 10, 0.490162, 0.943318),
        (10, 10, 0.722467, 1.0),  # 1 / 1.3841459
        (0, 10, 0.0, 0.277533),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, "Two-sided confidence intervals for the single proportion"
    ],
)
def test_wilson(successes, n, low, high):
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_ends_are_exact():
    for n in range(1, 200):
        assert wilson_interval(0, n)[0] == 0.0
        assert wilson_interval(n, n)[1] == 1.0


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 4), (5, 4)])
def test_wilson_refuses(successes, n):
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(successes, n)


@pytest.mark.parametrize(
    ("only_a", "only_b", "expected"),
    [
        (1, 5, 2 * (1 + 6) / 64),
        (5, 1, 2 * (1 + 6) / 64),
        (0, 10, 2 / 1024),
        (3, 3, 1.0),
        (0, 0, 1.0),
        (0, 1, 1.0),
        (2, 10, 2 * (1 + 12 + 66) / 4096),
    ],
)
def test_mcnemar(only_a, only_b, expected):
    assert mcnemar_exact(only_a, only_b) == pytest.approx(expected, rel=1e-12)


def test_mcnemar_with_thousands_of_pairs():
    assert mcnemar_exact(2500, 2500) == 1.0
    assert mcnemar_exact(0, 5000) == 0.0
    # Normal approximation with continuity correction: z = (2600 - 2400 - 1) / sqrt(5000) = 2.814, p = 0.00489.
    assert mcnemar_exact(2400, 2600) == pytest.approx(0.00489, abs=2e-5)
    with pytest.raises(ValueError, match="negative"):
        mcnemar_exact(-1, 2)


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        ((36, 12, 2, 0), 0.0569, 0.3404),  # published, Newcombe 1998
        ((36, 2, 12, 0), -0.3404, -0.0569),  # A and B change places
        # All right: Wilson 0.722467 to 1 for both, phi undefined and so 0: -+ (1 - 0.722467).
        ((10, 0, 0, 0), -0.277533, 0.277533),
        # p = 0.9 of 1000: Wilson 0.879837 to 0.917096, so dl = 0.020163 and du = 0.017096;
        # phi = (900 * 100 - 500) / (900 * 100) = 0.994444; sqrt(dl^2 - 2 phi dl du + du^2) = 0.003633.
        ((900, 0, 0, 100), -0.003633, 0.003633),
    ],
)
def test_paired_proportions(counts, low, high):
    assert paired_proportion_interval(*counts) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("counts", [(1, 0, 0, 0), (0, 0, 0, 1), (500, 0, 0, 500), (0, 0, 0, 5000), (0, 3, 0, 0)])
def test_paired_proportions_never_collapse_nor_leave_the_range(counts):
    low, high = paired_proportion_interval(*counts)
    assert -1 <= low < high <= 1
    assert low <= (counts[1] - counts[2]) / sum(counts) <= high


@pytest.mark.parametrize("counts", [(0, 0, 0, 0), (5, -1, 0, 0)])
def test_paired_proportions_refuse(counts):
    with pytest.raises(ValueError, match="four counts"):
        paired_proportion_interval(*counts)


def test_bootstrap_of_two_rows():
    assert bootstrap(np.array([[0.0], [1.0]]), mean, seed=0) == (0.0, 1.0)
    assert bootstrap(np.full((5, 1), 3.0), mean, seed=0) == (3.0, 3.0)


def test_bootstrap_of_a_mean_meets_the_normal_approximation():
    # 0 and 1 half and half: standard error sqrt(0.25 / 400) = 0.025, interval 0.451 to 0.549.
    scores = np.repeat([[0.0], [1.0]], 200, axis=0)
    assert bootstrap(scores, mean, seed=1) == pytest.approx((0.451, 0.549), abs=0.005)


def test_bootstrap_keeps_rows_together():
    # The second column is twice the first: their ratio is 2 in every resample, unless columns were drawn apart.
    column = np.arange(1.0, 21.0)
    scores = np.stack((column, 2 * column), axis=1)
    assert bootstrap(scores, lambda s: float(s[:, 1].sum() / s[:, 0].sum()), seed=0) == (2.0, 2.0)


def test_bootstrap_is_seeded():
    scores = np.random.default_rng(0).random((50, 1))
    assert bootstrap(scores, mean, seed=3) == bootstrap(scores, mean, seed=3)
    assert bootstrap(scores, mean, seed=3) != bootstrap(scores, mean, seed=4)


def test_bootstrap_without_a_summary_is_nan():
    def first_or_nan(scores):
        return float("nan") if scores.min() == scores.max() else 1.0

    assert all(np.isnan(v) for v in bootstrap(np.array([[0.0], [1.0]]), first_or_nan, seed=0))
    a, b = np.array([[0.0], [1.0]]), np.zeros((2, 1))
    assert np.isnan([*paired(a, b, first_or_nan, seed=0)]).all()
    assert np.isnan(paired_permutation(a, b, first_or_nan, seed=0))


def test_bootstrap_refuses_nothing():
    with pytest.raises(ValueError, match="at least one"):
        bootstrap(np.zeros((0, 1)), mean, seed=0)


@pytest.mark.serial
def test_bootstrap_is_quick_enough():
    scores = np.random.default_rng(0).random((5000, 1))
    started = time.process_time()
    bootstrap(scores, mean, seed=0)
    assert time.process_time() - started < 1.0


def test_bootstrap_of_few_rows_is_wide_enough():
    """How often 95 % intervals of a mean hold the truth: the plain percentiles do so in 80 of 100 cases with 4 rows."""
    random = np.random.default_rng(0)

    def covered(rows, width):
        held = 0
        for seed in range(300):
            scores = random.normal(0, 1, (rows, 1))
            low, high = width(scores, seed)
            held += low <= 0 <= high
        return held / 300

    def ours(scores, seed):
        return bootstrap(scores, mean, seed=seed, resamples=500)

    assert covered(6, ours) > 0.92
    assert covered(12, ours) > 0.92


def test_bootstrap_of_one_row_is_that_row():
    assert bootstrap(np.array([[3.0]]), mean, seed=0) == (3.0, 3.0)


def test_bootstrap_resamples_groups_whole():
    # Four groups of 25 equal rows know no more than four rows do.
    rows = np.array([[1.0], [2.0], [4.0], [7.0]])
    groups = np.repeat(["a", "b", "c", "d"], 25)
    grouped = bootstrap(np.repeat(rows, 25, axis=0), mean, seed=0, groups=groups)
    assert grouped == bootstrap(rows, mean, seed=0)
    apart = bootstrap(np.repeat(rows, 25, axis=0), mean, seed=0)
    assert apart[1] - apart[0] < 0.5 * (grouped[1] - grouped[0])


def test_groups_must_be_as_many_as_rows():
    with pytest.raises(ValueError, match="every row has a group, got 2 groups for 3 rows"):
        bootstrap(np.zeros((3, 1)), mean, seed=0, groups=[1, 2])


@pytest.mark.parametrize(("degrees", "exact"), [(2, 4.3027), (3, 3.1824), (5, 2.5706), (11, 2.2010), (1000, 1.9623)])
def test_student_quantile(degrees, exact):
    assert student_quantile(degrees) == pytest.approx(exact, rel=0.01)
    with pytest.raises(ValueError, match="at least one"):
        student_quantile(0)


def test_paired_bootstrap_worked_numbers():
    b = np.arange(10.0)[:, None]
    assert paired(b + 1, b, mean, seed=0) == pytest.approx((1.0, 1.0))
    assert paired(b, b, mean, seed=0) == (0.0, 0.0)


def test_paired_bootstrap_uses_the_pairing():
    random = np.random.default_rng(0)
    b = random.normal(0, 10, (200, 1))  # the mean of one side alone is uncertain by 0.7
    a = b - 0.1 + random.normal(0, 0.1, (200, 1))
    low, high = paired(a, b, mean, seed=0)
    assert -0.13 < low < -0.1 < high < -0.07
    assert paired_permutation(a, b, mean, seed=0) < 0.01


def test_no_difference_is_seen_in_noise():
    # Differences +1 and -1 half and half: standard error 0.1, interval -+ 0.196.
    b = np.zeros((100, 1))
    a = np.tile([[1.0], [-1.0]], (50, 1))
    assert paired(a, b, mean, seed=0) == pytest.approx((-0.196, 0.196), abs=0.025)
    assert paired_permutation(a, b, mean, seed=0) > 0.9


def test_exchanges_are_counted_exactly_where_they_are_few():
    b = np.arange(6.0)[:, None]
    assert paired_permutation(b - 0.1, b, mean, seed=0) == 2 / 64  # all six lose: only none and all exchanged do so
    # Differences -1, 2, 3, sum 4: of the 8 sums of +-1, +-2, +-3 just 6, 4 and their negatives reach as far.
    assert paired_permutation(np.array([[-1.0], [2.0], [3.0]]), np.zeros((3, 1)), mean, seed=0) == 4 / 8
    assert paired_permutation(b, b, mean, seed=0) == 1.0


def test_exchanges_are_drawn_where_they_are_many():
    b = np.arange(20.0)[:, None]
    assert paired_permutation(b + 1, b, mean, seed=0) == 1 / 2001
    assert paired_permutation(b, b, mean, seed=0) == 1.0


def test_groups_are_exchanged_whole():
    b = np.zeros((100, 1))
    assert paired_permutation(b - 1, b, mean, seed=0, groups=np.arange(100) % 3) == 2 / 8


def test_other_samples_cannot_be_paired():
    with pytest.raises(ValueError, match="one shape"):
        paired_permutation(np.zeros((3, 1)), np.zeros((4, 1)), mean, seed=0)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 2, 6], [2, 2, 2], 1.0),  # ratios 0.5, 1, 3
        ([1, 4], [2, 2], 1.0),  # 0.5 and 2 balance
        ([3], [2], 1.5),
    ],
)
def test_ratio(a, b, expected):
    ratio, (low, high) = ratio_of_rounds(a, b, seed=0)
    assert ratio == pytest.approx(expected)
    assert low <= ratio <= high
    assert ratio_of_rounds(b, a, seed=0)[0] == pytest.approx(1 / expected)


def test_ratio_is_not_disturbed_by_rounds_that_slow_down_both():
    b = np.array([1.0, 1.1, 5.0, 1.0, 40.0, 2.0, 1.0, 1.2])
    ratio, interval = ratio_of_rounds(0.5 * b, b, seed=0)
    assert (ratio, interval) == (pytest.approx(0.5), pytest.approx((0.5, 0.5)))


def test_ratio_interval_holds_one_when_equal_and_excludes_it_when_not():
    random = np.random.default_rng(5)
    a, b = random.normal(10, 0.3, (2, 40))
    assert overlaps(ratio_of_rounds(a, b, seed=0)[1], (1.0, 1.0))
    assert not overlaps(ratio_of_rounds(0.8 * a, b, seed=0)[1], (1.0, 1.0))


@pytest.mark.parametrize(("a", "b"), [([], []), ([1, 2], [1]), ([0, 1], [1, 1])])
def test_ratio_refuses(a, b):
    with pytest.raises(ValueError, match="one positive duration"):
        ratio_of_rounds(a, b, seed=0)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((1, 2), (2, 3), True),
        ((1, 2), (2.1, 3), False),
        ((2.1, 3), (1, 2), False),
        ((1, 4), (2, 3), True),
        ((2, 3), (1, 4), True),
    ],
)
def test_overlaps(first, second, expected):
    assert overlaps(first, second) is expected


@pytest.mark.parametrize(
    ("durations", "expected"),
    [
        ([9, 9, 4, 4], False),
        ([4, 4, 4.1, 4.1], True),
        ([4.1, 4.1, 4, 4], True),
        ([4, 4, 4.3, 4.3], False),
        ([4, 4, 4], False),  # too few to say
        ([99, 99, 4, 4, 4, 4], True),  # only the last two windows count
        ([], False),
    ],
)
def test_is_steady(durations, expected):
    assert is_steady(durations, window=2, tolerance=0.05) is expected


def test_stats_needs_numpy_only():
    code = "import sys, edgeattn.stats; print(sorted({'scipy', 'torch', 'cv2', 'sklearn'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("value", "limit", "most", "least"),
    [
        (0.2, 0.2, True, True),
        (98.55 - 98.35, 0.2, True, True),  # 0.20000000000000284
        (98.35 - 98.15, 0.2, True, True),  # 0.19999999999998863
        (0.2 + 2e-9, 0.2, False, True),
        (0.2 - 2e-9, 0.2, True, False),
        (1e6 + 5e-4, 1e6, True, True),  # a billionth of a million is 0.001
        (1e6 + 2e-3, 1e6, False, True),
        (-30.0, -30.0 - 1e-8, True, True),
        (-30.0, -31.0, False, True),
        (float("inf"), 200.0, False, True),
        (float("nan"), 0.2, False, False),
    ],
)
def test_within_limit(value, limit, most, least):
    assert within_limit(value, limit) is most
    assert within_limit(value, limit, least=True) is least
