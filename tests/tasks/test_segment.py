import json
from itertools import pairwise

import numpy as np
import pytest

from edgeattn import tasks
from edgeattn.errors import DataError, ModelError
from edgeattn.imaging import Preprocess, View
from edgeattn.tasks.segment import TASK, Segmentation, decode_runs, encode_runs

LABELS = ("sky", "road", "car")
TWO = ("background", "vessel")


def view(height, width, matrix=None):
    return (
        View(np.zeros((height, width, 3), np.uint8), np.eye(3) if matrix is None else np.array(matrix, np.float64)),
    )


def one_hot(mask, classes, logit=8.0):
    """Logits that say `mask`, certain."""
    planes = np.stack([(np.asarray(mask) == c) * logit for c in range(classes)])
    return {"logits": planes[None].astype(np.float32)}


def result(mask, labels=LABELS, confidence=None):
    mask = np.asarray(mask, np.uint8)
    return Segmentation(mask, np.ones(mask.shape, np.float32) if confidence is None else confidence, labels, 1.23456)


def test_found_by_name():
    assert tasks.find("segment") is TASK
    assert (TASK.target, TASK.inputs, TASK.tiles) == ("mask", ("frame",), True)
    assert [(m.name, m.unit, m.higher_is_better, m.binary) for m in TASK.metrics] == [
        ("mIoU", "%", True, False),
        ("pixel_accuracy", "%", True, False),
        ("dice", "%", True, False),
        ("f1", "", True, False),
        ("auc", "", True, False),
    ]
    assert json.dumps(TASK.decoding)


def test_decode_by_hand():
    """Logits ln 1, ln 2, ln 5: probabilities 1/8, 2/8, 5/8; and all equal: the first class at 1/3."""
    logits = np.zeros((1, 3, 1, 2), np.float32)
    logits[0, :, 0, 0] = np.log([1, 2, 5])
    decoded = TASK.decode({"logits": logits}, view(1, 2), LABELS, 2.5)
    assert decoded.mask.tolist() == [[2, 0]] and decoded.mask.dtype == np.uint8
    assert decoded.confidence.tolist()[0] == pytest.approx([5 / 8, 1 / 3]) and decoded.confidence.dtype == np.float32
    assert (decoded.labels, decoded.latency_ms, decoded.attention) == (LABELS, 2.5, None)


def test_two_classes_decide_at_one_half():
    logits = np.array([[[[0.0, 1.0, 1000.0]], [[0.1, 1.0, -1000.0]]]], np.float32)
    decoded = TASK.decode({"logits": logits}, view(1, 3), TWO, 0.0)
    assert decoded.mask.tolist() == [[1, 0, 0]]
    assert decoded.confidence.tolist()[0] == pytest.approx([1 / (1 + np.exp(-0.1)), 0.5, 1.0])


def test_the_gate_map_comes_along():
    attention = np.random.default_rng(0).random((1, 1, 2, 2)).astype(np.float32)
    decoded = TASK.decode({**one_hot([[0, 1], [1, 0]], 2), "attention": attention}, view(2, 2), TWO, 0.0)
    assert (decoded.attention == attention[0, 0]).all()


@pytest.mark.parametrize(
    "outputs",
    [
        {},
        {"scores": np.zeros((1, 3, 2, 2))},
        {"logits": np.zeros((1, 3))},
        {"logits": np.zeros((2, 3, 2, 2))},
        {"logits": np.zeros((1, 2, 2, 2))},
        {"logits": np.zeros((1, 4, 2, 2))},
        {"logits": np.zeros((1, 3, 4, 4))},
    ],
)
def test_other_outputs_are_refused(outputs):
    with pytest.raises(ModelError, match=r"of shape \(1, 3, h, w\)|the frame has 2 x 2"):
        TASK.decode(outputs, view(2, 2), LABELS, 0.0)


