"""Where ticks and names go in a plot, so that none covers another."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeattn.report import canvas, wording
from edgeattn.report.canvas import ACCENT, CHAR


def nice(count: int, *, whole: bool = False) -> Any:
    """A locator of about `count` round ticks, whole numbers only when asked."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(count, integer=whole)


def milliseconds(axis: Any, values: Sequence[float], set_limits: Callable[[float, float], Any]) -> None:
    """Limits and ticks for milliseconds: logarithmic once the values span more than a factor of five."""
    positive = [value for value in values if value > 0] or [1.0]
    low, high = min(positive), max(positive)
    if high / low <= 5:
        pad = 0.08 * (high - low) or 0.1 * high
        set_limits(low - pad, high + pad)
        axis.set_major_locator(nice(5))
        return
    pad = (high / low) ** 0.06
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    set_limits(low / pad, high * pad)
    ticks = log_ticks(low / pad, high * pad)
    axis.set_ticks(ticks, [wording.fixed(tick, max(0, -math.floor(math.log10(tick)))) for tick in ticks])
    axis.set_ticks([], minor=True)


def log_ticks(low: float, high: float) -> list[float]:
    """Round values between the limits: 1, 2, 5, 10, …; powers of ten alone once those are enough."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if math.log10(high / low) < 2.2 else (1,)
    found = [float(f"{step}e{power}") for power in powers for step in steps]
    return [tick for tick in found if low <= tick <= high]


@dataclass(frozen=True)
class Point:
    """A point to name, in data units; its vertical interval reaches from `low` to `high`."""

    x: float
    y: float
    low: float
    high: float
    name: str
    colour: str


def name_points(axes: Any, points: Sequence[Point]) -> None:
    """Write each name beside its point, at the place that covers least of the points, bars and names already there."""
    screen = axes.transData.transform([(p.x, p.y) for p in points])
    lows = axes.transData.transform([(p.x, p.low) for p in points])[:, 1]
    highs = axes.transData.transform([(p.x, p.high) for p in points])[:, 1]
    frame = axes.get_window_extent()
    taken = [(px - 5, py - 5, px + 5, py + 5) for px, py in screen]
    taken += [(px - 1, low, px + 1, high) for (px, _), low, high in zip(screen, lows, highs, strict=True)]
    for index in sorted(range(len(points)), key=lambda i: points[i].colour != ACCENT):
        (px, py), width = screen[index], CHAR * len(points[index].name)
        places = [(px + side, py + up) for side in (8, -8 - width) for up in (-6, 5, -17, 18, -30)]
        # Above and below the point's own interval, the bar leads to the name.
        tips = (highs[index] + 4, lows[index] - 14)
        places += [(px + side, tip) for tip in tips for side in (-width / 2, -4, 4 - width)]
        boxes = [(left, bottom, left + width, bottom + canvas.FONT) for left, bottom in places]
        prices = [_price(box, taken, frame) + math.hypot(box[0] - px, box[1] - py) / 100 for box in boxes]
        best = boxes[int(np.argmin(prices))]
        taken.append(best)
        at = axes.transData.inverted().transform((best[0], best[1] + 2))
        axes.text(*at, points[index].name, **_name_style(points[index].colour))


def _price(box: tuple[float, ...], taken: Sequence[tuple[float, ...]], frame: Any) -> float:
    outside = max(0, frame.x0 - box[0]) + max(0, box[2] - frame.x1)
    outside += max(0, frame.y0 - box[1]) + max(0, box[3] - frame.y1)
    return sum(_overlap(box, other) for other in taken) + 60 * float(outside)


def name_lines(axes: Any, ends: Sequence[float], names: Sequence[str], colours: Sequence[str]) -> None:
    """Write each name right of the axes at the height its line ends, pushed up where names would touch."""
    heights = axes.transData.transform([(1, end) for end in ends])[:, 1]
    right = axes.get_window_extent().x1
    last = -math.inf
    for index in np.argsort(heights, kind="stable"):
        last = max(float(heights[index]), last + canvas.FONT + 2)
        at = axes.transData.inverted().transform((right + 6, last))
        axes.text(*at, names[index], va="center", **_name_style(colours[index]))


def _name_style(colour: str) -> dict[str, Any]:
    return {"color": colour, "fontsize": 11, "fontweight": "bold" if colour == ACCENT else "normal"}


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
