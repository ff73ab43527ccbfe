"""From figures to sentences: what the numbers of a report say, no more and no less. Pure functions."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from edgeattn.report import wording
from edgeattn.report.facts import (
    DONE,
    Limit,
    Report,
    Row,
    dig,
    drop,
    drop_interval,
    float_parent,
    limits,
    not_worth_it,
    reference_name,
    selected_row,
)

# What a limit of the budget is called, and its unit where the metric does not give it.
LIMIT_NAMES = {
    "metric_drop_max": ("accuracy", ""),
    "sqnr_db_min": ("SQNR", "dB"),
    "latency_p50_ms_max": ("p50 latency", "ms"),
    "latency_p99_ms_max": ("p99 latency", "ms"),
    "size_mb_max": ("size", "MB"),
    "peak_rss_mb_max": ("peak memory", "MB"),
}


def unit_of(row: Row | None) -> str:
    """The unit of the row's metric, empty when it has none."""
    return str(dig(row, "metric", "unit") or "")


def headline(report: Report) -> str:
    """The answer: is it shippable, and which variant."""
    row = selected_row(report)
    if row is None:
        return _nothing(report)
    name = wording.precision(row["variant"])
    if not report["verdict"]["passed"]:
        return f"Not ready to ship: {_refusal(report, row)}"
    if unmeasured(row):
        return f"{name} passes every check that can run here; the device is still to be measured"
    return f"{name} is ready to ship{_why_not_int8(report, row)}"


def _refusal(report: Report, row: Row) -> str:
    name = wording.precision(row["variant"])
    if missed := [limit_name(limit.key) for limit in limits(report, row) if limit.passed is False]:
        return f"{name} misses the budget for {wording.listed(missed)}"
    if failed := [r for r in _failed(report) if r.startswith("bundle/")]:
        return f"{wording.listed(failed)} failed"
    reasons = [reason for reason in report["verdict"]["reasons"] if not reason.startswith(tuple(_failed(report)))]
    return _inside(reasons[0]) if reasons else f"{name} did not pass"


def _failed(report: Report) -> list[str]:
    return [f"{row['stage']}/{row['variant']}" for row in report["rows"] if row["status"] == "failed"]


def _inside(reason: str) -> str:
    """The first sentence of a reason, as the end of another one."""
    first = re.split(r"(?<=[.!?])\s+", wording.prose(reason.strip()))[0].rstrip(".")
    # Any other first word may be a name.
    return re.sub(r"^(The|No|None|Every|An?|It)\b", lambda match: match.group().lower(), first)


def unmeasured(row: Row) -> bool:
    """True when the row's latency is not that of the device it is for: emulated, or not taken at all."""
    return bool(row["emulated"]) or dig(row, "latency", "p50_ms") is None


def _nothing(report: Report) -> str:
    count = Counter(row["status"] for row in report["rows"])
    failed, reasons = _failed(report), report["verdict"]["reasons"]
    # Failures are told first: a last reason that is none weighed the rows that did not fail.
    if failed and (not reasons or reasons[-1].startswith(tuple(failed))):
        return f"Nothing to ship: {wording.listed(failed)} failed"
    if count["deferred"]:
        return f"Nothing to ship yet: {wording.plural(count['deferred'], 'row')} must be measured on the device"
    return f"Nothing to ship: {_inside(reasons[-1]) if reasons else 'no variant was selected'}"


def _why_not_int8(report: Report, row: Row) -> str:
    if row["variant"].startswith("int8"):
        return ""
    if any(name.partition("/")[2].startswith("int8") for name in _failed(report)):
        return "; INT8 failed"
    tried = [
        r for r in report["rows"] if r["stage"] == "compile" and r["variant"].startswith("int8") and r["status"] in DONE
    ]
    if tried and all(not_worth_it(r) for r in tried):
        return "; INT8 is not worth it"
    accuracy = ("metric_drop_max", "sqnr_db_min")
    if tried and all(any(c.key in accuracy and c.passed is False for c in limits(report, r)) for r in tried):
        return "; INT8 drifts past the budget"
    return ""


