"""The OpenVINO package: imported so that it stays off the network, its graphs read, its exceptions made sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from edgeattn import host
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


def compiled(network: Any, config: Mapping[str, Any]) -> Any:
    """`network` for this CPU; in float where OpenVINO would spoil its INT8."""
    slower = {"LP_TRANSFORMS_MODE": "NO"} if spoils_int8(network) else {}
    return core().compile_model(network, "CPU", {**config, **slower})


def spoils_int8(network: Any) -> bool:
    """Whether this CPU lacks AMX and `network` concatenates beside signed INT8 activations.

    OpenVINO 2026.4 then computes what reads the concatenation wrongly, by 10 dB and less (tests/quantize/
    test_openvino_guards.py, which fails when that is mended). What `edgeattn` quantizes for CPUs has unsigned ones.
    """
    if "amx_int8" in host.isa():
        return False
    operators = network.get_ops()
    signed = any(
        operator.get_type_name() == "Convert"
        and operator.get_output_element_type(0) == library().Type.i8
        and operator.input_value(0).get_node().get_type_name() == "FakeQuantize"
        for operator in operators
    )
    return signed and any(
        operator.get_type_name() == "Concat" and operator.get_output_element_type(0).is_real() for operator in operators
    )


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn whatever OpenVINO raises into a ModelError of one sentence."""
    try:
        yield
    except EdgeattnError:
        raise
    except Exception as error:  # the ONNX frontend's exceptions have only this class in common
        raise ModelError(f"OpenVINO cannot {what}: {last_line(error)}.") from error
