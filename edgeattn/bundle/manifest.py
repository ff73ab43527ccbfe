"""`manifest.json`: what a bundle holds, for whom, and the SHA-256 of every file in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from edgeattn.bundle.archive import unsafe_names
from edgeattn.errors import BundleError
from edgeattn.imaging import Preprocess

SCHEMA = "edgeattn.bundle/1"
MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
MODEL = "model.onnx"
GOLDEN = "golden.npz"

_REQUIRED_FILES = (MODEL, GOLDEN)
_SIDE_MAX = 16384
_FITS = ("stretch", "crop", "letterbox", "tile")
_HEX = frozenset("0123456789abcdef")
_WORDS: dict[type, str] = {dict: "an object", list: "a list", str: "a string", int: "a whole number"}
T = TypeVar("T")


@dataclass(frozen=True)
class Tensor:
    """One input or output. `shape` has None where a dimension is dynamic; `dtype` is NumPy's name for it.

    `colour` (`bgr`) and `value_range` (least and greatest value) are None where the tensor is not an image.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    colour: str | None = None
    value_range: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        spread = list(self.value_range) if self.value_range else None
        return {
            "name": self.name, "shape": list(self.shape), "dtype": self.dtype, "colour": self.colour, "range": spread,
        }  # fmt: skip


@dataclass(frozen=True)
class FileEntry:
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Manifest:
    """`inputs` are camera frames in the order `model(...)` takes them; each is prepared by `preprocess`.

    `engine_dir` is the folder of the compiled engine inside the bundle, None when it is built on the device.
    `decoding` is the task's, and says how to read the outputs. `fingerprint` says which library and processor that
    engine was compiled for. `provenance` is free: recipe, artifact hashes, packages. `files` is filled by
    `write_bundle`.
    """

    task: str
    labels: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    preprocess: Preprocess
    variant: str
    target: str
    backend: str
    engine_dir: str | None = None
    decoding: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, FileEntry] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """Sorted and indented: the same manifest gives the same bytes, and a person can read them."""
        values = {
            "schema": SCHEMA,
            "task": self.task,
            "labels": list(self.labels),
            "inputs": [tensor.to_dict() for tensor in self.inputs],
            "outputs": [tensor.to_dict() for tensor in self.outputs],
            "preprocess": self.preprocess.to_dict(),
            "decoding": dict(self.decoding),
            "variant": self.variant,
            "target": self.target,
            "backend": self.backend,
            "engine_dir": self.engine_dir,
            "fingerprint": dict(self.fingerprint),
            "provenance": dict(self.provenance),
            "files": {n: {"sha256": e.sha256, "size_bytes": e.size_bytes} for n, e in self.files.items()},
        }
        return json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Manifest:
        """Parse and check; `where` is the bundle in a sentence. Raises BundleError; unknown fields are allowed."""
        try:
            values = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"The manifest of {where} is not valid JSON; copy or build the bundle again.") from error
        if not isinstance(values, dict):
            raise BundleError(f"The manifest of {where} must be a JSON object, got {type(values).__name__}.")
        _check_schema(values.get("schema"), where)
        manifest = _parse(_Reader(values, where))
        check_files(manifest, where)
        return manifest


def check_files(manifest: Manifest, where: str) -> None:
    """Raise BundleError unless the listed files are safe, complete and in agreement with `engine_dir`."""
    names = list(manifest.files)
    if unsafe := unsafe_names(names):
        raise BundleError(f"The manifest of {where} lists the unsafe file name {unsafe[0]!r}; do not use this bundle.")
    for name in (MANIFEST, SIGNATURE):
        if name in manifest.files:
            raise BundleError(f"The manifest of {where} lists '{name}', which cannot hash itself; build it again.")
    for name in _REQUIRED_FILES:
        if name not in manifest.files:
            raise BundleError(
                f"The manifest of {where} does not list '{name}', which every bundle holds; build it again."
            )
    folder = manifest.engine_dir
    if folder is not None and not any(name.startswith(f"{folder}/") for name in names):
        raise BundleError(f"The manifest of {where} promises an engine in '{folder}/' but lists no file there.")


def _check_schema(schema: object, where: str) -> None:
    if schema == SCHEMA:
        return
    family, _, version = str(schema).partition("/")
    known_family, _, known_version = SCHEMA.partition("/")
    if family == known_family and version.isdecimal() and int(version) > int(known_version):
        raise BundleError(
            f"{where} was written by a newer edgeattn ({schema}; this one reads up to {SCHEMA}); update edgeattn."
        )
    raise BundleError(f"The manifest of {where} has the schema {schema!r}; expected '{SCHEMA}'. It is not a bundle's.")


