"""From figures to sentences: what the numbers of a report say, no more and no less. Pure functions."""

from __future__ import annotations

from edgeattn.report.sentences.limits import budget, limit_name, limit_state, limit_texts
from edgeattn.report.sentences.metric import accuracy, compared, stages
from edgeattn.report.sentences.ratios import against_parent, against_reference, speed, speeds, worth
from edgeattn.report.sentences.sections import (
    command,
    examples,
    per_class,
    predicts,
    samples,
    search,
    setting,
    table,
    trade,
    training,
)
from edgeattn.report.sentences.shipping import headline, unmeasured

__all__ = [
    "accuracy", "against_parent", "against_reference", "budget", "command", "compared", "examples", "headline",
    "limit_name", "limit_state", "limit_texts", "per_class", "predicts", "samples", "search", "setting", "speed",
    "speeds", "stages", "table", "trade", "training", "unmeasured", "worth",
]  # fmt: skip
