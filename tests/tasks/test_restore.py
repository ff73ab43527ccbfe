import json
from typing import Any

import numpy as np
import pytest

from edgeattn import tasks
from edgeattn.errors import DataError, ModelError
from edgeattn.imaging import Preprocess, View
from edgeattn.metrics.restoration import psnr_db
from edgeattn.tasks.restore import TASK


def colours(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A smooth picture, at any place."""
    planes = [128 + 80 * np.sin(x / 9), 128 + 80 * np.cos(y / 8), 128 + 60 * np.sin((x + y) / 12)]
    return np.stack(planes, axis=2).astype(np.uint8)


def picture(high: int = 40, wide: int = 60, scale: int = 1) -> np.ndarray:
    """`scale` times as large, pixel centres included."""
    y, x = (np.mgrid[: high * scale, : wide * scale] + 0.5) / scale - 0.5
    return colours(x, y)


def outputs(image: np.ndarray) -> dict[str, Any]:
    """What a network gives that has restored exactly `image`."""
    return {"restored": np.ascontiguousarray(image.transpose(2, 0, 1)[None]).astype(np.float32) / np.float32(255)}


def view(frame: np.ndarray, matrix: np.ndarray | None = None) -> tuple[View, ...]:
    return (View(frame, np.eye(3) if matrix is None else matrix),)


def test_found_by_name() -> None:
    assert tasks.find("restore") is TASK
    assert (TASK.target, TASK.inputs, TASK.tiles) == ("image", ("frame",), True)
    assert [(m.name, m.unit) for m in TASK.metrics] == [("psnr", "dB"), ("ssim", ""), ("psnr_y", "dB")]
    assert not any(m.binary for m in TASK.metrics) and all(m.higher_is_better for m in TASK.metrics)
    assert json.dumps(TASK.decoding)


def test_scores_by_hand() -> None:
    """5 levels off everywhere: 34.15 dB; in luma 5 * 219 / 255, so 1.32 dB more."""
    clean = np.full((16, 16, 3), 100, np.uint8)
    psnr, ssim, psnr_y = TASK.score(outputs(clean + 5), clean, view(clean))
    assert psnr == pytest.approx(34.1514, abs=1e-3)
    assert psnr_y == pytest.approx(34.1514 + 1.3219, abs=1e-3)
    # Constant planes: (2 * 100 * 105 + C1) / (100^2 + 105^2 + C1), C1 = 6.5025
    assert ssim == pytest.approx(21006.5025 / 21031.5025)


def test_ssim_of_enlarged_frames_is_that_of_luma() -> None:
    """100 and 105 are 101.882 and 106.176 in studio range."""
    clean = np.full((16, 16, 3), 100, np.uint8)
    ssim = TASK.score(outputs(clean + 5), clean, view(clean[::2, ::2]))[1]
    a, b = 16 + 100 * 219 / 255, 16 + 105 * 219 / 255
    assert ssim == pytest.approx((2 * a * b + 6.5025) / (a * a + b * b + 6.5025), abs=1e-9)


def test_what_is_scored_is_the_frame_that_is_shown() -> None:
    """Rounded and clipped: 255.4 and -3 are 255 and 0."""
    clean = np.zeros((16, 16, 3), np.uint8)
    clean[8:] = 255
    raw = outputs(clean)
    raw["restored"] += np.where(raw["restored"] > 0.5, np.float32(0.4), np.float32(-3)) / np.float32(255)
    assert TASK.score(raw, clean, view(clean)) == pytest.approx(TASK.score(outputs(clean), clean, view(clean)))


def test_equal_images_have_finite_scores() -> None:
    clean = picture()
    scores = TASK.score(outputs(clean), clean, view(clean))
    assert np.isfinite(scores).all() and scores[0] == pytest.approx(48.1308 + 10 * np.log10(40 * 60 * 3), abs=1e-3)
    worse = clean.copy()
    worse[0, 0, 0] ^= 3
    assert TASK.score(outputs(worse), clean, view(clean))[0] < scores[0]


def test_a_broken_network_scores_low() -> None:
    clean = picture()
    broken = {"restored": np.full((1, 3, 40, 60), np.nan, np.float32)}
    scores = TASK.score(broken, clean, view(clean))
    assert np.isfinite(scores).all() and scores[0] < 10


def test_summaries_are_means_over_images() -> None:
    scores = np.array([[29.0, 0.8, 30.0], [31.0, 0.9, 33.0]])
    assert [TASK.summarize(scores, m.name) for m in TASK.metrics] == pytest.approx([30.0, 0.85, 31.5])
    with pytest.raises(ValueError, match="is not in list"):
        TASK.summarize(scores, "top1")


def test_agreement() -> None:
    """51 of 255 levels darker everywhere: 0.8."""
    image = np.full((16, 16, 3), 151, np.uint8)
    assert TASK.agreement(outputs(image), outputs(image)) == 1.0
    assert TASK.agreement(outputs(image - 51), outputs(image)) == pytest.approx(0.8)
    assert TASK.agreement(outputs(image * 0), outputs(image * 0 + 255)) == 0.0
    assert TASK.comparable(outputs(image), outputs(image))[0]["restored"].shape == (1, 3, 16, 16)
    assert TASK.per_label(np.zeros((2, 3)), 0) is None


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_scale_is_read_from_the_shapes(scale: int) -> None:
    frame = picture(12, 20)
    large = picture(12, 20, scale)
    result = TASK.decode(outputs(large), view(frame), (), 1.23456)
    assert (result.image == large).all() and result.image.dtype == np.uint8
    assert str(result) == f"restored to {20 * scale} x {12 * scale} pixels"
    assert json.loads(json.dumps(result.to_dict())) == {
        "height": 12 * scale,
        "width": 20 * scale,
        "latency_ms": 1.2346,
    }


@pytest.mark.parametrize("fit", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("size", [(32, 32), (64, 64), (48, 96)])
def test_resized_frames_come_back_in_their_own_pixels(fit: Any, scale: int, size: tuple[int, int]) -> None:
    """A network that restores perfectly what it sees, and letterbox's padding: shifted by a pixel, means would show."""
    large, frame = picture(100, 140, scale), picture(100, 140)
    _, matrix = Preprocess(*size, fit=fit).apply_with_matrix(frame)
    v, u = (np.mgrid[: size[0] * scale, : size[1] * scale] + 0.5) / scale - 0.5
    x, y = (u - matrix[0, 2]) / matrix[0, 0], (v - matrix[1, 2]) / matrix[1, 1]
    outside = (x < -0.5) | (x > 139.5) | (y < -0.5) | (y > 99.5)
    seen = np.where(outside[..., None], 114, colours(x, y)).astype(np.uint8)
    result = TASK.decode(outputs(seen), view(frame, matrix), (), 0.0)
    assert result.image.shape == (100 * scale, 140 * scale, 3)
    error = result.image.astype(float) - large
    assert np.abs(error).mean() < 1.5 and np.quantile(np.abs(error), 0.99) < 8
    assert TASK.score(outputs(seen), large, view(frame, matrix))[0] == pytest.approx(psnr_db(large, result.image))


def test_what_crop_cuts_off_stays_as_it_was() -> None:
    frame = picture(40, 100)
    fitted, matrix = Preprocess(32, 32).apply_with_matrix(frame)
    image = TASK.decode(outputs(np.zeros_like(fitted)), view(frame, matrix), (), 0.0).image
    assert (image[:, 30:70] == 0).all()
    assert (image[:, :29] == frame[:, :29]).all() and (image[:, 71:] == frame[:, 71:]).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"logits": np.zeros((1, 3))},
        {"restored": np.zeros((1, 3, 12))},
        {"restored": np.zeros((2, 3, 12, 20))},
        {"restored": np.zeros((1, 1, 12, 20))},
        {"restored": np.zeros((1, 3, 0, 20))},
    ],
)
def test_another_networks_outputs(wrong: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"must give 'restored' of shape \(1, 3, height, width\); got \{"):
        TASK.decode(wrong, view(picture(12, 20)), (), 0.0)


