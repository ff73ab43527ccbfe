"""One sub-folder of images per class, or the same inside a `.tar`, `.tar.gz` or `.tar.xz`.

    data: {format: imagefolder, path: cifar10_jpeg/train.tar.xz, eval_last: 500}

Folders that lead to the classes are skipped. When they are `train` and `val`, `valid`, `validation` or `test` (the
first of these that exists), they are the training and evaluation split; otherwise the last images of each class by
name are held out. Labels and files are sorted bytewise: "10" comes before "2".
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgeattn.data import archive
from edgeattn.data.base import Splits, locate
from edgeattn.data.download import fetch
from edgeattn.data.labelled import SUFFIXES, FolderReader, Reader, by_name, draw_calibration, hold_out, make_splits
from edgeattn.errors import DataError

_EVALUATION_NAMES = ("val", "valid", "validation", "test")


@dataclass(frozen=True)
class Settings:
    """`path`: a folder or archive. `train`, `evaluation`: folders below it that are ready-made splits.

    Otherwise `eval_last` images of each class, or `eval_fraction` of them, are held out. `calibration` images are drawn
    out of the training part. `limit` keeps the first images of each class, for quick trials. Where `path` does not
    exist, it is downloaded from `url`, whose content must have the SHA-256 `sha256`.
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
        raise DataError(f"There are no images in {path} (looked for {', '.join(sorted(SUFFIXES))}).")
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
    if settings.url is None:
        return locate(settings.path, root)
    if settings.sha256 is None:
        raise DataError("data.url is given without data.sha256; pin the content by its SHA-256.")
    try:
        return locate(settings.path, root)
    except DataError:
        return fetch(settings.url, settings.sha256, root / settings.path)


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
    images = [name for name in files if PurePosixPath(name).suffix.lower() in SUFFIXES and _shown(name)]
    return reader, _Listing(sorted(images, key=by_name), [name for name in folders if _shown(name)])


def _walk(path: Path) -> tuple[list[str], list[str]]:
    files, folders = [], []
    for folder, below, names in os.walk(path, followlinks=True):
        relative = os.path.relpath(folder, path).replace(os.sep, "/")
        prefix = "" if relative == "." else f"{relative}/"
        folders += [prefix + name for name in below]
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
        below = [file.removeprefix(leading).split("/") for file in listing.files]
        tops = {parts[0] for parts in below}
        ready = next((name for name in _EVALUATION_NAMES if name in tops), None)
        if ready and "train" in tops and tops <= {"train", *_EVALUATION_NAMES} and min(map(len, below)) > 2:
            return f"{leading}train", f"{leading}{ready}"
        if len(tops) > 1 or min(map(len, below)) <= 2:
            return leading.rstrip("/"), None
        leading += f"{below[0][0]}/"


def _classes(listing: _Listing, folder: str, path: Path, limit: int | None) -> dict[str, list[str]]:
    """Label -> files of the classes in `folder`, "" for the top. Images beside the class folders are no class's."""
    prefix = f"{folder}/" if folder else ""
    classes: dict[str, list[str]] = {
        name.removeprefix(prefix): []
        for name in listing.folders
        if name.startswith(prefix) and "/" not in name.removeprefix(prefix)
    }
    for file in listing.files:
        label, inside, _ = file.removeprefix(prefix).partition("/")
        if file.startswith(prefix) and inside:
            classes.setdefault(label, []).append(file)
    for label, files in classes.items():
        if not files:
            raise DataError(f"The class folder {prefix}{label} in {path} holds no images; fill it or remove it.")
    return {label: files[:limit] for label, files in classes.items()}
