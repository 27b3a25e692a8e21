"""The label join by definition, and histories that come in any order."""

from __future__ import annotations

import math
import random

from tidegate.monitor.rows import row_id
from tidegate.observations import Label, Prediction

DEADLINE, END = 10.0, 1000.0


def age(one: Prediction) -> tuple[float, ...]:
    """Which of several rows of one request and version is the earliest."""
    return (one.time, one.wall, one.error, one.latency_ms, -1.0 if one.score is None else one.score)


def naive(found: list[Prediction], told: list[Label]) -> list[tuple[object, ...]]:
    """The join by definition: group, take the earliest, look through all labels."""
    rows = []
    for key in {(one.request_id, one.version) for one in found}:
        ours = [one for one in found if (one.request_id, one.version) == key]
        first = min(ours, key=age)
        standing: dict[str | None, Label] = {}
        for label in sorted(
            told, key=lambda one: (one.time, one.wall, one.outcome, -1.0 if one.value is None else one.value)
        ):
            if row_id(label.request_id) == key[0] and label.time <= first.time + DEADLINE:
                standing[label.metric] = label
        loss = standing.pop(None, None)
        outcome = "missing" if loss is None else "cancelled" if loss.value is None else loss.outcome
        metrics = tuple((str(name), one.value) for name, one in sorted(standing.items(), key=str))
        rows.append((first.time, key[0], key[1], outcome, loss.value if loss else None, repr(metrics)))
    return sorted(rows)  # type: ignore[type-var]


Arriving = list[tuple[float, list[Prediction], list[Label]]]
"""What comes before each watermark."""


def arriving(
    found: list[Prediction], told: list[Label], watermarks: list[float], keep: float, chance: random.Random
) -> Arriving:
    """Records in any order, without those that come when what they belong to may be forgotten already."""
    parts: Arriving = [(watermark, [], []) for watermark in [*sorted(watermarks), END]]
    rows: dict[str, dict[str, float]] = {}
    first: dict[str, float] = {}
    drawn = sorted(((chance.randrange(len(parts)), one) for one in [*found, *told]), key=lambda item: item[0])
    for at, one in drawn:
        name, version = row_id(one.request_id), getattr(one, "version", "")
        ours, least = rows.setdefault(name, {}), min(one.time, first.get(name, math.inf))
        remembered = ours.get(version, max(ours.values(), default=least))
        if at and parts[at - 1][0] > remembered + DEADLINE + keep:
            continue
        first[name] = least
        if version:
            ours[version] = min(one.time, ours.get(version, math.inf))
        parts[at][1 if version else 2].append(one)  # type: ignore[arg-type]
    return parts
