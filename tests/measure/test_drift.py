import json
import math
from dataclasses import replace

import numpy as np
import pytest

from edgeattn.backends.base import Specs, TensorSpec
from edgeattn.errors import DataError, ModelError, StageFailed
from edgeattn.framing import frame_up
from edgeattn.imaging import Preprocess, View
from edgeattn.measure.drift import Scored, measure_drift, measure_metric, run_outputs
from edgeattn.tasks import find
from edgeattn.tasks.base import MetricSpec

CLASSIFY = find("classify")


class Mean:
    """A task whose score is the mean of its output, so that metrics can be worked out by hand."""

    name = "mean"
    metrics = (
        MetricSpec(name="mean", unit="dB", higher_is_better=True, binary=False),
        MetricSpec(name="high", unit="%", higher_is_better=True, binary=False),
    )

    def score(self, outputs, target, views):
        return np.array([outputs["y"].mean() - target, float(outputs["y"].mean() > 0.25)])

    def summarize(self, scores, metric):
        return {"mean": float(scores[:, 0].mean()), "high": 100.0 * float(scores[:, 1].mean())}[metric]

    def comparable(self, outputs, reference):
        return outputs, reference

    def agreement(self, outputs, reference):
        return 1.0 - abs(float(outputs["y"].mean() - reference["y"].mean()))


class ErrorRate(type(CLASSIFY)):
    metrics = (MetricSpec(name="error", unit="%", higher_is_better=False, binary=True),)

    def summarize(self, scores, metric):
        return 100.0 * (1.0 - float(scores[:, 0].mean()))


class Unordered(Mean):
    """Entries have no fixed order: they are compared sorted."""

    def comparable(self, outputs, reference):
        return tuple({name: np.sort(value) for name, value in values.items()} for values in (outputs, reference))


class Doubler:
    specs = Specs((TensorSpec("x", (1, 2, 2, 3), "uint8"),), (TensorSpec("y", (1, 2, 2, 3), "float32"),))

    def infer(self, inputs):
        assert inputs["x"].shape == (1, 2, 2, 3)
        value = inputs["x"].astype(np.float32) * 2
        value[value == 14] = np.nan
        value[value == 18] = np.inf
        return {"y": value}

    def close(self):
        pass


def logits(*classes):
    """One output per class id: a logit of 1 for it, 0 for the other of two."""
    return [{"logits": np.eye(2, dtype=np.float32)[[c]]} for c in classes]


def framings(*values):
    return [frame_up(Preprocess(2, 2), [np.full((2, 2, 3), v, np.uint8)], ["x"]) for v in values]


def measured(task, outputs, targets, **options):
    """The task's first metric, of frames that are not looked at."""
    views = [(View(np.zeros((2, 2, 3), np.uint8), np.eye(3)),)] * len(outputs)
    return measure_metric(task, task.metrics[0], outputs, targets, views, **options)


def test_outputs_come_one_frame_at_a_time():
    given = framings(1, 3)
    outputs, views = run_outputs(Doubler(), iter(given))
    assert [o["y"].shape for o in outputs] == [(1, 2, 2, 3)] * 2
    assert [float(o["y"].max()) for o in outputs] == [2, 6]
    assert views == [framing.views for framing in given]


def test_tiles_come_back_as_one_output():
    """A frame of 4 x 6 in tiles of 4 x 4 needs two calls; twice the red channel of each, joined."""

    class Tiles:
        calls = 0

        def infer(self, inputs):
            self.calls += 1
            assert inputs["x"].shape == (1, 4, 4, 3)
            return {"y": 2.0 * inputs["x"].transpose(0, 3, 1, 2).astype(np.float32)}

    frame = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    runner = Tiles()
    (outputs,), ((view,),) = run_outputs(runner, [frame_up(Preprocess(4, 4, "tile", 2), [frame], ["x"])])
    assert runner.calls == 2
    np.testing.assert_allclose(outputs["y"], 2.0 * frame.transpose(2, 0, 1)[None], rtol=1e-6)
    assert view.frame is frame


