from __future__ import annotations

import io
import threading
import time

import pytest

from edgeattn.runtime.ticker import Ticker, line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize(
    ("done", "total", "seconds", "bar", "plain"),
    [
        (0, 4, 5, "[------------------------]       0:05 building", "building, 0:05"),
        (1, 4, 65, "[######------------------]  25 % 1:05 building", "building, 25%, 1:05"),
        (4, 4, 3600, "[########################] 100 % 60:00 building", "building, 100%, 60:00"),
        (0, 0, 0, "[------------------------]       0:00 building", "building, 0:00"),
    ],
)
def test_lines(done: int, total: int, seconds: int, bar: str, plain: str) -> None:
    assert line(done, total, "building", seconds, bar=True) == bar
    assert line(done, total, "building", seconds, bar=False) == plain


def test_a_log_gets_a_line_for_each_kind_of_work_not_for_each_phase() -> None:
    stream = io.StringIO()
    with Ticker(stream) as tell:
        for phase in range(100):
            tell(phase, 100, f"building model.onnx: tactic {phase}")
        tell(0, 1, "running the golden self-test")
    shown = stream.getvalue().splitlines()
    assert shown == ["building model.onnx: tactic 0, 0:00", "running the golden self-test, 0:00"]


def test_a_log_gets_a_line_now_and_then_where_work_is_silent() -> None:
    stream = io.StringIO()
    with Ticker(stream, every_s=0.02) as tell:
        tell(1, 2, "building")
        time.sleep(0.3)
    shown = stream.getvalue().splitlines()
    assert 3 <= len(shown) <= 16
    assert set(shown) == {"building, 50%, 0:00"}


def test_a_terminal_gets_one_line_that_is_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    stream = Terminal()
    with Ticker(stream) as tell:
        tell(1, 4, "building model.onnx with TensorRT 10.3.0: " + "a long phase " * 5)
        tell(2, 4, "building")
    shown = stream.getvalue()
    assert "\n" not in shown
    first, second, cleared, end = shown.split("\r")[1:]
    assert len(first) == 59
    assert second.startswith("[############------------]  50 % 0:00 building") and len(second) == 59
    assert cleared.strip() == "" and len(cleared) >= 46 and end == ""


def test_nothing_is_said_of_nothing() -> None:
    stream = Terminal()
    with Ticker(stream):
        pass
    assert stream.getvalue() == ""


def test_a_reader_that_has_gone_stops_nothing() -> None:
    with Ticker(Closed(), every_s=0.01) as tell:
        tell(0, 1, "building")
        time.sleep(0.05)
        tell(1, 1, "done")
    assert all(thread.name != "progress" for thread in threading.enumerate())


def test_names_that_the_terminal_cannot_write() -> None:
    stream = io.StringIO()
    with Ticker(stream) as tell:
        tell(0, 1, "building 猫.onnx")
    assert stream.getvalue() == "building ?.onnx, 0:00\n"


def test_what_is_done_at_once_needs_no_words() -> None:
    quick, slow = io.StringIO(), io.StringIO()
    with Ticker(quick, every_s=0.01, patience_s=60) as tell:
        tell(0, 1, "compiling")
        time.sleep(0.05)
    with Ticker(slow, every_s=0.01, patience_s=0.05) as tell:
        tell(0, 1, "compiling")
        assert slow.getvalue() == ""
        time.sleep(0.3)
    assert quick.getvalue() == "" and slow.getvalue().startswith("compiling, 0:00\n")
