import numpy as np
import pytest

from edgeattn.data.degrade import HOLE, LARGEST_HOLE, Degradation, down_sample
from edgeattn.metrics.restoration import psnr_db


def flat(value: int = 128, size: tuple[int, int] = (128, 128)) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


def draw(degradation: Degradation, clean: np.ndarray, seed: int = 0) -> np.ndarray:
    return degradation.apply(clean, np.random.default_rng(seed))


def test_nothing_to_do_gives_a_copy() -> None:
    clean = flat()
    frame = draw(Degradation(), clean)
    assert (frame == clean).all() and not np.shares_memory(frame, clean)


def test_noise_has_the_level_asked_for() -> None:
    clean = flat()
    before = clean.copy()
    frame = draw(Degradation(noise=25.0), clean)
    assert frame.dtype == np.uint8 and (clean == before).all()
    error = frame.astype(float) - 128
    assert error.std() == pytest.approx(25, abs=0.4) and abs(error.mean()) < 0.5
    assert psnr_db(clean, frame) == pytest.approx(20.17, abs=0.1)


def test_colour_noise_differs_between_channels_and_grey_noise_does_not() -> None:
    """Averaging three independent measurements would lower the noise by the square root of 3; equal ones it cannot."""
    clean = flat()
    colour, grey = (draw(Degradation(noise=25.0, grey=grey), clean) for grey in (False, True))
    assert (colour[..., 0] != colour[..., 1]).any()
    assert (grey[..., 0] == grey[..., 1]).all() and (grey[..., 0] == grey[..., 2]).all()
    assert colour.mean(axis=2).std() == pytest.approx(25 / 3**0.5, abs=0.4)
    assert grey.mean(axis=2).std() == pytest.approx(25, abs=0.6)


@pytest.mark.parametrize(("value", "side"), [(0, 1), (255, -1)])
def test_frames_are_clipped_not_wrapped_round(value: int, side: int) -> None:
    """Half of the noise is cut off: the mean of what is left is 25 / sqrt(2 pi) = 9.97."""
    shift = (draw(Degradation(noise=25.0), flat(value)).astype(float) - value) * side
    assert shift.min() == 0.0
    assert shift.mean() == pytest.approx(9.97, abs=0.25)


def test_a_range_gives_every_frame_its_own_level() -> None:
    degradation, rng = Degradation(noise=(0.0, 50.0)), np.random.default_rng(3)
    levels = [(degradation.apply(flat(), rng).astype(float) - 128).std() for _ in range(40)]
    assert min(levels) < 10 and max(levels) > 38 and max(levels) < 52
    assert np.mean(levels) == pytest.approx(25, abs=6)


