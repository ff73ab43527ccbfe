"""Keeps usage reports of libraries off the network. Small, so that quantizing does not depend on the runner's code."""

from __future__ import annotations

import sys


def silence_telemetry() -> None:
    """Keep OpenVINO (and NNCF) from reporting their use to a web service; call it before importing either.

    Their import sends an event and writes an identifier into the home folder wherever the package
    `openvino_telemetry` is installed. Where it cannot be imported both fall back to a stub of their own.
    """
    # None is how Python is told that a module cannot be imported; typeshed has no type for that.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
