"""Rows and lines of tables, as texts; the HTML page and the Markdown comment share them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edgeattn.report import sentences, timing, wording
from edgeattn.report.facts import Report, Row, dig, not_worth_it, reference_name, selected_row
from edgeattn.report.scale import scale_of

# What a status looks like beside its word: it is never told by colour alone.
MARKS = {"ok": "✓", "cached": "✓", "deferred": "…", "unsupported": "–", "failed": "✕"}


def stage_row(report: Report, row: Row) -> dict[str, Any]:
    """The cells of one line of the stage table: each a figure and, below it, its interval."""
    reference = f"{row['stage']}/{row['variant']}" == reference_name(report)
    digits = scale_of(row).digits
    drift, latency = row["drift"] or {}, row["latency"] or {}
    return {
        "backend": row["backend"] or wording.NOTHING,
        "hash": (dig(row, "artifact", "sha256") or "")[:8],
        "status": row["status"],
        "mark": MARKS[row["status"]],
        "emulated": row["emulated"],
        "metric": (
            wording.fixed(dig(row, "metric", "value"), digits),
            wording.interval(dig(row, "metric", "ci95"), digits),
        ),
        "delta": ("reference", "")
        if reference
        else (
            wording.signed(drift.get("metric_delta"), digits),
            wording.interval(drift.get("ci95"), digits, sign=True),
        ),
        "p": wording.p_value(drift.get("p_value")).removeprefix("p ").removeprefix("= ") or wording.NOTHING,
        "sqnr": (sqnr(row, ""), ""),
        "p50": wording.ms(latency.get("p50_ms")),
        "p99": wording.ms(latency.get("p99_ms")),
        "ratio": (
            wording.ratio(latency.get("ratio_to_reference")),
            "" if reference else wording.ratios(latency.get("ratio_ci95")),
        ),
        "size": wording.size(dig(row, "artifact", "size_bytes")),
        "memory": wording.with_unit(wording.fixed(dig(row, "memory", "peak_rss_mb"), 0), "MB"),
        "energy": wording.with_unit(wording.fixed(dig(row, "energy", "mj_per_frame"), 2), "mJ"),
        "executed": executed(row),
        "notes": notes(report, row),
    }


def notes(report: Report, row: Row) -> list[str]:
    """What is to be said of a row beside its figures, each note a sentence."""
    found = [wording.sentence(note) for note in (row["reason"], *row["notes"]) if note]
    if (setting := sentences.setting(report, row)) is not None:
        found.insert(0, f"Quantized with {setting}, {_searched(report)}.")
    found += ["Throttled while it was timed."] if dig(row, "latency", "throttled") else []
    # What ships may be no faster than its float parent where that one missed the budget.
    idle = not_worth_it(row) and row is not selected_row(report)
    found += ["Not worth it: no faster than its float parent."] if idle else []
    whole = timing.whole_call(row)
    return [*found, whole] if whole else found


def _searched(report: Report) -> str:
    chosen = next(entry for entry in report["search"] if entry.get("chosen"))
    text = f"chosen from {wording.plural(len(report['search']), 'setting')}"
    value = dig(chosen, "sqnr_db")
    if value is None:
        return text
    return f"{text} ({wording.with_unit(wording.fixed(value, 1), 'dB')} on the calibration images)"


def executed(row: Row) -> list[dict[str, Any]]:
    """Share of the multiply-adds that really ran in each precision, largest first: percent, text, layers."""
    macs = dig(row, "execution", "macs") or {}
    total = sum(macs.values())
    if not total:
        return []
    return [
        {
            "name": wording.precision(str(name)),
            "share": round(100 * value / total, 2),
            "text": f"{wording.fixed(100 * value / total, 1)} %",
            "layers": dig(row, "execution", "layers", name),
        }
        for name, value in sorted(macs.items(), key=lambda item: -item[1])
    ]


def every_figure(row: Row) -> dict[str, str]:
    """The figures that the stage table has no room for, by column head; all of them dashes for an empty row."""

    def text(write: Any, *keys: str) -> str:
        value = dig(row, *keys)
        return wording.NOTHING if value is None else str(write(value))

    return {
        "artifact": text(lambda v: v[:16], "artifact", "sha256"),
        "built and checked in": text(wording.duration, "seconds"),
        "n": text(wording.count, "metric", "n"),
        "test": text(str, "drift", "test"),
        "cosine": text(lambda v: wording.fixed(v, 6), "drift", "cosine"),
        "max abs": text(lambda v: f"{v:.2g}", "drift", "max_abs"),
        "agreement": text(lambda v: wording.fixed(100 * v, 2) + " %", "drift", "agreement"),
        "calls": text(wording.count, "latency", "n"),
        "threads": text(wording.count, "latency", "threads"),
        "batch": text(wording.count, "latency", "batch"),
        "engine only": text(lambda v: "yes" if v else "no", "latency", "engine_only"),
        "min ms": text(wording.ms, "latency", "min_ms"),
        "mean ms": text(wording.ms, "latency", "mean_ms"),
        "p90 ms": text(wording.ms, "latency", "p90_ms"),
        "power": text(lambda v: wording.fixed(v, 2) + " W", "energy", "mean_w"),
        "power from": text(str, "energy", "source"),
    }


def sqnr(row: Row, unit: str = "dB") -> str:
    """In dB; "exact" where the outputs are identical, since it is infinite then."""
    value = dig(row, "drift", "sqnr_db")
    if value is None and dig(row, "drift", "max_abs") == 0:
        return "exact"
    return wording.with_unit(wording.fixed(value, 1), unit)


def host(report: Report) -> list[tuple[str, str]]:
    """Where and on what it was measured, as lines of name and text."""
    data, machine = report["data"], report["host"]
    pairs: list[tuple[str, Any]] = [
        ("model", report["model"]),
        ("data", data["name"]),
        (
            "images",
            ", ".join(f"{wording.count(data[f'{part}_n'])} {part}" for part in ("train", "calibration", "eval")),
        ),
        ("calibration SHA-256", data["calibration_sha256"]),
        ("eval SHA-256", data["eval_sha256"]),
        ("eval images SHA-256", data.get("eval_origins_sha256")),
        ("seed", report["seed"]),
        ("git", report["git"]),
        ("created", report["created"]),
        ("wall time", wording.duration(report["wall_seconds"])),
        ("cpu", machine["cpu"]),
        ("cores", machine["cores"]),
        ("isa", ", ".join(machine["isa"]) if isinstance(machine["isa"], list) else machine["isa"]),
        ("memory", wording.with_unit(wording.fixed(machine["memory_gb"], 1), "GB")),
        ("os", machine["os"]),
        ("Python", machine["python"]),
        ("packages", ", ".join(f"{name} {version}" for name, version in machine["packages"].items())),
    ]
    pairs += [(f"device {name}", value) for name, value in flat(machine["device"] or {})]
    return [(name, wording.NOTHING if value in (None, "") else _text(value)) for name, value in pairs]


def flat(tree: Any, prefix: str = "") -> list[tuple[str, str]]:
    """A nested setting as lines: {"a": {"b": [1, 2]}} -> [("a.b", "[1, 2]")]."""
    if isinstance(tree, Mapping) and tree:
        return [line for key, value in tree.items() for line in flat(value, f"{prefix}.{key}" if prefix else str(key))]
    return [(prefix, _text(tree))] if prefix else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
