import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgeattn import errors
from edgeattn.backends.base import Specs, TensorSpec
from edgeattn.errors import InputError, MissingLibrary
from edgeattn.measure.candidate import open_entry
from edgeattn.measure.worker import describe_error, peak_rss_bytes, timed_call, wait_until_quiet, warm_up


class Recorder:
    specs = Specs((TensorSpec("frame", (1, 1, 1, 3), "uint8"),), ())

    def __init__(self):
        self.seen = []

    def infer(self, inputs):
        self.seen.append((inputs["frame"].shape, int(inputs["frame"].max())))
        return {}


def test_frames_are_cycled_at_batch_one():
    runner = Recorder()
    call = timed_call(runner, {"frame": np.arange(9, dtype=np.uint8).reshape(3, 1, 1, 1, 3)})
    assert all(call() >= 0 for _ in range(4))
    assert runner.seen == [((1, 1, 1, 3), value) for value in (2, 5, 8, 2)]


def test_the_tiles_of_a_frame_are_one_call():
    """Two frames of three tiles: the time goes from before the first tile to after the third."""

    class Sleeping(Recorder):
        def infer(self, inputs):
            time.sleep(0.002)
            return super().infer(inputs)

    runner = Sleeping()
    call = timed_call(runner, {"frame": np.arange(6, dtype=np.uint8).reshape(2, 3, 1, 1, 1)})
    assert all(call() >= 6_000_000 for _ in range(3))
    assert runner.seen == [((1, 1, 1, 1), value) for value in (0, 1, 2, 3, 4, 5, 0, 1, 2)]


def test_two_inputs_are_cycled_together():
    class Pairs(Recorder):
        def infer(self, inputs):
            self.seen.append({name: (value.shape, int(value.max())) for name, value in inputs.items()})
            return {}

    runner = Pairs()
    frames = np.arange(2, dtype=np.uint8).reshape(2, 1, 1, 1, 1)
    call = timed_call(runner, {"frame_a": frames, "frame_b": frames + np.uint8(10)})
    for _ in range(3):
        call()
    shape = (1, 1, 1, 1)
    assert runner.seen == [{"frame_a": (shape, i), "frame_b": (shape, 10 + i)} for i in (0, 1, 0)]


class Clock:
    """Stands still until `advance`."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def advance(self, seconds):
        self.now += seconds


def warm(durations_s, **limits):
    clock, rest = Clock(), iter(durations_s)

    def call():
        duration = next(rest)
        clock.advance(duration)
        return round(duration * 1e9)

    settings = {"window": 2, "tolerance": 0.05, "min_s": 0.0, "max_s": 100.0, **limits}
    return warm_up(call, clock=clock, **settings)


def test_warm_up_ends_when_steady():
    durations, steady = warm([9, 5, 4, 4, 4, 4, 4, 4])
    # After the second window: 7 against 4. After the third: 4 against 4.
    assert (len(durations), steady) == (6, True)
    assert durations[0] == 9_000_000_000


def test_warm_up_lasts_the_least_time():
    assert warm([4] * 20, min_s=50.0)[0] == [4_000_000_000] * 14  # 13 calls are 52 s, but windows end at even numbers


def test_warm_up_gives_up():
    durations, steady = warm([2.0**i for i in range(20)], max_s=100.0)
    assert (len(durations), steady) == (7, False)  # 1 + 2 + ... + 64 = 127 s


@pytest.mark.parametrize(("busy_s", "slices", "expected"), [(0.0, 1, True), (0.02, 5, True), (10.0, 60, False)])
def test_waits_while_threads_spin(busy_s, slices, expected):
    clock, slept = Clock(), []

    def sleep(seconds):
        slept.append(seconds)
        clock.now = min(clock.now + seconds, busy_s)

    assert wait_until_quiet(clock, sleep) is expected
    assert len(slept) == slices


def test_peak_is_read_from_the_kernel(tmp_path):
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmPeak:\t  900 kB\nVmHWM:\t  250 kB\nVmRSS:\t  100 kB\n")
    assert peak_rss_bytes(status) == 250 * 1024
    status.write_text("Name:\tpython\n")
    assert peak_rss_bytes(status) is None
    assert peak_rss_bytes(tmp_path / "absent") is None


class Special(errors.BundleError):
    pass


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (errors.MissingLibrary("No openvino."), "MissingLibrary", "No openvino."),
        (Special("Cut short."), "BundleError", "Cut short."),
        (MemoryError(), "MachineError", "memory"),
        (RuntimeError("node 3"), "ModelError", "RuntimeError: node 3"),
    ],
)
def test_errors_keep_their_kind(error, kind, message):
    described = describe_error(error)
    assert described["kind"] == kind
    assert message in described["message"]


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        ("no_colon", InputError, "module:function"),
        (":load", InputError, "module:function"),
        ("json:", InputError, "module:function"),
        ("json:loadx", InputError, "no function 'loadx'"),
        ("no_such_module_here:load", MissingLibrary, "no_such_module_here"),
    ],
)
def test_entries_that_do_not_open(entry, error, message):
    with pytest.raises(error, match=message):
        open_entry(entry, Path(), 1)


def test_an_entry_gets_path_and_threads(monkeypatch, tmp_path):
    (tmp_path / "entry_for_this_test.py").write_text("def load(path, *, threads):\n    return (path, threads)\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert open_entry("entry_for_this_test:load", Path("/x"), 3) == (Path("/x"), 3)


def test_the_worker_imports_nothing_heavy():
    heavy = {"torch", "scipy", "onnx", "onnxruntime", "openvino", "nncf", "matplotlib", "pydantic", "click"}
    code = f"import sys, edgeattn.measure.worker; print(sorted({heavy!r} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
