import pytest
import sample_reports as made

from edgeattn.report import facts


def test_dig_stops_at_whatever_is_missing():
    assert facts.dig({"a": {"b": 0}}, "a", "b") == 0
    assert facts.dig({"a": None}, "a", "b") is None
    assert facts.dig({}, "a", "b") is None
    assert facts.dig(None, "a") is None


@pytest.mark.parametrize(
    ("given", "found"),
    [([1, 2], (1, 2)), ([0, 0], (0, 0)), ([None, 2], None), ([1, None], None), ([None, None], None), (None, None)],
)
def test_an_interval_with_an_open_end_is_none(given, found):
    assert facts.bounds({"drift": {"ci95": given}}, "drift", "ci95") == found
    assert facts.bounds({}, "drift", "ci95") is None


def test_labels_name_the_backend_only_where_two_rows_share_a_name():
    rows = [{"stage": s, "variant": "int8", "backend": b} for s, b in (("a", "x"), ("b", "x"), ("b", "y"), ("b", None))]
    assert facts.labels(rows) == ["a/int8", "b/int8 x", "b/int8 y", "b/int8"]


def test_selected_row_is_the_measured_one_of_those_with_its_hash():
    report = made.report()
    # The bundle's row comes later and has as many figures, but the engine is what was selected.
    made.find(report, "bundle/int8")["artifact"]["sha256"] = made.HASHES["int8"]
    assert facts.selected_row(report) is made.find(report, "compile/int8")
    report["selected"] = None
    assert facts.selected_row(report) is None


@pytest.mark.parametrize(
    ("higher", "delta", "interval", "drop", "drops"),
    [
        (True, -0.5, [-0.75, -0.25], 0.5, (0.25, 0.75)),
        (True, 0.5, [0.25, 0.75], -0.5, (-0.75, -0.25)),
        (False, 0.5, [0.25, 0.75], 0.5, (0.25, 0.75)),
        (True, None, None, None, None),
    ],
)
def test_drop_is_positive_when_worse(higher, delta, interval, drop, drops):
    row = {"metric": {"higher_is_better": higher}, "drift": {"metric_delta": delta, "ci95": interval}}
    assert facts.drop(row) == drop
    assert facts.drop_interval(row) == drops


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([(1, 5), (2, 6), (3, 4)], [0, 1]),
        ([(3, 4), (2, 6), (1, 5)], [2, 1]),
        ([(1, 5), (1, 6)], [1]),
        ([(1, 5), (1, 5)], [0]),
        ([(1, 9), (2, 8), (3, 7)], [0]),
        ([], []),
    ],
)
def test_pareto(points, front):
    assert facts.pareto(points) == front


@pytest.mark.parametrize(("high", "expected"), [(0.99, False), (1.0, True), (1.2, True)])
def test_not_worth_it_once_the_interval_reaches_one(high, expected):
    parent = {"variant": "bf16", "ratio_ci95": [0.9, high]}
    assert facts.not_worth_it({"stage": "compile", "latency": {"parent": parent}}) is expected
    assert facts.not_worth_it({"stage": "compile", "latency": {"parent": None}}) is False
    assert facts.not_worth_it({"stage": "compile", "latency": None}) is False


@pytest.mark.parametrize(
    ("stage", "variant", "is_one"),
    [
        ("compile", "bf16", True),
        ("compile", "fp32", True),
        ("compile", "int8", False),
        ("quantize", "fp16", False),
        ("bundle", "int8", False),
        ("bundle", "bf16", False),
    ],
)
def test_only_an_engine_has_a_float_parent(stage, variant, is_one):
    row = {"stage": stage, "latency": {"parent": {"variant": variant, "ratio": 1.2, "ratio_ci95": [1.1, 1.3]}}}
    assert (facts.float_parent(row) is not None) is is_one
    assert facts.not_worth_it(row) is is_one


def test_path_goes_from_fp32_to_what_ships():
    names = [f"{row['stage']}/{row['variant']}" for row in facts.path(made.report())]
    assert names == ["train/fp32", "export/fp32", "quantize/int8", "compile/int8", "bundle/int8"]
    bf16 = [f"{row['stage']}/{row['variant']}" for row in facts.path(made.not_worth_it())]
    assert bf16 == ["train/fp32", "export/fp32", "compile/bf16"]
    assert [row["stage"] for row in facts.path(made.failed())] == ["train", "export"]


