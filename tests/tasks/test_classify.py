import json
from typing import Any

import numpy as np
import pytest

from edgeattn import tasks
from edgeattn.errors import InputError, ModelError, RecipeError
from edgeattn.imaging import View
from edgeattn.tasks.base import metric_of
from edgeattn.tasks.classify import TASK, Classification

LABELS = ("cat", "dog", "owl")
VIEWS = (View(np.zeros((4, 4, 3), np.uint8), np.eye(3)),)


def _logits(*values: float) -> dict[str, Any]:
    return {"logits": np.array([values], np.float32)}


def _decode(*values: float) -> Classification:
    return TASK.decode(_logits(*values), VIEWS, LABELS, 1.23456)


def test_found_by_name() -> None:
    assert tasks.find("classify") is TASK
    assert "classify" in tasks.names() and "base" not in tasks.names()
    assert TASK.decoding == {"output": "logits", "activation": "softmax"}
    assert json.dumps(TASK.decoding)
    with pytest.raises(InputError, match=r"no task 'fly'; known tasks: .*classify"):
        tasks.find("fly")


def test_decode_ranks_and_normalises() -> None:
    """exp(0), exp(ln 2), exp(ln 5): 1/8, 2/8, 5/8."""
    result = _decode(0.0, np.log(5), np.log(2))
    assert result.class_id.tolist() == [1, 2, 0]
    assert result.class_id.dtype == np.int64 and result.confidence.dtype == np.float32
    assert result.confidence.tolist() == pytest.approx([5 / 8, 2 / 8, 1 / 8])
    assert str(result) == "dog 62.5%, owl 25.0%, cat 12.5%"


def test_equal_logits_keep_their_order() -> None:
    assert _decode(1, 1, 1).class_id.tolist() == [0, 1, 2]


def test_large_logits_do_not_overflow() -> None:
    assert _decode(1e4, 0, -1e4).confidence.tolist() == [1.0, 0.0, 0.0]


def test_to_dict_is_json() -> None:
    assert json.loads(json.dumps(_decode(0.0, np.log(5), np.log(2)).to_dict())) == {
        "class_id": [1, 2, 0],
        "confidence": [0.625, 0.25, 0.125],
        "labels": ["dog", "owl", "cat"],
        "latency_ms": 1.2346,
    }


@pytest.mark.parametrize(
    "outputs", [{}, {"scores": np.zeros((1, 3))}, _logits(1, 2), {"logits": np.zeros((2, 3))}, {"logits": np.zeros(3)}]
)
def test_another_networks_outputs(outputs: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"must give 'logits' of shape \(1, 3\), one per label; got \{"):
        TASK.decode(outputs, VIEWS, LABELS, 0.0)


@pytest.mark.parametrize(("target", "score"), [(1, 1.0), (0, 0.0), (np.int64(1), 1.0)])
def test_score(target: Any, score: float) -> None:
    """Right or wrong, and of which class."""
    assert TASK.score(_logits(0, 3, 2), target, VIEWS).tolist() == [score, float(target)]


def test_summary_and_agreement() -> None:
    """Three right of four."""
    assert TASK.summarize(np.array([[1.0, 2.0], [0.0, 2.0], [1.0, 0.0], [1.0, 9.0]]), "top1") == 75.0
    with pytest.raises(ValueError, match="classification has no metric 'top5'"):
        TASK.summarize(np.array([[1.0, 2.0]]), "top5")
    assert TASK.agreement(_logits(0, 3, 2), _logits(1, 9, 1)) == 1.0
    assert TASK.agreement(_logits(0, 3, 2), _logits(1, 0, 9)) == 0.0


def test_outputs_are_compared_as_they_are() -> None:
    ours, theirs = _logits(0, 3, 2), _logits(1, 9, 1)
    compared = TASK.comparable(ours, theirs)
    assert compared[0] is ours and compared[1] is theirs


def test_the_metric_of_each_label() -> None:
    """Class 0: one right of two; class 2: right; class 1 has no sample."""
    scores = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 2.0]])
    assert TASK.per_label(scores, 3) == [50.0, None, 100.0]


def test_the_metrics_are_found_by_name() -> None:
    assert metric_of(TASK, None) is metric_of(TASK, "top1") is TASK.metrics[0]
    assert (TASK.target, TASK.inputs, TASK.tiles) == ("label", ("frame",), False)
    with pytest.raises(RecipeError) as caught:
        metric_of(TASK, "top5")
    assert str(caught.value) == "The task classify has no metric 'top5'; known: top1."


def test_a_map_of_attention_comes_along() -> None:
    where = np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3) / 5
    result = TASK.decode({**_logits(0, 1, 2), "attention": where}, VIEWS, LABELS, 0.0)
    assert result.attention is not None
    assert result.attention.shape == (2, 3) and result.attention.dtype == np.float32
    assert (result.attention == where[0, 0]).all()
    assert _decode(0, 1, 2).attention is None
    assert "attention" not in result.to_dict()


def test_describe() -> None:
    words = TASK.describe(_logits(0.0, np.log(8), 0.0), 2, LABELS, ())
    assert words == {"predicted": "dog (80%)", "truth": "owl"}


@pytest.mark.parametrize(("size", "factor"), [((8, 8), 40), ((240, 320), 1), ((100, 319), 2), ((1, 1), 320)])
def test_draw_leaves_the_frame_alone(size: tuple[int, int], factor: int) -> None:
    """The picture is only enlarged; the text is in a band of three rows below it."""
    frame = np.random.default_rng(0).integers(0, 255, (*size, 3)).astype(np.uint8)
    before = frame.copy()
    drawn = _decode(0.0, np.log(5), np.log(2)).draw(frame)
    assert (frame == before).all()
    high, wide = size[0] * factor, size[1] * factor
    assert drawn.dtype == np.uint8 and drawn.shape == (high + 3 * max(24, high // 20) + 8, wide, 3)
    assert (drawn[:high:factor, ::factor] == frame).all()


def test_draw_shows_fewer_classes_than_three() -> None:
    result = TASK.decode(_logits(1, 2), VIEWS, LABELS[:2], 0.0)
    assert result.draw(np.zeros((320, 320, 3), np.uint8)).shape == (320 + 2 * 24 + 8, 320, 3)


def test_the_bar_is_as_long_as_the_confidence() -> None:
    """A certain first class fills the band's width (minus 4 pixels on each side), an impossible second none of it."""
    band = _decode(1e4, 0, -1e4).draw(np.zeros((320, 320, 3), np.uint8))[320:]
    coloured = (band == (96, 128, 32)).all(axis=2).sum(axis=1)
    assert coloured[4 + 2] == 313
    assert coloured[4 + 24 + 2] <= 1
