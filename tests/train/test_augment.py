from __future__ import annotations

import pytest
import torch

from edgeattn.recipe import Augment
from edgeattn.train import augment

ALL = Augment(flip=True, shift=0.1, scale=0.1, rotate=15, light=0.3, contrast=0.3, erase=0.5)
EACH = {
    "flip": Augment(flip=True),
    "shift": Augment(shift=0.2),
    "scale": Augment(scale=0.3),
    "rotate": Augment(rotate=90),
    "light": Augment(light=0.4),
    "contrast": Augment(contrast=0.4),
    "erase": Augment(erase=1.0),
}


def frames(count=8, side=24):
    return torch.randint(0, 256, (count, side, side, 3), generator=torch.manual_seed(3)).to(torch.uint8)


def applied(settings, x, seed=0):
    module = augment.augmentation(settings, *x.shape[1:3])
    torch.manual_seed(seed)
    return augment.apply(module, x)


def test_off_it_is_the_identity():
    x = frames()
    out = applied(Augment(), x)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, x.permute(0, 3, 1, 2).float(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", EACH)
def test_each_setting_changes_frames_and_keeps_shape_and_range(name):
    x = frames()
    out = applied(EACH[name], x)
    assert out.shape == (8, 3, 24, 24)
    assert float(out.min()) >= 0
    assert float(out.max()) <= 255.001
    assert not torch.allclose(out, x.permute(0, 3, 1, 2).float(), atol=1.0)


def test_each_frame_gets_its_own_change():
    x = frames(1).expand(8, -1, -1, -1)
    out = applied(ALL, x)
    assert len({frame.numpy().tobytes() for frame in out}) == 8


def test_it_depends_on_torchs_seed_only():
    x = frames()
    assert torch.equal(applied(ALL, x), applied(ALL, x))
    assert not torch.equal(applied(ALL, x), applied(ALL, x, seed=1))


@pytest.mark.parametrize("fill", [0, 90, 255])
def test_shifts_and_rotations_bring_in_no_border(fill):
    x = torch.full((4, 24, 24, 3), fill, dtype=torch.uint8)
    out = applied(Augment(shift=0.3, rotate=45, scale=0.3), x)
    torch.testing.assert_close(out, torch.full_like(out, fill), rtol=0, atol=0.01)


def test_a_shift_alone_moves_whole_pixels_and_blurs_nothing():
    x = frames(count=16)
    out = applied(Augment(shift=0.125), x)
    for before, after in zip(x, out.permute(0, 2, 3, 1).round().to(torch.uint8), strict=True):
        # At most 3 pixels each way: the middle of the frame is found again, unchanged, at exactly that distance.
        places = [
            (dy, dx)
            for dy in range(-3, 4)
            for dx in range(-3, 4)
            if torch.equal(after[3 + dy : 21 + dy, 3 + dx : 21 + dx], before[3:21, 3:21])
        ]
        assert len(places) == 1


def test_positions_are_exact_under_bf16():
    ramp = torch.arange(24, dtype=torch.uint8).mul(10)[None, None, :, None].expand(4, 24, 24, 3)
    exact = applied(Augment(shift=0.2, scale=0.1), ramp)
    module = augment.augmentation(Augment(shift=0.2, scale=0.1), 24, 24)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = augment.apply(module, ramp)
    assert torch.equal(exact, mixed)
