"""Freed memory kept for the next step of a training."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# malloc.h of glibc; the values of man 3 mallopt.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER, _NO_MAPPINGS = -1, 0
_DEFAULT_TRIM_THRESHOLD, _DEFAULT_MMAP_MAX = 128 * 1024, 65536


@contextmanager
def kept() -> Iterator[None]:
    """glibc gives large blocks back to the system when they are freed, and gets them again zeroed, page by page.

    A training step frees and takes the same activations every time: a batch of 32 pairs of attention_align took twice
    as long so (benchmarks/training_memory.py). Other C libraries are left alone.
    """
    libc = ctypes.CDLL(None)
    if not (hasattr(libc, "mallopt") and hasattr(libc, "gnu_get_libc_version")):
        yield
        return
    libc.mallopt(_MMAP_MAX, _NO_MAPPINGS)
    libc.mallopt(_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_MAX, _DEFAULT_MMAP_MAX)
        libc.mallopt(_TRIM_THRESHOLD, _DEFAULT_TRIM_THRESHOLD)
        libc.malloc_trim(0)
