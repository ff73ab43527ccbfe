"""report.json: what docs/contract.md promises, as a table that reports are held against."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeattn.errors import InputError

SCHEMA = "edgeattn.report/1"
STATUSES = ("ok", "cached", "deferred", "unsupported", "failed")


@dataclass(frozen=True)
class Leaf:
    """One value: what it may be, in words and as types. bool never passes for a number."""

    words: str
    types: tuple[type, ...]
    choices: tuple[str, ...] = ()

    def accepts(self, value: object) -> bool:
        if isinstance(value, bool) and bool not in self.types:
            return False
        return isinstance(value, self.types) and (not self.choices or value in self.choices)


@dataclass(frozen=True)
class Maybe:
    """The field is there, but null when it was not measured or does not apply."""

    spec: Any


@dataclass(frozen=True)
class Each:
    """A list whose every item looks like `spec`; `length` when it is fixed."""

    spec: Any
    length: int | None = None


@dataclass(frozen=True)
class Values:
    """An object with free keys whose every value looks like `spec`."""

    spec: Any


@dataclass(frozen=True)
class Later:
    """The field came after the first reports were written: it may be missing."""

    spec: Any


TEXT = Leaf("a text", (str,))
FLAG = Leaf("true or false", (bool,))
NUMBER = Leaf("a number", (int, float))
COUNT = Leaf("a whole number", (int,))
ANY = Leaf("any value", (object, bool))
MEASURED = Maybe(NUMBER)
INTERVAL = Maybe(Each(NUMBER, 2))
OPEN_INTERVAL = Maybe(Each(MEASURED, 2))  # an end that could not be told is null
PICTURE = Leaf("a PNG or JPEG as base64 text", (str,))

ROW = {
    "stage": TEXT,
    "variant": TEXT,
    "backend": Maybe(TEXT),
    "status": Leaf("one of " + ", ".join(STATUSES), (str,), STATUSES),
    "reason": Maybe(TEXT),
    "artifact": Maybe({"path": Maybe(TEXT), "sha256": Maybe(TEXT), "size_bytes": Maybe(COUNT)}),
    "seconds": MEASURED,
    "metric": Maybe(
        {
            "name": TEXT,
            "value": MEASURED,
            "ci95": OPEN_INTERVAL,
            "n": Maybe(COUNT),
            "higher_is_better": FLAG,
            "unit": Later(Maybe(TEXT)),
            "others": Later(Maybe(Values(MEASURED))),
        },
    ),
    "drift": Maybe(
        {
            "reference": TEXT,
            "metric_delta": MEASURED,
            "ci95": OPEN_INTERVAL,
            "p_value": MEASURED,
            "test": Maybe(TEXT),
            "sqnr_db": MEASURED,
            "cosine": MEASURED,
            "max_abs": MEASURED,
            "agreement": MEASURED,
        }
    ),
    "latency": Maybe(
        {
            "threads": Maybe(COUNT),
            "batch": Maybe(COUNT),
            "n": Maybe(COUNT),
            "p50_ms": MEASURED,
            "p90_ms": MEASURED,
            "p99_ms": MEASURED,
            "mean_ms": MEASURED,
            "min_ms": MEASURED,
            "ratio_to_reference": MEASURED,
            "ratio_ci95": INTERVAL,
            "throttled": Maybe(FLAG),
            "engine_only": Maybe(FLAG),
        }
    ),
    "memory": Maybe({"peak_rss_mb": MEASURED}),
    "energy": Maybe({"mean_w": MEASURED, "mj_per_frame": MEASURED, "source": Maybe(TEXT)}),
    "emulated": FLAG,
    "emulation": Later(Maybe({"metric": MEASURED, "sqnr_db": MEASURED})),
    "estimate": Later(Maybe(Values(ANY))),
    "spread": Later(Maybe(Values(ANY))),
    "notes": Each(TEXT),
}

REPORT = {
    "schema": Leaf(f'"{SCHEMA}"', (str,), (SCHEMA,)),
    "recipe": TEXT,
    "target": TEXT,
    "task": TEXT,
    "model": Maybe(TEXT),
    "created": TEXT,
    "seed": Maybe(COUNT),
    "git": Maybe(ANY),
    "wall_seconds": MEASURED,
    "host": {
        "cpu": Maybe(TEXT),
        "cores": MEASURED,
        "isa": Maybe(ANY),
        "memory_gb": MEASURED,
        "os": Maybe(TEXT),
        "python": Maybe(TEXT),
        "packages": Values(Maybe(TEXT)),
        "device": Maybe(Values(ANY)),
    },
    "data": {
        "name": Maybe(TEXT),
        "train_n": Maybe(COUNT),
        "calibration_n": Maybe(COUNT),
        "eval_n": Maybe(COUNT),
        "calibration_sha256": Maybe(TEXT),
        "eval_sha256": Maybe(TEXT),
        "eval_origins_sha256": Later(Maybe(TEXT)),
    },
    "budget": Values(MEASURED),
    "rows": Each(ROW),
    "selected": Maybe({"variant": TEXT, "backend": Maybe(TEXT), "artifact_sha256": TEXT, "why": Maybe(TEXT)}),
    "verdict": {"passed": FLAG, "reasons": Each(TEXT)},
    "examples": Later(Maybe(Each({"pictures": Later(Maybe(Values(PICTURE)))}))),
    "gallery": Later(
        Maybe({"name": Maybe(TEXT), "frames": Each(PICTURE), "attention": Maybe(PICTURE), "results": Values(PICTURE)}),
    ),
}


def validate(report: Mapping[str, Any]) -> None:
    """Hold `report` against the contract: every field there, with its type, and hashes that belong together.

    Raises InputError naming the first field that is missing or wrong.
    """
    if not isinstance(report, Mapping):
        raise InputError(f"A report is a JSON object, this is {_shown(report)}; give a report.json of a deploy run.")
    if report.get("schema") != SCHEMA:
        got = _shown(report["schema"]) if "schema" in report else "missing"
        raise InputError(
            f'The report\'s schema is {got}, expected "{SCHEMA}"; it was written by another version or is no report.'
        )
    for problem in _problems("", REPORT, report):
        raise InputError(f"The report breaks the contract: {problem}.")
    _same_file(report)


def load(path: Path) -> dict[str, Any]:
    """Read and validate a report.json, given as the file or the folder it lies in. Raises InputError."""
    file = path / "report.json" if path.is_dir() else path
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"{file} does not exist; give the folder of a deploy run or the report.json inside it."
        ) from error
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise InputError(f"{file} is not JSON ({error}); it may be cut off, run the deployment again.") from error
    try:
        validate(report)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    return dict(report)


def plain(value: Any) -> Any:
    """A deep copy that JSON and UTF-8 can hold: infinities and NaN become None, stray surrogates a mark."""
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    return value


def dump(report: Mapping[str, Any]) -> str:
    """The text of report.json: indented, with every list of numbers on one line."""
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
    # A JSON text holds no raw line break inside a string, so this matches lists only.
    lists = re.compile(r"\[\n\s+([-+.\deE]+(?:,\n\s+[-+.\deE]+)*)\n\s*\]")
    return lists.sub(lambda match: "[" + re.sub(r"\s+", " ", match.group(1)) + "]", text) + "\n"


def _problems(where: str, spec: Any, value: Any) -> Iterator[str]:
    """Every way in which `value` does not look like `spec`, in the order of the contract."""
    if isinstance(spec, Maybe):
        if value is not None:
            yield from _problems(where, spec.spec, value)
    elif isinstance(spec, Leaf):
        if not spec.accepts(value):
            yield f"{where} is {_shown(value)}, expected {spec.words}"
    elif isinstance(spec, Each):
        yield from _list_problems(where, spec, value)
    elif isinstance(value, Mapping):
        yield from _object_problems(where, spec, value)
    else:
        yield f"{where} is {_shown(value)}, expected an object"


def _list_problems(where: str, spec: Each, value: Any) -> Iterator[str]:
    if not isinstance(value, list) or (spec.length is not None and len(value) != spec.length):
        yield f"{where} is {_shown(value)}, expected a list" + (f" of {spec.length}" if spec.length else "")
        return
    for index, item in enumerate(value):
        yield from _problems(f"{where}[{index}]", spec.spec, item)


def _object_problems(where: str, spec: Any, value: Mapping[str, Any]) -> Iterator[str]:
    """`spec` is the promised keys with a spec each, `Later` ones may be missing; `Values` where they are free."""
    wanted = dict.fromkeys(value, spec.spec) if isinstance(spec, Values) else spec
    for key, inner in wanted.items():
        name = f"{where}.{key}" if where else key
        if key in value:
            yield from _problems(name, inner.spec if isinstance(inner, Later) else inner, value[key])
        elif not isinstance(inner, Later):
            yield f"{name} is missing"


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _same_file(report: Mapping[str, Any]) -> None:
    """Accuracy and latency come from the same file: both name its hash, and what ships is one of the rows."""
    rows = report["rows"]
    for index, row in enumerate(rows):
        if row["metric"] and row["latency"] and not (row["artifact"] and row["artifact"]["sha256"]):
            raise InputError(
                f"The report breaks the contract: rows[{index}] ({row['stage']}/{row['variant']}) has a metric and a "
                "latency but no artifact.sha256, so nothing proves that both were measured on the same file."
            )
    selected = report["selected"]
    if selected is None:
        return
    found = [r for r in rows if r["artifact"] and r["artifact"]["sha256"] == selected["artifact_sha256"]]
    if not any(row["variant"] == selected["variant"] for row in found):
        raise InputError(
            f"The report mixes hashes: selected.artifact_sha256 {selected['artifact_sha256'][:12]} is not the hash of "
            f"any {selected['variant']} row, so what was measured is not what would ship."
        )
