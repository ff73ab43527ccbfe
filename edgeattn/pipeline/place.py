"""Where engines are compiled, proven and measured: on this machine, or on another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from edgeattn import backends, host
from edgeattn.artifact import Artifact, Precision
from edgeattn.pipeline import bundling, checks, stages
from edgeattn.pipeline.context import Context
from edgeattn.pipeline.on_device import OnDevice
from edgeattn.pipeline.rows import Row


class Place(Protocol):
    """`has_reference`: whether the reference itself (train/fp32) runs there and is timed along."""

    @property
    def has_reference(self) -> bool: ...

    def precisions(self, context: Context) -> list[str]:
        """What the target's backend executes natively there, as variant names."""
        ...

    def processor(self) -> str: ...

    def notes(self) -> tuple[str, ...]:
        """What is to be said of every row that was made there."""
        ...

    def compile_engine(self, context: Context, graph: Artifact, precision: Precision) -> Artifact: ...

    def spread(self, context: Context, graph: Artifact, engine: Row) -> Row:
        """The row with how far a second engine of `graph` differs, or a note on why there is none."""
        ...

    def accuracy(self, context: Context, row: Row, reference: Artifact | None) -> tuple[Row, Artifact]: ...

    def latency(self, context: Context, rows: Sequence[Row]) -> list[Row]: ...

    def bundle(self, context: Context, graph: Artifact, engine: Artifact) -> Artifact: ...


class Here:
    """This machine, by the rooms' own functions."""

    has_reference = True

    def precisions(self, context: Context) -> list[str]:
        return backends.find_compiler(context.target.backend).precisions()

    def processor(self) -> str:
        return host.cpu_model()

    def notes(self) -> tuple[str, ...]:
        return ()

    def compile_engine(self, context: Context, graph: Artifact, precision: Precision) -> Artifact:
        return stages.compile_engine(context, graph, precision)

    def spread(self, context: Context, graph: Artifact, engine: Row) -> Row:
        return engine  # here `python -m edgeattn.runtime build --twice` compares two

    def accuracy(self, context: Context, row: Row, reference: Artifact | None) -> tuple[Row, Artifact]:
        return checks.accuracy(context, row, reference)

    def latency(self, context: Context, rows: Sequence[Row]) -> list[Row]:
        return checks.latency(context, rows)

    def bundle(self, context: Context, graph: Artifact, engine: Artifact) -> Artifact:
        return bundling.bundle(context, graph, engine)


HERE: Place = Here()


def place_of(context: Context) -> Place:
    """The machine that the run's engines are for; reached when it is another one."""
    return HERE if context.device is None else OnDevice(context.device)
