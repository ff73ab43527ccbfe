import io
import os
import pickle
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sample_hashes import dataset_hashes

from edgeattn.artifact import sha256_file
from edgeattn.data import archive
from edgeattn.data.base import assert_disjoint
from edgeattn.data.imagefolder import Settings, load
from edgeattn.errors import DataError
from edgeattn.imaging import encode_png

DATA = os.environ.get("EDGEATTN_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="EDGEATTN_DATA is not set")


def png(value: int) -> bytes:
    """A 2x2 image whose pixels say which one it is."""
    return encode_png(np.full((2, 2, 3), value, np.uint8))


def tree(folder: Path, layout: dict[str, int]) -> Path:
    """`layout`: class folder -> number of images in it; all images differ."""
    value = 0
    for name, count in layout.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            (folder / name / f"{index:02d}.png").write_bytes(png(value))
            value += 1
    return folder


def pack(folder: Path, out: Path, mode: str, prefix: str = "") -> Path:
    with tarfile.open(out, f"w:{mode}") as tar:
        tar.add(folder, arcname=prefix or ".")
    return out


def names(dataset) -> list[str]:
    return [dataset.name(i) for i in range(len(dataset))]


def test_last_of_each_class_by_name_is_held_out(tmp_path: Path) -> None:
    tree(tmp_path / "pets", {"cat": 10, "dog": 8})
    splits = load(Settings("pets", eval_last=2, calibration=4), tmp_path, 0)
    assert splits.labels == ("cat", "dog")
    assert names(splits.evaluation) == ["cat/08.png", "dog/06.png", "cat/09.png", "dog/07.png"]
    # A quarter of 8 and of 6 training images at most.
    assert Counter(name[:3] for name in names(splits.calibration)) == {"cat": 2, "dog": 1}
    assert len(splits.train) == 18 - 4 - 3
    everything = names(splits.train) + names(splits.calibration) + names(splits.evaluation)
    assert len(set(everything)) == 18
    sample = splits.evaluation[1]
    assert (int(sample.frame[0, 0, 0]), sample.target) == (16, 1)


def test_fraction_limit_and_seed(tmp_path: Path) -> None:
    tree(tmp_path, {"a": 20, "b": 11})
    splits = load(Settings(".", calibration=4), tmp_path, 0)
    assert Counter(name[0] for name in names(splits.evaluation)) == {"a": 4, "b": 2}  # 0.2 x 20, round(0.2 x 11)
    limited = load(Settings(".", limit=5, calibration=2), tmp_path, 0)
    assert names(limited.evaluation) == ["a/04.png", "b/04.png"]
    other = load(Settings(".", calibration=4), tmp_path, 1)
    assert names(other.evaluation) == names(splits.evaluation)
    assert names(other.calibration) != names(splits.calibration)
    assert names(load(Settings(".", calibration=4), tmp_path, 0).calibration) == names(splits.calibration)


def test_labels_are_sorted_bytewise_and_every_prefix_is_balanced(tmp_path: Path) -> None:
    tree(tmp_path, {"2": 4, "10": 4, "B": 4, "a": 4})
    splits = load(Settings(".", calibration=4), tmp_path, 0)
    assert splits.labels == ("10", "2", "B", "a")
    assert [splits.train[i].target for i in range(4)] == [0, 1, 2, 3]


@pytest.mark.parametrize("evaluation", ["val", "valid", "validation", "test"])
def test_ready_made_splits_are_detected(tmp_path: Path, evaluation: str) -> None:
    tree(tmp_path / "set", {"train/cat": 4, "train/dog": 4, f"{evaluation}/cat": 2, f"{evaluation}/dog": 1})
    splits = load(Settings("set", calibration=2), tmp_path, 0)
    assert len(splits.train) == 6 and len(splits.calibration) == 2
    assert names(splits.evaluation) == [
        f"{evaluation}/cat/00.png",
        f"{evaluation}/dog/00.png",
        f"{evaluation}/cat/01.png",
    ]


@pytest.mark.parametrize(("train", "evaluation"), [("Train", "Test"), ("TRAIN", "Val"), ("train", "Validation")])
def test_split_folders_are_recognised_in_any_case(tmp_path: Path, train: str, evaluation: str) -> None:
    tree(tmp_path, {f"{train}/cat": 4, f"{train}/dog": 4, f"{evaluation}/cat": 2, f"{evaluation}/dog": 1})
    splits = load(Settings(".", calibration=2), tmp_path, 0)
    assert splits.labels == ("cat", "dog")
    assert names(splits.evaluation)[0] == f"{evaluation}/cat/00.png" and len(splits.evaluation) == 3


@pytest.mark.parametrize("stray", ["preview.png", "train/preview.png", "val/preview.png"])
@pytest.mark.parametrize("above", ["", "set/"])
def test_images_beside_split_or_class_folders_are_passed_over(tmp_path: Path, stray: str, above: str) -> None:
    tree(tmp_path, {f"{above}{split}/{label}": 4 for split in ("train", "val") for label in ("cat", "dog")})
    (tmp_path / above / stray).write_bytes(png(99))
    splits = load(Settings(".", calibration=2), tmp_path, 0)
    assert splits.labels == ("cat", "dog")
    assert len(splits.train) + len(splits.calibration) == len(splits.evaluation) == 8


def test_a_training_folder_alone_may_have_an_image_beside_it(tmp_path: Path) -> None:
    tree(tmp_path, {"train/cat": 5, "train/dog": 5})
    (tmp_path / "preview.png").write_bytes(png(99))
    splits = load(Settings("."), tmp_path, 0)
    assert splits.labels == ("cat", "dog") and len(splits.evaluation) == 2


def test_an_evaluation_folder_without_classes_is_passed_over_for_one_with(tmp_path: Path) -> None:
    tree(tmp_path, {"train/cat": 4, "train/dog": 4, "val/cat": 2, "val/dog": 2, "test": 3})
    assert names(load(Settings(".", calibration=2), tmp_path, 0).evaluation)[0] == "val/cat/00.png"


@pytest.mark.parametrize(
    ("layout", "says"),
    [
        ({"train/cat": 4, "train/dog": 4, "test": 5}, "no class folders in 'test'"),
        ({"train": 5, "test": 5}, "no class folders in 'train'"),
        ({"train": 5, "val/cat": 4, "val/dog": 4}, "no class folders in 'train'"),
        ({"train/cat": 4, "train/dog": 4, "val/cat": 2, "val/dog": 2, "extra": 5}, "'extra' is no split"),
        ({"Train/a": 4, "Train/b": 4, "train/a": 4, "train/b": 4, "val/a": 2, "val/b": 2}, "'Train' and 'train'"),
        ({"set/train/cat": 4, "set/train/dog": 4, "set/test": 5}, "no class folders in 'test'"),
    ],
)
def test_folders_that_are_only_half_splits_are_refused(tmp_path: Path, layout: dict[str, int], says: str) -> None:
    """Else "train" and "test" would become the classes."""
    with pytest.raises(DataError, match=f"{says}.*data.train and data.evaluation"):
        load(Settings("."), tree(tmp_path, layout), 0)


def test_named_splits_settle_what_the_folders_leave_open(tmp_path: Path) -> None:
    tree(tmp_path, {"train/cat": 4, "train/dog": 4, "val/cat": 2, "val/dog": 2, "extra": 5})
    assert load(Settings(".", train="train", evaluation="val"), tmp_path, 0).labels == ("cat", "dog")


@pytest.mark.parametrize("packed", [False, True])
def test_names_that_are_not_utf_8(tmp_path: Path, packed: bool) -> None:
    for label in (b"a\xff", b"b"):
        folder = os.fsencode(tmp_path / "set") + b"/" + label
        os.makedirs(folder)  # noqa: PTH103
        for index in range(5):
            with open(folder + b"/\xfe%d.png" % index, "wb") as file:  # noqa: PTH123
                file.write(png(10 * len(label) + index))
    if packed:
        pack(tmp_path / "set", tmp_path / "set.tar", "")
    splits = load(Settings("set.tar" if packed else "set", eval_last=1), tmp_path, 0)
    assert splits.labels == ("a\\xff", "b")
    assert names(splits.evaluation) == ["a\\xff/\\xfe4.png", "b/\\xfe4.png"]
    assert [int(splits.evaluation[i].frame[0, 0, 0]) for i in range(2)] == [24, 14]
    "".join((*splits.labels, *names(splits.train), splits.fingerprint)).encode()


def test_an_existing_archive_must_have_the_pinned_content(tmp_path: Path) -> None:
    packed = pack(tree(tmp_path / "folder", {"cat": 5, "dog": 5}), tmp_path / "set.tar", "")
    pin = sha256_file(packed)
    for url in (None, packed.as_uri()):
        assert load(Settings("set.tar", url=url, sha256=pin.upper()), tmp_path, 0).labels == ("cat", "dog")
        with pytest.raises(DataError, match=rf"set\.tar has the SHA-256 {pin}, expected 0{{64}}"):
            load(Settings("set.tar", url=url, sha256="0" * 64), tmp_path, 0)
    with pytest.raises(DataError, match=r"folder is a folder.*data\.sha256 pins"):
        load(Settings("folder", sha256=pin), tmp_path, 0)


def test_training_fingerprint_follows_the_training_and_evaluation_images(tmp_path: Path) -> None:
    tree(tmp_path, {"cat": 5, "dog": 5})
    splits = load(Settings("."), tmp_path, 0)
    assert load(Settings("."), tmp_path, 0).training_fingerprint == splits.training_fingerprint
    (tmp_path / splits.calibration.name(0)).write_bytes(png(200))
    changed = load(Settings("."), tmp_path, 0)
    assert changed.fingerprint != splits.fingerprint
    assert changed.training_fingerprint == splits.training_fingerprint
    for part in (splits.train, splits.evaluation):
        before = load(Settings("."), tmp_path, 0).training_fingerprint
        (tmp_path / part.name(0)).write_bytes(png(201 + part.targets[0] + len(part)))
        assert load(Settings("."), tmp_path, 0).training_fingerprint != before


def test_named_splits_and_folders_inside_classes(tmp_path: Path) -> None:
    tree(tmp_path, {"fit/cat/old": 3, "fit/cat/new": 3, "fit/dog": 3, "held/cat": 1, "held/dog": 1, "other/x": 1})
    splits = load(Settings(".", train="fit", evaluation="held/", calibration=1), tmp_path, 0)
    assert splits.labels == ("cat", "dog")
    assert names(splits.evaluation) == ["held/cat/00.png", "held/dog/00.png"]
    alone = load(Settings(".", train="fit", eval_last=1), tmp_path, 0)
    assert names(alone.evaluation) == ["fit/cat/old/02.png", "fit/dog/02.png"]


@pytest.mark.parametrize(
    ("suffix", "mode", "prefix"),
    [(".tar", "", ""), (".tar.gz", "gz", "set"), (".tgz", "gz", "set/train"), (".tar.xz", "xz", "train")],
)
def test_archives_give_what_the_folder_gives(tmp_path: Path, suffix: str, mode: str, prefix: str) -> None:
    folder = tree(tmp_path / "folder", {"cat": 5, "dog": 6})
    pack(folder, tmp_path / f"set{suffix}", mode, prefix)
    from_folder = load(Settings("folder", calibration=2), tmp_path, 0)
    from_archive = load(Settings(f"set{suffix}", calibration=2), tmp_path, 0)
    lead = f"{prefix}/" if prefix else ""
    for split in ("train", "calibration", "evaluation"):
        ours, theirs = getattr(from_archive, split), getattr(from_folder, split)
        assert names(ours) == [lead + name for name in names(theirs)]
        copy = pickle.loads(pickle.dumps(ours))
        archive._contents.cache_clear()  # a loader process that was not forked starts without it
        assert dataset_hashes(copy) == dataset_hashes(theirs)
    assert len(pickle.dumps(from_archive.train)) < 2000  # the images do not travel to the loader processes


def test_hidden_files_and_other_files_are_passed_over(tmp_path: Path) -> None:
    tree(tmp_path, {"cat": 4, "dog": 4})
    (tmp_path / "cat" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "cat" / "._00.png").write_bytes(b"x")
    (tmp_path / "__MACOSX" / "cat").mkdir(parents=True)
    (tmp_path / "__MACOSX" / "cat" / "00.png").write_bytes(b"x")
    (tmp_path / "dog" / "notes.txt").write_text("x")
    (tmp_path / "dog" / "UPPER.PNG").write_bytes(png(99))
    (tmp_path / "README.md").write_text("x")
    splits = load(Settings("."), tmp_path, 0)
    assert splits.labels == ("cat", "dog")
    assert len(splits.train) + len(splits.calibration) + len(splits.evaluation) == 9


def test_fingerprint_follows_content_only(tmp_path: Path) -> None:
    tree(tmp_path, {"cat": 5, "dog": 5})
    settings = Settings(".", calibration=2)
    before = load(settings, tmp_path, 0).fingerprint
    os.utime(tmp_path / "cat" / "00.png", (1, 1))
    assert load(settings, tmp_path, 0).fingerprint == before
    assert load(replace(settings, eval_last=2), tmp_path, 0).fingerprint != before
    (tmp_path / "cat" / "00.png").write_bytes(png(200))
    changed = load(settings, tmp_path, 0).fingerprint
    assert changed != before
    (tmp_path / "cat" / "00.png").rename(tmp_path / "cat" / "000.png")
    assert load(settings, tmp_path, 0).fingerprint != changed


def test_big_folders_are_fingerprinted_by_size_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, {"cat": 5, "dog": 5})
    monkeypatch.setattr("edgeattn.data.labelled.HASHED_BYTES_MAX", 100)
    monkeypatch.setattr("edgeattn.data.labelled.FolderReader.read", None)
    before = load(Settings("."), tmp_path, 0).fingerprint
    assert load(Settings("."), tmp_path, 0).fingerprint == before
    os.utime(tmp_path / "cat" / "00.png", (1, 1))
    assert load(Settings("."), tmp_path, 0).fingerprint != before


