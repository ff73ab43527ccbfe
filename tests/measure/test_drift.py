import json
import math

import numpy as np
import pytest

from edgeattn.backends.base import Specs, TensorSpec
from edgeattn.errors import DataError, ModelError, StageFailed
from edgeattn.measure.drift import measure_drift, measure_metric, run_outputs
from edgeattn.tasks import find
from edgeattn.tasks.base import MetricSpec

CLASSIFY = find("classify")


class Mean:
    """A task whose score is the mean of its output, so that metrics can be worked out by hand."""

    name = "mean"
    metric = MetricSpec(name="mean", unit="dB", higher_is_better=True, binary=False)

    def score(self, outputs, target):
        return np.array([outputs["y"].mean() - target])

    def summarize(self, scores):
        return float(scores.mean())

    def agreement(self, outputs, reference):
        return 1.0 - abs(float(outputs["y"].mean() - reference["y"].mean()))


class ErrorRate(type(CLASSIFY)):
    metric = MetricSpec(name="error", unit="%", higher_is_better=False, binary=True)

    def summarize(self, scores):
        return 100.0 * (1.0 - float(scores.mean()))


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


def frames(*values):
    return [np.full((2, 2, 3), v, np.uint8) for v in values]


def test_outputs_come_one_frame_at_a_time():
    outputs = run_outputs(Doubler(), iter(frames(1, 3)), "x")
    assert [o["y"].shape for o in outputs] == [(1, 2, 2, 3)] * 2
    assert [float(o["y"].max()) for o in outputs] == [2, 6]


@pytest.mark.parametrize("value", [7, 9])
def test_non_finite_outputs_are_named(value):
    with pytest.raises(StageFailed, match="Output 'y' holds NaN or infinite values for sample 2"):
        run_outputs(Doubler(), frames(1, 2, value), "x")


def test_binary_metric_has_wilsons_interval_in_its_unit():
    metric, scores = measure_metric(CLASSIFY, logits(*[1] * 8, 0, 0), [1] * 10)
    assert scores.shape == (10, 1)
    assert metric.value == pytest.approx(80.0)
    assert metric.ci95 == pytest.approx((49.016, 94.332), abs=0.001)
    assert metric.to_dict() == {
        "name": "top1",
        "unit": "%",
        "value": metric.value,
        "ci95": list(metric.ci95),
        "n": 10,
        "higher_is_better": True,
    }


def test_error_rates_turn_the_interval_round():
    metric, scores = measure_metric(ErrorRate(), logits(*[1] * 8, 0, 0), [1] * 10)
    assert metric.value == pytest.approx(20.0)
    assert metric.ci95 == pytest.approx((5.668, 50.984), abs=0.001)
    _, worse_scores = measure_metric(ErrorRate(), logits(*[1] * 2, *[0] * 8), [1] * 10)
    drift = measure_drift(
        ErrorRate(), logits(*[1] * 8, 0, 0), logits(*[1] * 2, *[0] * 8), scores, worse_scores, "train/fp32"
    )
    assert drift.metric_delta == pytest.approx(60.0)
    assert 0 < drift.ci95[0] < 60 < drift.ci95[1]


def test_other_metrics_are_bootstrapped():
    outputs = [{"y": np.full((1, 2), v, np.float32)} for v in (0, 1)]
    metric, scores = measure_metric(Mean(), outputs, [0, 0], seed=0)
    assert scores.tolist() == [[0.0], [1.0]]
    assert (metric.value, metric.ci95, metric.unit) == (0.5, (0.0, 1.0), "dB")


def test_nothing_to_evaluate():
    with pytest.raises(DataError, match="no sample"):
        measure_metric(CLASSIFY, [], [])
    with pytest.raises(ValueError, match="zip"):
        measure_metric(CLASSIFY, logits(1, 0), [1])


def drift_of(task, reference, outputs, targets):
    _, reference_scores = measure_metric(task, reference, targets)
    _, scores = measure_metric(task, outputs, targets)
    return measure_drift(task, reference, outputs, reference_scores, scores, "train/fp32")


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


def test_paired_bootstrap_for_other_metrics():
    reference = [{"y": np.full((1, 2), v, np.float32)} for v in (1.0, 2.0, 3.0, 4.0)]
    outputs = [{"y": o["y"] - 0.5} for o in reference]
    drift = drift_of(Mean(), reference, outputs, [0] * 4)
    assert drift.metric_delta == pytest.approx(-0.5)
    assert drift.ci95 == pytest.approx((-0.5, -0.5))
    assert drift.p_value == pytest.approx(2 / 2001)
    assert drift.test == "paired bootstrap"
    assert drift.agreement == pytest.approx(0.5)
    # signal 2 * 30, noise 8 * 0.25
    assert drift.sqnr_db == pytest.approx(10 * math.log10(30))


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


def test_other_samples_cannot_be_compared():
    with pytest.raises(ValueError, match="same samples"):
        measure_drift(CLASSIFY, logits(1), logits(1, 0), np.ones((1, 1)), np.ones((2, 1)), "train/fp32")
