from dataclasses import replace

import cv2
import numpy as np
import pytest

from edgeattn.data.scene_plan import Camera, ScenePlan, SecondView, make_plan, make_second_view
from edgeattn.data.scene_render import add_sensor, boxes, class_mask, clean, degraded, second_view
from edgeattn.data.scene_source import SPLITS, source

LUMINANCE = np.array([0.114, 0.587, 0.299])


def plan(index: int = 0, *, split: str = "train", size: int = 64, digits: int = 1) -> ScenePlan:
    return make_plan(source(), split, index, seed=0, size=size, digits=digits)


def test_the_same_plan_gives_the_same_pixels() -> None:
    frame = degraded(source(), plan())
    assert frame.dtype == np.uint8 and frame.shape == (64, 64, 3) and frame.flags.c_contiguous
    np.testing.assert_array_equal(frame, degraded(source(), plan()))
    assert (frame != degraded(source(), plan(1))).mean() > 0.5


@pytest.mark.parametrize("split", SPLITS)
def test_digits_stand_out_from_their_background(split: str) -> None:
    for index in range(100):
        scene = replace(plan(index, split=split), camera=Camera())
        luminance = clean(source(), scene) @ LUMINANCE
        ((x1, y1, x2, y2),) = boxes(source(), scene).astype(int)
        inside, ink = luminance[y1:y2, x1:x2], class_mask(source(), scene)[y1:y2, x1:x2] > 0
        # 90 levels from the mean background; pixels at the rim of the stroke are part ink, part background.
        assert abs(inside[ink].mean() - inside[~ink].mean()) > 45


@pytest.mark.parametrize(("digits", "size"), [(1, 64), (1, 224), (4, 128)])
def test_boxes_enclose_the_mask_exactly(digits: int, size: int) -> None:
    for index in range(20):
        scene = plan(index, digits=digits, size=size)
        mask = class_mask(source(), scene)
        found = boxes(source(), scene)
        assert mask.shape == (size, size) and mask.dtype == np.uint8
        assert found.shape == (digits, 4) and found.dtype == np.float32
        outside = mask.copy()
        for digit, (x1, y1, x2, y2) in zip(scene.digits, found.astype(int), strict=True):
            ink = mask[y1:y2, x1:x2] == digit.label + 1
            # Ink on each of the four sides, all of it in the frame, and none of it outside.
            assert ink[0].any() and ink[-1].any() and ink[:, 0].any() and ink[:, -1].any()
            assert 0 <= x1 < x2 <= size and 0 <= y1 < y2 <= size
            outside[y1:y2, x1:x2] = 0
        assert not outside.any()


def test_the_mask_is_where_ink_covers_half_of_the_pixel() -> None:
    scene = replace(plan(3), camera=Camera())
    (digit,) = scene.digits
    blue = replace(scene, digits=(replace(digit, colour=(0.9, 0.1, 0.1)),))
    red = replace(scene, digits=(replace(digit, colour=(0.1, 0.1, 0.9)),))
    changed = np.abs(clean(source(), blue).astype(float) - clean(source(), red)).max(axis=2)
    coverage = changed / changed.max()
    mask = class_mask(source(), scene) > 0
    # 25 levels between the two inks: rounding moves the measured coverage by up to 0.04.
    assert changed.max() >= 25
    assert coverage[mask].min() > 0.46
    assert coverage[~mask].max() < 0.54


def test_a_point_warped_by_the_homography_shows_the_same_content() -> None:
    for index in range(20):
        scene = replace(plan(index), camera=Camera())
        homography = make_second_view(scene, seed=5).homography
        a, b = clean(source(), scene), second_view(source(), scene, SecondView(homography, Camera()))
        expected = cv2.warpPerspective(a, homography, (64, 64))
        inside = cv2.erode(cv2.warpPerspective(np.ones((64, 64), np.uint8), homography, (64, 64)), np.ones((5, 5)))
        error = np.abs(expected.astype(int) - b)[inside > 0].mean()
        unmoved = np.abs(a.astype(int) - b)[inside > 0].mean()
        # A twice interpolated image against a once interpolated one: soft edges differ, content does not.
        assert error < 5.0
        assert error < 0.5 * unmoved or unmoved < 2.0
        one_off = np.roll(expected, 1, axis=1).astype(int)
        assert error < np.abs(one_off - b)[inside > 0].mean()


def test_an_unmoved_second_view_under_the_same_camera_is_the_first() -> None:
    scene = plan(2, digits=3, size=96)
    same = second_view(source(), scene, SecondView(np.eye(3), scene.camera))
    np.testing.assert_array_equal(same, degraded(source(), scene))


def test_degraded_differs_from_clean_by_noise_and_blur_only() -> None:
    scene = plan(4)
    silent = replace(scene, camera=replace(scene.camera, noise=0.0, blur_px=0.0))
    np.testing.assert_array_equal(degraded(source(), silent), clean(source(), scene))
    np.testing.assert_array_equal(degraded(source(), scene), add_sensor(clean(source(), scene), scene.camera))


def test_noise_and_blur_have_the_stated_size() -> None:
    grey = np.full((128, 128, 3), 128, np.uint8)
    noise = add_sensor(grey, Camera(noise=5.0, noise_seed=1)).astype(float) - 128
    assert abs(noise.mean()) < 0.1  # standard error 5 / sqrt(49152) = 0.023
    assert abs(noise.std() - 5.0) < 0.15
    assert np.abs(np.corrcoef(noise.reshape(-1, 3).T) - np.eye(3)).max() < 0.05
    step = np.repeat(np.where(np.arange(128) < 64, 50, 200).astype(np.uint8)[None, :, None], 128, 0).repeat(3, 2)
    profile = np.diff(add_sensor(step, Camera(blur_px=1.0))[64, :, 0].astype(float))
    position = np.arange(127)
    centre = (profile * position).sum() / profile.sum()
    assert centre == pytest.approx(63.0)
    # The slope of a blurred step is the blur kernel: its standard deviation is 1 pixel, cut off at 3.
    assert np.sqrt((profile * (position - centre) ** 2).sum() / profile.sum()) == pytest.approx(1.0, abs=0.05)


def test_light_falls_in_its_direction() -> None:
    scene = replace(plan(0), camera=Camera())
    lit = replace(scene, camera=Camera(gain=0.9, fall=0.3, direction_deg=0.0, tint=(0.5, 1.0, 1.0)))
    ratio = clean(source(), lit)[:, :, 1].astype(float).sum(axis=0) / clean(source(), scene)[:, :, 1].sum(axis=0)
    # Towards +x: from the full gain at the left edge to 0.9 x (1 - 0.3) = 0.63 at the right.
    assert ratio[0] == pytest.approx(0.9, abs=0.03)
    assert ratio[-1] == pytest.approx(0.63, abs=0.03)
    blue = clean(source(), lit)[:, :, 0].sum() / clean(source(), scene)[:, :, 0].sum()
    assert blue == pytest.approx(0.5 * ratio.mean(), abs=0.05)


def test_pixels_come_from_the_split_s_region_only() -> None:
    material = source()
    scene = replace(plan(0, split="calibration"), camera=Camera())
    blacked = []
    for index, photo in enumerate(material.photos):
        kept = np.zeros_like(photo)
        for region in material.regions["calibration"]:
            if region.photo == index:
                area = np.s_[region.top : region.top + region.height, region.left : region.left + region.width]
                kept[area] = photo[area]
        blacked.append(kept)
    moved = make_second_view(scene, seed=0)
    only = replace(material, photos=tuple(blacked))
    np.testing.assert_array_equal(second_view(material, scene, moved), second_view(only, scene, moved))
