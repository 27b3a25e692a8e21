"""The report of a change as Markdown, for a step summary and a comment, and as HTML. Pure.

GitHub shows no SVG in Markdown, so the plots there are Mermaid charts; the page has the model card's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tidegate.evaluate import plots
from tidegate.evaluate.card import Section, to_html, to_markdown

Told = Mapping[str, Any]
GRID = 21


def markdown(told: Told) -> str:
    """The report; two pictures at its end where something was trained."""
    text = to_markdown(sections(told))
    if told["same"]:
        return text
    curves = {"ROC": ("false-positive rate", told["roc"]), "Calibration": ("mean score", told["calibration"])}
    return text + "\n" + "\n".join(_mermaid(name, across, found) for name, (across, found) in curves.items())


def page(told: Told) -> str:
    """The same as one HTML page without a network."""
    found = list(sections(told))
    if not told["same"]:
        # the card's colours are of the candidate and the champion
        named = {"candidate": "head", "champion": "base"}
        roc, calibration = ({n: told[key][who] for n, who in named.items()} for key in ("roc", "calibration"))
        note = "Blue: this change. Orange: its base."
        found += [
            Section("ROC", note, svg=plots.roc(roc)),
            Section("Calibration", note, svg=plots.calibration(calibration)),
        ]
    return to_html(found)


def sections(told: Told) -> tuple[Section, ...]:
    """Heading and verdict, then data, features, metrics, cost."""
    head = Section(f"What changes against {told['base'][:12]}", sentence(told))
    if told["same"]:
        return (head,)
    return (head, _data(told), _features(told), _metrics(told), _cost(told))


def sentence(told: Told) -> str:
    """What the change means for the model, in one line or two."""
    if told["same"]:
        return "Nothing that data, features or models are made of: no model was trained."
    found = [_version(told), *_effects(told)]
    found += [f"This tree's model is refused: {told['refused']}."] if told["refused"] else []
    return " ".join(found)


def _version(told: Told) -> str:
    changed = [word for word, key in (("feature schema", "schema_changed"), ("architecture", "architecture_changed"))
               if told[key]]  # fmt: skip
    if changed:
        return f"The next version will be a new major: the {' and the '.join(changed)} changed."
    return "The next version may be a minor: feature schema and architecture are as they were."


def _effects(told: Told) -> list[str]:
    better, worse = [], []
    for name, one in told["metrics"].items():
        lower_is_better = name != "roc_auc"
        if one["lower"] is None or one["lower"] <= 0 <= one["upper"]:
            continue
        (better if (one["difference"] < 0) == lower_is_better else worse).append(name)
    found = [f"Proved better: {', '.join(better)}."] if better else []
    found += [f"Proved worse: {', '.join(worse)}."] if worse else []
    return found or ["No metric moved by more than its days tell apart."]


def _data(told: Told) -> Section:
    rows = [
        (name, str(one["rows_before"]), str(one["rows_after"]),
         ", ".join(f"{len(one[what])} {what}" for what in ("added", "removed", "changed") if one[what]) or "the same")
        for name, one in told["data"].items()
    ]  # fmt: skip
    tracked = "" if told["tracked"][0] == told["tracked"][1] else " The tracked data version (dvc.lock) changed."
    text = f"Partitions of the short run, until {told['until']}.{tracked}"
    return Section("Data", text, (("table", "rows before", "rows", "partitions"), rows))


def _features(told: Told) -> Section:
    found = told["features"]
    rows = [(name, "new", "", "", "") for name in found["added"]]
    rows += [(name, "gone", "", "", "") for name in found["removed"]]
    rows += [(name, "another type", "", "", "") for name in found["retyped"]]
    rows += [
        (one["name"], f"{one['share']:.1%} of rows differ", _number(one["before"]), _number(one["after"]),
         f"{one['missing_before']:.1%}, {one['missing']:.1%}")
        for one in found["moved"]
    ]  # fmt: skip
    columns = ("feature", "change", "mean before", "mean", "missing before, now")
    return Section("Features", "" if rows else f"All {found['count']} have the values they had.", (columns, rows))


def _metrics(told: Told) -> Section:
    rows = [
        (name, _number(one["base"]), _number(one["head"]), _number(one["difference"]),
         "" if one["lower"] is None else f"{_short(one['lower'])} to {_short(one['upper'])}")
        for name, one in told["metrics"].items()
    ]  # fmt: skip
    text = (
        f"{told['rows']} rows of the gate window that both trees have, {told['days']} days as clusters; each limit at "
        "one-sided 95 %. Log loss and Brier score: lower is better."
    )
    return Section("Metrics", text, (("metric", "base", "this", "difference", "limits"), rows))


def _cost(told: Told) -> Section:
    rows = [(name, _number(one["base"]), _number(one["head"])) for name, one in told["cost"].items()]
    return Section("Latency and cost", "On this machine, in one go.", (("what", "base", "this"), rows))


def _mermaid(name: str, across: str, found: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Base and this change as two lines over one grid, where both have points."""
    points = {who: sorted((one[0], one[1]) for one in found[who]) for who in ("base", "head")}
    if not all(points.values()):
        return ""
    low, high = max(one[0][0] for one in points.values()), min(one[-1][0] for one in points.values())
    lines = [f"### {name}: base, then this change", "", "```mermaid", "xychart-beta"]
    lines += [f'  x-axis "{across}" {low:.3f} --> {high:.3f}', "  y-axis 0 --> 1"]
    for one in points.values():
        lines.append(f"  line [{', '.join(f'{value:.3f}' for value in on_grid(one, low, high))}]")
    return "\n".join([*lines, "```", ""])


def on_grid(points: Sequence[tuple[float, float]], low: float, high: float) -> list[float]:
    """The line through the points, sorted by place, at `GRID` even places from `low` to `high`."""
    import numpy as np

    across, up = zip(*points, strict=True)
    return [float(value) for value in np.interp(np.linspace(low, high, GRID), across, up)]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value + 0.0:.6g}"


def _short(value: float) -> str:
    return f"{value + 0.0:.2g}"
