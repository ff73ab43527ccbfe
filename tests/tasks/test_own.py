"""Tasks of one's own, `package.module`: found without importing what is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgeattn import tasks
from edgeattn.errors import InputError
from edgeattn.tasks.classify import Classify

RIGHT = "from edgeattn.tasks.classify import Classify\n\nTASK = Classify()\n"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """`package(module=text)` writes modules of the package `owntasks`, which notes when it is imported."""
    (tmp_path / "owntasks").mkdir()
    (tmp_path / "owntasks/__init__.py").write_text("IMPORTED = True\n")
    monkeypatch.syspath_prepend(tmp_path)

    def write(**modules):
        for name, text in modules.items():
            (tmp_path / f"owntasks/{name}.py").write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / "owntasks"

    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] == "owntasks"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    "text",
    [RIGHT, RIGHT.replace("TASK =", "TASK: Classify ="), "from edgeattn.tasks.classify import TASK\n"],
    ids=["assigned", "annotated", "imported"],
)
def test_it_is_found(package, text):
    package(count=text)
    assert isinstance(tasks.find("owntasks.count"), Classify)
    assert tasks.module_name("owntasks.count") == "owntasks.count"
    assert tasks.module_name("classify") == "edgeattn.tasks.classify"
    assert "owntasks.count" not in tasks.names()


def test_a_package_may_be_a_task_too(package):
    folder = package()
    (folder / "deep").mkdir()
    (folder / "deep/__init__.py").write_text(RIGHT)
    assert isinstance(tasks.find("owntasks.deep"), Classify)


NOWHERE = (
    "There is no task '{}': no such module is installed, on PYTHONPATH or below the folder that the program was "
    "started from; put its package there."
)
NONE = "The module '{}' is no task: it sets no TASK; see edgeattn/tasks/__init__.py."


@pytest.mark.parametrize(
    "name", ["owntasks.absent", "nowhere.at_all", "owntasks..count", ".count", "../owntasks.x", "."]
)
def test_one_that_is_not_there(package, name):
    package(count=RIGHT)
    with pytest.raises(InputError) as caught:
        tasks.find(name)
    assert str(caught.value) == NOWHERE.format(name)


@pytest.mark.parametrize("text", ["print('run')\nTUSK = 1\n", "def f():\n    TASK = 1\n", "TASK = (", b"\xff\x00"])
def test_what_is_no_task_is_not_imported(package, text):
    """A bundle from anywhere names it: `antigravity` and its like must not run because of that."""
    package(count=text)
    with pytest.raises(InputError) as caught:
        tasks.find("owntasks.count")
    assert str(caught.value) == NONE.format("owntasks.count")
    assert "owntasks" not in sys.modules


@pytest.mark.parametrize("name", ["test.__main__", "idlelib.idle", "pip.__main__"])
def test_modules_that_do_something_when_imported_stay_out(name):
    with pytest.raises(InputError, match="no task"):
        tasks.find(name)
    assert name not in sys.modules


def test_one_that_cannot_be_imported(package):
    package(count="import no_such_library\n" + RIGHT, odd=RIGHT + "1 / 0\n")
    for name, words in (
        ("count", "No module named 'no_such_library'"),
        ("odd", "ZeroDivisionError: division by zero"),
    ):
        with pytest.raises(InputError) as caught:
            tasks.find(f"owntasks.{name}")
        assert str(caught.value) == (
            f"The task 'owntasks.{name}' cannot be imported ({words}); check its package, which may need NumPy and "
            "OpenCV only."
        )


def test_one_that_lacks_something(package):
    package(count="class Task:\n    name = 'count'\n    target = 'label'\n\nTASK = Task()\n")
    with pytest.raises(InputError) as caught:
        tasks.find("owntasks.count")
    assert str(caught.value) == (
        "The TASK of 'owntasks.count' is no task: it has no inputs; see Task in edgeattn/tasks/base.py."
    )


def test_every_part_of_the_protocol_is_asked_for():
    assert {"name", "target", "inputs", "tiles", "metrics", "decoding", "score", "decode"} <= set(tasks._PARTS)
    assert len(tasks._PARTS) == 13
    for name in tasks.names():
        assert all(hasattr(tasks.find(name), part) for part in tasks._PARTS)


def test_nothing_heavy_is_imported_for_it(package):
    folder: Path = package(count=RIGHT)
    code = (
        f"import sys; sys.path.append({str(folder.parent)!r})\n"
        "from edgeattn import tasks; tasks.find('owntasks.count')\n"
        "print(*sorted({'torch', 'pydantic', 'click', 'onnx', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
