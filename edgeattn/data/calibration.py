"""Calibration sets as files: PNG images and a manifest that pins each by its SHA-256 and says how to rebuild them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeattn.artifact import sha256_bytes, write_atomic
from edgeattn.data.base import Dataset, Sample, below
from edgeattn.errors import DataError, storage_errors
from edgeattn.imaging import Frame, decode_image, encode_png, printable

SCHEMA = "edgeattn.calibration/1"
MANIFEST = "manifest.json"


@dataclass(frozen=True, eq=False)
class CalibrationFiles:
    """A data set read from a folder that `write_calibration` made; `settings` is what its generator recorded.

    A target is a class id, or None: calibration looks at frames alone.
    """

    folder: Path
    labels: tuple[str, ...]
    files: tuple[dict[str, Any], ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        entry = self.files[index]
        frame, *second = (self._frame(image) for image in _images(entry))
        return Sample(frame, entry["target"], *second)

    def _frame(self, image: Mapping[str, Any]) -> Frame:
        path = self.folder / image["file"]
        return decode_image(_verified(path, image["sha256"]), str(path))

    @property
    def identity(self) -> list[list[Any]]:
        """What calibration sees, in order: the hashes of each sample's images, and its target between them."""
        return [
            [entry["sha256"], entry["target"], *(image["sha256"] for image in _images(entry)[1:])]
            for entry in self.files
        ]

    def name(self, index: int) -> str:
        return str(self.files[index]["name"])


def write_calibration(
    dataset: Dataset,
    labels: tuple[str, ...],
    out: Path,
    *,
    name: str,
    source: str,
    licence: str,
    rebuild: str,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Write every sample to `out`, which appears whole or not at all and replaces an earlier calibration folder.

    `rebuild` is the command that gives the same files again, `settings` what a generator must know to tell whether they
    fit a recipe. Of the targets class ids are written, and of samples with two images both. Raises StorageError, and
    DataError when `out` is something else than a calibration folder or holds something else besides.
    """
    out = Path(os.path.abspath(out))  # noqa: PTH100  (resolve() would follow a link and replace what it points to)
    building = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    replaced = out.with_name(f".{out.name}.{os.getpid()}.old")
    with storage_errors(out):
        _check_replaceable(out)
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        try:
            files = []
            for index in range(len(dataset)):
                sample = dataset[index]
                described = _write_image(building / f"{index:04d}.png", sample.frame)
                described["target"] = sample.target if isinstance(sample.target, int) else None
                described["name"] = dataset.name(index)
                if sample.second is not None:
                    described["second"] = _write_image(building / f"{index:04d}-second.png", sample.second)
                files.append(described)
            manifest: dict[str, Any] = {
                "schema": SCHEMA,
                "name": name,
                "source": source,
                "licence": licence,
                "rebuild": rebuild,
            }
            manifest |= {"settings": dict(settings)} if settings else {}
            write_atomic(building / MANIFEST, _lines(manifest | {"labels": list(labels)}, files))
            if out.exists():
                out.replace(replaced)
            building.replace(out)
        finally:
            shutil.rmtree(building, ignore_errors=True)
            shutil.rmtree(replaced, ignore_errors=True)
    return out


def read_calibration(folder: Path) -> CalibrationFiles:
    """Check the manifest and every file's SHA-256. Raises DataError when a file is missing or altered."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["schema"] != SCHEMA:
            raise DataError(f"{path} has the schema {manifest['schema']!r}; this version reads {SCHEMA!r}.")
        settings = dict(manifest.get("settings", {}))
        labels = tuple(str(label) for label in manifest["labels"])
        entries = tuple(_entry(entry) for entry in manifest["files"])
    except OSError as error:
        raise DataError(
            f"The calibration manifest {path} cannot be read ({error.strerror}); check the path."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a calibration manifest ({error!r}); rebuild the calibration files.") from error
    if not entries:
        raise DataError(f"{path} lists no files; rebuild the calibration files.")
    for image in (image for entry in entries for image in _images(entry)):
        if Path(image["file"]).name != image["file"]:
            raise DataError(
                f"{path} names the file {image['file']!r} outside its folder; rebuild the calibration files."
            )
        _verified(folder / image["file"], image["sha256"])
    return CalibrationFiles(folder=folder, labels=labels, files=entries, settings=settings)


def find_calibration(folder: str) -> Path:
    """`folder` below the current directory or, failing that, below the repository. Raises DataError."""
    places = (below(Path(), folder), below(Path(__file__).resolve().parents[2], folder))
    for place in places:
        if place.is_dir():
            return place
    looked = " nor ".join(str(place) for place in dict.fromkeys(path.absolute() for path in places))
    raise DataError(f"There is no calibration folder {looked}; set data.calibration_dir or remove it from the recipe.")


def _entry(values: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest's entry without what this version does not know. Raises KeyError, TypeError."""
    entry = {key: values[key] for key in ("file", "sha256", "target", "name")}
    if "second" in values:
        entry["second"] = {key: values["second"][key] for key in ("file", "sha256")}
    return entry


def _images(entry: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """What names an entry's one or two files."""
    return (entry, entry["second"]) if "second" in entry else (entry,)


def _write_image(path: Path, frame: Frame) -> dict[str, Any]:
    data = encode_png(frame)
    path.write_bytes(data)
    return {"file": path.name, "sha256": sha256_bytes(data)}


def _check_replaceable(out: Path) -> None:
    """Raise DataError unless `out` is new, or a calibration folder with nothing in it but what its manifest lists."""
    if not out.exists():
        return
    try:
        manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        if manifest["schema"] != SCHEMA:
            raise ValueError
        listed = {MANIFEST, *(image["file"] for entry in manifest["files"] for image in _images(entry))}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{out} exists and is no calibration folder (it needs a {MANIFEST} with the schema {SCHEMA!r}); choose a "
            "new folder, nothing was overwritten."
        ) from error
    if others := sorted(path.name for path in out.iterdir() if path.name not in listed or path.is_dir()):
        raise DataError(
            f"{out} holds {printable(others[0])!r}, which its {MANIFEST} does not list; move it elsewhere or choose a "
            "new folder, nothing was overwritten."
        )


def _verified(path: Path, sha256: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"The calibration file {path} is listed in {MANIFEST} but cannot be read ({error.strerror}); "
            "rebuild the calibration files."
        ) from error
    if (got := sha256_bytes(data)) != sha256:
        raise DataError(
            f"The calibration file {path} was altered: its SHA-256 is {got[:16]}…, the manifest says {sha256[:16]}…; "
            "restore it or rebuild the calibration files."
        )
    return data


def _lines(head: dict[str, Any], files: list[dict[str, Any]]) -> str:
    """JSON with one line per file, so that a changed image is one changed line."""
    opening = json.dumps(head, indent=1, ensure_ascii=False)[:-2]
    rows = ",\n  ".join(json.dumps(entry, ensure_ascii=False) for entry in files)
    return f'{opening},\n "files": [\n  {rows}\n ]\n}}\n'
