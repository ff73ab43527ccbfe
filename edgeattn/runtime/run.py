"""Run a model over a source."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeattn.imaging import Frame
from edgeattn.runtime.model import Model
from edgeattn.runtime.overlay import open_sink
from edgeattn.runtime.sources import find
from edgeattn.tasks.base import Result


def run(model: Model, source: str, emit: Callable[[str, Result], None], *, out: Path | None = None) -> int:
    """Call `emit(name, result)` for every frame of `source` in order; with `out`, write the overlays too.

    A model of two frames gets each frame together with the one before it, the first one with itself, and its result is
    drawn on the later one. Returns the number of frames. Raises DataError for a source or an `out` that is wrong,
    StorageError.
    """
    found = find(source)
    count = 0
    recent: deque[Frame] = deque(maxlen=model.inputs)
    with open_sink(found, out) as sink:
        for name, frame in found.frames():
            recent.append(frame)
            result = model(*([recent[0]] * (model.inputs - len(recent))), *recent)
            if sink is not None:
                sink.write(name, result.draw(frame))
            emit(name, result)
            count += 1
    return count


def line(name: str, result: Result) -> str:
    """One frame's result for a person to read."""
    return f"{name}: {result} ({result.latency_ms:.2f} ms)"


def json_line(name: str, result: Result) -> str:
    """One frame's result for another program to read: one line of ASCII.

    What is infinite or no number, such as a corner that a homography takes to infinity, is null, since JSON
    has no name for it.
    """
    return json.dumps(_plain({"name": name, **result.to_dict()}), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
