import numpy as np
import pytest

from edgeattn.metrics.segmentation import (
    BINS,
    auc,
    confusion,
    dice,
    iou,
    log_odds_histograms,
    mean_over_classes,
    pixel_accuracy,
)

COUNTS = np.array([[3, 1], [2, 4]])


def test_confusion_by_hand():
    truth = np.array([[0, 0, 1], [2, 255, 1]], np.uint8)
    predicted = np.array([[0, 1, 1], [0, 2, 255]], np.uint8)
    assert confusion(truth, predicted, 3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert confusion(truth[:1, :1], predicted[:1, :1], 2).tolist() == [[1, 0], [0, 0]]


def test_nothing_counted():
    nothing = confusion(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8), 2)
    assert not nothing.any()
    assert np.isnan(iou(nothing)).all() and np.isnan(dice(nothing)).all()
    assert np.isnan(pixel_accuracy(nothing)) and np.isnan(mean_over_classes(iou(nothing)))


@pytest.mark.parametrize(("truth", "predicted"), [([0, 3], [0, 0]), ([0, 0], [0, 3])])
def test_an_unknown_class_is_refused(truth, predicted):
    with pytest.raises(ValueError, match=r"class ids must lie in 0\.\.2 or be 255"):
        confusion(np.array(truth), np.array(predicted), 3)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"one shape, got \(2, 3\) and \(3, 2\)"):
        confusion(np.zeros((2, 3)), np.zeros((3, 2)), 2)


def test_figures_by_hand():
    assert iou(COUNTS).tolist() == pytest.approx([3 / 6, 4 / 7])
    assert dice(COUNTS).tolist() == pytest.approx([6 / 9, 8 / 11])
    assert pixel_accuracy(COUNTS) == pytest.approx(0.7)


def test_a_class_that_is_nowhere_does_not_count():
    counts = np.array([[2, 0, 2], [0, 0, 0], [0, 0, 0]])
    # Class 0: 2 of 4; class 1 is nowhere; class 2 was only imagined.
    assert iou(counts)[[0, 2]].tolist() == [0.5, 0.0] and np.isnan(iou(counts)[1])
    assert mean_over_classes(iou(counts)) == 0.25
    assert mean_over_classes(np.array([0.5, np.nan, 1.0])) == 0.75


def test_histograms_by_hand():
    truth = np.array([0, 1, 1, 255, 0, 1])
    # 0.07 lies in the second bin from 0 (each is 0.064 wide), 99 beyond the last.
    histograms = log_odds_histograms(np.array([-32, 0, 99, 0, -99, 0.07], np.float32), truth)
    assert histograms.shape == (2, BINS)
    assert {(int(t), int(b)): int(histograms[t, b]) for t, b in np.argwhere(histograms)} == {
        (0, 0): 2,
        (1, 500): 1,
        (1, 501): 1,
        (1, 999): 1,
    }


@pytest.mark.parametrize(
    ("negatives", "positives", "area"),
    [
        ([2, 1, 1], [0, 1, 3], 13 / 16),
        ([5, 0], [0, 7], 1.0),
        ([0, 7], [5, 0], 0.0),
        ([3, 3], [1, 1], 0.5),
        ([4], [9], 0.5),  # all tied
    ],
)
def test_auc_by_hand(negatives, positives, area):
    assert auc(np.array([negatives, positives])) == pytest.approx(area)


@pytest.mark.parametrize("counts", [[[0, 0], [1, 1]], [[1, 1], [0, 0]]])
def test_auc_needs_both_classes(counts):
    assert np.isnan(auc(np.array(counts)))


def exact_auc(log_odds, truth):
    """By ranks, ties at their mean: Mann and Whitney."""
    values, place, count = np.unique(log_odds, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    positives = int((truth == 1).sum())
    negatives = int((truth == 0).sum())
    assert len(values) > 1
    return (ranks[truth == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives)


@pytest.mark.parametrize(("centre", "spread"), [(0.0, 1.0), (-8.0, 3.0), (2.0, 8.0), (-14.0, 1.0)])
def test_auc_agrees_with_the_exact_one(centre, spread):
    """Also where nearly all probabilities are below 1e-3 or 1e-5: bins equally wide in p would make that 0.5."""
    rng = np.random.default_rng(0)
    truth = (rng.random(100_000) < 0.1).astype(np.uint8)
    log_odds = (centre + spread * (rng.standard_normal(truth.size) + truth)).astype(np.float32)
    exact = exact_auc(log_odds, truth)
    assert 0.7 < exact < 0.8
    assert auc(log_odds_histograms(log_odds, truth)) == pytest.approx(exact, abs=1e-3)
