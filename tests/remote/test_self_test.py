"""The step that proves a bundle, with a bundle that is made up."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from edgeattn import runtime
from edgeattn.errors import StageFailed
from edgeattn.remote.steps import Job, self_test


@pytest.fixture
def prove(tmp_path, monkeypatch):
    """`prove(...)` runs the step on a model that is so."""
    monkeypatch.setenv("EDGEATTN_CACHE", "before")  # the step sets it, and it is to be as it was afterwards

    def run(*, rebuilt=None, passed=True):
        failures = () if passed else (SimpleNamespace(sentence=lambda: "logits differ"),)
        test = SimpleNamespace(passed=passed, failures=failures, to_dict=lambda: {"passed": passed})

        @contextmanager
        def load(path, *, threads):
            assert (path, threads) == (tmp_path / "in/bundle/x.edgeattn", 2)
            yield SimpleNamespace(runner=SimpleNamespace(rebuilt=rebuilt), self_test=lambda: test)

        monkeypatch.setattr(runtime, "load", load)
        values = {"path": "bundle/x.edgeattn", "threads": 2}
        return self_test(Job(tmp_path / "in", tmp_path / "out", values, lambda done, total, text: None))

    return run


def test_a_bundle_that_is_as_it_should_be(prove):
    assert prove() == {"passed": True}


def test_an_engine_that_was_built_anew_proves_nothing_of_the_one_in_the_bundle(prove):
    with pytest.raises(StageFailed, match="cannot be used on the machine it was compiled on: another driver"):
        prove(rebuilt="another driver")


def test_other_outputs(prove):
    with pytest.raises(StageFailed, match="fails its self-test: logits differ"):
        prove(passed=False)