def test_two_inputs_go_in_one_call():
    class Difference:
        def infer(self, inputs):
            return {"y": inputs["b"].astype(np.float32) - inputs["a"]}

    pair = [np.full((4, 4, 3), 3, np.uint8), np.full((8, 4, 3), 5, np.uint8)]
    (outputs,), (views,) = run_outputs(Difference(), [frame_up(Preprocess(2, 2), pair, ["a", "b"])])
    assert (outputs["y"] == 2.0).all() and outputs["y"].shape == (1, 2, 2, 3)
    assert [view.frame.shape for view in views] == [(4, 4, 3), (8, 4, 3)]


@pytest.mark.parametrize("value", [7, 9])
def test_non_finite_outputs_are_named(value):
    with pytest.raises(StageFailed, match="Output 'y' holds NaN or infinite values for sample 2"):
        run_outputs(Doubler(), framings(1, 2, value))


def test_binary_metric_has_wilsons_interval_in_its_unit():
    metric, scored = measured(CLASSIFY, logits(*[1] * 8, 0, 0), [1] * 10)
    assert scored.draws.size == 0
    assert scored.scores.tolist() == [[1, 1]] * 8 + [[0, 1]] * 2
    assert metric.value == pytest.approx(80.0)
    assert metric.ci95 == pytest.approx((49.016, 94.332), abs=0.001)
    assert metric.to_dict() == {
        "name": "top1",
        "unit": "%",
        "value": metric.value,
        "ci95": list(metric.ci95),
        "n": 10,
        "sources": 10,
        "higher_is_better": True,
        "others": {},
    }


def test_error_rates_turn_the_interval_round():
    metric, scored = measured(ErrorRate(), logits(*[1] * 8, 0, 0), [1] * 10)
    assert metric.value == pytest.approx(20.0)
    assert metric.ci95 == pytest.approx((5.668, 50.984), abs=0.001)
    _, worse = measured(ErrorRate(), logits(*[1] * 2, *[0] * 8), [1] * 10)
    spec = ErrorRate.metrics[0]
    drift = measure_drift(
        ErrorRate(), spec, logits(*[1] * 8, 0, 0), logits(*[1] * 2, *[0] * 8), scored, worse, "train/fp32"
    )
    assert drift.metric_delta == pytest.approx(60.0)
    assert 0 < drift.ci95[0] < 60 < drift.ci95[1]


def test_other_metrics_are_bootstrapped():
    outputs = [{"y": np.full((1, 2), v, np.float32)} for v in (0, 1)]
    metric, scored = measured(Mean(), outputs, [0, 0], seed=0)
    assert set(scored.draws) == {0.0, 0.5, 1.0}
    assert scored.scores.tolist() == [[0.0, 0.0], [1.0, 1.0]]
    assert (metric.value, metric.ci95, metric.unit) == (0.5, (0.0, 1.0), "dB")


def test_the_tasks_other_metrics_come_along():
    """0, 1, 1, 2: mean 1, three of four above a quarter. Which of the two is asked for changes places with it."""
    outputs = [{"y": np.full((1, 2), v, np.float32)} for v in (0, 1, 1, 2)]
    views = [()] * 4
    mean, scored = measure_metric(Mean(), Mean.metrics[0], outputs, [0] * 4, views)
    high, same = measure_metric(Mean(), Mean.metrics[1], outputs, [0] * 4, views)
    assert (mean.name, mean.value, dict(mean.others)) == ("mean", 1.0, {"high": 75.0})
    assert (high.name, high.unit, high.value, dict(high.others)) == ("high", "%", 75.0, {"mean": 1.0})
    assert (scored.scores == same.scores).all()
    assert high.ci95[0] < 75 < high.ci95[1] <= 100
    assert mean.to_dict()["others"] == {"high": 75.0}


def test_an_undefined_other_metric_is_null_in_json():
    class Undefined(Mean):
        def summarize(self, scores, metric):
            return math.nan if metric == "high" else super().summarize(scores, metric)

    metric, *_ = measured(Undefined(), [{"y": np.ones((1, 2))}] * 2, [0, 0])
    assert json.loads(json.dumps(metric.to_dict(), allow_nan=False))["others"] == {"high": None}


def test_the_score_sees_how_the_frame_was_seen():
    class Where(Mean):
        def score(self, outputs, target, views):
            return np.array([views[0].matrix[0, 0], float(views[0].frame.shape[1])])

    (framing,) = (frame_up(Preprocess(2, 2), [np.zeros((4, 8, 3), np.uint8)], ["x"]),)
    _, scored = measure_metric(Where(), Where.metrics[0], [{"y": np.ones((1, 2))}], [0], [framing.views])
    assert scored.scores.tolist() == [[0.5, 8.0]]


