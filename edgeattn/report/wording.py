"""One way to write each kind of figure. A value that was not measured is an en dash, never 0."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timezone

NOTHING = "–"
NBSP = "\u00a0"  # keeps a figure and its unit on one line
CI = f"95{NBSP}%"


def fixed(value: float | None, digits: int) -> str:
    """1234.5, 1 -> "1,234.5"; a true minus sign; what rounds to zero has no sign."""
    if value is None:
        return NOTHING
    text = f"{value:,.{digits}f}"
    return text.lstrip("-") if rounds_to_zero(value, digits) else text.replace("-", "−")


def signed(value: float | None, digits: int) -> str:
    """0.25, 2 -> "+0.25"; -0.1, 2 -> "−0.10"; 0, 2 -> "0.00"."""
    text = fixed(value, digits)
    return text if value is None or value < 0 or re.fullmatch(r"[0.]+", text) else f"+{text}"


def rounds_to_zero(value: float, digits: int) -> bool:
    """True when `fixed` writes a zero."""
    return float(f"{value:.{digits}f}") == 0


def metric(name: str) -> str:
    """A metric's name in words: corner_error -> "corner error"."""
    return name.replace("_", " ")


def digits_of(unit: str) -> int:
    """Decimals that figures of this unit get: two for percent, dB and pixels, four for a bare 0..1 score."""
    return 2 if unit else 4


def with_unit(text: str, unit: str) -> str:
    """A figure and its unit; nothing measured has no unit."""
    return f"{text}{NBSP}{unit}" if unit and text != NOTHING else text


def delta_unit(unit: str, value: float | None = None) -> str:
    """Differences of percentages are points: one point, 0.10 point, 1.40 points."""
    if unit != "%":
        return unit
    return "point" if value is not None and abs(value) <= 1 else "points"


def delta(value: float | None, unit: str) -> str:
    """-0.1, "%" -> "−0.10 point", with a space that does not break."""
    return with_unit(signed(value, digits_of(unit)), delta_unit(unit, value))


def interval(bounds: Sequence[float | None] | None, digits: int, *, sign: bool = False) -> str:
    """(-0.45, 0.25) -> "−0.45 to +0.25" with `sign`; empty when there is none, or an end of it is missing."""
    if bounds is None or None in bounds:
        return ""
    write = signed if sign else fixed
    return f"{write(bounds[0], digits)} to {write(bounds[1], digits)}"


def ms(value: float | None) -> str:
    """Three figures: 0.412, 5.31, 20.7, 1,240."""
    if value is None:
        return NOTHING
    return fixed(value, 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0)


def ratio(value: float | None) -> str:
    """Two decimals, three below 0.1."""
    return fixed(value, 3 if value is not None and value < 0.0995 else 2)


def ratios(bounds: Sequence[float | None] | None) -> str:
    """An interval of ratios; empty when there is none."""
    return "" if bounds is None or None in bounds else f"{ratio(bounds[0])} to {ratio(bounds[1])}"


def times(speed: float) -> str:
    """How many times as fast: 1.309 -> "1.31×", 12.3 -> "12.3×"."""
    return fixed(speed, 2 if speed < 10 else 1) + "×"


def p_value(value: float | None) -> str:
    """0.03 -> "p = 0.030"; never smaller than "p < 0.001"; empty when there is none."""
    if value is None:
        return ""
    return "p < 0.001" if value < 0.001 else f"p = {fixed(value, 3 if value < 0.1 else 2)}"


def size(size_bytes: float | None) -> str:
    """Decimal units, as size_mb_max counts them: 1 MB is 1,000,000 bytes."""
    if size_bytes is None:
        return NOTHING
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size_bytes >= factor:
            value = size_bytes / factor
            return f"{fixed(value, 2 if value < 10 else 1 if value < 100 else 0)}{NBSP}{unit}"
    return f"{fixed(size_bytes, 0)}{NBSP}B"


def count(value: float | None) -> str:
    """2000 -> "2,000"."""
    return fixed(value, 0)


def large(value: float | None) -> str:
    """Parameters and multiply-adds: 41000000 -> "41.0 M"."""
    if value is None:
        return NOTHING
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{fixed(value / factor, 2 if value / factor < 10 else 1)} {unit}"
    return fixed(value, 0)


def duration(seconds: float | None) -> str:
    """75 -> "1 min 15 s"; 4.25 -> "4.2 s"."""
    if seconds is None:
        return NOTHING
    if seconds < 60:
        return f"{fixed(seconds, 1 if seconds < 10 else 0)} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def precision(variant: str) -> str:
    """A variant in prose: int8 -> INT8, int8-mixed -> INT8-mixed."""
    return re.sub(r"^(fp|bf|int)\d+", lambda match: match.group().upper(), variant)


def prose(text: str) -> str:
    """Precisions in running text as `precision` writes them; names of rows, files and settings stay as they are.

    "int8 beats bf16, see compile/int8" -> "INT8 beats BF16, see compile/int8".
    """
    return re.sub(r"(?<![\w/+.-])(?:fp|bf|int)(?:4|8|16|32|64)(?![\w/+]|\.\w)", lambda m: m.group().upper(), text)


def stopped(text: str) -> str:
    """With a full stop, unless it ends in a mark already."""
    return text if text.endswith((".", "!", "?")) else text + "."


def sentence(text: str) -> str:
    """A note as its own sentence: "kept in fp32" -> "Kept in FP32."; a first word that is a name keeps its case."""
    text = prose(text.strip())
    return stopped(re.sub(r"^[a-z](?=[a-z]*(?:[ ,;.:]|$))", lambda match: match.group().upper(), text))


def moment(created: str) -> str:
    """An ISO time to the minute: "2025-11-20T13:11:05Z" -> "2025-11-20 13:11 UTC"; any other text as it is."""
    try:
        # Python 3.10 does not read a Z.
        when = datetime.fromisoformat(re.sub(r"Z$", "+00:00", created))
    except ValueError:
        return created
    if when.tzinfo is None:
        return f"{when:%Y-%m-%d %H:%M}"
    return f"{when.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"


def plural(number: int, word: str, words: str | None = None) -> str:
    """1, "row" -> "1 row"; 2, "class", "classes" -> "2 classes"."""
    return f"{fixed(number, 0)} {word if number == 1 else words or word + 's'}"


def listed(items: Sequence[str]) -> str:
    """a, b and c."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1] if items else ""
