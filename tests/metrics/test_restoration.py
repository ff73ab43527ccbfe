import math

import numpy as np
import pytest

from edgeattn.metrics.restoration import grey, luma, psnr_db, psnr_db_max, ssim, to_uint8


def _noisy(seed: int = 0, size: tuple[int, int] = (14, 13)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    clean = rng.integers(0, 256, size).astype(np.uint8)
    return clean, np.clip(clean + rng.normal(0, 25, size), 0, 255).astype(np.uint8)


def test_rounding_and_clipping() -> None:
    values = np.array([-0.1, 0.0, 0.5, 0.6, 1.0, 1.2, np.nan, np.inf, -np.inf], np.float32)
    image = to_uint8(values)
    assert image.dtype == np.uint8
    assert image.tolist() == [0, 0, 128, 153, 255, 255, 0, 255, 0]


@pytest.mark.parametrize("level", [0, 1, 77, 254, 255])
def test_levels_survive_the_network_scale(level: int) -> None:
    assert to_uint8(np.array([level / 255], np.float32)).tolist() == [level]


@pytest.mark.parametrize(
    ("bgr", "y", "full"),
    [
        ((0, 0, 0), 16.0, 0.0),
        ((255, 255, 255), 235.0, 255.0),
        ((0, 255, 0), 144.553, 149.685),
        ((255, 0, 0), 40.966, 29.07),
        ((0, 0, 255), 81.481, 76.245),
        ((100, 100, 100), 16 + 100 * 219 / 255, 100.0),
    ],
)
def test_luma_and_grey(bgr: tuple[int, int, int], y: float, full: float) -> None:
    image = np.array([[bgr]], np.uint8)
    assert luma(image).item() == pytest.approx(y)
    assert grey(image).item() == pytest.approx(full)


def test_psnr_by_hand() -> None:
    """255^2 / 25 = 2601; errors 0, 0, 0, 10 have a mean square of 25 as well."""
    clean = np.full((2, 2), 100, np.uint8)
    assert psnr_db(clean, clean + 5) == pytest.approx(34.1514, abs=1e-4)
    assert psnr_db(clean, clean - 5) == pytest.approx(34.1514, abs=1e-4)  # uint8 differences must not wrap round
    assert psnr_db(clean, np.array([[100, 100], [100, 90]], np.uint8)) == pytest.approx(34.1514, abs=1e-4)
    assert psnr_db(np.zeros((2, 2)), np.full((2, 2), 255)) == 0.0
    assert psnr_db(clean, clean) == math.inf


def test_psnr_of_noise_of_sigma_25() -> None:
    """Unclipped, it is 20 log10(255 / 25) = 20.1720 dB."""
    noise = np.random.default_rng(0).normal(0, 25, (512, 512))
    assert psnr_db(np.zeros_like(noise), noise) == pytest.approx(20.172, abs=0.02)


def test_studio_range_lifts_grey_images_by_1_322_db() -> None:
    clean, image = (np.repeat(plane[..., None], 3, axis=2) for plane in _noisy())
    assert psnr_db(luma(clean), luma(image)) - psnr_db(clean, image) == pytest.approx(1.3219, abs=1e-3)


def test_one_level_off_is_the_best_a_different_image_can_do() -> None:
    clean = np.full((8, 8, 3), 7, np.uint8)
    other = clean.copy()
    other[3, 3, 1] += 1
    assert psnr_db(clean, other) == pytest.approx(psnr_db_max(clean.size))
    assert psnr_db_max(256 * 256) == pytest.approx(96.2956, abs=1e-4)


def test_ssim_of_constant_planes_by_hand() -> None:
    """(2 * 100 * 110 + 6.5025) / (100^2 + 110^2 + 6.5025)."""
    first, second = np.full((11, 11), 100.0), np.full((11, 11), 110.0)
    assert ssim(first, second) == pytest.approx(22006.5025 / 22106.5025)
    assert ssim(first, second) == pytest.approx(0.995477, abs=1e-6)


def test_ssim_of_equal_and_of_inverted() -> None:
    clean, image = _noisy()
    assert ssim(clean, clean) == 1.0
    assert ssim(clean, image) == ssim(image, clean) < 1.0
    assert ssim(clean, 255 - clean) < 0.0


def test_ssim_equals_loops() -> None:
    """Every window inside the plane, weight by weight."""
    clean, image = _noisy()
    offset = np.arange(-5, 6)
    weight = np.exp(-(offset[:, None] ** 2 + offset[None, :] ** 2) / (2 * 1.5**2))
    weight /= weight.sum()
    values = []
    for top in range(clean.shape[0] - 10):
        for left in range(clean.shape[1] - 10):
            x = clean[top : top + 11, left : left + 11].astype(float)
            y = image[top : top + 11, left : left + 11].astype(float)
            mx, my = (weight * x).sum(), (weight * y).sum()
            vx, vy = (weight * (x - mx) ** 2).sum(), (weight * (y - my) ** 2).sum()
            cxy = (weight * (x - mx) * (y - my)).sum()
            top_line = (2 * mx * my + 6.5025) * (2 * cxy + 58.5225)
            values.append(top_line / ((mx**2 + my**2 + 6.5025) * (vx + vy + 58.5225)))
    assert len(values) == 4 * 3
    assert ssim(clean, image) == pytest.approx(np.mean(values), abs=1e-9)


def test_agrees_with_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    clean, image = _noisy(size=(40, 50))
    theirs = metrics.structural_similarity(
        clean, image, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(clean, image) == pytest.approx(theirs, abs=1e-7)
    assert psnr_db(clean, image) == pytest.approx(metrics.peak_signal_noise_ratio(clean, image, data_range=255))


@pytest.mark.parametrize(("first", "second"), [((11, 11), (11, 12)), ((12, 11, 3), (12, 11, 1))])
def test_other_shapes_are_refused(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    for metric in (psnr_db, ssim):
        with pytest.raises(ValueError, match="images of one shape are compared"):
            metric(np.zeros(first), np.zeros(second))


@pytest.mark.parametrize("shape", [(10, 40), (40, 10), (16, 16, 3)])
def test_ssim_needs_a_window(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="planes of at least 11 x 11"):
        ssim(np.zeros(shape), np.zeros(shape))
