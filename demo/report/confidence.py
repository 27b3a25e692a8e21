"""The confidence sequences of one release as a figure: how each check narrowed until the judge could say something."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from demo.report.facts import Look, Release
from demo.report.figures import Figure, Key, Palette, axis, known, layout, time_axis, upright, when
from tidegate.release.policy import SHADOW, SPLIT, WATCH, policy_of
from tidegate.spec import ReleaseSpec

ROW, GAP = 150, 34
"""Pixels of one panel, and between two."""
PLACES = {SHADOW: "on copies (shadow)", SPLIT: "on the split (canary)", WATCH: "after the promotion (watch)"}
LOOKED_AT = 5.0
"""Margins to either side of zero that a panel shows at least; the sequence comes in from outside."""


@dataclass(frozen=True)
class Panel:
    """One check at one place, with its looks. `proof`: the place where this metric must be proved."""

    metric: str
    place: str
    looks: tuple[Look, ...]
    proof: bool

    @property
    def margin(self) -> float:
        """How much worse the challenger may be."""
        return float(self.looks[-1].checks[self.metric]["margin"])

    def values(self, name: str) -> list[float | None]:
        """One number of the check, look by look."""
        return [_number(look.checks[self.metric][name]) for look in self.looks]


def _number(value: float | None) -> float | None:
    return None if value is None else known(value)


def panels(release: Release) -> list[Panel]:
    """Each metric at its place of proof, the loss in the watch, and whatever decided elsewhere."""
    policy = policy_of(ReleaseSpec.model_validate(release.spec))
    proof = {(metric.name, metric.proved_at) for metric in policy.metrics}
    wanted = [(m.name, m.proved_at) for m in policy.metrics] + [(m.name, WATCH) for m in policy.metrics if m.quality]
    wanted += [pair for pair in _worse(release) if pair not in wanted]
    found = []
    for metric, place in wanted:
        looks = tuple(look for look in release.looks if look.place == place and metric in look.checks)
        if any(look.checks[metric]["n"] for look in looks):
            found.append(Panel(metric, place, looks, (metric, place) in proof))
    return found


def _worse(release: Release) -> Iterator[tuple[str, str]]:
    """The checks that were proved worse at the last look of a release that was stopped."""
    if release.verdict in ("aborted", "rolled back") and release.looks:
        last = release.looks[-1]
        yield from ((name, last.place) for name, c in last.checks.items() if c["margin"] is not None and c["lower"] > 0)


def confidence_figure(release: Release, palette: Palette) -> Figure:
    """One panel a check, one above the other, over the release's event time."""
    shown = panels(release)
    height = len(shown) * (ROW + GAP) + 40
    end = release.looks[-1].at.time if release.looks else release.opened.time + 1
    parts = [_panel(panel, number, release, palette) for number, panel in enumerate(shown)]
    domains = [_domain(number, len(shown)) for number in range(len(shown))]
    axes = {_axis("yaxis", n): _y_axis(panel, domains[n]) for n, panel in enumerate(shown)}
    shapes, labels = _marks(release, end)
    meta = {"figure": "confidence", "release": release.name, "verdict": release.verdict}
    return {
        "data": [trace for part in parts for trace in part],
        "layout": layout(
            height,
            meta,
            xaxis=time_axis(
                release.opened.time, end, anchor=_axis("y", max(len(shown) - 1, 0)), title={"text": "event time (UTC)"}
            ),
            **axes,
            shapes=shapes,
            annotations=[*labels, *(_title(panel, domains[n]) for n, panel in enumerate(shown))],
            hovermode="x unified",
            margin={"l": 12, "r": 16, "t": 46, "b": 12},
        ),
    }


def keys(release: Release, palette: Palette) -> list[Key]:
    """The figure's legend."""
    colour = palette.colour(release.challenger)
    return [
        Key(f"{release.challenger} minus {release.champion}", colour),
        Key("between the lower and the upper bound", colour, "area"),
        Key("block limits (days as units)", colour, dash="dot"),
        Key("margin", "var(--bad)", dash="dash"),
    ]


def _axis(name: str, number: int) -> str:
    return name if number == 0 else f"{name}{number + 1}"


def _domain(number: int, count: int) -> list[float]:
    """The part of the height that a panel takes, the first on top."""
    size = count * (ROW + GAP) - GAP
    top = 1 - number * (ROW + GAP) / size
    return [max(0.0, top - ROW / size), top]