def test_a_single_class_is_no_segmentation():
    with pytest.raises(ModelError, match=r"of shape \(1, classes, h, w\); got \{'logits': \(1, 1, 2, 2\)\}"):
        TASK.score({"logits": np.zeros((1, 1, 2, 2))}, np.zeros((2, 2)), view(2, 2))


def bilinear(plane, matrix, height, width):
    """The slow reference: every frame pixel looks up its place, clamped to the map."""
    h, w = plane.shape
    out = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            px = min(max(matrix[0, 0] * x + matrix[0, 2], 0), w - 1)
            py = min(max(matrix[1, 1] * y + matrix[1, 2], 0), h - 1)
            x0, y0 = min(int(px), w - 2), min(int(py), h - 2)
            fx, fy = px - x0, py - y0
            top = plane[y0, x0] * (1 - fx) + plane[y0, x0 + 1] * fx
            bottom = plane[y0 + 1, x0] * (1 - fx) + plane[y0 + 1, x0 + 1] * fx
            out[y, x] = top * (1 - fy) + bottom * fy
    return out


@pytest.mark.parametrize("fit", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize("size", [(30, 22), (9, 13), (12, 16)])
def test_logits_are_resampled_into_the_frame(fit, size):
    frame = np.zeros((*size, 3), np.uint8)
    _, matrix = Preprocess(12, 16, fit).apply_with_matrix(frame)
    logits = np.random.default_rng(0).normal(size=(1, 5, 12, 16)).astype(np.float32)
    decoded = TASK.decode({"logits": logits}, (View(frame, matrix),), tuple("abcde"), 0.0)
    reference = np.stack([bilinear(plane, matrix, *size) for plane in logits[0]])
    seen = decoded.mask != 255
    assert seen.any() and (fit == "crop" or seen.all())
    expected = 1 / np.exp(reference - reference.max(axis=0)).sum(axis=0)
    # OpenCV looks up places to 1/32 of a pixel.
    assert np.abs(decoded.confidence - expected)[seen].max() < 0.03
    assert (decoded.mask == reference.argmax(axis=0))[seen].mean() > 0.95


def test_a_step_lands_on_the_same_place_in_the_frame():
    """A map of 4 columns, right half class 1, over a frame of 8: the border is between columns 3 and 4."""
    matrix = [[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]]
    decoded = TASK.decode(one_hot([[0, 0, 1, 1]] * 4, 2), view(8, 8, matrix), TWO, 0.0)
    assert decoded.mask.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]] * 8


CROPPED = [[1, 0, -2], [0, 1, 0], [0, 0, 1]]  # of a frame of 4 x 8 the network saw columns 2 to 5


def test_what_a_crop_leaves_out_is_not_guessed():
    decoded = TASK.decode(one_hot(np.ones((4, 4)), 2), view(4, 8, CROPPED), TWO, 0.0)
    assert decoded.mask.tolist() == [[255, 255, 1, 1, 1, 1, 255, 255]] * 4
    assert (decoded.confidence[:, [0, 1, 6, 7]] == 0).all() and (decoded.confidence[:, 2:6] > 0.9).all()
    scores = TASK.score(one_hot(np.ones((4, 4)), 2), np.zeros((4, 8), np.uint8), view(4, 8, CROPPED))
    assert scores[:4].tolist() == [0, 16, 0, 0] and scores.sum() == 32  # and 16 in the histogram


