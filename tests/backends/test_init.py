import pytest

from edgeattn import backends
from edgeattn.backends.base import last_line
from edgeattn.errors import InputError


def test_names_are_the_public_files():
    assert {"onnxruntime", "openvino", "pytorch"} <= set(backends.names())
    assert "base" not in backends.names()
    assert not [name for name in backends.names() if name.startswith("_")]


@pytest.mark.parametrize("name", ["no_such", "base", "_openvino_graph"])
def test_an_unknown_backend_lists_the_known_ones(name):
    with pytest.raises(InputError, match=rf"no backend '{name}'; known backends: .*onnxruntime, openvino"):
        backends.find(name)


def test_a_backend_that_only_runs_compiles_nothing():
    with pytest.raises(InputError, match="'onnxruntime' runs models but compiles no engines"):
        backends.find_compiler("onnxruntime")


@pytest.mark.parametrize(
    ("raised", "line"),
    [
        (RuntimeError("at core.cpp:12:\nCheck failed\n[CPU] The blob is short.\n\n"), "[CPU] The blob is short"),
        (RuntimeError("one sentence."), "one sentence"),
        (KeyError(), "KeyError"),
    ],
)
def test_last_line(raised, line):
    assert last_line(raised) == line
