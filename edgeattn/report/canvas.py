"""From a matplotlib figure to inline SVG that follows the page: its theme, its font, its width.

Colours are drawn as sentinels, which the SVG text then swaps for the page's CSS variables.
"""

from __future__ import annotations

import io
import re
import warnings
from contextlib import AbstractContextManager
from typing import Any

INK, MUTED, LINE, ACCENT, BAD, SURFACE, FLOAT = (f"#0102{n:02x}" for n in range(1, 8))
VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", ACCENT: "accent", BAD: "bad", SURFACE: "surface", FLOAT: "float"}
WIDTH = 440  # units; the page scales it between about 0.8 (phone) and 1.2 (desktop)
FONT = 12
CHAR = 6.6  # mean width of a character at FONT, for margins and labels


def style() -> AbstractContextManager[None]:
    """The settings every figure is drawn and written under."""
    import matplotlib

    context: AbstractContextManager[None] = matplotlib.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "edgeattn",
            "font.size": FONT,
            "text.parse_math": False,
            "text.color": INK,
            "axes.edgecolor": LINE,
            "axes.labelcolor": MUTED,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "xtick.color": LINE,
            "ytick.color": LINE,
            "xtick.labelcolor": MUTED,
            "ytick.labelcolor": INK,
            "axes.facecolor": "none",
            "figure.facecolor": "none",
            "grid.color": LINE,
            "axes.axisbelow": True,
        }
    )
    return context


def figure(height: float) -> Any:
    """An empty figure, WIDTH by `height` units, one unit being one point of text."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH / 72, height / 72), dpi=72)


def place(fig: Any, left: float, bottom: float, right: float, top: float) -> Any:
    """Axes with the given margins, in units from each edge."""
    height = fig.get_figheight() * 72
    box = (left / WIDTH, bottom / height, (WIDTH - left - right) / WIDTH, (height - bottom - top) / height)
    return fig.add_axes(box)


def inline_svg(fig: Any, name: str) -> str:
    """The figure as an `<svg>` element for inlining: no metadata, no namespaces, ids that start with `name`."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # A glyph that matplotlib's own font lacks is no loss: the text stays text, the page's font draws it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        fig.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # matplotlib's style element would reach the whole page.
    text = re.sub(r"<!--.*?-->\s*|<metadata>.*?</metadata>\s*|<style.*?</style>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r' (xmlns|xmlns:xlink|version)="[^"]*"', "", text)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r'\1 aria-hidden="true"', text, count=1)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m.group(1)}"' if m.group(1) in used else "", text)
    text = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', text).replace("url(#", f"url(#{name}-")
    # Only the size of the font stays, its family is the page's.
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    text = re.sub(r"font: (?:(bold|\d+) )?([\d.]+)px [^;\"]*", _font, text)
    # A hundredth of a unit is below what a screen shows; six decimals would double the page. Not so in a tick's text.
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"-?\d+\.\d{3,}", _hundredths, tag.group()), text)
    text = re.sub(r' transform="rotate\(-?0 [^"]*\)"', "", text)
    for sentinel, variable in VARIABLES.items():
        text = text.replace(sentinel, f"var(--{variable})")
    return re.sub(r"\n\s*", "\n", text).strip()


def _hundredths(match: re.Match[str]) -> str:
    return f"{float(match.group()):.2f}".rstrip("0").rstrip(".")


def _font(match: re.Match[str]) -> str:
    """The `font:` shorthand without its family."""
    weight = f"font-weight: {match.group(1)}; " if match.group(1) else ""
    return f"{weight}font-size: {match.group(2)}px"
