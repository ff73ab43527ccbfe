from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from edgeattn.errors import DataError, RecipeError
from edgeattn.recipe import Augment
from edgeattn.train import tiles
from edgeattn.train.augment import Augmentation, _kept

ALL = Augment(
    flip=True, vertical_flip=True, shift=0.1, scale=0.1, rotate=15, light=0.3, contrast=0.3, noise=10, erase=0.5
)
EACH = {
    "flip": Augment(flip=True),
    "vertical_flip": Augment(vertical_flip=True),
    "shift": Augment(shift=0.2),
    "scale": Augment(scale=0.3),
    "rotate": Augment(rotate=90),
    "light": Augment(light=0.4),
    "contrast": Augment(contrast=0.4),
    "noise": Augment(noise=20),
    "erase": Augment(erase=1.0),
}
MOVING = {name: EACH[name] for name in ("flip", "vertical_flip", "shift", "scale", "rotate")}
MOVING["several"] = Augment(flip=True, vertical_flip=True, shift=0.1, scale=0.2, rotate=20)
# What has boxes is not turned.
UPRIGHT = {name: s.model_copy(update={"rotate": 0.0}) for name, s in MOVING.items() if name != "rotate"}
LIGHT = Augment(light=0.4, contrast=0.4, noise=20)


def frames(count=8, side=24, of_each=1):
    return torch.randint(0, 256, (count, of_each, side, side, 3), generator=torch.manual_seed(3)).to(torch.uint8)


def applied(settings, x, targets=None, kind="label", seed=0, size=None, degradation=None):
    """Frames and targets after `settings`; labels count upwards."""
    height, width = size or x.shape[2:4]
    module = Augmentation(settings, kind, height, width, degradation)
    torch.manual_seed(seed)
    return module(x, torch.arange(len(x)) if targets is None else targets)


def grey_levels(x):
    """As uint8 `(N, F, H, W, 3)` again."""
    return (x * 255).round().permute(0, 1, 3, 4, 2).to(torch.uint8)


def rectangles(count=16, side=48):
    """White rectangles on black in the middle of the frame, their masks, and their boxes `(x1, y1, x2, y2)`."""
    x = torch.zeros(count, 1, side, side, 3, dtype=torch.uint8)
    corners = []
    for i in range(count):
        x1, y1, x2, y2 = 14 + i % 4, 16 + i % 3, 28 + i % 5, 26 + i % 4
        x[i, 0, y1:y2, x1:x2] = 255
        corners.append([x1, y1, x2, y2])
    return x, (x[:, 0, :, :, 0] > 0).to(torch.uint8), corners


def box_rows(corners, rows=6):
    boxes = torch.full((len(corners), rows, 5), -1.0)
    boxes[:, 2] = torch.tensor([[*box, 3] for box in corners])
    return boxes


def extent(white):
    rows, columns = torch.nonzero(white, as_tuple=True)
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]


def test_off_it_is_the_identity():
    x = frames()
    out, targets = applied(Augment(), x)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, x.permute(0, 1, 4, 2, 3).float() / 255, rtol=0, atol=1e-6)
    assert targets.tolist() == list(range(8))


@pytest.mark.parametrize("name", EACH)
def test_each_setting_changes_frames_and_keeps_shape_and_range(name):
    x = frames()
    out, targets = applied(EACH[name], x)
    assert out.shape == (8, 1, 3, 24, 24)
    if name != "noise":
        assert float(out.min()) >= 0
        assert float(out.max()) <= 1.00001
    assert not torch.allclose(out, x.permute(0, 1, 4, 2, 3).float() / 255, atol=1 / 255)
    assert targets.tolist() == list(range(8))


def test_noise_has_the_strength_it_was_given():
    """Half of the frames get noise; that has a standard deviation of 20 grey levels."""
    x = torch.full((64, 1, 24, 24, 3), 128, dtype=torch.uint8)
    spread = applied(Augment(noise=20), x)[0].flatten(1).std(dim=1) * 255
    noisy = spread[spread > 1e-3]
    assert 16 <= len(noisy) <= 48
    assert float(noisy.mean()) == pytest.approx(20, rel=0.05)


