"""The limits of the budget, each as it is asked for and as it was kept."""

from __future__ import annotations

from collections.abc import Sequence

from edgeattn.report import wording
from edgeattn.report.facts import Limit
from edgeattn.report.scale import Scale

# What a limit of the budget is called, and its unit where the metric does not give it.
LIMIT_NAMES = {
    "metric_drop_max": ("accuracy", ""),
    "sqnr_db_min": ("SQNR", "dB"),
    "latency_p50_ms_max": ("p50 latency", "ms"),
    "latency_p99_ms_max": ("p99 latency", "ms"),
    "size_mb_max": ("size", "MB"),
    "peak_rss_mb_max": ("peak memory", "MB"),
}


def limit_name(key: str) -> str:
    """latency_p99_ms_max -> "p99 latency"; an unknown key without its ending."""
    return LIMIT_NAMES[key][0] if key in LIMIT_NAMES else key.removesuffix("_max").removesuffix("_min")


def limit_texts(limit: Limit, scale: Scale) -> tuple[str, str, str]:
    """(what is limited, the limit, the figure); `scale` is the metric's."""
    if limit.key == "metric_drop_max":
        lost = None if limit.value is None else max(limit.value, 0.0)
        return "accuracy lost", f"at most {scale.amount(limit.limit)}", scale.amount(lost)
    name, own = limit_name(limit.key), LIMIT_NAMES.get(limit.key, ("", ""))[1]
    write = wording.ms if own == "ms" else lambda value: wording.fixed(value, 2 if own == "MB" else 1)
    bound = "at least " if limit.key.endswith("_min") else "at most "
    value = "exact" if limit.value is None and limit.passed else wording.with_unit(write(limit.value), own)
    return name, bound + wording.with_unit(write(limit.limit), own), value


def limit_state(limit: Limit, *, brief: bool = False) -> str:
    """Kept, missed or not measured; `brief` where a sentence nearby says what an interval past the limit means."""
    if limit.passed is None:
        return "not measured"
    if not limit.passed:
        return "missed"
    if not limit.uncertain:
        return "kept"
    return "kept by the estimate" if brief else "kept, though its interval reaches past the limit"


def budget(held: Sequence[Limit]) -> str:
    """How many limits of the budget are kept."""
    missed = [limit_name(limit.key) for limit in held if limit.passed is False]
    unknown = [limit_name(limit.key) for limit in held if limit.passed is None]
    total = wording.plural(len(held), "limit")
    if missed:
        return f"{len(missed)} of {total} missed: {wording.listed(missed)}"
    if unknown:
        return f"{len(held) - len(unknown)} of {total} kept; not measured: {wording.listed(unknown)}"
    if len(held) == 2:
        return "Both limits are kept"
    return f"All {total} are kept" if len(held) > 1 else "The one limit is kept"
