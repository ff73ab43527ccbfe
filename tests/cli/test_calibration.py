"""`edgeattn calibration`: a split as files, which a recipe can then name."""

from __future__ import annotations

import json

import yaml


def test_written_and_used(tool, within):
    ended = within("calibration", "tiny.yaml", "--out", "set", "--licence", "CC0-1.0")
    assert (ended.code, ended.err) == (0, "")
    assert len(list((tool.folder / "set").rglob("*.png"))) == 60
    manifest = json.loads((tool.folder / "set/manifest.json").read_text())
    assert "CC0-1.0" in manifest.values()
    recipe = yaml.safe_load((tool.folder / "tiny.yaml").read_text())
    recipe["data"]["calibration_dir"] = str(tool.folder / "set")
    (tool.folder / "mine.yaml").write_text(yaml.safe_dump(recipe))
    again = within("calibration", "mine.yaml", "--out", "again")
    assert again.code == 0
    first = {path.name: path.read_bytes() for path in (tool.folder / "set").rglob("*.png")}
    assert {path.name: path.read_bytes() for path in (tool.folder / "again").rglob("*.png")} == first


def test_folders_that_hold_anything_else_stay_as_they_are(tool, within):
    """A web app has a manifest.json too; and someone's notes lie beside a calibration set."""
    app, mine = tool.folder / "app", tool.folder / "mine"
    app.mkdir()
    (app / "manifest.json").write_text('{"name": "app"}')
    (app / "thesis.txt").write_text("precious")
    assert within("calibration", "tiny.yaml", "--out", "mine").code == 0
    assert within("calibration", "tiny.yaml", "--out", "mine").code == 0
    (mine / "notes.txt").write_text("precious")
    for folder, said in ((app, "is no calibration folder"), (mine, "'notes.txt'")):
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        ended = within("calibration", "tiny.yaml", "--out", folder.name)
        assert ended.code == 2, ended.err
        assert said in ended.error and "nothing was overwritten" in ended.error
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_cannot_be_written_or_read(tool, within):
    ended = within("calibration", "tiny.yaml", "--out", "tiny.yaml/below")
    assert ended.code == 3, ended.err
    assert "tiny.yaml" in ended.error
    ended = within("calibration", "none.yaml", "--out", "set")
    assert ended.code == 2
    assert "none.yaml" in ended.error and not (tool.folder / "set").exists()