def test_score_and_metrics_by_hand():
    """Truth 0 0 1 1 x, prediction 0 1 1 0 1: confusion [[1, 1], [1, 1]]; then one more image, all right."""
    truth = np.array([[0, 0, 1, 1, 255]], np.uint8)
    first = TASK.score(one_hot([[0, 1, 1, 0, 1]], 2), truth, view(1, 5))
    assert first.shape == (2004,) and first[:4].tolist() == [1, 1, 1, 1]
    second = TASK.score(one_hot([[1, 1, 0, 0, 0]], 2), np.array([[1, 1, 0, 0, 0]], np.uint8), view(1, 5))
    scores = np.stack((first, second))  # together [[4, 1], [1, 3]]
    assert TASK.summarize(scores, "mIoU") == pytest.approx(100 * (4 / 6 + 3 / 5) / 2)
    assert TASK.summarize(scores, "pixel_accuracy") == pytest.approx(100 * 7 / 9)
    assert TASK.summarize(scores, "dice") == pytest.approx(100 * (8 / 10 + 6 / 8) / 2)
    assert TASK.summarize(scores, "f1") == pytest.approx(6 / 8)
    # Log-odds are -8 or 8: negatives 4 and 1, positives 1 and 3 in the two bins.
    assert TASK.summarize(scores, "auc") == pytest.approx((1 * 2 + 3 * 4.5) / 20)
    assert TASK.per_label(scores, 2) == pytest.approx([100 * 4 / 6, 60.0])
    with pytest.raises(ValueError, match="no metric 'iou'"):
        TASK.summarize(scores, "iou")


@pytest.mark.parametrize("classes", [3, 11, 44, 45, 255])
def test_the_number_of_classes_is_told_by_the_length(classes):
    mask = np.array([[0, 1, classes - 1, 1]], np.uint8)
    truth = np.array([[0, 1, classes - 1, 2]], np.uint8)
    scores = TASK.score(one_hot(mask, classes), truth, view(1, 4))[None]
    assert scores.shape == (1, classes**2)
    # 0 and the last are right, 1 is half right, 2 wrong, unless it is the last: then half right too.
    expected = (1 + 0.5 + 0.5) / 3 if classes == 3 else (1 + 0.5 + 0 + 1) / 4
    assert TASK.summarize(scores, "mIoU") == pytest.approx(100 * expected)
    labels = TASK.per_label(scores, classes)
    assert labels is not None and len(labels) == classes and labels.count(None) == max(0, classes - 4)
    assert np.isnan(TASK.summarize(scores, "f1")) and np.isnan(TASK.summarize(scores, "auc"))


def test_nothing_to_count_has_no_metric():
    scores = TASK.score(one_hot([[0, 1]], 2), np.array([[255, 255]], np.uint8), view(1, 2))[None]
    assert all(np.isnan(TASK.summarize(scores, metric.name)) for metric in TASK.metrics)


def test_agreement_and_comparable():
    one, other = one_hot([[0, 1, 1, 0]], 2), one_hot([[0, 1, 0, 0]], 2, logit=2.0)
    assert TASK.agreement(one, other) == 0.75 and TASK.agreement(one, one) == 1.0
    assert TASK.comparable(one, other) == (one, other)


def test_words():
    truth = np.array([[0, 0, 0, 255]], np.uint8)
    words = TASK.describe(one_hot([[2, 2, 2, 0]], 3), truth, LABELS, ())
    assert words == {"predicted": "car 75.0%, sky 25.0%", "truth": "sky 100.0%"}
    assert str(result([[1, 1], [0, 2]])) == "road 50.0%, sky 25.0%, car 25.0%"
    assert str(result([[255]])) == "nothing"


def test_to_dict_is_json_and_the_mask_comes_back():
    mask = np.array([[0, 0, 1], [1, 255, 255]], np.uint8)
    values = json.loads(json.dumps(result(mask, TWO).to_dict()))
    assert values == {
        "height": 2,
        "width": 3,
        "classes": [
            {"class_id": 0, "label": "background", "share": 0.5},
            {"class_id": 1, "label": "vessel", "share": 0.5},
        ],
        "mask": [[0, 2], [1, 2], [255, 2]],
        "latency_ms": 1.2346,
    }
    assert (decode_runs(values["mask"], values["height"], values["width"]) == mask).all()


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (64, 48), (0, 4)])
def test_runs_round_trip(shape):
    mask = np.random.default_rng(0).choice(np.array([0, 1, 10, 255], np.uint8), shape)
    runs = encode_runs(mask)
    assert (decode_runs(runs, *shape) == mask).all()
    assert all(a[0] != b[0] for a, b in pairwise(runs))