def test_light_adds_and_contrast_multiplies():
    """Grey levels 40, 80 and 120: the steps between them stay 40 under another light, their ratios under contrast."""
    x = torch.tensor([40, 80, 120], dtype=torch.uint8).repeat(8)[None, None, None, :, None].expand(32, 1, 24, 24, 3)
    lit, stretched = (applied(EACH[name], x)[0][:, 0, 0, 0, :3] * 255 for name in ("light", "contrast"))
    lit = lit[(lit > 0).all(dim=1)]  # 40 less 0.4 of 255 would be below black
    assert len(lit) > 8 and float(lit[:, 0].max() - lit[:, 0].min()) > 40
    torch.testing.assert_close(lit.diff(dim=1), torch.full_like(lit[:, 1:], 40.0), rtol=0, atol=1e-3)
    factors = stretched / torch.tensor([40.0, 80.0, 120.0])
    torch.testing.assert_close(factors, factors[:, :1].expand(-1, 3))
    assert 0.6 <= float(factors.min()) < 0.8 and 1.2 < float(factors.max()) <= 1.4


def test_each_frame_gets_its_own_change():
    x = frames(1).expand(8, -1, -1, -1, -1)
    out, _ = applied(ALL, x)
    assert len({frame.numpy().tobytes() for frame in out}) == 8


def test_it_depends_on_torchs_seed_only():
    x = frames()
    assert torch.equal(applied(ALL, x)[0], applied(ALL, x)[0])
    assert not torch.equal(applied(ALL, x)[0], applied(ALL, x, seed=1)[0])


@pytest.mark.parametrize("fill", [0, 90, 255])
def test_shifts_and_rotations_bring_in_no_border(fill):
    x = torch.full((4, 1, 24, 24, 3), fill, dtype=torch.uint8)
    out, _ = applied(Augment(shift=0.3, rotate=45, scale=0.3), x)
    torch.testing.assert_close(out, torch.full_like(out, fill / 255), rtol=0, atol=1e-4)


def test_a_shift_alone_moves_whole_pixels_and_blurs_nothing():
    x = frames(count=16)
    out, _ = applied(Augment(shift=0.125), x)
    for before, after in zip(x[:, 0], grey_levels(out)[:, 0], strict=True):
        # At most 3 pixels each way: the middle of the frame is found again, unchanged, at exactly that distance.
        places = [
            (dy, dx)
            for dy in range(-3, 4)
            for dx in range(-3, 4)
            if torch.equal(after[3 + dy : 21 + dy, 3 + dx : 21 + dx], before[3:21, 3:21])
        ]
        assert len(places) == 1


@pytest.mark.parametrize("kind", ["label", "mask", "image"])
@pytest.mark.parametrize("size", [(24, 24), (16, 16)])
def test_half_of_the_frames_that_are_turned_or_scaled_keep_their_grain(size, kind):
    """Noise of sigma 20 is noise of 13.3 after interpolation: a weight u and its 1 - u square to 2/3 in the mean."""
    grain = torch.randn(64, 1, 24, 24, 1, generator=torch.manual_seed(0)).mul(20).add(128).clamp(0, 255).to(torch.uint8)
    x = grain.expand(-1, -1, -1, -1, 3)
    targets = {"label": None, "mask": x[:, 0, :, :, 0], "image": x[:, 0]}[kind]
    out, moved = applied(Augment(rotate=20, scale=0.1), x, targets, kind, size=size)
    found = out[:, 0, 0] * 255
    if kind != "label":
        where = moved.float() if kind == "mask" else moved[:, 0] * 255
        assert float((found - where).abs().flatten(1).median(dim=1).values.max()) < 20
    inside = (x[:, 0, :, :, 0].float() / 255).unfold(1, size[0], 1).unfold(2, size[1], 1)
    exact = torch.stack([(w == f).flatten(2).all(dim=2).any() for w, f in zip(inside, out[:, 0, 0], strict=True)])
    assert 20 <= int(exact.sum()) <= 44
    assert float(found[exact].std()) == pytest.approx(20, abs=1)
    assert float(found[~exact].std()) == pytest.approx(13.3, abs=1.5)
    if kind == "mask":
        assert torch.equal(found[exact].round().to(torch.uint8), moved[exact])
    if kind == "image":
        assert torch.equal(out[:, 0], moved)