def _y_axis(panel: Panel, domain: list[float]) -> dict[str, object]:
    return axis(
        domain=domain, range=_range(panel), nticks=5, tickformat="+.3~f", zeroline=True, zerolinecolor="var(--axis)"
    )


def _range(panel: Panel) -> list[float]:
    """At least `LOOKED_AT` margins to both sides, more where the last look needs it."""
    last = [panel.values(name)[-1] or 0.0 for name in ("lower", "upper", "estimate")]
    most = max(LOOKED_AT * panel.margin, 1.25 * min(max(map(abs, last)), 1.0))
    return [-most, most]


def _title(panel: Panel, domain: list[float]) -> Figure:
    proof = "" if panel.proof or panel.place == WATCH else ", guarded only"
    place_words = PLACES.get(panel.place, panel.place)
    text = f"<b>{html.escape(panel.metric)}</b> {place_words}{proof}"
    place = {"xref": "paper", "x": 0, "xanchor": "left", "yref": "paper", "y": domain[1], "yanchor": "bottom"}
    return {**place, "text": text, "showarrow": False, "bgcolor": "var(--panel)", "borderpad": 0, "font": {"size": 12}}


def _panel(panel: Panel, number: int, release: Release, palette: Palette) -> list[Figure]:
    colour, fill = palette.colour(release.challenger), palette.colour(release.challenger, 0.3)
    thin, dotted = {"color": colour, "width": 1}, {"color": colour, "width": 1, "dash": "dot"}
    lower = _trace(panel, number, "lower", line=thin)
    upper = _trace(panel, number, "upper", line=thin, fill="tonexty", fillcolor=fill)
    estimate = _trace(panel, number, "estimate", line={"color": colour, "width": 2.4})
    limits = [_trace(panel, number, name, line=dotted) for name in ("block_lower", "block_upper") if _any(panel, name)]
    return [lower, upper, estimate, *limits, _margin(panel, number, release)]


def _any(panel: Panel, name: str) -> bool:
    return any(value is not None for value in panel.values(name))


def _trace(panel: Panel, number: int, bound: str, **style: object) -> Figure:
    words = bound.replace("_", " limit, ") if bound.startswith("block") else bound
    return {
        "x": [when(look.at.time) for look in panel.looks],
        "y": panel.values(bound),
        "mode": "lines",
        "name": f"{panel.metric} {words}",
        "meta": {
            "metric": panel.metric,
            "place": panel.place,
            "bound": bound,
            "margin": panel.margin,
            "proof": panel.proof,
        },
        "yaxis": _axis("y", number),
        "hovertemplate": f"{panel.metric} {words} %{{y:+.4f}}<extra></extra>",
        **style,
    }


def _margin(panel: Panel, number: int, release: Release) -> Figure:
    x = [when(release.opened.time), when(release.looks[-1].at.time)]
    return {
        "x": x,
        "y": [panel.margin, panel.margin],
        "mode": "lines",
        "name": f"{panel.metric} margin",
        "meta": {"metric": panel.metric, "place": panel.place, "bound": "margin", "margin": panel.margin},
        "yaxis": _axis("y", number),
        "hoverinfo": "skip",
        "line": {"color": "var(--bad)", "width": 1.4, "dash": "dash"},
    }


def _marks(release: Release, end: float) -> tuple[list[Figure], list[Figure]]:
    """Where stages, weights and the watch begin, and where the release was stopped."""
    marks = [(at.time, label, "var(--muted)") for at, label in release.stages]
    for stop in (release.decided, release.ended):
        if stop and release.verdict not in ("promoted", "open") and stop.time >= release.stages[-1][0].time:
            marks.append((stop.time, release.verdict, "var(--bad)"))
    marks = list(dict.fromkeys(marks))
    return _spread(marks, release.opened.time, end)


def _spread(marks: Sequence[tuple[float, str, str]], start: float, end: float) -> tuple[list[Figure], list[Figure]]:
    """Lines and labels; a label that would stand on the one before goes a line higher."""
    shapes, labels, levels = [], [], [-1e18, -1e18]
    for time, text, colour in marks:
        free = 0 if time - levels[0] > 0.12 * (end - start) else 1
        levels[free] = time
        line, label = upright(time, text, colour, free)
        right = time > start + 0.9 * (end - start)
        shapes.append(line)
        labels.append({**label, "yshift": 14 * free + 16, "xanchor": "right" if right else "left"})
    return shapes, labels