def limit_name(key: str) -> str:
    """latency_p99_ms_max -> "p99 latency"; an unknown key without its ending."""
    return LIMIT_NAMES[key][0] if key in LIMIT_NAMES else key.removesuffix("_max").removesuffix("_min")


def limit_texts(limit: Limit, unit: str) -> tuple[str, str, str]:
    """(what is limited, the limit, the figure); `unit` is the metric's."""
    if limit.key == "metric_drop_max":
        digits = wording.digits_of(unit)
        change = wording.delta_unit(unit, limit.limit)
        value = (
            wording.NOTHING
            if limit.value is None
            else wording.with_unit(
                wording.fixed(max(limit.value, 0.0), digits), wording.delta_unit(unit, max(limit.value, 0.0))
            )
        )
        return "accuracy lost", "at most " + wording.with_unit(wording.fixed(limit.limit, digits), change), value
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


def accuracy(row: Row, drop_max: float | None) -> str:
    """What became of the accuracy: "INT8 keeps the accuracy: −0.10 point, 95 % between −0.45 and +0.25"."""
    name, unit = wording.precision(row["variant"]), unit_of(row)
    lost, bounds = drop(row), drop_interval(row)
    if lost is None:
        return f"{name}: the accuracy was not compared with {_reference(row)}"
    figures = wording.delta(dig(row, "drift", "metric_delta"), unit) + _between(row, unit)
    return f"{name} {_accuracy_verb(lost, bounds, drop_max, unit)}: {figures}"


def _accuracy_verb(lost: float, bounds: tuple[float, float] | None, drop_max: float | None, unit: str) -> str:
    limit = ""
    if drop_max is not None:
        limit = wording.with_unit(wording.fixed(drop_max, wording.digits_of(unit)), wording.delta_unit(unit, drop_max))
        if lost > drop_max:
            return f"loses more accuracy than the budget of {limit} allows"
    best, worst = bounds or (math.nan, math.nan)  # no comparison with NaN holds
    past = drop_max is not None and worst > drop_max
    cases = (
        (bounds is None, "changed the accuracy by an amount without interval"),
        (best == worst == 0, "scores the same as the reference"),
        (best > 0, "loses accuracy" + (f", inside the budget of {limit}" if limit else "")),
        (worst < 0, "gains accuracy"),
        (drop_max is None, "shows no loss beyond chance"),
        (past, f"shows no loss beyond chance, though its interval reaches past the budget of {limit}"),
    )
    return next((text for holds, text in cases if holds), "keeps the accuracy")


def _between(row: Row, unit: str) -> str:
    bounds = dig(row, "drift", "ci95")
    if bounds is None:
        return ""
    digits = wording.digits_of(unit)
    return f", {wording.CI} between {wording.signed(bounds[0], digits)} and {wording.signed(bounds[1], digits)}"


def _reference(row: Row) -> str:
    return str(dig(row, "drift", "reference") or "the reference")


def against_reference(row: Row) -> str:
    """The row's latency against the reference's; says so when it was not the device that was timed."""
    name, other = wording.precision(row["variant"]), _reference(row)
    text = speed(dig(row, "latency", "ratio_to_reference"), dig(row, "latency", "ratio_ci95"), name, other)
    return f"{text}; emulated, not the device" if row["emulated"] else text