def _parse(top: _Reader) -> Manifest:
    inputs = tuple(_tensor(reader) for reader in top.objects("inputs"))
    outputs = tuple(_tensor(reader) for reader in top.objects("outputs"))
    for name, tensors in (("inputs", inputs), ("outputs", outputs)):
        if not tensors:
            raise BundleError(f"The manifest of {top.where} lists no {name}; a model has at least one.")
    return Manifest(
        task=top.take("task", str),
        labels=top.strings("labels"),
        inputs=inputs,
        outputs=outputs,
        preprocess=_preprocess(top.object("preprocess")),
        variant=top.take("variant", str),
        target=top.take("target", str),
        backend=top.take("backend", str),
        engine_dir=top.optional("engine_dir", str),
        decoding=top.take("decoding", dict),
        fingerprint={str(key): str(value) for key, value in top.take("fingerprint", dict).items()},
        provenance=top.take("provenance", dict),
        files={name: _file(reader) for name, reader in top.object("files").members()},
    )


def _tensor(reader: _Reader) -> Tensor:
    shape = reader.take("shape", list)
    if any(size is not None and (type(size) is not int or size < 0) for size in shape):
        raise reader.wrong("shape", "whole numbers, null where dynamic", shape)
    spread = reader.optional("range", list)
    if spread is not None and (len(spread) != 2 or any(type(value) not in (int, float) for value in spread)):
        raise reader.wrong("range", "two numbers or null", spread)
    return Tensor(
        name=reader.take("name", str),
        shape=tuple(shape),
        dtype=reader.take("dtype", str),
        colour=reader.optional("colour", str),
        value_range=(float(spread[0]), float(spread[1])) if spread else None,
    )


def _preprocess(reader: _Reader) -> Preprocess:
    """Unlike elsewhere an unknown field is refused: preparing frames differently would quietly give wrong results."""
    if unknown := set(reader.values) - {"height", "width", "fit", "overlap"}:
        raise BundleError(
            f"The manifest of {reader.where} prepares frames with '{min(unknown)}', which this edgeattn does not know; "
            "update edgeattn."
        )
    height, width, fit = reader.take("height", int), reader.take("width", int), reader.take("fit", str)
    for name, size in (("height", height), ("width", width)):
        if not 1 <= size <= _SIDE_MAX:
            raise reader.wrong(name, f"1 to {_SIDE_MAX} pixels", size)
    if fit not in _FITS:
        raise reader.wrong("fit", f"one of {', '.join(_FITS)}", fit)
    if fit != "tile":
        return Preprocess(height=height, width=width, fit=cast(Any, fit))
    overlap = reader.take("overlap", int)
    if not 0 <= overlap < min(height, width):
        raise reader.wrong("overlap", "0 or more pixels, fewer than a tile has", overlap)
    return Preprocess(height=height, width=width, fit="tile", overlap=overlap)


def _file(reader: _Reader) -> FileEntry:
    sha256, size_bytes = reader.take("sha256", str), reader.take("size_bytes", int)
    if len(sha256) != 64 or not _HEX.issuperset(sha256):
        raise reader.wrong("sha256", "64 hexadecimal digits", sha256)
    if size_bytes < 0:
        raise reader.wrong("size_bytes", "zero or more", size_bytes)
    return FileEntry(sha256, size_bytes)


class _Reader:
    """Typed access to one JSON object; every way a field can be wrong is one sentence."""

    def __init__(self, values: dict[str, Any], where: str, prefix: str = "") -> None:
        self.values, self.where, self._prefix = values, where, prefix

    def wrong(self, name: str, expected: str, got: object) -> BundleError:
        return BundleError(
            f"The manifest of {self.where} has a wrong field '{self._prefix}{name}': expected {expected}, "
            f"got {repr(got)[:60]}."
        )

    def take(self, name: str, kind: type[T]) -> T:
        if name not in self.values:
            raise BundleError(
                f"The manifest of {self.where} lacks the field '{self._prefix}{name}'; build the bundle again."
            )
        value = self.values[name]
        if type(value) is not kind:
            raise self.wrong(name, _WORDS[kind], value)
        return value

    def optional(self, name: str, kind: type[T]) -> T | None:
        return None if self.values.get(name) is None else self.take(name, kind)

    def strings(self, name: str) -> tuple[str, ...]:
        values = self.take(name, list)
        if any(type(value) is not str for value in values):
            raise self.wrong(name, "a list of strings", values)
        return tuple(values)

    def object(self, name: str) -> _Reader:
        return _Reader(self.take(name, dict), self.where, f"{self._prefix}{name}.")

    def objects(self, name: str) -> list[_Reader]:
        values = self.take(name, list)
        if any(type(value) is not dict for value in values):
            raise self.wrong(name, "a list of objects", values)
        return [_Reader(value, self.where, f"{self._prefix}{name}.{i}.") for i, value in enumerate(values)]

    def members(self) -> list[tuple[str, _Reader]]:
        """The fields of an object whose names are data."""
        for name, value in self.values.items():
            if type(value) is not dict:
                raise self.wrong(name, "an object", value)
        return [(n, _Reader(v, self.where, f"{self._prefix}{n}.")) for n, v in self.values.items()]
