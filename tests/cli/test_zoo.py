"""`edgeattn zoo`: exit codes, what it writes, and how it ends. What a deployment does is replaced."""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path

import pytest

from edgeattn import report
from edgeattn.cli import zoo
from edgeattn.report.zoo import BEGIN, END

_FILE = Path(__file__).parents[1] / "report/sample_reports.py"
_SPEC = importlib.util.spec_from_file_location("sample_reports_of_the_zoo", _FILE)
made = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(made)


MARKED = f"# Ours\n{BEGIN}\nold\n{END}\nrest\n"


@pytest.fixture
def deploys(within, tool, monkeypatch):
    """`deploys(a=(code, report), …)` makes those recipes and what their deployment leaves; returns what was called."""
    called = []

    def prepare(**ends):
        (tool.folder / "pipelines").mkdir()
        for name in ends:
            (tool.folder / f"pipelines/{name}.yaml").write_text((tool.folder / "tiny.yaml").read_text())

        def deploy(name, out, arguments, silent):
            called.append((name, str(out), " ".join(arguments), silent))
            code, values = ends[name]
            if isinstance(code, BaseException):
                raise code
            if values is not None:
                report.render(values | {"recipe": name}, out)
            return code

        monkeypatch.setattr(zoo, "_deploy", deploy)
        return called

    return prepare


@pytest.mark.parametrize(
    ("codes", "worst"), [((0, 0), 0), ((0, 1), 1), ((1, 0), 1), ((2, 1), 2), ((0, 3), 3), ((3, 2), 3)]
)
def test_the_exit_code_is_the_worst(deploys, within, codes, worst):
    deploys(a=(codes[0], None), b=(codes[1], None))
    ended = within("zoo", "a", "b")
    assert (ended.code, ended.err) == (worst, "")
    assert f"{codes.count(0)} of 2 passed" in ended.out


def test_a_table_and_a_gallery_of_every_report(deploys, within, tool):
    called = deploys(good=(0, made.detect()), bad=(1, made.failed()))
    ended = within("zoo", "good", "bad", "--target", "cpu", "--out", "all", "--store", "s", "--set", "seed=3")
    assert ended.code == 1
    assert called[0] == ("good", "all/good", "--target cpu --store s --set seed=3", False)
    assert ended.out.splitlines()[-3:] == ["1 of 2 passed: not bad", "all/README.md", "all/gallery.html"]
    table = (tool.folder / "all/README.md").read_text()
    assert "[good](good/report.md)" in table and "[bad](bad/report.md)" in table and "| none |" in table
    assert "Without a report" not in table
    page = (tool.folder / "all/gallery.html").read_text()
    assert 'href="good/report.html"' in page and "export/fp32 failed" in page
    for link in ("good/report.md", "bad/report.html", "gallery.html"):
        assert (tool.folder / "all" / link).exists()


def test_by_default_the_embedded_recipes_each_once(deploys, within):
    called = deploys(scenes_b=(0, None), digit_scenes=(0, None), cifar10=(0, None), scenes_a=(0, None))
    assert within("zoo").code == 0
    assert [call[0] for call in called] == ["digit_scenes", "scenes_a", "scenes_b"]
    called.clear()
    assert within("zoo", "cifar10", "cifar10").code == 0
    assert [call[0] for call in called] == ["cifar10"]


def test_an_earlier_runs_report_is_not_shown_as_this_ones(deploys, within, tool):
    deploys(a=(0, made.report()), b=(2, None))
    report.render(made.report() | {"recipe": "b"}, tool.folder / "reports/zoo/b")
    report.render(made.report() | {"recipe": "other"}, tool.folder / "reports/zoo/other")
    (tool.folder / "reports/zoo/cut").mkdir()
    (tool.folder / "reports/zoo/cut/report.json").write_text("{")
    (tool.folder / "README.md").write_text(MARKED)
    ended = within("zoo", "a", "b", "--into", "README.md")
    assert ended.code == 2
    table = (tool.folder / "reports/zoo/README.md").read_text()
    assert "[a](a/report.md)" in table and "[other](other/report.md)" in table and "[b]" not in table
    assert "- b: exit code 2." in table and "- cut: " in table
    # Other pages have no room to say so: they keep the row of the run before.
    assert (tool.folder / "README.md").read_text() == MARKED
    assert ended.err == "left as it is: README.md (no report of this run: b)\n"


