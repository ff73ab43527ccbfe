"""What has happened in a run so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from edgeattn.artifact import Artifact
from edgeattn.measure.select import Limits, Selection
from edgeattn.pipeline.context import Context
from edgeattn.pipeline.rows import Row


@dataclass
class Run:
    """`on_row` hears of every row as soon as it is complete. `accuracy` holds the accuracy check of each row.

    `git`: the commit of the code when the run began (see `provenance.git_revision`); what is committed while a long
    training goes on must not be credited with its figures.
    """

    context: Context
    on_row: Callable[[Row], None]
    rows: list[Row] = field(default_factory=list)
    accuracy: dict[str, Artifact] = field(default_factory=dict)
    selection: Selection | None = None
    bundle: Artifact | None = None
    git: str | None = None

    def add(self, *rows: Row) -> None:
        for row in rows:
            self.rows.append(row)
            self.on_row(row)

    def row(self, name: str) -> Row | None:
        return next((row for row in self.rows if row.name == name), None)

    @property
    def failed(self) -> list[Row]:
        return [row for row in self.rows if row.status == "failed"]

    @property
    def limits(self) -> Limits:
        return Limits(**self.context.recipe.budget.model_dump())
