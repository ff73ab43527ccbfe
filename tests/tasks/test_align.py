from __future__ import annotations

import json

import numpy as np
import pytest

from edgeattn import tasks
from edgeattn.imaging import Preprocess, View
from edgeattn.metrics.alignment import corner_error_px, project
from edgeattn.tasks.align import TASK

TRUTH = np.array([[1.05, 0.08, 3.0], [-0.05, 0.97, -2.0], [4e-4, -3e-4, 1.0]])


def shift(x, y):
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def outputs(homography, side=128, weight=1.0):
    y, x = np.mgrid[0:side:8, 0:side:8] + 3.5
    points = np.stack((x, y), axis=-1).reshape(-1, 2)
    matches = np.concatenate((points, project(homography, points)), axis=1)[None]
    return {"matches": matches.astype(np.float32), "weights": np.full((1, len(points)), weight, np.float32)}


def photo(high=128, wide=128, seed=0):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (high // 16, wide // 16, 3), dtype=np.uint8)
    return small.repeat(16, axis=0).repeat(16, axis=1)


def views(first, second):
    return (View(first, np.eye(3)), View(second, np.eye(3)))


def decode(homography, first, second, **more):
    return TASK.decode(outputs(homography, **more), views(first, second), (), 1.23456)


def test_found_by_name():
    assert tasks.find("align") is TASK
    assert (TASK.inputs, TASK.target, TASK.tiles) == (("frame_a", "frame_b"), "homography", False)
    assert [m.name for m in TASK.metrics] == [
        *("corner_error", "median_corner_error", "within_1px", "within_3px", "within_5px", "photometric_error"),
    ]
    assert [(m.unit, m.higher_is_better) for m in TASK.metrics] == [("px", False)] * 2 + [("%", True)] * 3 + [
        ("", False)
    ]
    assert not any(m.binary for m in TASK.metrics)
    assert json.dumps(TASK.decoding)


def test_score_of_a_shift():
    """The estimate is (3, 4) off: 5 px. b is a moved by one pixel, and 10 grey levels brighter."""
    first = np.full((128, 128, 3), 50, np.uint8)
    score = TASK.score(outputs(shift(4, 4)), shift(1, 0), views(first, first + 10))
    assert score.shape == (2,)
    assert score[0] == pytest.approx(5, abs=1e-4)
    assert score[1] == pytest.approx(10)


def test_a_lost_pair_stays_a_number():
    lost = {**outputs(np.eye(3)), "weights": np.zeros((1, 256), np.float32)}
    far = shift(1e6, 0)
    assert TASK.score(lost, far, views(photo(), photo())).tolist() == [1000.0, 0.0]


def test_summaries():
    scores = np.array([[0.5, 8.0], [2.0, 2.0], [4.0, 2.0], [9.5, 0.0]])
    found = {metric.name: TASK.summarize(scores, metric.name) for metric in TASK.metrics}
    assert found == {
        "corner_error": 4.0,
        "median_corner_error": 3.0,
        "within_1px": 25.0,
        "within_3px": 50.0,
        "within_5px": 75.0,
        "photometric_error": 3.0,
    }
    with pytest.raises(KeyError):
        TASK.summarize(scores, "top1")
    assert TASK.per_label(scores, 0) is None


def test_homography_passes_through_both_views():
    """Frames of 256 x 384 and 512 x 512, stretched to 128: the estimate is the one between the frames."""
    first, second = photo(256, 384), photo(512, 512)
    fitted = Preprocess(128, 128, "stretch")
    matrices = [fitted.apply_with_matrix(frame)[1] for frame in (first, second)]
    between = np.linalg.inv(matrices[1]) @ TRUTH @ matrices[0]
    seen = tuple(View(frame, matrix) for frame, matrix in zip((first, second), matrices, strict=True))
    result = TASK.decode(outputs(TRUTH), seen, (), 0.0)
    assert corner_error_px(result.homography, between, 256, 384) < 0.01
    assert result.warped.shape == (512, 512, 3)
    assert TASK.score(outputs(TRUTH), between / between[2, 2], seen)[0] < 0.01
    words = TASK.describe(outputs(TRUTH), between, (), seen)
    assert words["predicted"] == "corner error 0.0 px"


def test_warped_is_a_seen_from_b():
    """b shows at (x + 16, y + 32) what a shows at (x, y)."""
    first = photo()
    result = decode(shift(16, 32), first, np.zeros((128, 128, 3), np.uint8))
    assert np.abs(result.warped[33:, 17:].astype(int) - first[1:96, 1:112]).max() <= 1
    assert not result.warped[:31].any() and not result.covered[:31].any()
    assert result.covered[33:, 17:].all()
    assert result.outline == pytest.approx(np.array([[16, 32], [143, 32], [143, 159], [16, 159]]), abs=1e-3)


def test_confidence_counts_the_matches_that_agree():
    """A quarter of 256 matches is off by 50 px; the weights are 0.8: 0.8 times three quarters."""
    values = outputs(TRUTH, weight=0.8)
    values["matches"][0, ::4, 2:] += 50
    result = TASK.decode(values, views(photo(), photo()), (), 0.0)
    assert result.confidence == pytest.approx(0.6)
    assert corner_error_px(result.homography, TRUTH, 128, 128) < 0.2
    assert result.attention is None


def test_result_in_words_and_json():
    result = decode(shift(0, 64), photo(), photo())
    values = json.loads(json.dumps(result.to_dict()))
    assert np.array(values["homography"]) == pytest.approx(shift(0, 64), abs=1e-4)
    assert values["warped"] == {"height": 128, "width": 128, "covered": pytest.approx(0.5, abs=0.01)}
    assert values["latency_ms"] == 1.2346 and values["confidence"] == 1.0
    assert str(result) == "centre at (63.5, 127.5), covers 50%, confidence 100%"


def test_draw_is_a_chessboard_of_both():
    first, second = np.full((128, 128, 3), 200, np.uint8), np.full((128, 128, 3), 100, np.uint8)
    before = second.copy()
    drawn = decode(np.eye(3), first, second).draw(second)
    assert (second == before).all() and drawn.shape == second.shape
    assert drawn[8, 8].tolist() == [200] * 3 and drawn[8, 24].tolist() == [100] * 3  # squares of 16 pixels
    assert drawn[24, 24].tolist() == [200] * 3
    assert np.abs(drawn[0, 64] - [0, 220, 255]).max() < 25  # the outline, smoothed


def test_what_a_does_not_cover_is_not_hidden():
    first, second = np.full((128, 128, 3), 200, np.uint8), np.full((128, 128, 3), 100, np.uint8)
    drawn = decode(shift(64, 0), first, second).draw(second)
    assert (drawn[:, :62] == 100).all() and (drawn[8, 70] == 200).all()


def test_draw_on_a_frame_of_another_size():
    result = decode(np.eye(3), np.full((128, 128, 3), 200, np.uint8), np.zeros((128, 128, 3), np.uint8))
    drawn = result.draw(np.zeros((64, 256, 3), np.uint8))
    assert drawn.shape == (64, 256, 3) and drawn[4, 4].tolist() == [200] * 3


def test_agreement_and_comparable():
    one, near, far = outputs(TRUTH), outputs(shift(0.5, 0) @ TRUTH), outputs(shift(2, 0) @ TRUTH)
    assert TASK.agreement(near, one) == 1.0
    assert TASK.agreement(far, one) == 0.0
    doubtful = outputs(shift(2, 0), weight=0.5)
    ours, theirs = TASK.comparable(outputs(np.eye(3)), doubtful)
    assert set(ours) == set(theirs) == {"movement", "weights"}
    assert theirs["movement"][0, 0].tolist() == [1.0, 0.0]  # 2 px of trust 0.5
    assert ours["movement"][0, 0].tolist() == [0.0, 0.0]


def test_describe():
    seen = (View(np.zeros((128, 128, 3), np.uint8), np.eye(3)),) * 2
    assert TASK.describe(outputs(shift(3, 4)), np.eye(3), (), seen) == {
        "predicted": "corner error 5.0 px",
        "truth": "corners moved by 0.0 px",
    }