@pytest.mark.parametrize("codes", [(2, 2), (3, 2), (3, 3)])
def test_without_a_verdict_no_page_is_written(deploys, within, tool, codes):
    deploys(a=(codes[0], None), b=(codes[1], None))
    for name in ("a", "other"):
        report.render(made.report() | {"recipe": name}, tool.folder / f"reports/zoo/{name}")
    (tool.folder / "README.md").write_text(MARKED)
    ended = within("zoo", "a", "b", "--into", "README.md")
    assert ended.code == max(codes) and "0 of 2 passed: not a, b" in ended.out
    assert (tool.folder / "README.md").read_text() == MARKED
    assert not (tool.folder / "reports/zoo/README.md").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--target", "nope"), "There is no target 'nope'; known: cpu"),
        (("--set", "train.epoch=1"), "unknown field 'epoch' under 'train'"),
        (("--seed", "99999999999"), "seed"),
    ],
)
def test_bad_input_changes_no_page(deploys, within, tool, arguments, words):
    """Exit code 2 says that nothing was changed, also where there are reports of earlier runs."""
    called = deploys(a=(0, made.report()), b=(0, made.report()))
    for name in "ab":
        report.render(made.report() | {"recipe": name}, tool.folder / f"reports/zoo/{name}")
    (tool.folder / "README.md").write_text(MARKED)
    ended = within("zoo", "a", "b", *arguments, "--into", "README.md")
    assert ended.code == 2 and words in ended.error and called == []
    assert (tool.folder / "README.md").read_text() == MARKED
    assert not (tool.folder / "reports/zoo/README.md").exists()


def test_a_recipe_that_is_wrong_is_found_before_the_first_is_deployed(deploys, within, tool):
    called = deploys(a=(0, made.report()), b=(0, made.report()))
    (tool.folder / "pipelines/b.yaml").write_text("task: classify\n")
    ended = within("zoo", "a", "b")
    assert ended.code == 2 and "pipelines/b.yaml: the field 'model' is missing" in ended.error
    assert called == []


def test_the_common_options_are_handed_on(deploys, within):
    called = deploys(a=(0, made.report()))
    assert within("zoo", "a", "--seed", "7", "--force", "-v").code == 0
    assert within("zoo", "a", "-q").code == 0
    assert [call[2] for call in called] == [
        "--target cpu --store .edgeattn --seed 7 --force --verbose",
        "--target cpu --store .edgeattn --quiet",
    ]


def test_as_json(deploys, within):
    called = deploys(a=(0, made.report()), b=(1, made.failed()), c=(3, None))
    ended = within("zoo", "a", "b", "c", "--json", "-v")
    values = json.loads(ended.out)
    assert (ended.code, ended.err, values["schema"]) == (3, "", "edgeattn.zoo/1")
    recipes = values["recipes"]
    assert [recipes[name]["exit_code"] for name in "abc"] == [0, 1, 3]
    assert recipes["a"]["verdict"] == made.report()["verdict"] and recipes["b"]["verdict"]["passed"] is False
    assert recipes["a"]["report"] == "reports/zoo/a/report.json"
    assert recipes["c"] == {"exit_code": 3, "verdict": None, "report": None}
    assert values["pages"] == ["reports/zoo/README.md", "reports/zoo/gallery.html"]
    # What the deployments say would stand between us and the reader.
    assert {call[2:] for call in called} == {("--target cpu --store .edgeattn --quiet", True)}
    ended = within("zoo", "--pages", "--json")
    assert json.loads(ended.out) == {"schema": "edgeattn.zoo/1", "recipes": {}, "pages": values["pages"]}


def test_nothing_to_show_writes_nothing(deploys, within, tool):
    deploys(a=(2, None))
    ended = within("zoo", "a")
    assert ended.code == 2 and "0 of 1 passed: not a" in ended.out
    assert not (tool.folder / "reports").exists()


def test_wrong_usage_is_found_before_anything_runs(deploys, within, tool):
    called = deploys(a=(0, None))
    (tool.folder / "file").write_text("")
    for arguments, words in (
        (("a", "b"), "no recipe 'b'"),
        (("a", "--out", "file"), "file is a file"),
        ((), "no recip"),
    ):
        ended = within("zoo", *arguments)
        assert ended.code == 2 and words in ended.error
    assert called == []


def test_a_short_table_goes_into_other_pages(deploys, within, tool):
    called = deploys(a=(0, made.report()))
    (tool.folder / "docs").mkdir()
    for name in ("README.md", "docs/models.md"):
        (tool.folder / name).write_text(MARKED)
    ended = within("zoo", "a", "--into", "README.md", "--into", "docs/models.md")
    assert ended.code == 0 and len(called) == 1
    assert ended.out.splitlines()[-2:] == ["README.md", "docs/models.md"]
    for name, link in (("README.md", "(reports/zoo/a/report.md)"), ("docs/models.md", "(../reports/zoo/a/report.md)")):
        text = (tool.folder / name).read_text()
        assert link in text and "old" not in text
        assert text.startswith(f"# Ours\n{BEGIN}\n| recipe |") and text.endswith(f"{END}\nrest\n")
        assert "why this one" not in text  # there is room for that in the zoo's own table


