import hashlib
import os
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from edgeattn.bundle.manifest import Manifest
from edgeattn.bundle.writer import write_bundle
from edgeattn.errors import BundleError, StorageError

Files = dict[str, Path | bytes]


def test_same_inputs_same_bytes(tmp_path: Path, manifest: Manifest, files: Files) -> None:
    """Not the order of the mapping, the date of the files, the name of the bundle or the user's umask shows."""
    first = write_bundle(tmp_path / "a.edgeattn", manifest, files)
    source = tmp_path / "model"
    source.write_bytes(b"onnx")
    source.chmod(0o700)
    os.utime(source, (time.time() - 1e6,) * 2)
    other = dict(reversed({**files, "model.onnx": source}.items()))
    assert write_bundle(tmp_path / "deep/b.edgeattn", manifest, other).read_bytes() == first.read_bytes()


def test_bytes_are_pinned(tmp_path: Path, manifest: Manifest) -> None:
    """The same on every supported Python, NumPy and platform. Another hash here is another file format."""
    path = write_bundle(
        tmp_path / "a.edgeattn", manifest, {"model.onnx": b"m", "golden.npz": b"g", "engine/engine.blob": b"e"}
    )
    assert (
        hashlib.sha256(path.read_bytes()).hexdigest()
        == "a4f680b4dec94891b459463d4d0c76c437d19fd1dd9eeff39b4c9f872e480c9e"
    )


def test_order_and_storage(bundle: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        assert archive.namelist() == [
            *("manifest.json", "engine/engine.blob", "engine/engine.json", "golden.npz", "model.onnx")
        ]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_created_is_the_callers(tmp_path: Path, manifest: Manifest, files: Files) -> None:
    later = replace(manifest, provenance={**manifest.provenance, "created": "2027-01-01T00:00:00+00:00"})
    first = write_bundle(tmp_path / "a.edgeattn", manifest, files).read_bytes()
    second = write_bundle(tmp_path / "b.edgeattn", later, files).read_bytes()
    assert len(first) == len(second)
    assert first != second


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model.onnx": None}, "does not list 'model.onnx'"),
        ({"golden.npz": None}, "does not list 'golden.npz'"),
        ({"engine/engine.blob": None, "engine/engine.json": None}, "promises an engine"),
        ({"../evil": b""}, "unsafe file name"),
        ({"manifest.json": b""}, "cannot hash itself"),
        ({"extra": Path("/does/not/exist")}, "'extra', cannot be read"),
    ],
)
def test_what_cannot_be_a_bundle_is_not_written(
    tmp_path: Path, manifest: Manifest, files: Files, change: dict[str, Path | bytes | None], says: str
) -> None:
    out = tmp_path / "a.edgeattn"
    out.write_bytes(b"the old one")
    wanted = {name: content for name, content in {**files, **change}.items() if content is not None}
    with pytest.raises(BundleError, match=says):
        write_bundle(out, manifest, wanted)
    assert out.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [out]


def test_a_failure_half_way_leaves_the_old_bundle(
    tmp_path: Path, manifest: Manifest, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.edgeattn"
    out.write_bytes(b"the old one")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space is left"):
        write_bundle(out, manifest, files)
    assert out.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [out]


def test_a_file_where_the_folder_should_be(tmp_path: Path, manifest: Manifest, files: Files) -> None:
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be written"):
        write_bundle(tmp_path / "a/b.edgeattn", manifest, files)
