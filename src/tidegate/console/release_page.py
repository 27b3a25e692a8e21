"""What a release's page shows: live shares, confidence sequences, verdict, evidence, history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tidegate.console import draw, shown
from tidegate.console.reader import Reader
from tidegate.console.story import COUNTS, PLACES, Panel, Story
from tidegate.reasons import REASONS

Json = dict[str, Any]


def release(reader: Reader, model: str, name: str) -> Json:
    """One release: live shares, confidence sequences, verdict, evidence, history."""
    story = reader.release(model, name)
    state = reader.state(model)
    traffic = state.traffic if state.release and state.release["name"] == name else None
    split = list((traffic or {}).get("split", ()))
    colours = {story.release["champion"]["name"]: 0}
    colours |= {one["name"]: i + 1 for i, one in enumerate(story.release["challengers"])}
    told = ", ".join(f"{version} {share:.0%}" for version, share in split)
    return {
        "model": model,
        "name": name,
        "seq": state.seq,
        "story": story,
        "stages": shown.stages(story.release),
        "split": [(version, share, colours.get(version, 5)) for version, share in split],
        "mirrors": list((traffic or {}).get("mirrors", ())),
        "bar": draw.share_bar(split, colours, f"traffic now: {told}") if split else "",
        "panels": [_panel(panel, story) for panel in story.panels],
        "slices": [judged_slice(panel) for panel in story.slices],
        "counts": [(_where(place), found) for place, found in story.counts.items()],
        "count_names": COUNTS,
        "offers": offers(story) if state.release and state.release["name"] == name else [],
        "reasons": REASONS,
    }  # fmt: skip


def offers(story: Story) -> list[str]:
    """What a person may order now."""
    state = story.release["state"]
    if state == "watch":
        return ["rollback"]
    if not story.open:
        return ["rollback"] if state == "promoted" else []
    return ["approve", "abort"]


def _panel(panel: Panel, story: Story) -> Json:
    def points(name: str) -> list[tuple[float, float | None]]:
        return [(look.time, look.checks[panel.name][name]) for look in panel.looks]

    seen = draw.Sequenced(
        points("estimate"), points("lower"), points("upper"), points("block_lower"), points("block_upper"), panel.margin
    )
    last = panel.last
    begins, ends = panel.looks[0].time, max(panel.looks[-1].time, panel.looks[0].time + 1)
    marks = [(turn.time, turn.mark) for turn in story.turns if turn.mark and begins <= turn.time <= ends]
    label = f"{panel.title}: {shown.in_words(last)}, over {len(panel.looks)} looks"
    return {
        "panel": panel,
        "last": last,
        "words": shown.in_words(last),
        "picture": draw.confidence(seen, marks, begins, ends, label),
        "looks": panel.looks[-12:],
    }


def _where(place: str) -> str:
    """A place's name in words."""
    return PLACES.get(place.partition(":")[0].partition("@")[0], place)


def judged_slice(panel: Panel) -> Json:
    """One value of a guarded slice, as it was judged last."""
    last = panel.last
    margin = panel.margin or _loss_margin(panel)
    return {
        "name": panel.name,
        "place": _where(panel.place),
        "last": last,
        "picture": draw_check(last, margin),
    }


def _loss_margin(panel: Panel) -> float:
    """The loss's own margin: slices are guarded and have none."""
    return float((panel.looks[-1].checks.get("loss") or {}).get("margin") or 0.0)


def draw_check(check: Mapping[str, Any] | None, margin: float, most: float = 0.0) -> str:
    """A check's interval; `most`: the scale that it shares with others, 0: its own."""
    if check is None or any(check[name] is None for name in ("estimate", "lower", "upper")):
        return ""
    numbers = check["lower"], check["upper"], check["estimate"], margin
    return draw.interval(*numbers, most or scale([check]), label=shown.in_words(check))


def scale(checks: Iterable[Mapping[str, Any]]) -> float:
    """How far the widest of these intervals, and their margins, reach from 0."""
    found = [abs(one[name]) for one in checks for name in ("lower", "upper", "margin") if one[name] is not None]
    return 1.08 * max(found, default=1.0) or 1.0
