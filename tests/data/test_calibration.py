import json
from pathlib import Path

import numpy as np
import pytest

from edgeattn.data.base import Sample
from edgeattn.data.calibration import MANIFEST, SCHEMA, read_calibration, write_calibration
from edgeattn.errors import DataError


class Squares:
    """Three grey squares; `fails_at` raises like a corrupt file would."""

    def __init__(self, fails_at: int | None = None, base: int = 0) -> None:
        self.fails_at = fails_at
        self.base = base

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Sample:
        if index == self.fails_at:
            raise DataError("corrupt")
        return Sample(np.full((4, 5, 3), self.base + index, np.uint8), index % 2)

    def name(self, index: int) -> str:
        return f"squares/{index}"


def write(out: Path, dataset: Squares | None = None) -> Path:
    return write_calibration(
        dataset or Squares(), ("even", "odd"), out, name="squares", source="here", licence="none", rebuild="again"
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "below" / "squares")
    assert sorted(path.name for path in folder.iterdir()) == ["0000.png", "0001.png", "0002.png", MANIFEST]
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["schema"] == SCHEMA == "edgeattn.calibration/1"
    assert list(manifest) == ["schema", "name", "source", "licence", "rebuild", "labels", "files"]
    assert set(manifest["files"][0]) == {"file", "sha256", "target", "name"}
    files = read_calibration(folder)
    assert files.labels == ("even", "odd")
    assert [files.name(i) for i in range(len(files))] == ["squares/0", "squares/1", "squares/2"]
    assert files[1].target == 1
    np.testing.assert_array_equal(files[2].frame, Squares()[2].frame)


def test_the_generators_settings_are_kept(tmp_path: Path) -> None:
    out, settings = tmp_path / "squares", {"size": 4}
    write_calibration(Squares(), ("even", "odd"), out, name="n", source="", licence="", rebuild="", settings=settings)
    assert json.loads((out / MANIFEST).read_text())["settings"] == settings
    assert read_calibration(out).settings == settings
    assert read_calibration(write(tmp_path / "plain")).settings == {}


def test_writing_again_replaces_the_folder_whole_or_not_at_all(tmp_path: Path) -> None:
    out = write(tmp_path / "squares")
    with pytest.raises(DataError, match="corrupt"):
        write(out, Squares(fails_at=2, base=100))
    assert read_calibration(out)[0].frame.max() == 0
    write(out, Squares(base=100))
    assert read_calibration(out)[0].frame.max() == 100
    assert [path.name for path in tmp_path.iterdir()] == ["squares"]


def test_another_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(DataError, match="choose a new folder"):
        write(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(
    "manifest",
    ["{", "[]", "{}", '{"schema": "edgeattn.artifact/1", "files": {}}', f'{{"schema": "{SCHEMA}", "files": 3}}'],
)
def test_a_folder_with_another_manifest_is_not_overwritten(manifest: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / MANIFEST).write_text(manifest)
    with pytest.raises(DataError, match=r"mine exists and is no calibration folder .* nothing was overwritten"):
        write(tmp_path / "mine")
    assert (tmp_path / "mine" / MANIFEST).read_text() == manifest
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("other", ["thesis.txt", ".hidden", "0003.png", "folder/below", "0001.png/below"])
def test_what_the_manifest_does_not_list_is_not_lost(other: str, tmp_path: Path) -> None:
    out = write(tmp_path / "squares")
    if other.startswith("0001.png"):
        (out / "0001.png").unlink()
    (out / other).parent.mkdir(exist_ok=True)
    (out / other).write_text("precious")
    with pytest.raises(DataError, match=f"squares holds '{other.partition('/')[0]}', which its {MANIFEST} does not"):
        write(out, Squares(base=100))
    assert (out / other).read_text() == "precious"


def test_a_set_that_lacks_files_is_written_again(tmp_path: Path) -> None:
    out = write(tmp_path / "squares")
    (out / "0001.png").unlink()
    write(out)
    assert len(read_calibration(out)) == 3


def alter(folder: Path) -> None:
    data = bytearray((folder / "0001.png").read_bytes())
    data[-1] ^= 1
    (folder / "0001.png").write_bytes(data)


def remove(folder: Path) -> None:
    (folder / "0002.png").unlink()


def edit(**changes: object):
    def apply(folder: Path) -> None:
        manifest = json.loads((folder / MANIFEST).read_text()) | changes
        (folder / MANIFEST).write_text(json.dumps(manifest))

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (alter, r"0001\.png was altered"),
        (remove, r"0002\.png is listed .* cannot be read"),
        (lambda folder: (folder / MANIFEST).unlink(), "manifest .* cannot be read"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "is not a calibration manifest"),
        (lambda folder: (folder / MANIFEST).write_text("[]"), "is not a calibration manifest"),
        (edit(schema="edgeattn.calibration/2"), "has the schema 'edgeattn.calibration/2'"),
        (edit(files=[]), "lists no files"),
        (edit(settings=[64]), "is not a calibration manifest"),
        (edit(files=[{"file": "0000.png"}]), "is not a calibration manifest"),
        (edit(files=[{"file": "../x.png", "sha256": "", "target": 0, "name": ""}]), "outside its folder"),
    ],
)
def test_damage_has_its_own_sentence(damage, message: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "squares")
    damage(folder)
    with pytest.raises(DataError, match=message):
        read_calibration(folder)
