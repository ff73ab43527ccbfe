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


BROKEN = {
    "import": (
        "import no_such_library_anywhere\n",
        "No module named 'no_such_library_anywhere', broken_import.py line 1",
    ),
    "syntax": ("def broken(:\n", "invalid syntax (broken_syntax.py, line 1)"),
    "name": ("\n\nclass Network(nn.Module): ...\n", "NameError: name 'nn' is not defined, broken_name.py line 3"),
    "key": ("SIZES = {}['large']\n", "KeyError: 'large', broken_key.py line 1"),
    "attribute": (
        "import math\nmath.relu\n",
        "AttributeError: module 'math' has no attribute 'relu', broken_attribute.py",
    ),
    "file": ("open('no_such_weights.pt')\n", "No such file or directory: 'no_such_weights.pt', broken_file.py line 1"),
    "silent": ("assert False\n", "AssertionError, broken_silent.py line 1"),
    "deeper": ("from ownnets import inner\n", "NameError: name 'oops' is not defined, inner.py line 2"),
}


@pytest.mark.parametrize(("text", "said"), BROKEN.values(), ids=BROKEN)
def test_one_that_cannot_be_imported(write, text, said, request):
    write("inner", "ONE = 1\noops\n")
    name = write(f"broken_{request.node.callspec.id}", text)
    assert models.exists(name), "looking it up imports nothing"
    with pytest.raises(RecipeError) as caught:
        models.find(name)
    told = str(caught.value)
    assert told.startswith(f"The model '{name}' cannot be imported (") and told.endswith("); check the package.")
    assert said in told and "\n" not in told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_library_anywhere", "No module named 'no_such_library_anywhere', __init__.py line 1"),
        ("oops", "NameError: name 'oops' is not defined, __init__.py line 1"),
        ("raise ValueError('no')", "no, __init__.py line 1"),
    ],
)
def test_one_whose_package_cannot_be_imported(tmp_path, monkeypatch, text, said, request):
    """That is another mistake than a name which there is not."""
    monkeypatch.syspath_prepend(tmp_path)
    package = f"brokennets{request.node.callspec.indices['text']}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text(text)
    (tmp_path / package / "mine.py").write_text(NETWORK)
    for look in (models.exists, models.find):
        with pytest.raises(RecipeError) as caught:
            look(f"{package}.mine")
        assert str(caught.value) == f"The model '{package}.mine' cannot be imported ({said}); check the package."


@pytest.mark.parametrize("error", [MemoryError(), RecipeError("own"), KeyboardInterrupt()])
def test_what_is_no_mistake_of_the_module_passes(write, error, monkeypatch):
    def fails(name):
        raise error

    monkeypatch.setattr(models.importlib, "import_module", fails)
    with pytest.raises(type(error)) as caught:
        models.find(write("fine"))
    assert caught.value is error
