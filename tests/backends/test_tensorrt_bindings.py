"""The backend on NVIDIA's own Python bindings, which check every argument, with a scripted libnvinfer below them.

Opt-in, for the bindings are not ours to keep: EDGEATTN_TRT_BINDINGS is a folder with one folder per version, each an
unzipped wheel of `tensorrt-cu12-bindings` or `tensorrt-cu13-bindings` for this Python. Nothing is built or computed: it
shows that the bindings take what they are given, which the stand-ins of the other tests only claim.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "trt_bindings"
CHOSEN = os.environ.get("EDGEATTN_TRT_BINDINGS")
FOUND = sorted(path.parent for path in Path(CHOSEN).glob("*/tensorrt_bindings")) if CHOSEN else []

if not FOUND:
    pytest.skip("EDGEATTN_TRT_BINDINGS names no folder with NVIDIA's unzipped wheels", allow_module_level=True)
if shutil.which("gcc") is None:
    pytest.skip("there is no gcc to make the library below NVIDIA's bindings with", allow_module_level=True)


@pytest.fixture(scope="module", params=FOUND, ids=lambda folder: folder.name)
def came(request, tmp_path_factory):
    """What came of a build, a run, a graph and a shape that are refused, in a process of its own."""
    stubs = tmp_path_factory.mktemp("stubs")
    needed = re.search(
        rb"libnvinfer\.so\.(\d+)", next(request.param.glob("tensorrt_bindings/tensorrt*.so")).read_bytes()
    )
    for name, source in (
        ("libnvinfer", HERE / "stub.c"),
        ("libnvinfer_plugin", os.devnull),
        ("libnvonnxparser", os.devnull),
    ):
        so = f"{name}.so.{needed[1].decode()}"
        command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{so}", "-o", stubs / so, "-x", "c", source, "-lstdc++"]
        subprocess.run(command, check=True, capture_output=True)
    command = [sys.executable, "-X", "faulthandler", HERE / "drive.py", request.param, stubs]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_an_engine_is_built_opened_run_and_timed(came):
    assert came["y"] == [[2, 4, 6]]
    assert came["layer_times"] == {"double": 0.5}
    assert json.loads(came["executed"])["Layers"][0]["Name"] == "double"
    assert (came["times"], came["warnings"], came["goes_on"]) == ("times", ["As told."], 1)
    assert (came["violations"], came["leaks"]) == ([], [])


def test_a_graph_that_is_refused_is_a_sentence(came):
    assert "node '/head/Attention' (Attention): no importer; this version cannot take the node" in came["parser"]


def test_a_shape_that_is_refused_is_a_sentence(came):
    """By `infer_shapes` this would be a segmentation fault with the bindings of 10.3 and 10.7."""
    assert came["shape"].startswith(f"TensorRT {came['version']} cannot run the model with these shapes: ")
