from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
import torch

from edgeattn.train.memory import kept

_SIZE_MB = 256


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def use_and_free() -> None:
    torch.ones(_SIZE_MB * 250_000)


@pytest.mark.serial
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="only glibc is told to keep memory")
def test_freed_memory_is_kept_inside_and_given_back_after():
    before = resident_mb()
    use_and_free()
    assert resident_mb() < before + _SIZE_MB / 2, "memory is kept without being asked: kept() is no longer needed"
    with kept():
        use_and_free()
        assert resident_mb() > before + _SIZE_MB / 2
    assert resident_mb() < before + _SIZE_MB / 2


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    with kept():
        pass