def speed(ratio: float | None, bounds: Sequence[float] | None, name: str, other: str) -> str:
    """A latency ratio (below 1 is faster) in words; the interval is the ratio's, turned into speed."""
    if ratio is None or ratio <= 0:
        return f"{name} was not timed against {other}"
    if bounds is None or bounds[0] <= 0:
        return f"{name} took {wording.ratio(ratio)} of the time of {other}; without interval, this decides nothing"
    low, high = bounds
    if low <= 1 <= high:
        return (
            f"{name} is no faster than {other} beyond chance: {wording.ratio(ratio)} of its time, "
            f"{wording.CI} between {wording.ratio(low)} and {wording.ratio(high)}"
        )
    if high < 1:
        return f"{name} is {wording.times(1 / ratio)} as fast as {other} ({wording.CI} {speeds(bounds)})"
    return (
        f"{name} is slower than {other}: {wording.ratio(ratio)} of its time, "
        f"{wording.CI} between {wording.ratio(low)} and {wording.ratio(high)}"
    )


def speeds(bounds: Sequence[float]) -> str:
    """An interval of latency ratios as one of speeds: (0.4, 0.625) -> "1.60 to 2.50"."""
    return f"{wording.times(1 / bounds[1])[:-1]} to {wording.times(1 / bounds[0])[:-1]}"


def against_parent(row: Row, *, ships: bool) -> str | None:
    """The engine against its float parent, or None when it has none. What ships is never said not to be worth it."""
    parent = float_parent(row)
    if parent is None:
        return None
    name, other = wording.precision(row["variant"]), wording.precision(str(parent["variant"]))
    text = speed(dig(parent, "ratio"), dig(parent, "ratio_ci95"), name, other)
    text = f"{text}; not worth it" if not_worth_it(row) and not ships else text
    return f"{text}; emulated, not the device" if row["emulated"] else text


def worth(report: Report) -> list[str]:
    """One sentence per engine that has a float parent."""
    chosen = selected_row(report)
    found = (against_parent(row, ships=row is chosen) for row in report["rows"])
    return [text for text in found if text is not None]


def compared(row: Row) -> bool:
    """True when the row's accuracy was held against another row's."""
    name = f"{row['stage']}/{row['variant']}"
    return dig(row, "drift", "metric_delta") is not None and row["drift"]["reference"] != name


def stages(path: Sequence[Row]) -> str:
    """Where on the way to what ships the accuracy moved: the first stage whose interval leaves zero out."""
    measured = [row for row in path if compared(row)]
    if not measured:
        return "The accuracy was not compared between stages"
    for row in measured:
        bounds, lost = drop_interval(row), drop(row)
        if bounds is not None and lost is not None and not bounds[0] <= 0 <= bounds[1]:
            verb = "is lost" if lost > 0 else "is gained"
            figures = wording.delta(row["drift"]["metric_delta"], unit_of(row)) + _between(row, unit_of(row))
            return f"Accuracy {verb} at {row['stage']}: {figures}"
    if all(row["drift"]["metric_delta"] == 0 and not any(dig(row, "drift", "ci95") or [1]) for row in measured):
        return "No stage changed a single score"
    return "No stage moved the accuracy beyond chance"


def table(rows: Sequence[Row]) -> str:
    """What became of the rows: "All 8 rows were built and checked", "7 rows: 4 measured, 3 deferred"."""
    count = Counter("checked" if row["status"] in DONE else row["status"] for row in rows)
    order = [key for key in ("checked", "deferred", "unsupported", "failed") if count[key]]
    text = f"{wording.plural(len(rows), 'row')}: " + ", ".join(f"{count[key]} {key}" for key in order)
    if order == ["checked"] and len(rows) > 1:
        text = f"All {len(rows)} rows were built and checked"
    emulated = sum(bool(row["emulated"]) for row in rows)
    return f"{text}, {emulated} of them emulated" if emulated else text


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


def trade(front: Sequence[str], total: int) -> str:
    """Which rows no other beats on accuracy and latency at once."""
    if not total:
        return "No row has both an accuracy and a latency"
    if total == 1:
        return f"Only {front[0] if front else 'one emulated row'} has both an accuracy and a latency"
    if not front:
        return "Every latency is emulated, so no row can be said to be the better one"
    verb = "is" if len(front) == 1 else "are"
    return f"{wording.listed(list(front))} {verb} beaten by no other row on accuracy and latency at once"


