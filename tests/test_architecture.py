"""The rules of the rooms: which room may import which, where heavy libraries live, what the device loads."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import edgeattn
from edgeattn.errors import InputError

PACKAGE = Path(edgeattn.__file__).parent

STEPS = (
    {"errors"},
    {
        "artifact",
        "opencv",
        "recipe",
        "imaging",
        "tiling",
        "framing",
        "metrics",
        "stats",
        "progress",
        "provenance",
        "host",
    }
    | {"jetpack", "target", "board", "file_lock", "opencv"},
    {"models", "tasks", "data"},
    {"backends"},
    {"onnxgraph"},
    {"train", "export", "quantize", "lint", "measure", "bundle", "report"},
    {"runtime"},
    {"remote"},
    {"pipeline"},
    {"cli"},
    {"start"},
)
# The lowest step's single files may build on one another; cycles are ruled out below.
MAY_SHARE_A_STEP = STEPS[1]

HOMES = {
    "torch": {"models", "train", "export", "backends.pytorch"},
    "safetensors": {"models"},
    "lightning": {"train"},
    "kornia": {"train"},
    "nncf": {"quantize"},
    "onnx": {"export", "quantize", "lint", "onnxgraph"},
    "onnxruntime": {"backends.onnxruntime"},
    "tensorrt": {"backends._tensorrt_library"},
    "openvino": {"backends._openvino_library"},
    "click": {"cli"},
    "rich": {"cli"},
    "pydantic": {"recipe", "target"},
    "yaml": {"recipe"},
    "matplotlib": {"report"},
    "jinja2": {"report"},
    "filelock": {"artifact", "data.download"},
    "sklearn": {"data.scene_source"},
    "cryptography": {"bundle"},
}
DEVICE_FILES = (
    "__init__",
    "errors",
    "artifact",
    "opencv",
    "imaging",
    "tiling",
    "framing",
    "metrics",
    "tasks",
    "bundle",
)
DEVICE_FILES += ("runtime", "progress", "host", "provenance", "backends.__init__", "backends.base", "backends.openvino")
DEVICE_FILES += ("backends._openvino", "backends._telemetry", "backends.tensorrt", "backends._tensorrt")
DEVICE_FILES += ("backends._cuda", "board", "file_lock", "jetpack", "opencv")
# What `remote` sends along to another machine, to prove and measure engines there.
DEVICE_FILES += (
    "stats",
    "measure",
    "remote.__init__",
    "remote.bootstrap",
    "remote.far",
    "remote.steps",
    "remote.shards",
)
NEW_IN_3_11 = {"StrEnum", "tomllib", "Self", "UTC", "ExceptionGroup", "assert_never", "file_digest", "chdir"}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def sources() -> dict[str, ast.Module]:
    return {module_name(path): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


SOURCES = sources()


def imports(tree: ast.AST) -> set[str]:
    """Full dotted names of everything imported, wherever in the file; of `from a import b` the module that is meant."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports would hide from provenance.code_version"
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if is_module(name) else str(node.module) for name in below}
    return found


def is_module(name: str) -> bool:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def own_imports(tree: ast.AST) -> set[str]:
    """The package's own modules among them, without the leading name; a room counts as its `__init__`."""
    names = {name.partition(".")[2] for name in imports(tree) if name.startswith("edgeattn.")}
    return {name if name in SOURCES else f"{name}.__init__" for name in names}


def room(module: str) -> str:
    return module.partition(".")[0]


def step(name: str) -> int:
    return next(index for index, rooms in enumerate(STEPS) if name in rooms)


@pytest.mark.parametrize("module", [name for name in SOURCES if name != "__init__"])
def test_imports_point_down(module):
    for other in own_imports(SOURCES[module]):
        if room(other) == room(module):
            continue
        shared = {room(module), room(other)} <= MAY_SHARE_A_STEP
        assert step(room(other)) < step(room(module)) or shared, f"{module} imports {other}"


