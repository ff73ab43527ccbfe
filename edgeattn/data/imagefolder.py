"""One sub-folder of images per class, or the same inside a `.tar`, `.tar.gz` or `.tar.xz`.

    data: {format: imagefolder, path: cifar10_jpeg/train.tar.xz, eval_last: 500}

Folders that lead to the classes are skipped. When they are `train` and `val`, `valid`, `validation` or `test` (in any
case; the first of these that holds classes), they are the training and evaluation split; otherwise the last images of
each class by name are held out. Images beside class or split folders are passed over. Labels and files are sorted
bytewise: "10" comes before "2". Bytes of a name that are not UTF-8 become `\\xff` in its label.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgeattn.artifact import sha256_file
from edgeattn.data import archive
from edgeattn.data.base import Splits, below, locate
from edgeattn.data.download import fetch
from edgeattn.data.labelled import FolderReader, Reader, by_name, draw_calibration, hold_out, make_splits
from edgeattn.errors import DataError
from edgeattn.imaging import IMAGE_SUFFIXES, printable

_EVALUATION_NAMES = ("val", "valid", "validation", "test")


@dataclass(frozen=True)
class Settings:
    """`path`: a folder or archive. `train`, `evaluation`: folders below it that are ready-made splits.

    Otherwise `eval_last` images of each class, or `eval_fraction` of them, are held out. `calibration` images are drawn
    out of the training part. `limit` keeps the first images of each class, for quick trials. An archive must have the
    SHA-256 `sha256` when that is given; where `path` does not exist, it is downloaded from `url`, which needs `sha256`.
    """

    path: str
    train: str | None = None
    evaluation: str | None = None
    eval_last: int | None = None
    eval_fraction: float = 0.2
    calibration: int = 300
    limit: int | None = None
    url: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class _Listing:
    files: Sequence[str]
    folders: Sequence[str]


def load(settings: Settings, root: Path, seed: int) -> Splits:
    """Lists and hashes the images, decodes none. Raises DataError."""
    path = _found(settings, root)
    if settings.limit is not None and settings.limit < 3:
        raise DataError(f"data.limit must be at least 3 images per class, got {settings.limit}.")
    reader, listing = _opened(path)
    if not listing.files:
        raise DataError(f"There are no images in {path} (looked for {', '.join(sorted(IMAGE_SUFFIXES))}).")
    train_folder, evaluation_folder = _split_folders(settings, listing, path)
    train = _classes(listing, train_folder, path, settings.limit)
    if evaluation_folder is None:
        train, evaluation = hold_out(train, last=settings.eval_last, fraction=settings.eval_fraction)
    else:
        evaluation = _classes(listing, evaluation_folder, path, settings.limit)
        if missing := sorted(set(train) - set(evaluation)):
            raise DataError(
                f"The folder {evaluation_folder} of {path} lacks the class '{missing[0]}' of {train_folder}."
            )
    rest, calibration = draw_calibration(train, settings.calibration, seed)
    return make_splits("imagefolder", reader, rest, calibration, evaluation)


def _found(settings: Settings, root: Path) -> Path:
    if settings.sha256 is None:
        if settings.url is not None:
            raise DataError("data.url is given without data.sha256; pin the content by its SHA-256.")
        return locate(settings.path, root)
    try:
        path = locate(settings.path, root)
    except DataError:
        if settings.url is None:
            raise
        return fetch(settings.url, settings.sha256, below(root, settings.path))
    if path.is_dir():
        raise DataError(
            f"{path} is a folder, but data.sha256 pins the content of an archive; give the archive as data.path or "
            "remove data.sha256."
        )
    try:
        got = sha256_file(path)
    except OSError as error:
        raise DataError(f"The archive {path} cannot be read ({error.strerror}); check the path.") from error
    if got != settings.sha256.lower():
        raise DataError(
            f"{path} has the SHA-256 {got}, expected {settings.sha256.lower()}; get the archive again or correct "
            "data.sha256."
        )
    return path


def _opened(path: Path) -> tuple[Reader, _Listing]:
    if path.is_dir():
        files, folders = _walk(path)
        reader: Reader = FolderReader(path)
    elif path.name.lower().endswith(archive.SUFFIXES):
        tar = archive.TarReader(path)
        files, folders = tar.names()
        reader = tar
    else:
        raise DataError(f"{path} is neither a folder nor one of {', '.join(archive.SUFFIXES)}.")
    images = [name for name in files if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES and _shown(name)]
    return reader, _Listing(sorted(images, key=by_name), [name for name in folders if _shown(name)])


def _walk(path: Path) -> tuple[list[str], list[str]]:
    files, folders = [], []
    for folder, inside, names in os.walk(path, followlinks=True):
        relative = os.path.relpath(folder, path).replace(os.sep, "/")
        prefix = "" if relative == "." else f"{relative}/"
        folders += [prefix + name for name in inside]
        files += [prefix + name for name in names]
    return files, folders


def _shown(name: str) -> bool:
    """False for hidden files and what macOS adds to archives."""
    return not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _split_folders(settings: Settings, listing: _Listing, path: Path) -> tuple[str, str | None]:
    """The folder whose sub-folders are the classes, and the evaluation split's, when there is one."""
    if settings.evaluation is not None and settings.train is None:
        raise DataError("data.evaluation is given without data.train; name both folders or neither.")
    if settings.train is not None:
        for named in (settings.train, settings.evaluation):
            if named is not None and not any(file.startswith(f"{named.strip('/')}/") for file in listing.files):
                raise DataError(f"There are no images below {named} in {path}; correct data.train or data.evaluation.")
        evaluation = settings.evaluation
        return settings.train.strip("/"), evaluation.strip("/") if evaluation is not None else None
    leading = ""
    while True:
        below_it = [file[len(leading) :].split("/") for file in listing.files if file.startswith(leading)]
        folders = {parts[0] for parts in below_it if len(parts) > 1}
        if ready := _ready_made(below_it, folders, path):
            return f"{leading}{ready[0]}", f"{leading}{ready[1]}"
        inside = {parts[1] for parts in below_it if len(parts) > 2}
        if len(folders) != 1 or not inside:
            return leading.rstrip("/"), None
        only = next(iter(folders))
        # Images here or beside the folders inside say that these are no classes, unless they are or lead to splits.
        if min(map(len, below_it)) <= 2 and only.lower() != "train" and not all(_named_like_splits(inside)):
            return leading.rstrip("/"), None
        leading += f"{only}/"