def test_positions_are_exact_under_bf16():
    ramp = torch.arange(24, dtype=torch.uint8).mul(10)[None, None, None, :, None].expand(4, 1, 24, 24, 3)
    exact, _ = applied(Augment(shift=0.2, scale=0.1), ramp)
    module = Augmentation(Augment(shift=0.2, scale=0.1), "label", 24, 24)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, _ = module(ramp, torch.zeros(4))
    assert torch.equal(exact, mixed)


@pytest.mark.parametrize("name", MOVING)
def test_a_mask_moves_with_its_frame(name):
    """Up to the rim, mirrored parts included; interpolation may differ from the nearest pixel along an edge only."""
    cells = torch.arange(48) // 12
    mask = ((cells[:, None] + cells[None, :]) % 2).to(torch.uint8).expand(16, -1, -1).contiguous()
    mask[:, :10, :7] = 1  # no symmetry that would hide a flip
    x = (mask * 255)[:, None, :, :, None].expand(-1, 1, -1, -1, 3)
    moved, targets = applied(MOVING[name], x, mask, "mask")
    assert targets.dtype == torch.uint8 and targets.shape == mask.shape
    assert not torch.equal(targets, mask)
    certain = (moved[:, 0, 0] - 0.5).abs() > 0.45
    assert float(certain.float().mean()) > 0.7
    assert torch.equal((moved[:, 0, 0] > 0.5)[certain], (targets == 1)[certain])


def test_a_masks_ids_are_never_mixed():
    mask = torch.randint(0, 2, (8, 24, 24), generator=torch.manual_seed(0)).mul(248).add(7).to(torch.uint8)
    _, targets = applied(MOVING["several"], frames(), mask, "mask")
    assert set(targets.unique().tolist()) == {7, 255}


@pytest.mark.parametrize("name", UPRIGHT)
def test_boxes_move_with_what_they_hold(name):
    """Exactly where pixels stay whole; else the pixels that are more white than black end within a pixel of it."""
    x, _, corners = rectangles()
    moved, targets = applied(UPRIGHT[name], x, box_rows(corners), "boxes")
    assert targets.shape == (16, 6, 5)
    exact = name in ("flip", "vertical_flip", "shift")
    changed = 0
    for i, before in enumerate(corners):
        seen, box = extent(moved[i, 0, 0] > 0.5), targets[i, 2]
        assert box[4] == 3
        assert box[:4].tolist() == pytest.approx(seen, abs=1e-3 if exact else 1.0)
        changed += seen != before
    assert changed > 4
    assert (targets[:, [0, 1, 3, 4, 5], 4] == -1).all(), "unused rows stay unused"


@pytest.mark.parametrize("name", ["shift", "scale"])
def test_no_object_is_seen_in_a_mirror_beside_boxes(name):
    """A square near the corner: mirrored, it would show a second time."""
    x = torch.zeros(64, 1, 48, 48, 3, dtype=torch.uint8)
    x[:, 0, 3:9, 3:9] = 255
    settings = EACH[name].model_copy(update={"shift": 0.3})
    moved, targets = applied(settings, x, box_rows([[3, 3, 9, 9]] * 64), "boxes")
    whole = 0
    for white, box in zip(moved[:, 0, 0] > 0.5, targets[:, 2, :4], strict=True):
        x1, y1, x2, y2 = box.tolist()
        if min(x1, y1) > 2:  # nothing of it was drawn out of the rim
            assert extent(white) == pytest.approx([x1, y1, x2, y2], abs=1.0)
            whole += 1
    assert whole > 8


def test_boxes_are_not_turned():
    with pytest.raises(RecipeError, match=r"train\.augment\.rotate must be 0 where boxes are taught, got 15:"):
        Augmentation(Augment(rotate=15), "boxes", 24, 24)


@pytest.mark.parametrize("kind", ["label", "mask", "image"])
def test_without_boxes_the_rim_is_mirrored(kind):
    ramp = torch.arange(24, dtype=torch.uint8).mul(10)[None, None, None, :, None].expand(16, 1, 24, 24, 3)
    targets = {"label": None, "mask": torch.zeros(16, 24, 24, dtype=torch.uint8), "image": ramp[:, 0]}[kind]
    rows = grey_levels(applied(Augment(shift=0.25), ramp, targets, kind)[0])[:, 0, 0, :, 0].int()
    assert bool((rows.diff(dim=1).abs() == 10).all()), "no column is repeated"


