"""`edgeattn report`: the pages again, from the JSON alone."""

from __future__ import annotations

import json
import shutil

import pytest

NAMES = ["report.json", "report.html", "report.md", "junit.xml"]


def test_the_same_pages_again(deployed, tool):
    shutil.copytree(deployed.out, tool.folder / "run")
    for name in NAMES[1:]:
        (tool.folder / "run" / name).unlink()
    ended = tool("report", "run")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == [f"run/{name}" for name in NAMES]
    ended = tool("report", "run/report.json", "--out", "elsewhere")
    assert ended.code == 0
    for name in NAMES:
        assert (tool.folder / "run" / name).read_bytes() == (deployed.out / name).read_bytes(), name
        assert (tool.folder / "elsewhere" / name).read_bytes() == (deployed.out / name).read_bytes(), name


WRONG = {
    "missing": (None, "report.json does not exist"),
    "empty": ("", "is not JSON"),
    "cut off": ('{"schema": "edgeattn.rep', "is not JSON"),
    "not an object": ("[1]", "A report is a JSON object"),
    "another schema": ('{"schema": "edgeattn.report/2"}', 'expected "edgeattn.report/1"'),
    "no schema": ("{}", "schema is missing"),
    "fields missing": ('{"schema": "edgeattn.report/1"}', "recipe is missing"),
    "not text": (b"\xff\xfe", "is not JSON"),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_what_is_no_report(tool, within, text, said):
    (tool.folder / "run").mkdir()
    if text is not None:
        (tool.folder / "run/report.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    ended = within("report", "run")
    assert (ended.code, ended.out) == (2, ""), ended.err
    assert said in ended.error and "run/report.json" in ended.error
    assert len(list((tool.folder / "run").iterdir())) == (text is not None)


def test_mixed_hashes_are_refused(deployed, tool, within):
    values = json.loads((deployed.out / "report.json").read_text())
    values["selected"]["artifact_sha256"] = "0" * 64
    (tool.folder / "report.json").write_text(json.dumps(values))
    ended = within("report", "report.json")
    assert ended.code == 2
    assert "mixes hashes" in ended.error


def test_a_folder_that_cannot_be_written(deployed, tool):
    ended = tool("report", deployed.out, "--out", "tiny.yaml/below")
    assert ended.code == 3, ended.err
    assert "tiny.yaml" in ended.error
