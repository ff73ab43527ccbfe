from __future__ import annotations

import subprocess

import pytest

from edgeattn import provenance
from edgeattn.errors import RecipeError
from edgeattn.provenance import code_version, git_revision, library_versions, revision_since

FILES = {
    "top.py": (
        '"""Says."""\n\nfrom edgeattn.room import low\n\n'
        'def f(x):\n    """Adds."""\n    # why\n    return x + low.ONE\n'
    ),
    "room/__init__.py": '"""A room."""\n',
    "room/low.py": "import os\n\nONE = 1\n",
    "room/aside.py": "TWO = 2\n",
    "late.py": "def g():\n    import edgeattn.room.aside\n    from edgeattn.errors import InputError\n    return 1\n",
    "errors.py": "class InputError(Exception):\n    pass\n",
}


def forget():
    for cached in (provenance._source, provenance._module_hash, provenance._folders):
        cached.cache_clear()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes a package in place of edgeattn; returns the hash of its module `top` after the given changes."""
    monkeypatch.setattr(provenance, "_PACKAGE", tmp_path)
    (tmp_path / "room").mkdir()

    def version(module="top", **changes):
        forget()
        for name, text in {**FILES, **{k.replace("__", "/") + ".py": v for k, v in changes.items()}}.items():
            (tmp_path / name).write_text(text)
        return code_version(f"edgeattn.{module}")

    yield version
    forget()


def test_words_and_layout_do_not_count(package):
    before = package()
    top = FILES["top.py"]
    for words in (
        top.replace("# why", "# another reason"),
        top.replace("Adds.", "Sums up."),
        top.replace("Says.", "Tells."),
        top.replace('    """Adds."""\n', ""),
        top.replace('"""Says."""\n', ""),
        top.replace("x + low.ONE", "(\n        x\n        + low.ONE\n    )"),
        top + "\n\n",
    ):
        assert words != top
        assert package(top=words) == before
    assert package(room__low="import os\n\nONE = 1\n'''What one is.'''\n") == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x + low.ONE", "x - low.ONE"),
        ("return", "x = x; return"),
        ("def f(x)", "def f(x, y=1)"),
        ("low.ONE", "low.TWO"),
    ],
)
def test_code_counts(old, new, package):
    before = package()
    assert package(top=FILES["top.py"].replace(old, new)) != before


def test_what_it_imports_counts_and_what_it_does_not_import_does_not(package):
    before = package()
    assert package(room__low="import os\n\nONE = 2\n") != before
    assert package(room__aside="TWO = 3\n") == before
    assert package(late="x = 1\n") == before


def test_imports_inside_functions_count_and_neutral_modules_do_not(package):
    before = package("late")
    assert package("late", room__aside="TWO = 3\n") != before
    assert package("late", errors="class InputError(ValueError):\n    pass\n") == before


def test_several_modules_in_any_order(package):
    package()
    assert code_version("edgeattn.top", "edgeattn.late") == code_version("edgeattn.late", "edgeattn.top")
    assert code_version("edgeattn.top", "edgeattn.late") != code_version("edgeattn.top")


def test_a_circle_of_imports_ends(package):
    assert package(room__low="import edgeattn.top\nONE = 1\n")


def test_a_models_hash_covers_its_blocks_but_not_its_siblings():
    def covered(module):
        found, waiting = set(), [module]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += provenance._imports(name)
        return found

    names = covered("edgeattn.models.attention_cnn")
    assert {"edgeattn.models.attention.transformer", "edgeattn.models.attention.multi_head"} <= names
    assert "edgeattn.models.attention.additive" not in names
    assert "edgeattn.models.se_resnet" not in names
    assert {"edgeattn.imaging", "edgeattn.models.camera", "edgeattn.train.augment"} <= covered("edgeattn.train.run")


OWN = {
    "__init__.py": "",
    "net.py": (
        "from edgeattn.metrics import classification\nfrom . import parts\nfrom .blocks import Block\n"
        "import mynets.deep.inner\nimport json\n\nTASK = 'classify'\n"
    ),
    "blocks.py": "import no_such_library_here\n\nclass Block:\n    pass\n",
    "parts.py": "from mynets import far\n",
    "far.py": "FAR = 1\n",
    "aside.py": "ASIDE = 1\n",
    "deep/inner.py": "from ..blocks import Block\nfrom ..other import OTHER\n",
    "other.py": "OTHER = 1\n",
}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The hash of a network in a package of the user's own, after the given changes; nothing of it can be imported."""
    monkeypatch.syspath_prepend(tmp_path)

    def version(**changes):
        forget()
        for name, text in {**OWN, **{k.replace("__", "/") + ".py": v for k, v in changes.items()}}.items():
            path = tmp_path / "mynets" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return code_version("mynets.net")

    yield version
    forget()


