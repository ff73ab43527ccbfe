"""How figures of one metric are written: their decimals, their unit, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass

from edgeattn import tasks
from edgeattn.errors import InputError
from edgeattn.report import wording
from edgeattn.report.facts import Report, Row, dig, higher_is_better
from edgeattn.tasks.base import MetricSpec, Task


@dataclass(frozen=True)
class Scale:
    """A metric's name in words, its unit ("" for a share of 1) and direction."""

    name: str
    unit: str
    higher_is_better: bool

    @property
    def digits(self) -> int:
        return wording.digits_of(self.unit)

    @property
    def head(self) -> str:
        """For a table or an axis: "corner error, px"."""
        return f"{self.name}, {self.unit}" if self.unit else self.name

    @property
    def direction(self) -> str:
        return "higher is better" if self.higher_is_better else "lower is better"

    def value(self, value: float | None) -> str:
        """91.25, "%" -> "91.25 %"."""
        return wording.with_unit(wording.fixed(value, self.digits), self.unit)

    def amount(self, value: float | None) -> str:
        """A difference without direction: "0.50 point", "0.30 px", "0.0031 of mAP50"."""
        text = wording.fixed(value, self.digits)
        return wording.with_unit(text, wording.delta_unit(self.unit, value) or f"of {self.name}")

    def short(self, value: float | None) -> str:
        """A difference with its direction, as short as it goes: "−0.10 point", "0.12 px worse", "−0.0031".

        Where lower is better a sign would be read the wrong way round, so a word says it.
        """
        if value is None or self.higher_is_better or self.same(value):
            return wording.delta(value, self.unit)
        size = wording.with_unit(wording.fixed(abs(value), self.digits), wording.delta_unit(self.unit, value))
        return f"{size}{wording.NBSP}{'worse' if value > 0 else 'better'}"

    def change(self, value: float | None) -> str:
        """`short` for running text: a bare share names its metric, "−0.0031 of mAP50"."""
        text = self.short(value)
        if self.unit or value is None or not (self.higher_is_better or self.same(value)):
            return text
        return f"{text} of {self.name}"

    def same(self, value: float) -> bool:
        """True when the difference rounds to zero."""
        return wording.rounds_to_zero(value, self.digits)


def scale_of(row: Row | None) -> Scale:
    """The scale of the row's metric; a nameless one when the row has none."""
    name = dig(row, "metric", "name")
    return Scale(
        "metric" if name is None else wording.metric(str(name)),
        str(dig(row, "metric", "unit") or ""),
        higher_is_better(row),
    )


def task_of(report: Report) -> Task | None:
    """The report's task; None when it is not one of this package's."""
    try:
        return tasks.find(str(report["task"]))
    except InputError:
        return None


def scale_named(report: Report, name: str) -> Scale:
    """The scale of the task's metric of that name; bare and higher-is-better when the task is not known here."""
    task = task_of(report)
    found = next((spec for spec in (task.metrics if task else ()) if spec.name == name), None)
    return _of_spec(found) if found else Scale(wording.metric(name), "", True)


def scale_per_label(report: Report) -> Scale:
    """The scale of the task's first metric, which the per-class figures are of; percent when the task is not known."""
    task = task_of(report)
    return _of_spec(task.metrics[0]) if task else Scale("metric", "%", True)


def _of_spec(spec: MetricSpec) -> Scale:
    return Scale(wording.metric(spec.name), spec.unit, spec.higher_is_better)
