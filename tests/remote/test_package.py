"""What travels is whole, always the same, and needs nothing that a device lacks."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import tomllib

from edgeattn.remote.package import NEEDED, NEEDED_BY, needed, pack

ROOT = Path(__file__).parents[2]
CLASSIFY = "edgeattn.tasks.classify"


def names(package: bytes) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(package)).namelist()


def test_the_same_bytes_each_time():
    assert pack(CLASSIFY) == pack(CLASSIFY)
    assert names(pack(CLASSIFY)) == sorted(names(pack(CLASSIFY)))


def test_nothing_that_trains_exports_or_talks_to_a_person():
    rooms = {name.split("/")[1] for name in names(pack(CLASSIFY))}
    assert not rooms & {
        "train",
        "export",
        "quantize",
        "lint",
        "models",
        "data",
        "report",
        "pipeline",
        "cli",
        "recipe.py",
    }


def test_all_that_it_imports_is_in_it():
    package = zipfile.ZipFile(io.BytesIO(pack(CLASSIFY)))
    there = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in package.namelist()}
    wanted = set()
    for name in package.namelist():
        for node in ast.walk(ast.parse(package.read(name))):
            if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "edgeattn":
                wanted |= {node.module}
                inside = {f"{node.module}.{alias.name}" for alias in node.names}
                wanted |= {module for module in inside if (ROOT / f"{module.replace('.', '/')}.py").exists()}
    assert not wanted - there


def test_it_starts_from_the_zip_without_any_other_library(tmp_path):
    (tmp_path / "package.zip").write_bytes(pack(CLASSIFY))
    program = (
        "import sys; sys.path.insert(0, 'package.zip')\n"
        "import edgeattn.remote.far, edgeattn.measure.latency, edgeattn.measure.drift, edgeattn.bundle.golden\n"
        "assert 'package.zip' in edgeattn.remote.far.__file__\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & {'torch', 'pydantic', 'click', 'onnx'}))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, env={}
    )
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_a_task_of_ones_own_travels_with_what_it_imports(tmp_path, monkeypatch):
    own = tmp_path / "mine_far"
    (own / "sub").mkdir(parents=True)
    (own / "__init__.py").write_text("from mine_far import kinds\n")
    (own / "kinds.py").write_text("")
    (own / "sub/task.py").write_text("from mine_far.maths import add\nTASK = add\n")
    (own / "maths.py").write_text("from edgeattn.tasks.classify import TASK as add\n")
    (own / "unrelated.py").write_text("import torch\n")
    monkeypatch.syspath_prepend(tmp_path)
    added = set(names(pack("mine_far.sub.task"))) - set(names(pack(CLASSIFY)))
    assert added == {"mine_far/__init__.py", "mine_far/sub/task.py", "mine_far/maths.py", "mine_far/kinds.py"}


def test_the_requirements_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert sorted(NEEDED.values()) == sorted(project["dependencies"])
    for backend, wanted in NEEDED_BY.items():
        assert list(wanted.values()) == project["optional-dependencies"][backend]
    assert [module for module, _ in needed("openvino")] == ["numpy", "cv2", "openvino"]
    assert [module for module, _ in needed("tensorrt")] == ["numpy", "cv2"]
