"""Images with one label each, from wherever their bytes are: splitting by name, calibration, checks, fingerprint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, islice
from pathlib import Path
from typing import Protocol

import numpy as np

from edgeattn.artifact import sha256_bytes, sha256_json
from edgeattn.data.base import Sample, Splits
from edgeattn.errors import DataError
from edgeattn.imaging import decode_image, printable

# Folders up to this size are fingerprinted by content, larger ones by path, size and time of change.
HASHED_BYTES_MAX = 512 << 20

Classes = Mapping[str, Sequence[str]]  # label -> files


class Reader(Protocol):
    """Where the bytes of images are: a folder or an archive. Picklable."""

    def read(self, file: str) -> bytes:
        """The undecoded image. Raises DataError."""
        ...

    def where(self, file: str) -> str:
        """How a message calls the file; printable."""
        ...

    def identities(self, files: Sequence[str]) -> tuple[list[str], bool]:
        """One string per file that changes with its content, and whether it is a hash of the content."""
        ...


class FolderReader:
    """Files named by their path relative to `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, file: str) -> bytes:
        try:
            return (self._folder / file).read_bytes()
        except OSError as error:
            raise DataError(
                f"The image {self.where(file)} cannot be read ({error.strerror}); check the path."
            ) from error

    def where(self, file: str) -> str:
        return printable(str(self._folder / file))

    def identities(self, files: Sequence[str]) -> tuple[list[str], bool]:
        try:
            states = [(self._folder / file).stat() for file in files]
        except OSError as error:
            raise DataError(f"The image {error.filename} cannot be read ({error.strerror}); check the path.") from error
        if sum(state.st_size for state in states) > HASHED_BYTES_MAX:
            return [f"{state.st_size}-{state.st_mtime_ns}" for state in states], False
        return [sha256_bytes(self.read(file)) for file in files], True


class LabelledImages:
    """Decodes an image when it is asked for.

    The order takes the first of each class, then the second of each, …: every prefix is balanced.
    """

    def __init__(self, reader: Reader, classes: Classes, labels: Sequence[str]) -> None:
        ranked = [(rank, labels.index(label), file) for label in classes for rank, file in enumerate(classes[label])]
        self._reader = reader
        self.files = tuple(file for _, _, file in sorted(ranked))
        self.targets = tuple(target for _, target, _ in sorted(ranked))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        file = self.files[index]
        return Sample(frame=decode_image(self._reader.read(file), self._reader.where(file)), target=self.targets[index])

    def name(self, index: int) -> str:
        return printable(self.files[index])


def by_name(name: str) -> bytes:
    """Sort key: bytewise, as `LC_ALL=C sort` does; "10" comes before "2"."""
    return name.encode("utf-8", "surrogateescape")


def hold_out(
    classes: Classes, *, last: int | None, fraction: float
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Training and evaluation part: the last files of each class by name, `last` of them or a `fraction` (at least 1).

    Raises DataError when the numbers make no sense or a class has too few images.
    """
    if last is not None and last < 1:
        raise DataError(f"data.eval_last must be at least 1, got {last}.")
    if not 0.0 < fraction < 1.0:
        raise DataError(f"data.eval_fraction must lie between 0 and 1, got {fraction}.")
    train, evaluation = {}, {}
    for label in sorted(classes, key=by_name):
        files = classes[label]
        count = last if last is not None else max(1, round(fraction * len(files)))
        if len(files) < count + 2:
            raise DataError(
                f"The class '{label}' has {len(files)} image(s), too few to keep {count} for evaluation and at least "
                "one each for training and calibration; add images or change data.eval_last or data.eval_fraction."
            )
        ordered = sorted(files, key=by_name)
        train[label], evaluation[label] = ordered[:-count], ordered[-count:]
    return train, evaluation


def draw_calibration(classes: Classes, count: int, seed: int) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """What is left for training, and `count` images drawn from all classes alike, from the seed.

    A class gives at most a quarter of its images (but at least one), so small sets calibrate on fewer than `count`.
    """
    if count < 1:
        raise DataError(f"data.calibration must be at least 1, got {count}.")
    train, calibration = {}, {}
    for index, label in enumerate(sorted(classes, key=by_name)):
        files = sorted(classes[label], key=by_name)
        if len(files) < 2:
            raise DataError(
                f"The class '{label}' has {len(files)} training image(s), too few to take one for calibration; "
                "add images."
            )
        # The first classes take one more where the count does not divide evenly.
        share = min(count // len(classes) + (index < count % len(classes)), max(1, len(files) // 4))
        order = np.random.default_rng((seed, index)).permutation(len(files))
        chosen = set(order[:share].tolist())
        calibration[label] = [file for place, file in enumerate(files) if place in chosen]
        train[label] = [file for place, file in enumerate(files) if place not in chosen]
    return train, calibration


def identify(reader: Reader, splits: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """One string per file of each split, the same only for the same image. Raises DataError.

    Asked for all splits at once: hashes of one split and sizes of another would never match.
    """
    files = [file for part in splits.values() for file in part]
    values, by_content = reader.identities(files)
    if not by_content:
        # Two files may well share size and time: then only the same path is the same image.
        values = [f"{value}-{file}" for value, file in zip(values, files, strict=True)]
    following = iter(values)
    return {split: list(islice(following, len(part))) for split, part in splits.items()}


def check_disjoint(
    splits: Mapping[str, Sequence[str]], identities: Mapping[str, Sequence[str]], reader: Reader
) -> None:
    """Raises DataError when two splits share an image; `identities` as `identify` gives them."""
    for first, second in combinations(splits, 2):
        seen = dict(zip(identities[first], splits[first], strict=True))
        for value, file in zip(identities[second], splits[second], strict=True):
            if value in seen:
                raise DataError(
                    f"{reader.where(file)} in the {second} split is the same image as {printable(seen[value])} in the "
                    f"{first} split; remove one of them or change the split, or the evaluation would not be honest."
                )


def make_splits(name: str, reader: Reader, train: Classes, calibration: Classes, evaluation: Classes) -> Splits:
    """Check classes and that no image is in two splits, and fingerprint. Decodes nothing. Raises DataError."""
    labels = tuple(sorted(train, key=by_name))
    if len(labels) < 2:
        raise DataError(
            f"Classification needs at least 2 classes, found {len(labels)} ({', '.join(labels) or 'none'})."
        )
    for what, part in (("calibration", calibration), ("evaluation", evaluation)):
        if unknown := sorted(set(part) - set(labels)):
            raise DataError(f"The {what} split has the class '{unknown[0]}', which the training split lacks.")
    parts = {
        split: LabelledImages(reader, part, labels)
        for split, part in (("train", train), ("calibration", calibration), ("evaluation", evaluation))
    }
    files = {split: images.files for split, images in parts.items()}
    identities = identify(reader, files)
    check_disjoint(files, identities, reader)
    described = {
        split: [
            [printable(file), target, value]
            for file, target, value in zip(images.files, images.targets, identities[split], strict=True)
        ]
        for split, images in parts.items()
    }
    identity = {"labels": labels, "train": described["train"], "evaluation": described["evaluation"]}
    return Splits(
        parts["train"],
        parts["calibration"],
        parts["evaluation"],
        labels,
        fingerprint=f"{name}-{sha256_json({**identity, 'calibration': described['calibration']})[:32]}",
        training_fingerprint=f"{name}-{sha256_json(identity)[:32]}",
    )