def test_nothing_to_evaluate():
    with pytest.raises(DataError, match="no sample"):
        measured(CLASSIFY, [], [])
    with pytest.raises(ValueError, match="zip"):
        measured(CLASSIFY, logits(1, 0), [1])


def drift_of(task, reference, outputs, targets):
    _, reference_scored = measured(task, reference, targets)
    _, scored = measured(task, outputs, targets)
    return measure_drift(task, task.metrics[0], reference, outputs, reference_scored, scored, "train/fp32")


def test_binary_drift_by_hand():
    # 50 samples of class 1: both right 36, only this 2, only the reference 12 (Newcombe's example, turned round).
    reference = logits(*[1] * 48, 0, 0)
    outputs = logits(*[1] * 36, *[0] * 12, 1, 1)
    drift = drift_of(CLASSIFY, reference, outputs, [1] * 50)
    assert drift.metric_delta == pytest.approx(-20.0)
    assert drift.ci95 == pytest.approx((-34.04, -5.69), abs=0.01)
    assert drift.p_value == pytest.approx(2 * (1 + 14 + 91) / 2**14)
    assert drift.test == "mcnemar exact"
    assert drift.agreement == pytest.approx(36 / 50)
    # 14 of 50 one-hot outputs differ, by 1 in both places: signal 50, noise 28, product 36.
    assert drift.sqnr_db == pytest.approx(10 * math.log10(50 / 28))
    assert drift.cosine == pytest.approx(36 / 50)
    assert drift.max_abs == 1.0
    assert drift.n == 50


def test_equal_models_keep_an_interval_and_write_valid_json():
    drift = drift_of(CLASSIFY, logits(1, 0, 1), logits(1, 0, 1), [1, 1, 1])
    assert (drift.metric_delta, drift.p_value, drift.agreement, drift.max_abs) == (0.0, 1.0, 1.0, 0.0)
    assert drift.ci95[0] < 0 < drift.ci95[1]
    assert drift.sqnr_db == math.inf
    assert json.loads(json.dumps(drift.to_dict(), allow_nan=False))["sqnr_db"] is None


def test_drift_has_the_contracts_fields():
    fields = drift_of(CLASSIFY, logits(1, 0), logits(0, 0), [1, 1]).to_dict()
    contract = "reference metric_delta ci95 p_value test sqnr_db cosine max_abs agreement"
    assert set(contract.split()) <= set(fields)
    assert fields["reference"] == "train/fp32"
    assert isinstance(fields["ci95"], list)


def test_samples_of_one_source_count_as_one():
    outputs = [{"y": np.full((1, 2), v, np.float32)} for v in (0, 0, 1, 1)]
    better = [{"y": o["y"] + 1} for o in outputs]

    def p_value(**sources):
        (metric, scored), (_, higher) = (measured(Mean(), values, [0] * 4, **sources) for values in (outputs, better))
        drift = measure_drift(Mean(), Mean.metrics[0], outputs, better, scored, higher, "train/fp32")
        return metric, drift.p_value

    metric, p = p_value(sources=["a", "a", "b", "b"])
    assert (metric.n, metric.sources, metric.ci95) == (4, 2, (0.0, 1.0))
    assert p == 2 / 4
    assert p_value()[1] == 2 / 16


def test_paired_statistics_for_other_metrics():
    reference = [{"y": np.full((1, 2), v, np.float32)} for v in (1.0, 2.0, 3.0, 4.0)]
    outputs = [{"y": o["y"] - 0.5} for o in reference]
    drift = drift_of(Mean(), reference, outputs, [0] * 4)
    assert drift.metric_delta == pytest.approx(-0.5)
    assert drift.ci95 == pytest.approx((-0.5, -0.5))
    assert drift.p_value == 2 / 16
    assert drift.test == "paired permutation"
    assert drift.agreement == pytest.approx(0.5)
    # signal 2 * 30, noise 8 * 0.25
    assert drift.sqnr_db == pytest.approx(10 * math.log10(30))


