"""What `edgeattn.load` may need: Python 3.10, NumPy, OpenCV and the bundle's engine library; little time and memory."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import edgeattn
from edgeattn.imaging import encode_png

PACKAGE = Path(edgeattn.__file__).parent


def _backends(kind: str) -> list[Path]:
    return sorted((PACKAGE / "backends").glob(f"{kind}*.py"))


# What runs on a device: the rooms as a whole, and of the rest what they import. Of the backends those with an engine of
# their own, with their private parts.
SHIPPED = [
    *(
        PACKAGE / f"{name}.py"
        for name in ("__init__", "artifact", "errors", "file_lock", "framing", "host", "imaging", "jetpack", "opencv")
    ),
    *(PACKAGE / f"{name}.py" for name in ("progress", "provenance", "stats", "tiling")),
    *(PACKAGE / "backends" / f"{name}.py" for name in ("__init__", "base", "openvino", "tensorrt")),
    *(path for kind in ("_cuda", "_openvino", "_telemetry", "_tensorrt") for path in _backends(kind)),
    *(
        path
        for room in ("metrics", "tasks", "bundle", "runtime", "board")
        for path in sorted((PACKAGE / room).glob("*.py"))
    ),
]
NOT_ON_DEVICES = (
    "torch",
    "onnx",
    "onnxruntime",
    "nncf",
    "pydantic",
    "click",
    "yaml",
    "filelock",
    "jinja2",
    "rich",
    "scipy",
)


def _python(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_is_python_3_10(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))
    imported = {
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    } | {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    newer = {"tomllib", "enum.StrEnum", "typing.Self", "typing.override", "typing.Unpack", "datetime.UTC"}
    assert not imported & newer


def test_all_that_is_shipped_is_looked_at() -> None:
    """No file that these load is left out."""
    program = (
        "import sys, edgeattn.runtime.__main__, edgeattn.backends.openvino, edgeattn.backends.tensorrt\n"
        "import edgeattn.backends._tensorrt_folder\n"
        "print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('edgeattn') and m.__file__), sep='\\n')"
    )
    loaded = {Path(line) for line in _python(program).splitlines()}
    assert loaded <= {*SHIPPED}
    assert len(set(SHIPPED)) == len(SHIPPED)


def test_import_edgeattn_is_free() -> None:
    program = "import sys, edgeattn; print(*(m for m in ('numpy', 'cv2', 'zipfile') if m in sys.modules))"
    assert _python(program).split() == []


def test_version_is_that_of_the_project() -> None:
    project = PACKAGE.parent / "pyproject.toml"
    if not project.is_file():
        pytest.skip("the package is installed without its sources")
    found = re.search(r'^version = "(.+)"$', project.read_text(encoding="utf-8"), re.MULTILINE)
    assert found and edgeattn.__version__ == found[1]


WITHOUT_OPENCV = "import sys; sys.modules['cv2'] = None\n"


def test_an_engine_is_built_and_proven_without_opencv(onnx_bundle: Path) -> None:
    """On a Jetson `build` needs NumPy and the engine's library alone; what it needs of frames is in the bundle."""
    program = "from edgeattn.runtime.__main__ import main; sys.exit(main(sys.argv[1:]))"
    built = json.loads(_python(WITHOUT_OPENCV + program, "build", str(onnx_bundle), "--json"))
    assert built["self_test"]["passed"]
    verified = json.loads(_python(WITHOUT_OPENCV + program, "verify", str(onnx_bundle), "--json"))
    assert verified["passed"]


def test_frames_without_opencv(onnx_bundle: Path) -> None:
    program = (
        "import edgeattn\nfrom edgeattn.errors import MissingLibrary\n"
        "try:\n    edgeattn.load(sys.argv[1])\nexcept MissingLibrary as error:\n    print(error)\n"
    )
    said = _python(WITHOUT_OPENCV + program, str(onnx_bundle))
    assert said.startswith("OpenCV, which prepares frames, cannot be used (") and "pip install" in said


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
def test_first_result(onnx_bundle: Path, tmp_path: Path) -> None:
    """Loads nothing a device does not have; peak memory below 200 MB.

    The limit on time is ten times the promise, since this machine may be busy: `first_result_s` is printed, and held to
    one second by hand on a quiet machine.
    """
    (tmp_path / "a.png").write_bytes(encode_png(np.full((480, 640, 3), (200, 0, 0), np.uint8)))
    program = (
        "import time; started = time.perf_counter()\n"
        "import json, sys, edgeattn\n"
        "model = edgeattn.load(sys.argv[1])\n"
        "import cv2\n"
        "result = model(cv2.imread(sys.argv[2]))\n"
        "seconds = time.perf_counter() - started\n"
        # Not getrusage: a child process starts with its parent's peak there.
        "status = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "peak_mb = int(status['VmHWM'].split()[0]) / 1024\n"
        f"loaded = [m for m in {NOT_ON_DEVICES} if sys.modules.get(m)]\n"
        "print(json.dumps([result.labels[result.class_id[0]], loaded, seconds, peak_mb]))\n"
    )
    label, loaded, first_result_s, peak_mb = json.loads(_python(program, str(onnx_bundle), str(tmp_path / "a.png")))
    print(f"first_result_s {first_result_s:.2f}, peak_mb {peak_mb:.0f}")
    assert (label, loaded) == ("blue", [])
    assert first_result_s < 10
    assert peak_mb < 200
