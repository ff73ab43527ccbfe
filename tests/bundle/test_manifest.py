import dataclasses
import json
from typing import Any

import pytest

from edgeattn.bundle.manifest import SCHEMA, FileEntry, Manifest
from edgeattn.errors import BundleError
from edgeattn.imaging import Preprocess

HASH = "0" * 64
FILES = {name: FileEntry(HASH, 3) for name in ("model.onnx", "golden.npz", "engine/engine.blob")}


@pytest.fixture
def values(manifest: Manifest) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(dataclasses.replace(manifest, files=FILES).to_json())
    return parsed


def _parse(values: object) -> Manifest:
    return Manifest.from_json(json.dumps(values).encode(), "x.edgeattn")


def test_round_trip(manifest: Manifest) -> None:
    full = dataclasses.replace(manifest, files=FILES)
    assert Manifest.from_json(full.to_json(), "x") == full


def test_tiles_come_back_with_their_overlap(manifest: Manifest) -> None:
    tiled = dataclasses.replace(manifest, files=FILES, preprocess=Preprocess(16, 8, "tile", 7))
    written = json.loads(tiled.to_json())["preprocess"]
    assert written == {"height": 16, "width": 8, "fit": "tile", "overlap": 7}
    assert Manifest.from_json(tiled.to_json(), "x") == tiled


def test_two_inputs_keep_their_order(manifest: Manifest) -> None:
    """Calls take frames in it."""
    (tensor,) = manifest.inputs
    names = ("frame_b", "frame_a")
    both = dataclasses.replace(
        manifest, files=FILES, inputs=tuple(dataclasses.replace(tensor, name=name) for name in names)
    )
    assert [spec.name for spec in Manifest.from_json(both.to_json(), "x").inputs] == ["frame_b", "frame_a"]


def test_the_written_form(values: dict[str, Any]) -> None:
    """What others script against: names and shapes of the JSON itself."""
    assert values["schema"] == SCHEMA == "edgeattn.bundle/1"
    assert values["inputs"] == [
        {"name": "frame", "shape": [1, 8, 8, 3], "dtype": "uint8", "colour": "bgr", "range": [0.0, 255.0]}
    ]
    assert values["outputs"] == [{"name": "logits", "shape": [1, 3], "dtype": "float32", "colour": None, "range": None}]
    assert values["preprocess"] == {"height": 8, "width": 8, "fit": "stretch"}
    assert values["files"]["model.onnx"] == {"sha256": HASH, "size_bytes": 3}
    assert set(values) == {
        *("schema", "task", "labels", "inputs", "outputs", "preprocess", "decoding", "variant", "target", "backend"),
        *("engine_dir", "fingerprint", "provenance", "files"),
    }


def test_fields_added_later_are_ignored(values: dict[str, Any]) -> None:
    assert _parse({**values, "colour_of_the_box": "green"}).task == "classify"


@pytest.mark.parametrize(
    "field",
    [
        *("task", "labels", "inputs", "outputs", "preprocess", "decoding", "variant", "target", "backend"),
        *("fingerprint", "provenance", "files"),
    ],
)
def test_every_missing_field_is_named(values: dict[str, Any], field: str) -> None:
    del values[field]
    with pytest.raises(BundleError, match=rf"x\.edgeattn lacks the field '{field}'"):
        _parse(values)


def test_a_manifest_without_an_engine(values: dict[str, Any]) -> None:
    values["engine_dir"] = None
    assert _parse(values).engine_dir is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": "edgeattn.bundle/2"}, r"newer edgeattn \(edgeattn.bundle/2; .*update"),
        ({"schema": "edgeattn.artifact/1"}, "schema 'edgeattn.artifact/1'; expected 'edgeattn.bundle/1'"),
        ({"schema": None}, "schema None"),
        ({"task": 3}, "field 'task': expected a string, got 3"),
        ({"labels": "abc"}, "'labels': expected a list"),
        ({"labels": ["a", 1]}, "'labels': expected a list of strings"),
        ({"inputs": []}, "lists no inputs"),
        ({"outputs": []}, "lists no outputs"),
        ({"inputs": [3]}, "'inputs': expected a list of objects"),
        ({"inputs": [{"name": "frame", "dtype": "uint8"}]}, "lacks the field 'inputs.0.shape'"),
        ({"inputs": [{"name": "f", "dtype": "uint8", "shape": [1, True]}]}, "'inputs.0.shape': expected whole"),
        ({"inputs": [{"name": "f", "dtype": "uint8", "shape": [1], "range": [0]}]}, "'inputs.0.range': expected two"),
        ({"preprocess": {"height": 8, "width": 8}}, "lacks the field 'preprocess.fit'"),
        ({"preprocess": {"height": 0, "width": 8, "fit": "crop"}}, "'preprocess.height': expected 1 to 16384"),
        ({"preprocess": {"height": True, "width": 8, "fit": "crop"}}, "'preprocess.height': expected a whole"),
        ({"preprocess": {"height": 8, "width": 8, "fit": "squash"}}, "'preprocess.fit': expected one of stretch, crop"),
        ({"preprocess": {"height": 8, "width": 8, "fit": "tile"}}, "lacks the field 'preprocess.overlap'"),
        (
            {"preprocess": {"height": 8, "width": 8, "fit": "tile", "overlap": -1}},
            "'preprocess.overlap': expected 0 or more pixels, fewer than a tile has, got -1",
        ),
        (
            {"preprocess": {"height": 16, "width": 8, "fit": "tile", "overlap": 8}},
            "'preprocess.overlap': expected 0 or more pixels, fewer than a tile has, got 8",
        ),
        (
            {"preprocess": {"height": 8, "width": 8, "fit": "tile", "overlap": 2.0}},
            "'preprocess.overlap': expected a whole number, got 2.0",
        ),
        ({"preprocess": {"height": 8, "width": 8, "fit": "crop", "gamma": 2}}, "'gamma', which this edgeattn does not"),
        ({"engine_dir": "other"}, "promises an engine in 'other/'"),
        ({"engine_dir": 3}, "'engine_dir': expected a string"),
        ({"files": {}}, "does not list 'model.onnx'"),
        ({"files": {"model.onnx": 3}}, "'files.model.onnx': expected an object"),
        ({"files": {"model.onnx": {"size_bytes": 1}}}, "lacks the field 'files.model.onnx.sha256'"),
        ({"files": {"m": {"sha256": "xyz", "size_bytes": 1}}}, "'files.m.sha256': expected 64 hexadecimal"),
        ({"files": {"m": {"sha256": HASH, "size_bytes": -1}}}, "'files.m.size_bytes': expected zero or more"),
        ({"files": {"../m": {"sha256": HASH, "size_bytes": 1}}}, r"unsafe file name '\.\./m'"),
        ({"files": {"manifest.json": {"sha256": HASH, "size_bytes": 1}}}, "cannot hash itself"),
    ],
)
def test_every_wrong_field_has_its_sentence(values: dict[str, Any], change: dict[str, Any], says: str) -> None:
    with pytest.raises(BundleError, match=says):
        _parse({**values, **change})


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 100_000], ids=["empty", "cut", "not utf-8", "deep"])
def test_not_json(data: bytes) -> None:
    with pytest.raises(BundleError, match="not valid JSON"):
        Manifest.from_json(data, "x.edgeattn")


def test_not_an_object() -> None:
    with pytest.raises(BundleError, match="must be a JSON object, got list"):
        Manifest.from_json(b"[]", "x.edgeattn")