def test_ones_own_network_counts_like_ours(own):
    before = own()
    assert own(net=OWN["net.py"].replace("'classify'", "'segment'")) != before
    assert own(net=OWN["net.py"] + "# a word\n") == before
    assert own() == before


@pytest.mark.parametrize("module", ["blocks", "parts", "far", "deep__inner", "other"])
def test_what_ones_own_network_imports_is_followed(own, module):
    """By relative and absolute imports, of a module, of a class in one, from a folder that is no package."""
    before = own()
    name = module.replace("__", "/") + ".py"
    assert own(**{module: OWN[name] + "CHANGED = 1\n"}) != before


def test_what_ones_own_network_does_not_import_does_not_count(own):
    before = own()
    assert own(aside="ASIDE = 2\n") == before


def test_ones_own_network_reaches_into_edgeattn(own):
    own()
    assert "edgeattn.metrics.classification" in provenance._imports("mynets.net")
    assert "json" not in provenance._imports("mynets.net")


def test_a_module_that_is_not_there():
    with pytest.raises(RecipeError, match=r"edgeattn\.no_such_room has no source"):
        code_version("edgeattn.no_such_room")


WRONG = {
    "syntax": (
        "def broken(:\n",
        r"The module mynets\.\w+ is not Python \(invalid syntax .*line 1\)\); correct .*\.py\.$",
    ),
    "zeros": ("x = '\0'\n", r"The module mynets\.\w+ is not Python \(.*null bytes.*\); correct "),
    "outside": (
        "from ...others import x\n",
        r"The module mynets\.\w+ imports \.\.\.others, which lies outside its package; correct ",
    ),
}


@pytest.mark.parametrize("module", ["net", "far"])
@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_ones_own_network_that_is_not_python(own, module, text, said):
    """Its own file, or one that it imports."""
    with pytest.raises(RecipeError, match=said):
        own(**{module: text})


def test_ones_own_network_that_is_not_text(own, tmp_path):
    own()
    forget()
    (tmp_path / "mynets/far.py").write_bytes(b"# \xff\n")
    with pytest.raises(RecipeError, match=r"The module mynets\.far is not Python text \(.*0xff.*\); correct "):
        code_version("mynets.net")


def test_library_versions_leave_out_what_is_missing():
    found = library_versions("numpy", "no-such-distribution-anywhere")
    assert list(found) == ["numpy"]


def test_git_revision(tmp_path, monkeypatch):
    package = tmp_path / "edgeattn"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(provenance, "_PACKAGE", package)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_revision() is None
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]

    def git(*arguments):
        subprocess.run(["git", *arguments], check=True, cwd=tmp_path)

    git("init", "-q")
    git(*identity, "commit", "-q", "--allow-empty", "-m", "somebody else's")
    assert git_revision() is None  # installed inside a repository that does not hold the package
    git("add", ".")
    git(*identity, "commit", "-q", "-m", "first")
    clean = git_revision()
    assert clean is not None
    assert len(clean) == 40
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/report.json").write_text("{}")
    assert git_revision() == clean, "what a run writes is no other code for the next one"
    (tmp_path / "new.txt").write_text("x")
    assert git_revision() == f"{clean}+changes"
    assert revision_since(clean) == revision_since(f"{clean}+changes") == f"{clean}+changes"
    git("add", ".")
    git(*identity, "commit", "-q", "-m", "second")
    assert git_revision() not in (None, clean)
    assert revision_since(clean) == revision_since(f"{clean}+changes") == f"{clean}+changes"
    assert revision_since(git_revision()) == git_revision()
    assert revision_since(None) is None


def test_git_revision_is_the_packages_wherever_it_runs(tmp_path, monkeypatch):
    before = git_revision()
    monkeypatch.chdir(tmp_path)
    assert git_revision() == before


def test_git_not_installed(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert git_revision() is None
