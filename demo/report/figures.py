"""What the figures share. A figure is plain JSON for Plotly, made from facts alone.

A colour is written ``var(--name)``, or ``var(--name, 0.3)`` with its opacity: the page looks it up in its style sheet,
so that light and dark follow the reader.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidegate.journal.views import iso

Figure = dict[str, Any]
COLOURS = 6
DASHES = ("solid", "9px,2px", "2px,2px", "9px,2px,2px,2px")


@dataclass(frozen=True)
class Key:
    """An entry of a figure's legend: a swatch (`kind`: line, area or a character to show) and what it means."""

    text: str
    colour: str
    kind: str = "line"
    dash: str = "solid"


@dataclass(frozen=True)
class Palette:
    """A colour and a dash for each version, the same in every figure."""

    versions: Sequence[str]

    def colour(self, version: str, opacity: float = 1.0) -> str:
        """The version's colour."""
        number = self.versions.index(version) if version in self.versions else 0
        return f"var(--v{number % COLOURS + 1}{'' if opacity == 1 else f', {opacity}'})"

    def dash(self, version: str) -> str:
        """The version's dash, for those who do not tell colours apart."""
        number = self.versions.index(version) if version in self.versions else 0
        return DASHES[number % len(DASHES)]

    def keys(self, versions: Iterable[str], dashed: bool = True) -> list[Key]:
        """Legend entries of versions: lines, or areas where nothing is dashed."""
        return [Key(v, self.colour(v), "line" if dashed else "area", self.dash(v)) for v in versions]


def when(seconds: float) -> str:
    """Seconds as Plotly's date axes take them: UTC without a zone."""
    return iso(seconds)[:-1]


def known(value: float) -> float | None:
    """A number to five places of its size; None, which leaves a gap, when it is not known."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.5g}")


def axis(**more: Any) -> dict[str, Any]:
    """An axis in the page's colours."""
    style = {"gridcolor": "var(--grid)", "linecolor": "var(--axis)", "zeroline": False, "automargin": True}
    return {**style, "title": {"standoff": 8}, **more}


def time_axis(start: float, end: float, **more: Any) -> dict[str, Any]:
    """An axis of event time."""
    spanned = {"type": "date", "range": [when(start), when(end)], "hoverformat": "%d %b %Y %H:%M"}
    return axis(**spanned, tickformatstops=_TICKS, tickangle=0, **more)


_TICKS = [
    {"dtickrange": [None, 86_400_000 - 1], "value": "%H:%M\n%d %b"},
    {"dtickrange": [86_400_000, "M1"], "value": "%d %b"},
    {"dtickrange": ["M1", None], "value": "%b\n%Y"},
]


def layout(height: int, meta: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """What all figures share."""
    clear = "rgba(0,0,0,0)"
    hover = {"bgcolor": "var(--panel)", "bordercolor": "var(--axis)", "font": {"color": "var(--text)"}, "align": "left"}
    return {
        "height": height,
        "meta": dict(meta),
        "margin": {"l": 12, "r": 12, "t": 28, "b": 12},
        "paper_bgcolor": clear,
        "plot_bgcolor": clear,
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "var(--text)"},
        "hoverlabel": hover,
        "showlegend": False,
        **more,
    }


def upright(time: float, text: str, colour: str, level: int = 0, dash: str = "dot") -> tuple[Figure, Figure]:
    """A vertical line at an event time and its label above the plot; `level` lifts the label by lines."""
    line = {"type": "line", "x0": when(time), "x1": when(time), "yref": "paper", "y0": 0, "y1": 1}
    label = {"x": when(time), "yref": "paper", "y": 1, "yanchor": "bottom", "yshift": 14 * level, "showarrow": False}
    words = {"text": html.escape(text), "font": {"size": 11, "color": colour}}
    return {**line, "line": {"color": colour, "width": 1, "dash": dash}}, {**label, **words}
