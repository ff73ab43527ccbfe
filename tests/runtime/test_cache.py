import os
import time
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


DAY_S = 24 * 3600


def cached_engine(cache: Path, number: int, days: float) -> Path:
    """An engine of another bundle, used so many days ago."""
    folder = cache / f"{number:032x}"
    folder.mkdir(parents=True)
    (folder / "model.onnx").touch()
    os.utime(folder, (time.time() - days * DAY_S,) * 2)
    return folder


def test_the_engines_used_longest_ago_go(bundle: Path, backend: Any, cache: Path) -> None:
    """With the new one that makes 16: the 15 used last stay, whatever order they were unpacked in."""
    ages = [9, 3, 20, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18]
    folders = {days: cached_engine(cache, number, days) for number, days in enumerate(ages)}
    edgeattn.load(bundle)
    assert sorted(days for days, folder in folders.items() if not folder.exists()) == [18, 20]
    assert backend.seen == ENGINE


def test_engines_in_use_and_what_is_not_ours_stay(bundle: Path, backend: Any, cache: Path) -> None:
    recent = [cached_engine(cache, number, days=0.9) for number in range(20)]
    others = [cache / "notes", cache / f"{99:032x}", cache / ("f" * 33)]
    for other in others:
        other.mkdir(parents=True)
        os.utime(other, (0, 0))
    edgeattn.load(bundle)
    assert all(folder.exists() for folder in [*recent, *others])


def test_using_an_engine_keeps_it(make_bundle: Any, backend: Any, cache: Path) -> None:
    mine = make_bundle()
    edgeattn.load(mine)
    (folder,) = cache.iterdir()
    os.utime(folder, (time.time() - 100 * DAY_S,) * 2)
    edgeattn.load(mine)
    assert time.time() - folder.stat().st_mtime < DAY_S
    old = [cached_engine(cache, number, days=2 + number) for number in range(16)]
    edgeattn.load(make_bundle(variant="bf16"))
    assert folder.exists()
    assert [number for number, other in enumerate(old) if not other.exists()] == [14, 15]


def test_a_cache_that_cannot_be_tidied_is_used_all_the_same(
    bundle: Path, backend: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(cache_module.Path, "iterdir", refuse)
    monkeypatch.setattr(cache_module.os, "utime", refuse)
    for _ in range(2):
        edgeattn.load(bundle)
    assert backend.folders[0] == backend.folders[1] and cache in backend.folders[0].parents


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


@pytest.mark.parametrize("name", ["engine/built-here/engine.plan", "engine/more/engine.blob"])
def test_a_bundle_cannot_pass_its_engine_off_as_built_here(make_bundle: Any, backend: Any, name: str) -> None:
    with pytest.raises(BundleError, match=f"holds '{name}' in a folder below its engine's, where none belongs; do not"):
        edgeattn.load(make_bundle({name: b"blob"}))
    assert backend.folders == []
