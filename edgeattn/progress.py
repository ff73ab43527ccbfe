"""How long work tells of its progress without knowing who listens: only the command line prints."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""`(done, total, text)`; called often, so listeners decide what to show."""


def silent(done: int, total: int, text: str) -> None:
    """A listener that shows nothing."""