def _named_like_splits(folders: Iterable[str]) -> tuple[list[str], list[str]]:
    """Those of `folders` that are named like a training split, and like an evaluation split, best first."""
    train = sorted(name for name in folders if name.lower() == "train")
    return train, [name for known in _EVALUATION_NAMES for name in sorted(folders) if name.lower() == known]


def _ready_made(files: Sequence[Sequence[str]], folders: set[str], path: Path) -> tuple[str, str] | None:
    """The folders of the training and the evaluation split; None when `folders` are something else.

    Raises DataError when they are half one, half the other: "train" and "test" would become the classes.
    """
    train, evaluation = _named_like_splits(folders)
    if not train or not evaluation:
        return None
    with_classes = {parts[0] for parts in files if len(parts) > 2}
    usable = [name for name in evaluation if name in with_classes]
    others = sorted(folders - {*train, *evaluation}, key=by_name)
    if len(train) == 1 and train[0] in with_classes and usable and not others:
        return train[0], usable[0]
    if others:
        wrong = f"'{printable(others[0])}' is no split"
    elif len(train) > 1:
        wrong = f"both '{train[0]}' and '{train[1]}' may be the training split"
    else:
        wrong = f"there are no class folders in '{train[0] if train[0] not in with_classes else evaluation[0]}'"
    raise DataError(
        f"{path} holds the folders '{train[0]}' and '{evaluation[0]}' as if they were splits, but {wrong}; name the "
        "splits with data.train and data.evaluation, or give each split one folder per class and move the rest away."
    )


def _classes(listing: _Listing, folder: str, path: Path, limit: int | None) -> dict[str, list[str]]:
    """Printable label -> files of the classes in `folder`, "" for the top; images beside class folders are left out."""
    prefix = f"{folder}/" if folder else ""
    classes: dict[str, list[str]] = {
        printable(name.removeprefix(prefix)): []
        for name in listing.folders
        if name.startswith(prefix) and "/" not in name.removeprefix(prefix)
    }
    for file in listing.files:
        label, inside, _ = file.removeprefix(prefix).partition("/")
        if file.startswith(prefix) and inside:
            classes.setdefault(printable(label), []).append(file)
    for label, files in classes.items():
        if not files:
            raise DataError(f"The class folder {prefix}{label} in {path} holds no images; fill it or remove it.")
    return {label: files[:limit] for label, files in classes.items()}
