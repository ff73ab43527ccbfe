import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from edgeattn.data import scene_source
from edgeattn.data.scene_source import SPLITS, Region, assert_splits_disjoint, source
from edgeattn.errors import DataError, MissingLibrary


def test_material_is_what_scikit_learn_loads() -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    material = source()
    digits = datasets.load_digits()
    assert material.bitmaps.shape == (1797, 8, 8)  # no two of the 1797 are identical
    np.testing.assert_array_equal(material.bitmaps, digits.images)
    np.testing.assert_array_equal(material.labels, digits.target)
    for ours, theirs in zip(material.photos, datasets.load_sample_images().images, strict=True):
        # Two JPEG decoders round differently.
        assert np.abs(ours[:, :, ::-1].astype(int) - theirs.astype(int)).mean() < 1.0


def test_every_split_has_every_class_and_all_digits_are_used_once() -> None:
    material = source()
    used = np.concatenate([indices for split in SPLITS for indices in material.digits[split]])
    assert sorted(used) == list(range(1797))
    for split in SPLITS:
        for label, indices in enumerate(material.digits[split]):
            assert len(indices) >= 15
            assert set(material.labels[indices]) == {label}


def test_splits_are_disjoint_and_a_shared_digit_or_region_is_found() -> None:
    material = source()
    assert_splits_disjoint(material)
    mixed = {**material.digits, "evaluation": material.digits["train"]}
    with pytest.raises(DataError, match=r"1258 image.*train and evaluation"):
        assert_splits_disjoint(replace(material, digits=mixed))
    twin = material.bitmaps.copy()
    twin[material.digits["evaluation"][3][0]] = twin[material.digits["train"][3][0]]
    with pytest.raises(DataError, match=r"^1 image.*train and evaluation"):
        assert_splits_disjoint(replace(material, bitmaps=twin))
    shifted = {**material.regions, "evaluation": (Region(0, 1, 0, 192, 427),)}
    with pytest.raises(DataError, match=r"share a part of china\.jpg"):
        assert_splits_disjoint(replace(material, regions=shifted))
    same_content = (material.photos[0], material.photos[0])
    twice = {**material.regions, "evaluation": (Region(1, 192, 0, 288, 427),)}
    with pytest.raises(DataError, match="share a part"):
        assert_splits_disjoint(replace(material, photos=same_content, regions=twice))


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (Region(0, 9, 0, 5, 5), True),  # shares the last column
        (Region(0, 10, 0, 5, 5), False),  # begins where the first ends
        (Region(0, 0, 10, 5, 5), False),
        (Region(0, 2, 2, 3, 3), True),  # inside
        (Region(1, 0, 0, 10, 10), False),  # another photograph
    ],
)
def test_overlap(other: Region, expected: bool) -> None:
    region = Region(0, 0, 0, 10, 10)
    assert region.overlaps(other) is expected
    assert other.overlaps(region) is expected


def test_without_scikit_learn_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingLibrary, match="pip install"):
        scene_source.files.__wrapped__()


def test_a_fresh_process_makes_a_scene_without_importing_scikit_learn() -> None:
    code = (
        "import sys; from pathlib import Path; from edgeattn.data.scenes import Settings, load;"
        "load(Settings(), Path('.'), 0).train[0];"
        "print(sorted({'sklearn', 'scipy', 'torch', 'pydantic'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
