import os
from pathlib import Path
from typing import Any

import pytest

import edgeattn
from edgeattn.errors import BundleError, ModelError, StorageError
from edgeattn.runtime import cache as cache_module

ENGINE = {"engine.json": b"{}", "engine.blob": b"blob", "model.onnx": b"onnx"}


def test_engine_and_model_lie_side_by_side(bundle: Path, backend: Any, cache: Path) -> None:
    model = edgeattn.load(bundle)
    assert backend.seen == ENGINE
    assert backend.folders == [cache / model.bundle.sha256[:32]]


def test_without_an_engine(make_bundle: Any, backend: Any) -> None:
    edgeattn.load(make_bundle(engine_dir=None))
    assert backend.seen == {"model.onnx": b"onnx"}


def test_unpacked_once(bundle: Path, backend: Any, cache: Path) -> None:
    edgeattn.load(bundle)
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    edgeattn.load(bundle)
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before


@pytest.mark.parametrize("content", [b"blib", b"", None], ids=["altered", "truncated", "missing"])
def test_what_lies_in_the_cache_is_verified(bundle: Path, backend: Any, cache: Path, content: bytes | None) -> None:
    edgeattn.load(bundle)
    (blob,) = cache.glob("*/engine.blob")
    if content is None:
        blob.unlink()
    else:
        blob.write_bytes(content)
    edgeattn.load(bundle)
    assert backend.seen == ENGINE


def test_two_bundles_do_not_meet(make_bundle: Any, backend: Any, cache: Path) -> None:
    edgeattn.load(make_bundle())
    edgeattn.load(make_bundle(variant="bf16"))
    assert len(list(cache.iterdir())) == 2


def test_two_different_models(make_bundle: Any, backend: Any) -> None:
    edgeattn.load(make_bundle({"engine/model.onnx": b"onnx"}))
    assert backend.seen == ENGINE
    with pytest.raises(BundleError, match=r"two different files 'model\.onnx'"):
        edgeattn.load(make_bundle({"engine/model.onnx": b"other"}))


def test_a_cache_that_cannot_be_written(
    bundle: Path, backend: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file lies where the folder should be: a temporary folder stands in, and goes when the model is closed."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGEATTN_CACHE", str(tmp_path / "file"))
    model = edgeattn.load(bundle)
    assert backend.seen == ENGINE
    (folder,) = backend.folders
    assert folder.exists() and tmp_path not in folder.parents
    model.close()
    assert not folder.exists()


def test_the_temporary_folder_goes_when_loading_fails(
    bundle: Path, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEATTN_CACHE", os.devnull)
    backend.problem = ModelError("no")
    with pytest.raises(ModelError):
        edgeattn.load(bundle)
    assert not backend.folders[0].exists()


def test_nowhere_to_write(bundle: Path, backend: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise StorageError("No space is left on the disk.")

    monkeypatch.setattr(cache_module, "write_atomic", full)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(StorageError, match="No space"):
        edgeattn.load(bundle)
    assert not list(tmp_path.glob("edgeattn-*"))


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EDGEATTN_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_module._root() == tmp_path / ".cache" / "edgeattn"

    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", homeless)
    assert cache_module._root() is None