def make_duplicate(folder: Path) -> None:
    (folder / "dog" / "04.png").write_bytes((folder / "cat" / "00.png").read_bytes())


def empty_class(folder: Path) -> None:
    (folder / "bird").mkdir()


def one_class(folder: Path) -> None:
    for path in (folder / "dog").iterdir():
        path.unlink()
    (folder / "dog").rmdir()


@pytest.mark.parametrize(
    ("damage", "changes", "message"),
    [
        (None, {"path": "absent"}, r"There is no .*absent nor .*absent; set the environment variable EDGEATTN_DATA"),
        (None, {"path": "cat/00.png"}, "neither a folder nor one of"),
        (None, {"eval_last": 4}, r"'cat' has 5 image\(s\), too few to keep 4"),
        (None, {"eval_last": 0}, "eval_last must be at least 1"),
        (None, {"eval_fraction": 1.0}, "between 0 and 1"),
        (None, {"calibration": 0}, "calibration must be at least 1"),
        (None, {"limit": 2}, "at least 3 images per class"),
        (None, {"evaluation": "cat"}, r"without data\.train"),
        (None, {"train": "fit"}, "no images below fit"),
        (None, {"train": "cat", "eval_last": 1}, r"at least 2 classes, found 0 \(none\)"),
        (None, {"url": "https://example.org/x.tar"}, r"without data\.sha256"),
        (make_duplicate, {}, r"dog/04\.png in the evaluation split is the same image as cat/0\d\.png in the"),
        (empty_class, {}, "class folder bird .* holds no images"),
        (one_class, {}, r"at least 2 classes, found 1 \(cat\)"),
    ],
)
def test_each_mistake_has_its_own_sentence(damage, changes: dict, message: str, tmp_path: Path) -> None:
    tree(tmp_path, {"cat": 5, "dog": 5})
    if damage:
        damage(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        load(replace(Settings("."), **changes), tmp_path, 0)
    assert len(str(caught.value)) < 500


def test_split_folders_must_have_the_same_classes(tmp_path: Path) -> None:
    layout = {"train/cat": 4, "train/dog": 4, "val/cat": 1}
    with pytest.raises(DataError, match=r"val .* lacks the class 'dog'"):
        load(Settings("."), tree(tmp_path / "one", layout), 0)
    with pytest.raises(DataError, match="evaluation split has the class 'fox', which the training split lacks"):
        load(Settings("."), tree(tmp_path / "two", layout | {"val/dog": 1, "val/fox": 1}), 0)


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match="There are no images in"):
        load(Settings("."), tmp_path, 0)