def examples(report: Report) -> str:
    """How many predictions changed, as far as examples of them were collected."""
    found = report.get("examples")
    if found is None:
        return "Changed predictions were not collected"
    total = wording.count(dig(report, "data", "eval_n"))
    among = "" if total == wording.NOTHING else f" among {total} images"
    if not any(compared(row) for row in report["rows"]):
        return "No predictions were compared"
    if not found:
        agreements = [dig(row, "drift", "agreement") for row in report["rows"]]
        lowest = min((a for a in agreements if a is not None), default=1.0)
        if lowest < 1:
            return f"No example was kept; the lowest agreement with the reference is {wording.fixed(100 * lowest, 2)} %"
        return f"No prediction changed in any row{among}"
    verb = "prediction" if len(found) == 1 else "predictions"
    return f"{len(found)} example {verb} that changed in some row"


def per_class(report: Report) -> str:
    """The class that lost most between the first column and the row that ships (or the last column)."""
    columns: Mapping[str, Sequence[float | None]] = report["per_class"]["values"]
    names: Sequence[Any] = report["per_class"]["labels"]
    row = selected_row(report)
    shipped = f"{row['stage']}/{row['variant']}" if row else ""
    first, last = next(iter(columns), ""), shipped if shipped in columns else next(reversed(list(columns)), "")
    changes = [
        (b - a, index)
        for index, (a, b) in enumerate(zip(columns.get(first, []), columns.get(last, []), strict=False))
        if a is not None and b is not None
    ]
    if first == last or not changes:
        return f"{wording.plural(len(names), 'class', 'classes')}"
    change, index = min(changes)
    if change >= 0:
        return f"No class lost from {first} to {last}"
    a, b = columns[first][index], columns[last][index]
    return f"“{names[index]}” lost most from {first} to {last}: {wording.fixed(a, 1)} % to {wording.fixed(b, 1)} %"


def search(settings: Sequence[Mapping[str, Any]]) -> str:
    """Which INT8 setting was chosen, and how far it lies above the weakest, in dB."""
    chosen = [entry for entry in settings if entry.get("chosen")]
    measured = [entry["sqnr_db"] for entry in settings if dig(entry, "sqnr_db") is not None]
    if not chosen or dig(chosen[0], "sqnr_db") is None:
        return f"{wording.plural(len(settings), 'INT8 setting')} tried on the calibration images"
    gain = chosen[0]["sqnr_db"] - min(measured)
    return (
        f"“{chosen[0]['setting']}” was chosen: {wording.fixed(chosen[0]['sqnr_db'], 1)} dB on the calibration images, "
        f"{wording.fixed(gain, 1)} dB above the weakest of {wording.plural(len(settings), 'setting')}"
    )


def setting(report: Report, row: Row) -> str | None:
    """The quantization setting that the search chose; None for rows other than the quantized INT8 model."""
    if f"{row['stage']}/{row['variant']}" != "quantize/int8" or row["status"] not in DONE:
        return None
    return next((str(entry["setting"]) for entry in report.get("search") or [] if entry.get("chosen")), None)


def training(report: Report) -> str:
    """How long the training took and where it ended."""
    history = report["training"]["history"]
    row = next((row for row in report["rows"] if f"{row['stage']}/{row['variant']}" == reference_name(report)), None)
    unit, last = unit_of(row), dig(history[-1], "eval_metric")
    text = f"{wording.plural(len(history), 'epoch')} in {wording.duration(dig(report['training'], 'seconds'))}"
    if last is None:
        return text
    return f"{text}, ending at {wording.with_unit(wording.fixed(last, wording.digits_of(unit)), unit)}"


def command(report: Report) -> str:
    """The command line that makes this report again."""
    if report.get("command"):
        return str(report["command"])
    seed = "" if report["seed"] is None else f" --seed {report['seed']}"
    return f"edgeattn deploy {report['recipe']} --target {report['target']}{seed}"
