from __future__ import annotations

from itertools import permutations

import pytest

from edgeattn.measure.select import Candidate, Limits, misses, select


def candidate(variant, ratio=1.0, spread=0.02, parent=None, **changes):
    """`parent`: (variant, ratio, low, high) from the same rounds."""
    values = {
        "metric_delta": 0.0,
        "higher_is_better": True,
        "sqnr_db": 50.0,
        "p99_ms": 5.0,
        "size_mb": 2.0,
        "ratio": ratio,
        "ratio_ci95": None if ratio is None else (ratio - spread, ratio + spread),
        "parent": parent and {"variant": parent[0], "ratio": parent[1], "ratio_ci95": (parent[2], parent[3])},
    }
    return Candidate(variant, **{**values, **changes})


FP32 = candidate("fp32")
BF16 = candidate("bf16", 0.6, parent=("fp32", 0.6, 0.58, 0.62))
INT8 = candidate("int8", 0.4, parent=("bf16", 0.67, 0.64, 0.70))
SLOW = candidate("int8", 0.59, parent=("bf16", 0.99, 0.96, 1.02))


@pytest.mark.parametrize(
    ("engines", "limits", "chosen", "said"),
    [
        (
            [FP32, BF16, INT8],
            {},
            "int8",
            ["bf16 is faster than fp32", "int8 is faster than bf16 (latency ratio 0.67, 95 % 0.64 to 0.70)"],
        ),
        ([FP32, BF16, SLOW], {}, "bf16", ["int8 is not worth it against bf16 (latency ratio 0.99, 95 % 0.96 to 1.02)"]),
        ([FP32], {}, "fp32", ["fp32 is the fastest engine inside the budget"]),
        # an interval that reaches 1 exactly is no proof
        ([FP32, candidate("bf16", 0.9, parent=("fp32", 0.9, 0.8, 1.0))], {}, "fp32", ["not worth it"]),
        # a slower one, clearly so
        ([FP32, candidate("bf16", 1.4, parent=("fp32", 1.4, 1.3, 1.5))], {}, "fp32", ["not worth it"]),
        # the fastest breaks the budget: the one before it ships
        (
            [FP32, BF16, candidate("int8", 0.3, metric_delta=-0.6)],
            {"metric_drop_max": 0.5},
            "bf16",
            ["int8 loses 0.6 of the metric, at most 0.5 allowed"],
        ),
        # the most precise ones break it: the last one is all there is
        (
            [candidate("fp32", p99_ms=9.0), candidate("bf16", 0.6, p99_ms=6.0), INT8],
            {"latency_p99_ms_max": 5.5},
            "int8",
            ["fp32 takes 9 ms at p99, at most 5.5 allowed", "bf16 takes 6 ms"],
        ),
        # nobody fits
        (
            [FP32, INT8],
            {"size_mb_max": 1.0},
            None,
            ["fp32 is 2 MB large, at most 1 allowed", "int8 is 2 MB large", "No engine is inside the budget"],
        ),
        ([], {}, None, ["No engine is inside the budget"]),
        # its parent is not the one chosen: both ratios to the reference, whose intervals must not touch
        (
            [FP32, candidate("bf16", 0.9, sqnr_db=10.0), candidate("int8", 0.8, parent=("bf16", 0.9, 0.85, 0.95))],
            {"sqnr_db_min": 30},
            "int8",
            ["bf16 keeps 10 dB SQNR, at least 30 asked", "int8 is faster than fp32 (0.800 against 1.000"],
        ),
        (
            [FP32, candidate("int8", 0.97)],
            {},
            "fp32",
            ["int8 is not worth it against fp32 (0.970 against 1.000 of the reference's latency)"],
        ),
        ([FP32, candidate("int8", 1.5)], {}, "fp32", ["not worth it"]),
        # no latency at all
        (
            [FP32, candidate("int8", None)],
            {},
            "fp32",
            ["int8 is not worth it against fp32 (its latency was not measured)"],
        ),
    ],
)
def test_decisions(engines, limits, chosen, said):
    for order in permutations(engines):
        found = select(order, Limits(**limits))
        assert found.variant == chosen
        text = " ".join(found.why)
        assert all(sentence in text for sentence in said), text


@pytest.mark.parametrize(
    ("higher", "delta", "missed"),
    [
        (True, -0.6, True),
        (True, -0.5, False),
        (True, 3.0, False),
        (False, 0.6, True),
        (False, 0.5, False),
        (False, -3.0, False),
    ],
)
def test_a_drop_counts_in_the_direction_of_the_metric(higher, delta, missed):
    found = misses(candidate("int8", metric_delta=delta, higher_is_better=higher), Limits(metric_drop_max=0.5))
    assert found == (["int8 loses 0.6 of the metric, at most 0.5 allowed"] if missed else [])


@pytest.mark.parametrize(
    ("metric", "unit", "words"),
    [("top1", "%", "points of top1"), ("psnr", "dB", "dB of psnr"), ("f1", "", "of f1")],
)
def test_a_drop_is_said_in_the_unit_of_the_metric(metric, unit, words):
    found = misses(candidate("int8", metric_delta=-0.6, metric=metric, unit=unit), Limits(metric_drop_max=0.5))
    assert found == [f"int8 loses 0.6 {words}, at most 0.5 allowed"]


@pytest.mark.parametrize(
    ("field", "limit", "worst"),
    [
        ("metric_delta", {"metric_drop_max": 0.5}, -0.5),
        ("p99_ms", {"latency_p99_ms_max": 5.5}, 5.5),
        ("size_mb", {"size_mb_max": 2.5}, 2.5),
        ("sqnr_db", {"sqnr_db_min": 30.0}, 30.0),
    ],
)
def test_a_figure_that_was_not_measured_is_missed_only_where_it_is_limited(field, limit, worst):
    unmeasured = candidate("int8", **{field: None})
    assert misses(unmeasured, Limits()) == []
    (sentence,) = misses(unmeasured, Limits(**limit))
    assert "an unmeasured amount" in sentence
    assert misses(candidate("int8", **{field: worst}), Limits(**limit)) == []  # the limit itself is inside


@pytest.mark.parametrize(
    ("figures", "limits", "inside"),
    [
        ({"metric_delta": 98.35 - 98.55}, {"metric_drop_max": 0.2}, True),  # 4 of 2,000 samples: -0.20000000000000284
        ({"metric_delta": 98.35 - 98.6}, {"metric_drop_max": 0.2}, False),  # 5 of 2,000
        ({"p99_ms": 0.1 + 0.2}, {"latency_p99_ms_max": 0.3}, True),
        ({"p99_ms": 0.30001}, {"latency_p99_ms_max": 0.3}, False),
        ({"size_mb": 1.1 + 2.2}, {"size_mb_max": 3.3}, True),
        ({"size_mb": 3.300001}, {"size_mb_max": 3.3}, False),  # one byte
        ({"sqnr_db": 1.1 + 2.2}, {"sqnr_db_min": 1.1 + 2.2 + 5e-16}, True),
        ({"sqnr_db": 29.9999}, {"sqnr_db_min": 30}, False),
    ],
)
def test_rounding_does_not_miss_a_limit(figures, limits, inside):
    assert (misses(candidate("int8", **figures), Limits(**limits)) == []) is inside


def test_equal_outputs_pass_any_sqnr():
    assert misses(candidate("fp32", sqnr_db=float("inf")), Limits(sqnr_db_min=200)) == []
