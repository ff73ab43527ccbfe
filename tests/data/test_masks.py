import builtins
import os
import pickle
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from sample_hashes import dataset_hashes

from edgeattn.data import masks
from edgeattn.data.base import assert_disjoint
from edgeattn.data.masks import Settings, decode_mask, load
from edgeattn.errors import DataError, MissingLibrary
from edgeattn.recipe import parse_settings

DATA = os.environ.get("EDGEATTN_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="EDGEATTN_DATA is not set")

TWO = ("background", "vessel")
BASE = Settings("set", "images/{id}.png", "masks/{id}_m.png", TWO, calibration=1)
BINARY = replace(BASE, values="binary")


def put(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ok, data = cv2.imencode(path.suffix, image)
    assert ok
    path.write_bytes(data.tobytes())


def image(value: int, size: tuple[int, int] = (2, 3)) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten images set/images/0.png … 9.png, pixels 0 … 9; the mask of image i is 255 in its first pixel, else 0."""
    for i in range(10):
        put(tmp_path / "set" / "images" / f"{i}.png", image(i))
        mask = np.zeros((2, 3), np.uint8)
        mask[0, 0] = 255
        put(tmp_path / "set" / "masks" / f"{i}_m.png", mask)
    return tmp_path


def names(dataset) -> list[str]:
    return [dataset.name(i) for i in range(len(dataset))]


def everything(splits) -> list[str]:
    return names(splits.train) + names(splits.calibration) + names(splits.evaluation)


def only_mask(root: Path, mask: np.ndarray, settings: Settings = BASE) -> np.ndarray:
    """The target of the last image when `mask` is its mask."""
    put(root / "set" / "masks" / "9_m.png", mask)
    return load(settings, root, 0).evaluation[-1].target


def test_the_last_by_id_are_held_out(root: Path) -> None:
    splits = load(replace(BINARY, eval_last=2, calibration=2), root, 0)
    assert names(splits.evaluation) == ["images/8.png", "images/9.png"]
    assert (len(splits.train), len(splits.calibration)) == (6, 2)
    assert len(set(everything(splits))) == 10
    assert (splits.kind, splits.labels) == ("mask", TWO)
    sample = splits.evaluation[1]
    assert (sample.frame == 9).all() and sample.target.tolist() == [[1, 0, 0], [0, 0, 0]]
    assert sample.target.dtype == np.uint8 and sample.target.flags.c_contiguous


def test_fraction_calibration_and_seed(root: Path) -> None:
    splits = load(replace(BINARY, calibration=99), root, 0)
    assert len(splits.evaluation) == 2 and len(splits.calibration) == 2  # 0.2 of 10; a quarter of 8 at most
    assert names(load(replace(BINARY, calibration=99), root, 0).calibration) == names(splits.calibration)
    drawn = {tuple(names(load(replace(BINARY, calibration=2), root, seed).calibration)) for seed in range(6)}
    assert len(drawn) > 1


def test_numbers_in_ids_count_as_numbers(tmp_path: Path) -> None:
    for i in (1, 2, 9, 10, 11):
        put(tmp_path / "set" / "images" / f"{i}.png", image(i))
        put(tmp_path / "set" / "masks" / f"{i}_m.png", image(0)[..., 0])
    splits = load(replace(BASE, eval_last=2), tmp_path, 0)
    assert names(splits.evaluation) == ["images/10.png", "images/11.png"]
    assert sorted(["b2", "a10", "a9", "10", "9", "a09", "a"], key=masks._in_order) == [
        *("9", "10"),
        *("a", "a09", "a9", "a10"),
        "b2",
    ]


def test_patterns_may_cross_named_folders_and_use_wildcards(tmp_path: Path) -> None:
    for i in range(6):
        city = "ab"[i % 2]
        put(tmp_path / "x" / city / f"{i}_left[8].png", image(i))
        put(tmp_path / "y" / f"{i}.gt.png", image(0)[..., 0])
    put(tmp_path / "x" / "a" / "deeper" / "7_left[8].png", image(7))
    settings = Settings(".", "x/?/{id}_left[8].png", "y/{id}.gt*", TWO, calibration=1)
    splits = load(settings, tmp_path, 0)
    assert sorted(everything(splits)) == sorted(f"x/{'ab'[i % 2]}/{i}_left[8].png" for i in range(6))


def test_patterns_of_the_evaluation(root: Path) -> None:
    for i in (20, 21):
        put(root / "set" / "val" / f"{i}.png", image(i))
        put(root / "set" / "valmask" / f"{i}.png", image(1)[..., 0])
    settings = replace(BASE, values="ids", eval_images="val/{id}.png", eval_masks="valmask/{id}.png", calibration=2)
    splits = load(settings, root, 0)
    assert names(splits.evaluation) == ["val/20.png", "val/21.png"]
    assert (len(splits.train), len(splits.calibration)) == (8, 2)
    assert splits.evaluation[0].target.tolist() == [[1] * 3] * 2


def test_positive_says_which_value_is_class_1(root: Path) -> None:
    assert only_mask(root, np.array([[255, 0, 0]] * 2, np.uint8), BINARY).tolist() == [[1, 0, 0]] * 2
    inverted = replace(BINARY, positive=0)
    assert only_mask(root, np.array([[255, 0, 0]] * 2, np.uint8), inverted).tolist() == [[0, 1, 1]] * 2


@pytest.mark.parametrize("values", [(0, 255), (255, 255)])
def test_binary_masks_are_not_taken_for_ids(root: Path, values: tuple[int, int]) -> None:
    """Their 255 would count as ignored, and a network that knows nothing but the background would be right."""
    mask = np.array([values * 3, values * 3], np.uint8)
    # The last image is as large as its mask.
    put(root / "set" / "images" / "9.png", image(9, (2, 6)))
    with pytest.raises(DataError, match=r"9_m\.png holds the values 0 and 255 alone.*set data\.values to binary, or"):
        only_mask(root, mask)
    wanted = np.array(values * 3) == 255
    assert (only_mask(root, mask, BINARY)[0] == wanted).all()
    assert ((only_mask(root, mask, replace(BASE, ignore=255))[0] == 255) == wanted).all()


@pytest.mark.parametrize("value", [0, 1])
def test_masks_of_a_single_class_are_ids(root: Path, value: int) -> None:
    assert (only_mask(root, np.full((2, 3), value, np.uint8)) == value).all()


def test_ids_and_what_is_ignored(root: Path) -> None:
    three = replace(BASE, labels=("a", "b", "c"), ignore=11)
    mask = np.array([[0, 1, 2], [11, 255, 0]], np.uint8)
    assert only_mask(root, mask, three).tolist() == [[0, 1, 2], [255, 255, 0]]
    assert only_mask(root, mask.astype(np.uint16), three).tolist() == [[0, 1, 2], [255, 255, 0]]
    assert only_mask(root, mask, replace(three, ignore=1, labels=tuple("abcdefghijkl"))).tolist() == [
        [0, 255, 2],
        [11, 255, 0],
    ]


def test_outside_the_field_of_view_nothing_is_counted(root: Path) -> None:
    view = np.array([[255, 255, 0], [0, 255, 255]], np.uint8)
    for i in range(10):
        put(root / "set" / "fov" / f"{i}.png", view)
    settings = replace(BINARY, field_of_view="fov/{id}.png", positive=0)
    assert load(settings, root, 0).evaluation[0].target.tolist() == [[0, 1, 255], [255, 1, 1]]
    put(root / "set" / "fov" / "9.png", view // 2)
    with pytest.raises(DataError, match=r"fov/9\.png holds the value 127; expected 0 and 255 only"):
        load(settings, root, 0).evaluation[1]
    (root / "set" / "fov" / "3.png").unlink()
    with pytest.raises(DataError, match=r"images/3\.png in .* has no file fov/3\.png; add it .* data\.field_of_view"):
        load(settings, root, 0)


@pytest.mark.parametrize(
    ("mask", "settings", "message"),
    [
        (np.zeros((3, 2), np.uint8), BASE, r"9_m\.png has 3 x 2 pixels, its image .*images/9\.png 2 x 3"),
        (np.full((2, 3), 7, np.uint8), BASE, r"9_m\.png holds the class id 7, but there are 2 labels"),
        (np.full((2, 3), 300, np.uint16), BASE, "holds the class id 300"),
        (np.full((2, 3), 1, np.uint8), BINARY, r"holds the value 1; expected 0 and 255 only.*data\.values to ids"),
        (np.array([[[1, 2, 3]] * 3] * 2, np.uint8), BASE, "is a picture of the mode RGB; expected one number per"),
    ],
)
def test_masks_that_do_not_fit(root: Path, mask: np.ndarray, settings: Settings, message: str) -> None:
    with pytest.raises(DataError, match=message):
        only_mask(root, mask, settings)


@pytest.mark.parametrize("data", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 17 + b"\x03"])
def test_a_damaged_mask(data: bytes) -> None:
    with pytest.raises(DataError, match=rf"The mask m\.png is not an image .* \({len(data)} bytes\)"):
        decode_mask(data, "m.png")


def saved(values: np.ndarray, kind: str, palette: list[int] | None = None) -> bytes:
    from PIL import Image

    picture = Image.fromarray(values)
    if palette is not None:
        picture.putpalette(palette)
    stream = BytesIO()
    picture.save(stream, kind)
    return stream.getvalue()


COLOURS = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]  # of VOC: black, dark red, dark green, olive


@pytest.mark.parametrize("kind", ["PNG", "GIF", "TIFF"])
def test_grey_masks_of_several_formats(kind: str) -> None:
    values = np.array([[0, 255, 7], [255, 0, 0]], np.uint8)
    assert decode_mask(saved(values, kind), "m").tolist() == values.tolist()


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_palette_of_colours_gives_indices_one_of_greys_levels(kind: str) -> None:
    values = np.array([[0, 1, 3], [2, 0, 0]], np.uint8)
    assert decode_mask(saved(values, kind, COLOURS), "m").tolist() == values.tolist()
    black_and_white = np.array([[0, 1, 1], [1, 0, 0]], np.uint8)
    assert (
        decode_mask(saved(black_and_white, kind, [0, 0, 0, 255, 255, 255]), "m").tolist()
        == (black_and_white * 255).tolist()
    )


def test_a_grey_looking_picture_with_a_palette_of_colours_gives_indices_too() -> None:
    """Only the class 0 occurs: black."""
    assert decode_mask(saved(np.zeros((2, 2), np.uint8), "PNG", COLOURS), "m").tolist() == [[0, 0], [0, 0]]


def test_an_opencv_without_gif_falls_back_to_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.array([[0, 255], [255, 255]], np.uint8)
    data = saved(values, "GIF")
    monkeypatch.setattr(masks.cv2, "imdecode", lambda *_: None)
    assert decode_mask(data, "m.gif").tolist() == values.tolist()
    importing = builtins.__import__

    def without(name: str, *args, **kwargs):
        if name == "PIL":
            raise ImportError(name)
        return importing(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingLibrary, match=r"OpenCV .* cannot read the mask m\.gif .*Pillow.* pip install pillow"):
        decode_mask(data, "m.gif")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": "images/*.png"}, r"data\.images must be a path below data\.path with one \{id\} in it"),
        ({"images": "{id}/{id}.png"}, r"data\.images must be a path"),
        ({"masks": "../{id}.png"}, r"data\.masks must be a path below"),
        ({"masks": "/masks/{id}.png"}, r"data\.masks must be a path below"),
        ({"images": "**/{id}.png"}, r"data\.images must be a path below"),
        ({"images": "photos/{id}.png"}, r"No file in .*set fits data\.images: photos/\{id\}\.png"),
        ({"masks": "masks/{id}.gif"}, r"No file in .*set fits data\.masks"),
        ({"images": "*/{id}.png"}, r"image masks/0_m\.png in .*set has no file masks/0_m_m\.png"),
        ({"images": "imag*/{id}.png"}, None),
        ({"labels": ("one",)}, "data.labels must name 2 to 255 classes, got 1"),
        ({"labels": ("a", "b", "c"), "values": "binary"}, "data.labels must name 2 classes, got 3"),
        ({"labels": ("a", "a")}, "names a class twice: a, a"),
        ({"values": "binary", "ignore": 3}, "data.ignore is for masks of class ids"),
        ({"positive": 0}, "data.positive is for masks of 0 and 255"),
        ({"ignore": 256}, "data.ignore must be an id of 0 to 255, got 256"),
        ({"eval_images": "val/{id}.png"}, "data.eval_images and data.eval_masks belong together"),
        ({"eval_masks": "val/{id}.png"}, "data.eval_images and data.eval_masks belong together"),
        ({"eval_field_of_view": "val/{id}.png"}, "data.eval_field_of_view belongs to eval_images"),
        (
            {"eval_images": "a/{id}", "eval_masks": "b/{id}", "field_of_view": "c/{id}"},
            "data.eval_field_of_view belongs to eval_images",
        ),
        ({"eval_images": "a/{id}", "eval_masks": "b/{id}", "eval_last": 2}, "both say what is held out"),
        ({"eval_last": 0}, "data.eval_last must be at least 1, got 0"),
        ({"eval_last": 8}, r"2 image\(s\) of .*set are left for training and calibration; at least 3"),
        ({"eval_last": 80}, r"0 image\(s\) of .*set are left"),
        ({"eval_fraction": 1.0}, "data.eval_fraction must lie between 0 and 1"),
        ({"calibration": 0}, "data.calibration must be at least 1, got 0"),
        ({"path": "absent"}, "EDGEATTN_DATA"),
    ],
)
def test_settings(root: Path, changes: dict, message: str | None) -> None:
    settings = replace(BASE, **changes)
    if message is None:
        assert len(everything(load(settings, root, 0))) == 10
    else:
        with pytest.raises(DataError, match=message):
            load(settings, root, 0)


def test_two_files_of_one_id(root: Path) -> None:
    put(root / "set" / "masks" / "4_m.bmp", image(0)[..., 0])
    with pytest.raises(
        DataError, match=r"masks/4_m\.bmp and masks/4_m\.png in .* both fit data\.masks with the id '4'"
    ):
        load(replace(BASE, masks="masks/{id}_m.*"), root, 0)


def test_an_image_without_a_mask_and_a_mask_without_an_image(root: Path) -> None:
    put(root / "set" / "masks" / "77_m.png", image(0)[..., 0])
    assert len(everything(load(BINARY, root, 0))) == 10
    (root / "set" / "masks" / "4_m.png").unlink()
    with pytest.raises(DataError, match=r"The image images/4\.png in .* has no file masks/4_m\.png; add it or correct"):
        load(BINARY, root, 0)


def test_the_same_image_in_two_splits(root: Path) -> None:
    put(root / "set" / "images" / "9.png", image(0))
    with pytest.raises(DataError, match=r"images/9\.png in the evaluation split is the same image as images/0\.png"):
        load(replace(BASE, eval_last=1), root, 0)


def test_of_large_folders_size_and_time_alone_make_no_two_the_same(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (0, 9):  # of one size, and of one time
        put(root / "set" / "images" / f"{number}.png", image(0))
        os.utime(root / "set" / "images" / f"{number}.png", (1, 1))
    monkeypatch.setattr("edgeattn.data.labelled.HASHED_BYTES_MAX", 1)
    splits = load(replace(BASE, eval_last=1), root, 0)
    assert names(splits.evaluation) == ["images/9.png"]


def test_fingerprints_follow_images_masks_and_settings(root: Path) -> None:
    def prints(settings: Settings = BINARY) -> tuple[str, str]:
        splits = load(settings, root, 0)
        return splits.fingerprint, splits.training_fingerprint

    first = prints()
    assert first == prints() and first[0].startswith("masks-") and first[0] != first[1]
    changed = [prints(replace(BINARY, positive=0)), prints(replace(BINARY, labels=("a", "b")))]
    put(root / "set" / "masks" / "9_m.png", np.full((2, 3), 255, np.uint8))
    changed.append(prints())
    put(root / "set" / "images" / "9.png", image(99))
    changed.append(prints())
    everyone = [first, *changed]
    assert len({full for full, _ in everyone}) == len({training for _, training in everyone}) == 5


def test_the_training_fingerprint_does_not_follow_calibration(root: Path) -> None:
    before = load(BINARY, root, 0)
    file = root / "set" / "masks" / before.calibration.name(0).replace("images/", "").replace(".png", "_m.png")
    put(file, np.full((2, 3), 255, np.uint8))
    after = load(BINARY, root, 0)
    assert after.fingerprint != before.fingerprint and after.training_fingerprint == before.training_fingerprint


def test_datasets_are_pickled_for_loader_processes(root: Path) -> None:
    dataset = load(BINARY, root, 0).train
    again = pickle.loads(pickle.dumps(dataset))
    assert len(pickle.dumps(dataset)) < 5000 and names(again) == names(dataset)
    assert (again[0].frame == dataset[0].frame).all() and (again[0].target == dataset[0].target).all()


DRIVE = {
    "path": "drive_train",
    "images": "images/{id}_training.tif",
    "masks": "1st_manual/{id}_manual1.gif",
    "field_of_view": "mask/{id}_training_mask.gif",
    "values": "binary",
    "labels": ["background", "vessel"],
    "eval_last": 4,
    "calibration": 3,
}
ISBI = {
    "path": "isbi2012_membrane",
    "images": "image/{id}.png",
    "masks": "label/{id}.png",
    "values": "binary",
    "positive": 0,
    "labels": ["interior", "membrane"],
    "eval_last": 6,
    "calibration": 4,
}
CAMVID = {
    "path": "camvid_subset",
    "images": "train/{id}.png",
    "masks": "trainannot/{id}.png",
    "eval_images": "val/{id}.png",
    "eval_masks": "valannot/{id}.png",
    "labels": [
        *("sky", "building", "pole", "road", "pavement", "tree"),
        *("sign", "fence", "car", "pedestrian", "bicyclist"),
    ],
    "ignore": 11,
}


def real(settings: dict):
    return load(parse_settings(Settings, settings, "data"), Path(str(DATA)), 0)


@needs_data
def test_drive() -> None:
    splits = real(DRIVE)
    assert names(splits.evaluation) == [f"images/{i}_training.tif" for i in (37, 38, 39, 40)]
    assert (len(splits.train), len(splits.calibration)) == (13, 3)
    sample = splits.evaluation[0]
    assert sample.frame.shape == (584, 565, 3) and sample.target.shape == (584, 565)
    outside, inside = sample.target == 255, sample.target != 255
    assert sample.frame[outside].mean() < 10 and sample.frame[inside].mean() > 50  # where there is light
    assert 0.05 < (sample.target[inside] == 1).mean() < 0.2
    # Vessels are darker in the green channel than what is around them.
    assert sample.frame[sample.target == 1, 1].mean() < sample.frame[sample.target == 0, 1].mean()


@needs_data
def test_isbi() -> None:
    splits = real(ISBI)
    assert names(splits.evaluation) == [f"image/{i}.png" for i in range(24, 30)]
    parts = (splits.train, splits.calibration, splits.evaluation)
    everyone = [part[i] for part in parts for i in range(len(part))]
    # The README: 255, the interior, covers 78.0 %. Membranes are dark.
    assert np.mean([sample.target == 0 for sample in everyone]) == pytest.approx(0.780, abs=5e-4)
    sample = everyone[0]
    assert sample.frame[sample.target == 1].mean() < sample.frame[sample.target == 0].mean()


@needs_data
def test_camvid() -> None:
    splits = real(CAMVID)
    assert (len(splits.train), len(splits.calibration), len(splits.evaluation)) == (58, 16, 21)
    seen = np.unique(np.concatenate([np.unique(splits.evaluation[i].target) for i in range(21)]))
    assert seen.tolist() == [*range(11), 255]
    hashes = [dataset_hashes(part) for part in (splits.train, splits.evaluation)]
    assert_disjoint(*hashes, "training and evaluation")
