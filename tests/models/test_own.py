"""Networks of somebody's own, named `package.module`."""

from __future__ import annotations

import pytest

from edgeattn import models
from edgeattn.errors import RecipeError

NETWORK = "TASK = 'classify'\nOUTPUTS = ('logits',)\nSettings = Network = object\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes modules of a package `ownnets`, whose name no other test uses."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "ownnets").mkdir()

    def write(name, text=NETWORK):
        (tmp_path / "ownnets" / f"{name}.py").write_text(text)
        return f"ownnets.{name}"

    return write


def test_it_is_found_by_its_full_name(write):
    name = write("mine")
    assert models.exists(name) and models.module_name(name) == name
    assert models.find(name).TASK == "classify"
    assert name not in models.names()
    assert models.module_name("se_resnet") == "edgeattn.models.se_resnet"


def test_outputs_may_be_a_function(write):
    found = models.find(write("computed", NETWORK.replace("OUTPUTS = ('logits',)", "def outputs(settings): ...")))
    assert callable(found.outputs)


@pytest.mark.parametrize("name", ["no_such_package.net", "ownnets.none", "json.decoder.nothing", "a..b", "."])
def test_one_that_is_not_there(write, name):
    write("mine")
    assert not models.exists(name)
    with pytest.raises(RecipeError) as caught:
        models.find(name)
    said = str(caught.value)
    assert said.startswith(f"There is no model '{name}'; known models: ") and "se_resnet" in said
    assert said.endswith("or package.module for one of your own.")


@pytest.mark.parametrize("part", ["TASK", "OUTPUTS", "Settings", "Network"])
def test_one_that_lacks_a_part(write, part):
    name = write(f"lacks_{part.lower()}", NETWORK.replace(part, "OTHER"))
    with pytest.raises(RecipeError, match=f"The module '{name}' is no model: it has no {part}; see edgeattn/models/"):
        models.find(name)


@pytest.mark.parametrize("text", ["import no_such_library_anywhere\n", "def broken(:\n"], ids=["import", "syntax"])
def test_one_that_cannot_be_imported(write, text, request):
    name = write(f"broken_{request.node.callspec.id}", text)
    assert models.exists(name), "looking it up imports nothing"
    with pytest.raises(RecipeError, match=f"The model '{name}' cannot be imported .*; check the package"):
        models.find(name)
