"""README and docs/models.md say what the recipes and the committed reports say."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeattn import report
from edgeattn.report.zoo import placed

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": "reports/zoo/", "docs/models.md": "../reports/zoo/"}


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


@pytest.mark.parametrize("path", sorted((ROOT / "pipelines").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_begins_with_command_cost_and_expectation(path):
    header = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    for word in ("command", "cost", "expected"):
        assert any(line.startswith(f"#   {word} ") for line in header), word
    assert any(f"RECIPE={path.stem} " in line or path.stem == "digit_scenes" for line in header)
