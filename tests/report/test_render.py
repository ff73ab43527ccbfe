import json
import math
from pathlib import Path

import pytest
import sample_reports as made

from edgeattn.errors import InputError
from edgeattn.report import load, render

COMMITTED = sorted((Path(__file__).parents[2] / "reports").glob("*/report.json"))
NAMES = ["report.json", "report.html", "report.md", "junit.xml"]


@pytest.mark.parametrize("name", made.EVERY)
def test_same_report_same_bytes(tmp_path, name):
    first = render(made.EVERY[name](), tmp_path / "a")
    second = render(made.EVERY[name](), tmp_path / "b")
    assert [path.name for path in first] == NAMES
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(NAMES)


def test_written_json_loads_and_renders_again(tmp_path):
    render(made.report(), tmp_path / "a")
    again = load(tmp_path / "a")
    assert again == made.report()
    render(again, tmp_path / "b")
    assert (tmp_path / "a/report.html").read_bytes() == (tmp_path / "b/report.html").read_bytes()


def test_infinite_sqnr_is_null_and_reads_exact(tmp_path):
    report = made.report()
    made.find(report, "export/fp32")["drift"] |= {"sqnr_db": math.inf, "max_abs": 0.0}
    render(report, tmp_path)
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["rows"][1]["drift"]["sqnr_db"] is None
    row = next(line for line in (tmp_path / "report.md").read_text().splitlines() if line.startswith("| export/fp32"))
    assert "| exact |" in row


def test_broken_report_writes_nothing(tmp_path):
    report = made.report()
    del report["verdict"]["reasons"]
    with pytest.raises(InputError, match=r"verdict\.reasons is missing"):
        render(report, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_way_is_one_sentence(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="is a file; give --out a folder"):
        render(made.report(), tmp_path / "out")


def test_stray_surrogates_can_be_written(tmp_path):
    report = made.report()
    report["selected"]["why"] = "a\ud800b"
    render(report, tmp_path)
    assert "a\ufffdb" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_reports_of_earlier_versions_still_render(tmp_path, path):
    report = load(path)
    written = render(report, tmp_path)
    assert load(tmp_path) == report
    assert [file.name for file in written] == NAMES and all(file.stat().st_size > 1000 for file in written)


def test_there_are_committed_reports():
    assert COMMITTED
