import numpy as np
import pytest

from edgeattn.backends import onnxruntime as backend

if reason := backend.missing():
    pytest.skip(reason, allow_module_level=True)


def test_it_judges_accuracy_so_it_computes_in_full_precision(entry, tmp_path):
    outputs = backend.load(entry.write(tmp_path), threads=1).infer(entry.inputs)
    for name, expected in entry.expected.items():
        assert np.abs(outputs[name] - expected).max() <= 2e-6 * np.abs(expected).max()


def test_a_missing_library_names_the_command(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    assert 'pip install "edgeattn[train]"' in backend.missing()