def test_pages_alone_deploy_nothing(deploys, within, tool):
    called = deploys(a=(0, None))
    ended = within("zoo", "--pages")
    assert ended.code == 2 and "no report in reports/zoo" in ended.error
    report.render(made.report() | {"recipe": "other"}, tool.folder / "reports/zoo/other")
    (tool.folder / "README.md").write_text(MARKED)
    ended = within("zoo", "--pages", "--into", "README.md")
    assert ended.code == 0 and called == []
    assert ended.out.split() == ["reports/zoo/README.md", "reports/zoo/gallery.html", "README.md"]
    assert "other" in (tool.folder / "README.md").read_text()
    ended = within("zoo", "a", "--pages")
    assert ended.code == 2 and "name no recipes" in ended.error


@pytest.mark.parametrize("text", ["plain\n", f"{END}\n{BEGIN}\n", f"{BEGIN}\n"])
def test_a_page_without_a_place_is_refused_before_anything_runs(deploys, within, tool, text):
    called = deploys(a=(0, made.report()))
    (tool.folder / "README.md").write_text(text)
    ended = within("zoo", "a", "--into", "README.md")
    assert ended.code == 2 and "README.md lacks the line '<!-- zoo" in ended.error
    assert called == [] and (tool.folder / "README.md").read_text() == text
    assert within("zoo", "a", "--into", "nowhere.md").code == 2


@pytest.mark.parametrize("end", [130, KeyboardInterrupt()])
def test_ctrl_c_ends_the_whole(deploys, within, end):
    called = deploys(a=(end, None), b=(0, None))
    assert within("zoo", "a", "b").code == 130
    assert [call[0] for call in called] == ["a"]


@pytest.mark.parametrize(
    ("child", "code"),
    [("pass", 0), ("raise SystemExit(2)", 2), ("import os; os.kill(os.getpid(), 9)", 3),
     ("import os; os.kill(os.getpid(), 2)", 130)],
)  # fmt: skip
def test_the_code_of_a_deployment(monkeypatch, tmp_path, capfd, child, code):
    monkeypatch.setattr(zoo, "_LAUNCH", f"import signal; signal.signal(2, signal.SIG_DFL); {child}")
    assert zoo._deploy("a", tmp_path, [], False) == code
    assert ("signal 9" in capfd.readouterr().err) is (code == 3)


@pytest.mark.parametrize("silent", [True, False])
def test_a_silent_deployment_prints_nothing_but_errors(monkeypatch, tmp_path, capfd, silent):
    monkeypatch.setattr(zoo, "_LAUNCH", "import sys; print('a summary'); print('error: x', file=sys.stderr)")
    assert zoo._deploy("a", tmp_path, [], silent) == 0
    assert tuple(capfd.readouterr()) == ("" if silent else "a summary\n", "error: x\n")


LAUNCH = """
from edgeattn.cli import main, zoo
zoo._LAUNCH = '''
import time
from pathlib import Path
try:
    Path("started").touch()
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.6)
    Path("tidied").touch()
    raise SystemExit(130)
'''
main()
"""


def test_an_interrupted_deployment_ends_by_itself(tool):
    """It is given the time to tidy up: killed at once it would lose what it was about to keep."""
    (tool.folder / "pipelines").mkdir()
    for name in ("a", "b"):
        (tool.folder / f"pipelines/{name}.yaml").write_text((tool.folder / "tiny.yaml").read_text())
    running = tool.start("zoo", "a", "b", launch=LAUNCH)
    running.wait_for((tool.folder / "started").exists)
    time.sleep(0.1)
    running.interrupt()
    ended = running.end(30)
    assert ended.code == 130 and "Traceback" not in ended.err
    assert (tool.folder / "tidied").exists() and "[2/2]" not in ended.out


_LATIN = f"{BEGIN}\n{END}\nCaf\xe9\n".encode("latin-1")


def test_a_file_for_the_table_that_is_no_text(deploys, within, tool):
    """Found before anything is deployed."""
    called = deploys(good=(0, made.detect()))
    (tool.folder / "NOTES.md").write_bytes(_LATIN)
    ended = within("zoo", "good", "--into", "NOTES.md")
    assert (ended.code, called) == (2, [])
    assert (
        ended.error
        == "NOTES.md is not UTF-8 text (byte 67); save it as UTF-8, or give another file with --into.".replace(
            "67", str(_LATIN.index(b"\xe9"))
        )
    )


def test_a_file_for_the_table_that_changes_meanwhile(within, tool, monkeypatch):
    report.render(made.detect(), tool.folder / "all/good")
    (tool.folder / "NOTES.md").write_bytes(_LATIN)
    monkeypatch.setattr(zoo, "check_place", lambda path: None)
    ended = within("zoo", "--pages", "--out", "all", "--into", "NOTES.md")
    assert ended.code == 2
    assert ended.error.startswith("NOTES.md is not UTF-8 text")
    assert (tool.folder / "NOTES.md").read_bytes() == _LATIN
    (tool.folder / "NOTES.md").write_text("no place left\n")
    ended = within("zoo", "--pages", "--out", "all", "--into", "NOTES.md")
    assert ended.code == 2 and ended.error.startswith("NOTES.md lacks the line")
    assert (tool.folder / "NOTES.md").read_text() == "no place left\n"
    assert not (tool.folder / "all/README.md").exists()