@pytest.mark.parametrize("shape", [(12, 40), (18, 30), (6, 10), (13, 20)])
def test_outputs_that_are_no_whole_multiple(shape: tuple[int, int]) -> None:
    with pytest.raises(ModelError, match="no whole multiple"):
        TASK.decode({"restored": np.zeros((1, 3, *shape), np.float32)}, view(picture(12, 20)), (), 0.0)


@pytest.mark.parametrize(("frame", "target"), [((16, 16), (32, 32)), ((10, 16), (10, 16))])
def test_targets_that_cannot_be_scored(frame: tuple[int, int], target: tuple[int, int]) -> None:
    image = picture(*frame)
    with pytest.raises(DataError, match="at least 11 pixels"):
        TASK.score(outputs(image), picture(*target), view(image))


def test_describe() -> None:
    clean = np.full((16, 20, 3), 100, np.uint8)
    assert TASK.describe(outputs(clean + 5), clean, (), ()) == {"predicted": "34.15 dB", "truth": "20 x 16 pixels"}
    resized = TASK.describe(outputs(clean[:8]), clean, (), ())
    assert resized == {"predicted": "20 x 8 pixels", "truth": "20 x 16 pixels"}


@pytest.mark.parametrize(("wide", "scale", "factor"), [(340, 1, 1), (60, 1, 6), (170, 2, 1), (1, 1, 64)])
def test_draw_shows_both_halves(wide: int, scale: int, factor: int) -> None:
    frame = np.full((20, wide, 3), 50, np.uint8)
    before = frame.copy()
    result = TASK.decode(outputs(np.full((20 * scale, wide * scale, 3), 200, np.uint8)), view(frame), (), 0.0)
    drawn = result.draw(frame)
    high, across = 20 * scale * factor, wide * scale * factor
    assert (frame == before).all()
    assert drawn.dtype == np.uint8 and drawn.shape == (high + 28, across, 3)
    cut = wide * scale // 2 * factor
    assert (drawn[:high, :cut] == 50).all()
    assert (drawn[:high, cut] == 255).all()
    assert (drawn[:high, cut + 1 :] == 200).all()
    assert drawn[high:].max() > 200  # the labels


def test_the_attention_map_is_handed_on() -> None:
    image = picture(12, 20)
    given = {**outputs(image), "attention": np.full((1, 1, 3, 5), 0.5, np.float32)}
    assert TASK.decode(given, view(image), (), 0.0).attention.shape == (3, 5)
    assert TASK.decode(outputs(image), view(image), (), 0.0).attention is None
