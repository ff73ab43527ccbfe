"""The OpenVINO package: imported so that it stays off the network, its graphs read, its exceptions made sentences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from edgeattn.backends._telemetry import silence_telemetry
from edgeattn.backends.base import last_line
from edgeattn.errors import EdgeattnError, ModelError


def library() -> Any:
    """The OpenVINO package, imported so that it stays off the network. Raises ImportError."""
    silence_telemetry()
    import openvino

    return openvino


@lru_cache(maxsize=1)
def core() -> Any:
    """This process's one `openvino.Core`."""
    return library().Core()


@lru_cache(maxsize=1)
def _frontend() -> Any:
    return library().frontend.FrontEndManager().load_by_framework("onnx")


def read(path: Path) -> Any:
    """The graph of an ONNX file. `Core.read_model` would try every other format on a broken one and print about it."""
    network = _frontend().convert(_frontend().load(str(path)))
    if not network.outputs:
        raise ModelError(f"{path} holds no graph; export the model again.")
    return network


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn whatever OpenVINO raises into a ModelError of one sentence."""
    try:
        yield
    except EdgeattnError:
        raise
    except Exception as error:  # the ONNX frontend's exceptions have only this class in common
        raise ModelError(f"OpenVINO cannot {what}: {last_line(error)}.") from error
