from __future__ import annotations

import ctypes
import json
import subprocess
import sys

import pytest

from edgeattn.train.memory import kept

# In a process of its own: elsewhere the heap may hold enough free memory already.
_SCRIPT = """
import json, pathlib, torch
from edgeattn.train.memory import kept

def resident_mb():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

def use_and_free():
    torch.ones(64_000_000)  # 256 MB

use_and_free()
found = [resident_mb()]
use_and_free()
found.append(resident_mb())
with kept():
    use_and_free()
    found.append(resident_mb())
found.append(resident_mb())
print(json.dumps(found))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="only glibc is told to keep memory")
def test_freed_memory_is_kept_inside_and_given_back_after():
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True)
    before, plain, inside, after = json.loads(done.stdout)
    assert plain < before + 128, "memory is kept without being asked: kept() is no longer needed"
    assert inside > before + 128
    assert after < before + 128


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    with kept():
        pass
