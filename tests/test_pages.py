"""README, docs/models.md and docs/jetson.md say what the recipes and the committed reports say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from edgeattn import lint, report
from edgeattn.artifact import PROVENANCE
from edgeattn.recipe import Recipe, load_recipe
from edgeattn.report.zoo import placed

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": "reports/zoo/", "docs/models.md": "../reports/zoo/"}
RECIPES = sorted((ROOT / "pipelines").glob("*.yaml"))
# The scenes recipes train in minutes; `make zoo` makes their reports anew.
REAL = [path.stem for path in RECIPES if "format: scenes" not in path.read_text(encoding="utf-8")]
REPORTS = [(folder, name) for folder in ("zoo", "jetson") for name in REAL]


@pytest.mark.parametrize("page", PAGES)
def test_the_table_is_that_of_the_committed_reports(page):
    """When this fails: `edgeattn zoo --pages --into README.md --into docs/models.md`."""
    found = {path.parent.name: report.load(path) for path in sorted((ROOT / "reports/zoo").glob("*/report.json"))}
    text = (ROOT / page).read_text(encoding="utf-8")
    assert len(found) >= 5
    assert placed(text, found, PAGES[page]) == text


def test_every_recipe_is_named_in_the_table_of_systems():
    text = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    missing = [path.stem for path in (ROOT / "pipelines").glob("*.yaml") if f"`{path.stem}`" not in text]
    assert not missing


@pytest.mark.parametrize(("folder", "name"), REPORTS)
def test_every_recipe_on_real_data_has_a_report_of_what_it_says_today(folder, name):
    """When this fails: `edgeattn zoo NAME --out reports/zoo`, or `--target jetson --out reports/jetson`."""
    found, recipe = report.load(ROOT / "reports" / folder / name), load_recipe(str(ROOT / f"pipelines/{name}.yaml"))
    said, today = found["settings"]["recipe"], recipe.model_dump(mode="json")
    # A field that came later than the report has to be at its default.
    later = {
        name: Recipe.model_fields[name].get_default(call_default_factory=True) for name in today.keys() - said.keys()
    }
    assert {**said, **later} == today
    if recipe.weights is None:
        return
    kept = json.loads((ROOT / recipe.weights / PROVENANCE).read_text(encoding="utf-8"))
    row = next(row for row in found["rows"] if row["stage"] == "train")
    # Judged on the photographs that they were kept away from; the pairs made of them may have been others.
    assert found["data"]["eval_origins_sha256"] == kept["data"]["eval_origins_sha256"]
    assert (row["metric"]["name"], row["metric"]["n"]) == (kept["metric"]["name"], kept["metric"]["n"])
    if found["data"]["eval_sha256"] == kept["data"]["eval_sha256"]:
        # Processors round differently; another training would be further off.
        assert row["metric"]["value"] == pytest.approx(kept["metric"]["value"], rel=1e-3)
    elif kept["recipe"] == name:  # two recipes share one network, and judge it on other changes of the photographs
        low, high = kept["metric"]["ci95"]
        assert low <= row["metric"]["value"] <= high


@pytest.mark.parametrize("name", REAL)
def test_a_header_expects_what_the_report_measured(name):
    """The first number behind "expected" is the trained network's metric, to the digits that are written."""
    (line,) = re.findall(r"^#   expected +(.*)$", (ROOT / f"pipelines/{name}.yaml").read_text("utf-8"), re.MULTILINE)
    number = re.search(r"(?<![\w.-])\d+(?:\.(\d+))?", line)
    assert number is not None, line
    measured = report.load(ROOT / "reports/zoo" / name)["rows"][0]["metric"]["value"]
    assert abs(float(number[0]) - measured) <= 0.5 * 10 ** -len(number[1] or "") + 1e-9, (line, measured)


@pytest.mark.parametrize("name", REAL)
def test_on_the_jetson_both_precisions_are_inside_the_budget(name):
    """As docs/jetson.md says, by emulation: the metric's loss and the SQNR of the graphs of the engines."""
    found = report.load(ROOT / "reports/jetson" / name)
    engines = {row["variant"]: row for row in found["rows"] if row["stage"] == "compile"}
    assert {"fp16", "int8"} <= set(engines)
    for variant in ("fp16", "int8"):
        row, budget = engines[variant], found["budget"]
        assert (row["status"], row["emulated"]) == ("deferred", True), (variant, row["reason"])
        better = 1 if row["metric"]["higher_is_better"] else -1
        assert -better * row["drift"]["metric_delta"] <= budget["metric_drop_max"] + 1e-9, variant
        if budget["sqnr_db_min"] is not None:
            assert row["drift"]["sqnr_db"] >= budget["sqnr_db_min"], variant


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_begins_with_command_cost_and_expectation(path):
    header = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    for word in ("command", "cost", "expected"):
        assert any(line.startswith(f"#   {word} ") for line in header), word
    assert not any("to be measured" in line for line in header)
    assert any(f"RECIPE={path.stem} " in line or path.stem == "digit_scenes" for line in header)


def test_jetson_in_ten_minutes_says_what_there_is():
    """The number of rules, and a first command that needs no data set: a newcomer has none."""
    page = (ROOT / "docs/jetson.md").read_text()
    assert f"| {len(lint.known_rules())} rules from" in page
    commands = re.findall(r"^make deploy (.*)$", page, re.MULTILINE)
    assert commands and not any("RECIPE=" in command for command in commands)
    assert load_recipe("digit_scenes").data.format == "scenes"
    assert page.count("digit_scenes-jetson-orin-nano.edgeattn") >= 4