@pytest.mark.parametrize("runs", [[], [[0, 5]], [[0, 7]], [[0, 7], [1, -1]], [[256, 6]], [[-1, 6]], [[0, 6], [1, 0]]])
def test_damaged_runs_are_refused(runs):
    with pytest.raises(DataError, match="fill a mask of 2 x 3"):
        decode_runs(runs, 2, 3)


def luminance(pixels):
    return np.asarray(pixels, np.float64) @ [0.114, 0.587, 0.299]


@pytest.mark.parametrize("grey", [0, 128, 255])
@pytest.mark.parametrize("class_id", range(1, 12))
def test_outlines_are_seen_on_dark_and_on_light(grey, class_id):
    """Some pixel of the outline is far from the frame beside it, in light or in colour."""
    labels = tuple(f"c{i}" for i in range(12))
    mask = np.zeros((320, 320), np.uint8)
    mask[100:200, 100:200] = class_id
    frame = np.full((320, 320, 3), grey, np.uint8)
    drawn = result(mask, ("background", *labels[1:])).draw(frame)[:320]
    inner, outer, fill = drawn[150, 100], drawn[150, 99], drawn[150, 150]
    assert np.abs(inner.astype(int) - grey).max() >= 100
    assert grey == 0 or luminance(outer) <= grey * 0.3
    assert (fill != inner).any() and (fill != grey).any()
    assert (drawn[50, 50] == grey).all() and (drawn[150, 98] == grey).all()


def test_neighbouring_classes_are_told_apart():
    mask = np.zeros((320, 320), np.uint8)
    mask[:, 160:] = 1
    drawn = result(mask).draw(np.full((320, 320, 3), 90, np.uint8))
    assert np.abs(drawn[10, 159].astype(int) - drawn[10, 160].astype(int)).max() > 100
    assert np.abs(drawn[10, 10].astype(int) - drawn[10, 300].astype(int)).max() > 60


@pytest.mark.parametrize(("size", "factor"), [((8, 8), 40), ((240, 320), 1), ((100, 319), 2), ((1, 1), 320)])
def test_draw_leaves_the_frame_alone(size, factor):
    frame = np.random.default_rng(0).integers(0, 255, (*size, 3)).astype(np.uint8)
    before = frame.copy()
    drawn = result(np.zeros(size), TWO).draw(frame)
    assert (frame == before).all()
    high = size[0] * factor
    assert drawn.dtype == np.uint8 and drawn.shape == (high + max(24, high // 20) + 8, size[1] * factor, 3)
    assert (drawn[:high:factor, ::factor] == frame).all()  # background keeps its pixels


def test_the_legend_names_the_classes_present_in_fixed_places():
    """All pictures of a video have one size, whatever is in them."""
    frame = np.zeros((320, 480, 3), np.uint8)
    pictures = [result(np.full((320, 480), c)).draw(frame) for c in range(3)]
    bands = [picture[320:] for picture in pictures]
    assert len({picture.shape for picture in pictures}) == 1
    written = [(band != 32).any(axis=2) for band in bands]
    assert all(w.any() for w in written)
    columns = [np.flatnonzero(w.any(axis=0)) + 480 * (np.flatnonzero(w.any(axis=1))[0] > 26) for w in written]
    assert columns[0].max() < columns[1].min() and columns[1].max() < columns[2].min()


def test_a_crop_is_dimmed_and_a_smaller_frame_gets_the_mask_stretched():
    mask = np.zeros((320, 320), np.uint8)
    mask[:, :160] = 255
    drawn = result(mask, TWO).draw(np.full((640, 640, 3), 200, np.uint8))
    assert (drawn[320, 100] == 100).all() and (drawn[320, 500] == 200).all()