def test_ignored_boxes_move_and_stay_ignored():
    x, _, corners = rectangles()
    boxes = box_rows(corners)
    wanted = applied(MOVING["flip"], x, boxes, "boxes")[1][:, 2, :4]
    boxes[:, 2, 4] = -2
    _, targets = applied(MOVING["flip"], x, boxes, "boxes")
    assert torch.equal(targets[:, 2, :4], wanted)
    assert targets[:, :, 4].tolist() == [[-1, -1, -2, -1, -1, -1]] * 16


def test_a_box_that_mostly_left_the_frame_is_ignored():
    """24 x 24 windows of which tiles of 12 x 12 are drawn; a box of 8 x 8 in the corner is cut at the tile's rim."""
    x = torch.zeros(64, 1, 24, 24, 3, dtype=torch.uint8)
    x[:, 0, :8, :8] = 255
    boxes = torch.full((64, 2, 5), -1.0)
    boxes[:, 0] = torch.tensor([0.0, 0, 8, 8, 1])
    moved, targets = applied(Augment(), x, boxes, "boxes", size=(12, 12))
    classes = []
    for tile, box in zip(moved[:, 0, 0], targets[:, 0], strict=True):
        area = int((tile > 0.5).sum())
        assert box[4] == (1 if area >= 16 else -2 if area else -1), "a quarter of 64 pixels must be left"
        if area:
            assert box[:4].tolist() == extent(tile > 0.5)
        classes.append(int(box[4]))
    assert set(classes) == {1, -2, -1}


@pytest.mark.parametrize(
    ("box", "found"),
    [
        ((-2, 4, 2, 8), (0, 4, 2, 8, 1)),  # half of it is left
        ((-6, 4, 2, 8), (0, 4, 2, 8, 1)),  # a quarter
        ((-7, 4, 2, 8), (0, 4, 2, 8, -2)),
        ((-2, 4, 1, 8), (0, 4, 1, 8, -2)),  # a third, but a side of 1 pixel
        ((4, 4, 5.5, 8), (4, 4, 5.5, 8, -2)),  # all, shrunk to a side of 1.5
        ((-4, 4, 0, 8), (0, 4, 0, 8, -1)),
        ((20, 20, 30, 30), (12, 12, 12, 12, -1)),
    ],
)
def test_what_is_left_of_a_moved_box(box, found):
    before = torch.tensor([[[0.0, 0, 4, 4, 1]]])
    assert _kept(torch.tensor([[box]], dtype=torch.float32), before, 12, 12)[0, 0].tolist() == list(found)