def test_drift_counts_in_the_metric_that_is_asked_for():
    """1, 1, 1, 0 against 1, 1, 0, 0: half of the samples above a quarter instead of three of four."""
    reference = [{"y": np.full((1, 2), v, np.float32)} for v in (1, 1, 1, 0)]
    outputs = [{"y": np.full((1, 2), v, np.float32)} for v in (1, 1, 0, 0)]
    views = [()] * 4
    spec = Mean.metrics[1]
    scores = [measure_metric(Mean(), spec, values, [0] * 4, views)[1] for values in (reference, outputs)]
    drift = measure_drift(Mean(), spec, reference, outputs, *scores, "train/fp32")
    assert drift.metric_delta == -25.0
    assert drift.ci95[0] < -25 < drift.ci95[1] <= 0


def test_entries_without_an_order_are_matched_before_tensors_are_compared():
    reference, outputs = [{"y": np.array([[1.0, 2.0, 3.0]])}], [{"y": np.array([[3.0, 1.0, 2.0]])}]
    assert drift_of(Unordered(), reference, outputs, [0]).sqnr_db == math.inf
    assert drift_of(Mean(), reference, outputs, [0]).sqnr_db == pytest.approx(10 * math.log10(14 / 6))


def test_the_worst_output_speaks_for_all():
    def pair(good, bad):
        return [{"y": np.full((1, 2), 10.0), "a": np.full((1, 1), good), "b": np.full((1, 3), bad)}]

    drift = drift_of(Mean(), pair(100.0, 1.0), pair(99.0, 0.9), [0])
    assert drift.output == "b"
    assert drift.sqnr_db == pytest.approx(20.0)
    assert drift.max_abs == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"y": np.zeros((1, 3))}, r"'y' has shape \(1, 3\), that of train/fp32 \(1, 2\)"),
        ({"y": np.zeros((1, 2)), "z": np.zeros((1, 2))}, r"\['y', 'z'\], train/fp32 gives \['y'\]"),
    ],
)
def test_models_of_other_outputs_cannot_be_compared(output, message):
    with pytest.raises(ModelError, match=message):
        drift_of(Mean(), [{"y": np.zeros((1, 2))}], [output], [0])


SCORED = Scored(np.ones((4, 2)), np.ones(9), "mean", 0, None)


@pytest.mark.parametrize(
    ("changes", "differ"),
    [
        ({"scores": np.ones((3, 2))}, "samples"),
        ({"draws": np.ones(8)}, "number of draws"),
        ({"metric": "high"}, "metric"),
        ({"seed": 1}, "seed"),
        ({"sources": ("a", "a", "b", "b")}, "sources"),
    ],
)
def test_what_was_drawn_differently_cannot_be_paired(changes, differ):
    other = replace(SCORED, **changes)
    with pytest.raises(ValueError, match=f"these differ in: {differ}$"):
        measure_drift(Mean(), Mean.metrics[0], [], [], SCORED, other, "train/fp32")


@pytest.mark.parametrize(("count", "spec"), [(3, 0), (4, 1)], ids=["fewer outputs", "another metric"])
def test_scores_are_of_these_samples_and_this_metric(count, spec):
    outputs = [{"y": np.ones((1, 2))}] * count
    with pytest.raises(ValueError, match="same samples of both models, scored in the metric"):
        measure_drift(Mean(), Mean.metrics[spec], outputs, outputs, SCORED, SCORED, "train/fp32")


@pytest.mark.parametrize("sources", [None, ["photo 1", "photo 1", "ä", "ä"]])
@pytest.mark.parametrize("task", [Mean(), CLASSIFY], ids=["bootstrapped", "binary"])
def test_scores_come_back_from_a_file_as_they_were(task, sources, tmp_path):
    outputs = (
        [{"y": np.full((1, 2), v, np.float32)} for v in (0, 0, 1, 1)] if task is not CLASSIFY else logits(0, 1, 1, 0)
    )
    _, scored = measured(task, outputs, [0] * 4, sources=sources, seed=7)
    scored.save(tmp_path / "scores.npz")
    found = Scored.load(tmp_path / "scores.npz")
    found.check_pairs_with(scored)
    assert (found.scores == scored.scores).all() and (found.draws == scored.draws).all()
    assert (found.metric, found.seed, found.sources) == (scored.metric, 7, None if sources is None else tuple(sources))