def test_a_corrupt_image_is_named_when_it_is_read(tmp_path: Path) -> None:
    tree(tmp_path, {"cat": 5, "dog": 5})
    (tmp_path / "cat" / "04.png").write_bytes(png(7)[:40])
    splits = load(Settings("."), tmp_path, 0)
    with pytest.raises(DataError, match=r"cat/04\.png is not an image"):
        splits.evaluation[0]
    (tmp_path / "dog" / "04.png").unlink()
    with pytest.raises(DataError, match=r"dog/04\.png cannot be read \(No such file"):
        splits.evaluation[1]


@pytest.mark.parametrize(("suffix", "mode"), [(".tar", ""), (".tar.gz", "gz"), (".tar.xz", "xz")])
def test_damaged_archives(tmp_path: Path, suffix: str, mode: str) -> None:
    folder = tree(tmp_path / "folder", {"cat": 30, "dog": 30})
    packed = pack(folder, tmp_path / f"set{suffix}", mode)
    whole = packed.read_bytes()
    for kept in (0, 1000, len(whole) // 2, len(whole) * 3 // 4):
        packed.write_bytes(whole[:kept])
        with pytest.raises(DataError, match=r"(damaged or incomplete|is incomplete).*get it again"):
            load(Settings(packed.name), tmp_path, 0)
    packed.write_bytes(b"not an archive" * 100)
    with pytest.raises(DataError, match="damaged"):
        load(Settings(packed.name), tmp_path, 0)


def test_a_plain_archive_cut_between_two_files_is_incomplete(tmp_path: Path) -> None:
    folder = tree(tmp_path / "folder", {"cat": 5, "dog": 5})
    packed = pack(folder, tmp_path / "set.tar", "")
    with tarfile.open(packed) as tar:
        third = [member for member in tar.getmembers() if member.isfile()][3].offset
    packed.write_bytes(packed.read_bytes()[:third])
    with pytest.raises(DataError, match="its end is missing"):
        load(Settings("set.tar"), tmp_path, 0)


def test_links_in_archives_are_not_followed(tmp_path: Path) -> None:
    packed = pack(tree(tmp_path / "folder", {"cat": 5, "dog": 5}), tmp_path / "set.tar", "")
    with tarfile.open(packed, "a") as tar:
        link = tarfile.TarInfo("cat/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link, io.BytesIO())
    splits = load(Settings("set.tar"), tmp_path, 0)
    assert len(splits.train) + len(splits.calibration) + len(splits.evaluation) == 10


def test_too_large_a_compressed_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(tree(tmp_path / "folder", {"cat": 5, "dog": 5}), tmp_path / "set.tar.gz", "gz")
    monkeypatch.setattr("edgeattn.data.archive.UNPACKED_BYTES_MAX", 5000)
    with pytest.raises(DataError, match="unpack it and give the folder"):
        load(Settings("set.tar.gz"), tmp_path, 0)


def test_a_missing_archive_is_downloaded_to_the_root(tmp_path: Path) -> None:
    packed = pack(tree(tmp_path / "folder", {"cat": 5, "dog": 5}), tmp_path / "origin.tar.gz", "gz")
    settings = Settings("below/set.tar.gz", url=packed.as_uri(), sha256=sha256_file(packed))
    splits = load(settings, tmp_path / "root", 0)
    assert len(splits.evaluation) == 2
    packed.unlink()
    assert load(settings, tmp_path / "root", 0).fingerprint == splits.fingerprint


def test_the_current_directory_is_searched_after_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path / "here" / "pets", {"cat": 5, "dog": 5})
    monkeypatch.chdir(tmp_path / "here")
    assert load(Settings("pets"), tmp_path, 0).labels == ("cat", "dog")
    tree(tmp_path / "pets", {"ant": 5, "bee": 5})
    assert load(Settings("pets"), tmp_path, 0).labels == ("ant", "bee")


@needs_data
def test_sign_digits() -> None:
    splits = load(Settings("sign_digits", eval_last=15), Path(DATA or ""), 0)
    assert splits.labels == tuple("0123456789")
    # 85 training images per class, of which 30 would be drawn but a quarter at most, 21, is.
    assert (len(splits.train), len(splits.calibration), len(splits.evaluation)) == (640, 210, 150)
    assert splits.evaluation[0].frame.shape == (100, 100, 3)
    train, calibration, evaluation = map(dataset_hashes, (splits.train, splits.calibration, splits.evaluation))
    assert_disjoint(train, evaluation, "train and evaluation")
    assert_disjoint(calibration, evaluation, "calibration and evaluation")
    assert_disjoint(calibration, train, "calibration and train")


@needs_data
def test_cifar10() -> None:
    splits = load(Settings("cifar10_jpeg/train.tar.xz", eval_last=500), Path(DATA or ""), 0)
    assert (len(splits.train), len(splits.calibration), len(splits.evaluation)) == (44700, 300, 5000)
    assert splits.labels[:3] == ("airplane", "automobile", "bird")
    assert splits.evaluation.name(0) == "train/airplane/4500.jpg"
    parts = [set(names(part)) for part in (splits.train, splits.calibration, splits.evaluation)]
    assert len(parts[0] | parts[1] | parts[2]) == 50000
    assert Counter(splits.evaluation.targets) == dict.fromkeys(range(10), 500)
    assert splits.train[44699].frame.shape == (32, 32, 3)