@pytest.mark.parametrize(
    ("kind", "settings"), [("label", Augment()), ("mask", Augment()), ("mask", Augment(flip=True))]
)
def test_a_random_tile_is_drawn_from_each_window(kind, settings):
    """Which one is read from the pixels, which are numbered."""
    numbered = torch.arange(24 * 24).reshape(24, 24)
    x = torch.stack([numbered % 256, numbered // 256, numbered * 0], dim=-1).to(torch.uint8)
    x = x.expand(32, 1, 24, 24, 3)
    mask = (numbered % 7).to(torch.uint8).expand(32, 24, 24)
    targets = mask if kind == "mask" else None
    out, moved = applied(settings, x, targets, kind, size=(16, 16))
    assert out.shape == (32, 1, 3, 16, 16)
    found = grey_levels(out).long()
    number = found[..., 0] + 256 * found[..., 1]
    if kind == "mask":
        assert torch.equal(moved.long(), number[:, 0] % 7)
    corners = number[:, 0].flatten(1).min(dim=1).values
    tops, lefts = corners // 24, corners % 24
    assert len(set(corners.tolist())) > 16
    assert max(tops.max(), lefts.max()) <= 8 and {*tops.tolist(), *lefts.tolist()} <= set(range(9))


@pytest.mark.parametrize("name", MOVING)
def test_a_mask_and_what_is_ignored_of_it_move_with_the_tile_of_its_window(name):
    """Where two of a checkerboard's cells meet, interpolation may differ from the nearest pixel. Grey is ignored."""
    cells = torch.arange(64) // 8
    board = (cells[:, None] + cells[None, :]) % 3
    mask = torch.tensor([0, 255, 1], dtype=torch.uint8)[board].expand(32, -1, -1)
    x = torch.tensor([0, 128, 255], dtype=torch.uint8)[board][None, None, :, :, None].expand(32, 1, -1, -1, 3)
    moved, targets = applied(MOVING[name], x, mask, "mask", size=(32, 32))
    assert targets.shape == (32, 32, 32) and targets.dtype == torch.uint8
    assert set(targets.unique().tolist()) == {0, 1, 255}
    grey = moved[:, 0, 0] * 255
    for level, label in ((0, 0), (255, 1)):  # no mixture of the others
        there = (grey - level).abs() < 1
        assert float(there.float().mean()) > 0.2
        assert bool((targets[there] == label).all())
    around = functional.max_pool2d(((grey - 128).abs() > 1).float(), 3, 1, 1) == 0
    assert float(around.float().mean()) > 0.05
    assert bool((targets[around] == 255).all())


@pytest.mark.parametrize("name", MOVING)
def test_what_is_moved_into_a_tile_is_the_windows_own(name, monkeypatch):
    """The tile in the middle of a ramp stays a ramp, without the kink that a mirror gives."""
    monkeypatch.setattr(tiles, "draw", lambda count, window, tile: torch.full((count,), (window - tile) // 2))
    ramp = torch.arange(64, dtype=torch.uint8).mul(3)[None, None, None, :, None].expand(16, 1, 64, 64, 3)
    moved, _ = applied(MOVING[name], ramp, ramp[:, 0, :, :, 0], "mask", size=(24, 24))
    assert float((moved.diff(dim=-1).diff(dim=-1) * 255).abs().max()) < 0.01
    assert float((moved.diff(dim=-2).diff(dim=-2) * 255).abs().max()) < 0.01


def test_boxes_in_windows_move_with_their_tile():
    """By exact margins too: what a shift takes out of the frame a smaller scale brings back, box and pixels."""
    x = torch.zeros(64, 1, 48, 48, 3, dtype=torch.uint8)
    x[:, 0, 14:24, 18:30] = 255
    boxes = torch.full((64, 2, 5), -1.0)
    boxes[:, 1] = torch.tensor([18.0, 14, 30, 24, 2])
    moved, targets = applied(Augment(flip=True, shift=0.3, scale=0.4), x, boxes, "boxes", size=(32, 32))
    assert (targets[:, 0, 4] == -1).all()
    whole = 0
    for white, box in zip(moved[:, 0, 0] > 0.5, targets[:, 1], strict=True):
        x1, y1, x2, y2, label = box.tolist()
        if label == 2 and min(x1, y1) > 1 and max(x2, y2) < 31:
            assert extent(white) == pytest.approx([x1, y1, x2, y2], abs=1.0)
            whole += 1
    assert whole > 16


@pytest.mark.parametrize("name", MOVING)
def test_a_clean_image_moves_with_its_frame(name):
    x = frames()
    moved, targets = applied(MOVING[name], x, x[:, 0], "image")
    assert targets.shape == (8, 3, 24, 24) and targets.dtype == torch.float32
    assert torch.equal(moved[:, 0], targets)


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("name", ["light", "contrast", "both"])
def test_a_clean_image_changes_its_light_with_its_frame(name, factor):
    """By the same draw: a frame and its clean image, be it twice as large, that agreed agree afterwards."""
    settings = Augment(light=0.4, contrast=0.4, flip=True) if name == "both" else EACH[name]
    x = frames()
    clean = x[:, 0].repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)
    relit, targets = applied(settings, x, clean, "image")
    torch.testing.assert_close(functional.avg_pool2d(targets, factor), relit[:, 0])
    still = x[:, 0].permute(0, 3, 1, 2).float() / 255
    assert int(((relit[:, 0] - still).abs().amax(dim=(1, 2, 3)) > 0.01).sum()) >= 4


@pytest.mark.parametrize("name", ["noise", "erase"])
def test_a_clean_image_is_not_spoilt_with_its_frame(name):
    x = frames()
    spoilt, targets = applied(EACH[name], x, x[:, 0], "image")
    torch.testing.assert_close(targets, x[:, 0].permute(0, 3, 1, 2).float() / 255, rtol=0, atol=1e-6)
    assert not torch.allclose(spoilt[:, 0], targets, atol=0.01)


def test_a_clean_image_of_twice_the_size_is_flipped_with_its_frame_or_refused():
    x = frames()
    clean = x[:, 0].repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    both = Augment(flip=True, vertical_flip=True)
    moved, targets = applied(both, x, clean, "image")
    torch.testing.assert_close(functional.avg_pool2d(targets, 2), moved[:, 0])
    assert not torch.equal(moved, x.permute(0, 1, 4, 2, 3).float() / 255)
    for settings in (Augment(shift=0.1), Augment(scale=0.1), Augment(rotate=5)):
        with pytest.raises(DataError, match=r"of two sizes can only be flipped; set train\.augment\.shift"):
            applied(settings, x, clean, "image")


def test_pairs_of_frames_only_change_their_light():
    x = frames(of_each=2)
    homographies = torch.eye(3).expand(8, 3, 3)
    still, targets = applied(MOVING["several"], x, homographies, "homography")
    torch.testing.assert_close(still, x.permute(0, 1, 4, 2, 3).float() / 255, rtol=0, atol=1e-6)
    assert targets is homographies
    x[:, 1] = x[:, 0]
    relit, targets = applied(LIGHT, x, homographies, "homography")
    assert relit.shape == (8, 2, 3, 24, 24) and targets is homographies
    assert not torch.allclose(relit[:, 0], relit[:, 1], atol=0.01), "each photograph has its own light"


class Darker:
    """Halves the light, and the size where `scale` is 2; takes note of a number drawn from the generator it gets."""

    def __init__(self, scale=1):
        self.scale = scale
        self.drawn = []

    def apply(self, clean, rng):
        assert clean.dtype == np.uint8 and clean.flags.c_contiguous
        self.drawn.append(float(rng.random()))
        return np.ascontiguousarray(clean[:: self.scale, :: self.scale] // 2)


@pytest.mark.parametrize("scale", [1, 2])
def test_degraded_anew_the_target_is_the_clean_image(scale):
    """Tiles of 8 are drawn from clean windows of 24; of an image that will be halved they have 16."""
    x, darker = frames(), Darker(scale)
    out, targets = applied(
        Augment(flip=True), x, torch.zeros(8, dtype=torch.uint8), "image", size=(8, 8), degradation=darker
    )
    assert out.shape == (8, 1, 3, 8, 8) and targets.shape == (8, 3, 8 * scale, 8 * scale)
    clean = (targets * 255).round()
    assert torch.equal((out[:, 0] * 255).round(), (clean[:, :, ::scale, ::scale] / 2).floor())
    inside = x[:, 0].unfold(1, 8 * scale, 1).unfold(2, 8 * scale, 1)  # (N, y, x, 3, tile, tile)
    for image, windows in zip(clean, inside, strict=True):
        assert any((w == image).flatten(2).all(dim=2).any() for w in (windows, windows.flip(-1)))


def test_clean_images_change_their_light_before_they_are_degraded():
    x, darker = frames(), Darker()
    out, targets = applied(Augment(light=0.4), x, torch.zeros(8), "image", degradation=darker)
    assert torch.equal((out[:, 0] * 255).round(), ((targets * 255).round() / 2).floor())
    assert not torch.allclose(targets, x[:, 0].permute(0, 3, 1, 2).float() / 255, atol=0.01)


@pytest.mark.parametrize("name", ["noise", "erase"])
def test_clean_images_are_not_spoilt(name):
    with pytest.raises(RecipeError, match=r"augment\.noise and train\.augment\.erase are not for clean images"):
        applied(EACH[name], frames(), torch.zeros(8), "image", degradation=Darker())


def test_every_epoch_degrades_anew_and_a_seed_repeats_it():
    x, darker = frames(), Darker()
    for seed in (0, 0, 1):
        applied(Augment(), x, torch.zeros(8), "image", seed=seed, degradation=darker)
    first, again, other = (darker.drawn[i : i + 8] for i in (0, 8, 16))
    assert first == again != other
    assert len(set(first)) == 8


@pytest.mark.parametrize("kind", ["mask", "boxes", "image", "homography"])
def test_targets_too_depend_on_torchs_seed_only(kind):
    x, mask, corners = rectangles()
    targets = {"mask": mask, "boxes": box_rows(corners), "image": x[:, 0], "homography": torch.eye(3)}[kind]
    settings = ALL.model_copy(update={"rotate": 0.0}) if kind == "boxes" else ALL
    first, again, other = (applied(settings, x, targets, kind, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