def test_there_are_no_cycles():
    # Whoever needs nobody that is still waiting may leave; only those in a knot, and who needs them, stay.
    waiting = {module: own_imports(tree) - {module} for module, tree in SOURCES.items()}
    while free := [module for module, needs in waiting.items() if not needs & waiting.keys()]:
        for module in free:
            del waiting[module]
    assert not waiting


def test_heavy_libraries_stay_at_home():
    strays = [
        f"{module} imports {library}"
        for module, tree in SOURCES.items()
        for library in {name.partition(".")[0] for name in imports(tree)} & HOMES.keys()
        if not any(module == home or module.startswith(f"{home}.") for home in HOMES[library])
    ]
    assert not strays


def test_the_checks_see_what_they_forbid():
    tree = ast.parse(
        "def f():\n    import torch.nn\n    from edgeattn import cli\n    from edgeattn.train import run\n"
    )
    assert imports(tree) == {"torch.nn", "edgeattn.cli", "edgeattn.train.run"}
    assert own_imports(tree) == {"cli.__init__", "train.run"}


def test_what_the_device_imports_loads_nothing_heavy():
    heavy = {*HOMES, "scipy", "psutil"} - {"openvino"}
    code = (
        "import sys, edgeattn, edgeattn.runtime, edgeattn.tasks, edgeattn.tasks.classify, edgeattn.backends.openvino\n"
        "import edgeattn.backends.tensorrt, edgeattn.remote.steps, edgeattn.measure.latency, edgeattn.measure.drift\n"
        "import edgeattn.board, edgeattn.runtime.__main__\n"
        f"print(*sorted(set(sys.modules) & {heavy!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    "module", [name for name in SOURCES if any(name == d or name.startswith((f"{d}.", f"{d}_")) for d in DEVICE_FILES)]
)
def test_what_the_device_runs_is_python_3_10(module):
    path = PACKAGE / f"{module.replace('.', '/')}.py"
    tree = ast.parse(path.read_text(), feature_version=(3, 10))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    # Not of `os`, whose chdir is as old as Python; the new one is contextlib's.
    names |= {node.attr for node in attributes if not (isinstance(node.value, ast.Name) and node.value.id == "os")}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    names |= imports(tree)
    assert not names & NEW_IN_3_11


def broad_handlers(tree: ast.AST) -> list[ast.ExceptHandler]:
    """Those that catch every exception and do not raise it again as it is."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"}))
        and not any(isinstance(last, ast.Raise) and last.exc is None for last in node.body[-1:])
    ]


@pytest.mark.parametrize("module", list(SOURCES))
def test_whoever_catches_everything_says_why(module):
    lines = (PACKAGE / f"{module.replace('.', '/')}.py").read_text().splitlines()
    assert all("  # " in lines[handler.lineno - 1] for handler in broad_handlers(SOURCES[module]))


def test_what_counts_as_catching_everything():
    def found(clause: str, body: str = "pass") -> int:
        return len(broad_handlers(ast.parse(f"try:\n    f()\n{clause}:\n    {body}\n")))

    assert found("except") == found("except Exception as error") == found("except BaseException") == 1
    assert found("except Exception as error", "raise ValueError from error") == 1
    assert found("except BaseException", "raise") == found("except (OSError, ValueError)") == 0


@pytest.mark.parametrize("name", ["tasks", "models", "data", "backends", "lint"])
def test_a_newcomer_is_found_by_its_file_name(name, tmp_path, monkeypatch):
    place = importlib.import_module(f"edgeattn.{name}")
    model = "OUTPUTS = ('logits',)\nSettings = Network = object\n"
    (tmp_path / "newcomer.py").write_text(f"TASK = 'the newcomer'\n{model}\ndef missing():\n    return None\n")
    monkeypatch.setattr(place, "__path__", [*place.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, f"edgeattn.{name}.newcomer", raising=False)
    assert "newcomer" in place.names()
    found = place.find("newcomer")
    assert getattr(found, "TASK", found) == "the newcomer"
    monkeypatch.delitem(sys.modules, f"edgeattn.{name}.newcomer")
    with pytest.raises(InputError) as caught:
        place.find("nowhere")
    assert all(known in str(caught.value) for known in place.names())
