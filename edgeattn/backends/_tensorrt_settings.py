"""What a build may be told. Never a precision: that is in the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from edgeattn.errors import InputError

Shape = tuple[int, ...]
Range = tuple[Shape, Shape, Shape]
"""Smallest, usual and largest shape of an input."""


@dataclass(frozen=True)
class BuildSettings:
    """`workspace_mb`: the most memory a layer may use for intermediate results; None is a quarter of the memory where
    CPU and GPU share it (TensorRT would take all of it) and TensorRT's own choice elsewhere.

    `optimization_level`: 0 (quick build) to 5 (tries most). `timing_cache`: a file of measured times, read and
    extended; it must be of this GPU and TensorRT. `profiles`: input name -> smallest, usual and largest shape, for
    inputs with dynamic dimensions. `dla_core`: run on this DLA core what it can run, the rest on the GPU.
    `version_compatible`: a newer TensorRT may open the plan as well, at the price of some speed. `refittable`: weights
    can be replaced. `tf32`: compute FP32 products with 10-bit mantissas, which FP32 results differ by.
    `avg_timing_iterations`: how often each candidate is timed; None is TensorRT's choice. There is no seed: TensorRT
    chooses by measured time, so two builds may differ.

    Raises InputError for values out of range.
    """

    workspace_mb: int | None = None
    optimization_level: int = 3
    timing_cache: Path | None = None
    profiles: Mapping[str, Range] = field(default_factory=dict)
    dla_core: int | None = None
    version_compatible: bool = False
    refittable: bool = False
    tf32: bool = False
    avg_timing_iterations: int | None = None

    def __post_init__(self) -> None:
        for name, low, high in (
            ("workspace_mb", 1, None),
            ("optimization_level", 0, 5),
            ("dla_core", 0, None),
            ("avg_timing_iterations", 1, None),
        ):
            value = getattr(self, name)
            if value is not None and type(value) is not int:
                raise InputError(f"The build setting {name} must be a whole number, got {value!r}.")
            if value is not None and (value < low or (high is not None and value > high)):
                limits = f"{low} to {high}" if high is not None else f"{low} or more"
                raise InputError(f"The build setting {name} must be {limits}, got {value}.")
        for name in ("version_compatible", "refittable", "tf32"):
            if type(getattr(self, name)) is not bool:  # a text would count as yes, and the first one lets code run
                raise InputError(f"The build setting {name} must be True or False, got {getattr(self, name)!r}.")
        for name, shapes in self.profiles.items():
            if any(type(size) is not int for shape in shapes for size in shape):
                raise InputError(f"The profile of input '{name}' must be of whole numbers, got {shapes}.")
            smallest, usual, largest = shapes
            same_rank = len(smallest) == len(usual) == len(largest)
            if not same_rank or not all(
                1 <= low <= mid <= high for low, mid, high in zip(smallest, usual, largest, strict=True)
            ):
                raise InputError(
                    f"The profile of input '{name}' must give smallest, usual and largest shape, each size between 1 "
                    f"and the next, got {smallest}, {usual}, {largest}."
                )

    def to_json(self) -> dict[str, Any]:
        """For the engine's description; without the timing cache, which is a path on one machine."""
        named = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "timing_cache"}
        named["profiles"] = {name: [list(shape) for shape in shapes] for name, shapes in self.profiles.items()}
        return named

    @classmethod
    def from_json(cls, value: Mapping[str, Any], *, timing_cache: Path | None) -> BuildSettings:
        """The settings of an engine's description. Raises InputError, TypeError or ValueError when it is none."""
        profiles: dict[str, Range] = {}
        for name, shapes in value.get("profiles", {}).items():
            smallest, usual, largest = map(tuple, shapes)
            profiles[name] = (smallest, usual, largest)
        known = {entry.name for entry in fields(cls)} - {"profiles", "timing_cache"}
        rest = {name: value[name] for name in known & value.keys()}
        return cls(**rest, profiles=profiles, timing_cache=timing_cache)
