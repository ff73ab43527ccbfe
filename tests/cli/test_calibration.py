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


def test_what_cannot_be_written_or_read(tool, within):
    ended = within("calibration", "tiny.yaml", "--out", "tiny.yaml/below")
    assert ended.code == 3, ended.err
    assert "tiny.yaml" in ended.error
    ended = within("calibration", "none.yaml", "--out", "set")
    assert ended.code == 2
    assert "none.yaml" in ended.error and not (tool.folder / "set").exists()
