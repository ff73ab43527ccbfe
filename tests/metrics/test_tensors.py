import math

import numpy as np
import pytest

from edgeattn.metrics.tensors import Sums, cosine, max_abs, sqnr_db, sums_by_name

A = np.array([3.0, 4.0], np.float32)


@pytest.mark.parametrize(
    ("reference", "value", "expected"),
    [
        ([10, 10], [11, 9], 20.0),  # 200 / 2 = 100
        ([10, 10], [10.1, 9.9], 40.0),
        ([3, 4], [0, 0], 0.0),  # all signal lost: 25 / 25
        ([3, 4], [3, 4], math.inf),
        ([0, 0], [0, 1], -math.inf),
        ([0, 0], [0, 0], math.inf),
        ([1, 2], [1, math.inf], -math.inf),
        ([1, 2], [1, -math.inf], -math.inf),
        ([1, 2], [1, math.nan], math.nan),
        ([1, math.nan], [1, 2], math.nan),
        ([math.inf, 1], [math.inf, 1], math.nan),
        ([1e-160, 0], [1e150, 0], -6200.0),  # the quotient itself is below what a double holds
    ],
)
def test_sqnr(reference, value, expected):
    assert sqnr_db(np.array(reference, np.float64), np.array(value, np.float64)) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([4, 3], 0.96),
        ([6, 8], 1.0),
        ([-3, -4], -1.0),
        ([4, -3], 0.0),
        ([0, 0], math.nan),
        ([4, math.nan], math.nan),
        ([4, math.inf], math.nan),
    ],
)
def test_cosine(value, expected):
    assert cosine(A, np.array(value, np.float32)) == pytest.approx(expected, nan_ok=True)


def test_what_is_not_finite_stays_so_in_sums_of_parts():
    overflowed = Sums.of(np.ones(1), np.full(1, math.inf))
    undefined = Sums.of(np.ones(1), np.full(1, math.nan))
    equal = Sums.of(np.ones(1), np.ones(1))
    assert (equal + overflowed).sqnr_db == -math.inf
    assert (equal + overflowed).max_abs == math.inf
    for total in (equal + undefined, undefined + equal):
        assert math.isnan(total.sqnr_db)
        assert math.isnan(total.cosine)
        assert math.isnan(total.max_abs)


def test_max_abs():
    assert max_abs(np.array([1.0, 2.0]), np.array([1.5, -1.0])) == 3.0
    assert max_abs(np.zeros(0), np.zeros(0)) == 0.0


def test_unsigned_integers_do_not_wrap():
    assert max_abs(np.array([0], np.uint8), np.array([255], np.uint8)) == 255.0
    assert sqnr_db(np.array([200], np.uint8), np.array([220], np.uint8)) == pytest.approx(20.0)


def test_half_precision_is_summed_in_double():
    # 300^2 does not fit float16.
    assert cosine(np.full(4, 300, np.float16), np.full(4, 300, np.float16)) == pytest.approx(1.0)


def test_sums_of_parts_are_those_of_the_whole():
    random = np.random.default_rng(0)
    reference, value = random.normal(size=(2, 6, 5)).astype(np.float32)
    parts = sum((Sums.of(r, v) for r, v in zip(reference, value, strict=True)), Sums())
    assert parts.sqnr_db == pytest.approx(sqnr_db(reference, value))
    assert parts.cosine == pytest.approx(cosine(reference, value))
    assert parts.max_abs == max_abs(reference, value)


def test_sums_of_samples_are_kept_by_name():
    """a: signal 1 + 4 + 4, noise 1 + 0 + 1; b: signal 100, noise 1. Values stand before references."""
    first = ({"a": np.array([2.0, 2.0]), "b": np.array([9.0])}, {"a": np.array([1.0, 2.0]), "b": np.array([10.0])})
    second = ({"a": np.array([1.0])}, {"a": np.array([2.0])})
    found = sums_by_name(iter([first, second]))
    assert list(found) == ["a", "b"]
    assert found["a"].sqnr_db == pytest.approx(10 * math.log10(9 / 2))
    assert found["b"].sqnr_db == pytest.approx(20.0)
    assert sums_by_name([]) == {}


def test_shapes_must_match():
    with pytest.raises(ValueError, match=r"\(2,\) and \(1, 2\)"):
        sqnr_db(A, A[None])