def held(report):
    return {limit.key: limit for limit in facts.limits(report, facts.selected_row(report))}


def test_limits_of_a_run_inside_its_budget():
    limits = held(made.report())
    assert list(limits) == ["metric_drop_max", "sqnr_db_min", "latency_p99_ms_max", "size_mb_max"]  # null: no limit
    assert all(limit.passed and not limit.uncertain for limit in limits.values())
    assert limits["size_mb_max"].value == 0.803  # the bundle's, not the engine's 0.418
    assert limits["sqnr_db_min"].value == 35.3


@pytest.mark.parametrize(
    ("key", "limit", "passed"),
    [
        ("metric_drop_max", 0.1, True),
        ("metric_drop_max", 0.09, False),
        ("sqnr_db_min", 35.3, True),
        ("sqnr_db_min", 35.4, False),
        ("latency_p50_ms_max", 0.445, True),
        ("latency_p50_ms_max", 0.444, False),
        ("size_mb_max", 0.803, True),
        ("size_mb_max", 0.802, False),
        ("peak_rss_mb_max", 92, True),
        ("peak_rss_mb_max", 91, False),
        ("watts_max", 5, None),
    ],
)
def test_limits_hold_up_to_and_including_their_value(key, limit, passed):
    report = made.report()
    report["budget"] = {key: limit}
    assert held(report)[key].passed is passed


@pytest.mark.parametrize(("delta", "passed"), [(98.35 - 98.55, True), (98.35 - 98.6, False)])
def test_rounding_does_not_miss_a_limit(delta, passed):
    """4 of 2,000 samples are -0.20000000000000284 points. An interval that ends on the limit is not past it."""
    report = made.report()
    report["budget"] = {"metric_drop_max": 0.2}
    made.find(report, "compile/int8")["drift"] |= {"metric_delta": delta, "ci95": [98.35 - 98.55, 0.0]}
    limit = held(report)["metric_drop_max"]
    assert (limit.passed, limit.uncertain) == (passed, False)


@pytest.mark.parametrize(
    ("bundle", "p50", "size"),
    [({}, 0.445, 0.803), ({"status": "failed"}, 0.412, 0.418), ({"latency": None}, None, 0.803), (None, 0.412, 0.418)],
)
def test_latency_and_size_are_the_bundles_where_there_is_one(bundle, p50, size):
    report = made.report()
    report["budget"] = {"latency_p50_ms_max": 9.0, "size_mb_max": 9.0}
    row = made.find(report, "bundle/int8")
    if bundle is None:
        report["rows"].remove(row)
    else:
        row.update(bundle)
    limits = held(report)
    assert (limits["latency_p50_ms_max"].value, limits["size_mb_max"].value) == (p50, size)
    other = {limit.key: limit.value for limit in facts.limits(report, made.find(report, "compile/bf16"))}
    assert other == {"latency_p50_ms_max": 0.54, "size_mb_max": 1.24}  # another variant's bundle judges nothing here


def test_a_drop_whose_interval_reaches_past_the_limit_is_uncertain():
    report = made.report()
    report["budget"] = {"metric_drop_max": 0.45}
    assert not held(report)["metric_drop_max"].uncertain
    report["budget"] = {"metric_drop_max": 0.44}
    limit = held(report)["metric_drop_max"]
    assert limit.passed and limit.uncertain


def test_emulated_latency_settles_nothing():
    limits = held(made.deferred())
    assert limits["latency_p99_ms_max"].passed is None
    assert limits["metric_drop_max"].passed is True


def test_identical_outputs_pass_any_sqnr():
    report = made.report()
    made.find(report, "compile/int8")["drift"] |= {"sqnr_db": None, "max_abs": 0.0}
    assert held(report)["sqnr_db_min"].passed is True
    made.find(report, "compile/int8")["drift"] |= {"max_abs": None}
    assert held(report)["sqnr_db_min"].passed is None