def test_the_seed_decides() -> None:
    degradation = Degradation(noise=(5.0, 20.0), scale=2, holes=0.2)
    first, again, other = (draw(degradation, flat(), seed) for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()


@pytest.mark.parametrize("scale", [2, 4])
def test_down_sampling_keeps_constants_and_slopes(scale: int) -> None:
    """Output pixel i lies at `scale i + (scale - 1) / 2`; a cubic kernel reproduces straight lines inside the image."""
    assert np.allclose(down_sample(flat(77, (32, 16)), scale), 77.0, atol=1e-4)
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None] * 3, (64, 64, 3))
    for image, axis in ((ramp, 0), (ramp.swapaxes(0, 1), 1)):
        got = down_sample(np.ascontiguousarray(image), scale).take(5, axis=1 - axis)[:, 0]
        want = 3 * (scale * np.arange(64 // scale) + (scale - 1) / 2)
        assert np.allclose(got[3:-3], want[3:-3], atol=1e-3)
    assert draw(Degradation(scale=scale), flat(77, (32, 16))).shape == (32 // scale, 16 // scale, 3)


def test_down_sampling_weights_by_hand() -> None:
    """A step between pixels 7 and 8 under Keys' kernel stretched by 2.

    Its values at 0.25, 0.75, 1.25, 1.75: 0.8672, 0.2266, -0.0703, -0.0234, halved. Output 3 lies at 6.5, so the bright
    side begins with its tap at +1.5 (0.75): (0.2266 - 0.0703 - 0.0234) / 2 = 0.0664.
    """
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, 8:] = 200
    row = down_sample(image, 2)[4, :, 0]
    assert row[[3, 4]] == pytest.approx([200 * 0.06640625, 200 * (1 - 0.06640625)], abs=1e-3)
    assert row[[0, 7]] == pytest.approx([0, 200], abs=1e-3)


def test_a_pattern_too_fine_for_the_scale_is_averaged_away() -> None:
    """Without antialiasing, a checkerboard would give black or white."""
    board = np.indices((32, 32)).sum(axis=0) % 2 * 255
    image = np.repeat(board[..., None], 3, axis=2).astype(np.uint8)
    assert np.abs(down_sample(image, 2)[2:-2, 2:-2] - 127.5).max() < 1.0


@pytest.mark.parametrize("share", [0.05, 0.25, 0.6])
@pytest.mark.parametrize("seed", range(4))
def test_holes_cover_the_share_asked_for(share: float, seed: int) -> None:
    clean = np.random.default_rng(9).integers(0, 256, (96, 64, 1)).repeat(3, axis=2).astype(np.uint8)
    frame = draw(Degradation(noise=10.0, grey=True, holes=share), clean, seed)
    mask = (frame == HOLE).all(axis=2)
    assert share <= mask.mean() <= share + LARGEST_HOLE
    # A grey frame has no magenta of its own, so that its mask can be read off.
    assert (mask == (frame[..., 0] != frame[..., 1])).all()


@pytest.mark.parametrize(
    ("size", "hole_px", "wanted"),
    [
        ((128, 128), 24, (24, 24)),
        ((512, 384), 24, (24, 24)),
        ((256, 256), 40, (40, 40)),
        ((256, 256), 7, (7, 7)),
        ((64, 48), 24, (16, 12)),  # a quarter of a small frame's sides
        ((3, 3), 24, (1, 1)),
    ],
)
def test_holes_have_a_size_in_pixels_whatever_the_frames(
    size: tuple[int, int], hole_px: int, wanted: tuple[int, int]
) -> None:
    """So small a share is covered by a single shape, whose extent is measured."""
    largest = np.zeros(2, int)
    for seed in range(300):
        frame = draw(Degradation(holes=1e-9, hole_px=hole_px), flat(size=size), seed)
        places = np.argwhere((frame == HOLE).all(axis=2))
        largest = np.maximum(largest, np.ptp(places, axis=0) + 1)
    assert tuple(largest) == wanted


def test_tiles_and_whole_images_have_as_many_holes_per_area() -> None:
    """A tenth of 128 x 128 and of 512 x 512: sixteen times the area, sixteen times the seams between hole and image."""

    def seams(side: int) -> float:
        mask = np.zeros((side, side), int)
        total = 0
        for seed in range(1024 // side):
            mask = (draw(Degradation(holes=0.1), flat(size=(side, side)), seed) == HOLE).all(axis=2).astype(int)
            total += int(np.abs(np.diff(mask, axis=0)).sum() + np.abs(np.diff(mask, axis=1)).sum())
        return total / (1024 // side) / side**2

    assert seams(128) == pytest.approx(seams(512), rel=0.2)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"noise": -1.0}, "noise must lie in 0..255"),
        ({"noise": (20.0, 10.0)}, "noise must lie in 0..255"),
        ({"noise": float("nan")}, "noise must lie in 0..255"),
        ({"scale": 3}, "scale must be 1, 2 or 4, got 3"),
        ({"holes": 1.0}, "holes must be a share of the frame"),
        ({"hole_px": 0}, "hole_px must be at least 1, got 0"),
    ],
)
def test_wrong_settings(fields: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Degradation(**fields)


def test_sides_must_divide() -> None:
    with pytest.raises(ValueError, match="divide by the scale 4, got 30 x 32"):
        draw(Degradation(scale=4), flat(size=(30, 32)))
