"""The prediction log and the labels as rows of evidence of one challenger."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tidegate.release.rows import CHALLENGER, CHAMPION, Labels, Rows, rows_of

if TYPE_CHECKING:
    from tidegate.observations import Label, Prediction


def rows_from_predictions(
    found: Iterable[Prediction],
    release: str,
    champion: str,
    challenger: str,
    slices: Sequence[Callable[[Prediction], str]] = (),
) -> Rows:
    """The rows of the prediction log that are evidence of one challenger of `release`, arms told by version.

    A row without the arm's header went round the gateway and is none; one whose header names another version than
    its own is a mirrored copy (propensity 1.0). Left out are rows of other releases and versions, those without a
    propensity in (0, 1], those of /rank and /explain, and those whose arm a cookie chose: the client was drawn once,
    so its first request is the observation. Where the split has more than two arms the propensity is that between
    these two, pi_j / (pi_j + pi_0). Rows of one request keep their place in it: together they are one observation.
    slices: each gives a row's value in a guarded slice.
    """
    arms, told = {champion: CHAMPION, challenger: CHALLENGER}, _Shares(champion, challenger)
    asked = [p for p in found if p.release == release and p.arm is not None and p.endpoint is None and not p.returning]
    pairs = [(p, 1.0 if p.arm != p.version else told.share(p)) for p in asked if p.version in arms]
    kept = [p for p, share in pairs if 0 < share <= 1]
    return rows_of(
        [p.time for p in kept],
        [p.request_id for p in kept],
        [arms[p.version] for p in kept],
        [share for _, share in pairs if 0 < share <= 1],
        mirrored=[p.arm != p.version for p in kept],
        score=[float("nan") if p.score is None else p.score for p in kept],
        error=[p.error for p in kept],
        latency_ms=[p.latency_ms for p in kept],
        groups=[[value(p) for p in kept] for value in slices],
        part=[part_of(p.request_id) for p in kept],
    )


def part_of(row: str) -> int:
    """The place of a row in its request, by its id ``ID/0``, ``ID/1`` ..."""
    if row.endswith("/0"):
        return 0
    _, slash, number = row.rpartition("/")
    return int(number) if slash and number.isdecimal() else 0


@dataclass
class _Shares:
    """The probability of an arm between champion and challenger, from every arm's weight where there are more."""

    champion: str
    challenger: str
    known: dict[str, dict[str, float]] = field(default_factory=dict)

    def share(self, row: Prediction) -> float:
        """0 where the row does not say."""
        if row.weights is None:
            return row.propensity or 0.0
        if row.weights not in self.known:
            self.known[row.weights] = weights_from(row.weights)
        weights = self.known[row.weights]
        old, new = weights.get(self.champion, 0.0), weights.get(self.challenger, 0.0)
        return (new if row.version == self.challenger else old) / (old + new) if old > 0 and new > 0 else 0.0


def weights_from(text: str) -> dict[str, float]:
    """``v1=0.5,v2=0.25,v3=0.25`` as weights by version; empty where it is anything else."""
    try:
        return {name: float(share) for name, share in (part.split("=") for part in text.split(","))}
    except ValueError:
        return {}


def labels_of(found: Iterable[Label], metrics: Sequence[str] = ()) -> list[Labels]:
    """Labels of the outcome itself, and of the named business metrics; other metrics are left out."""
    by_name: dict[str, list[Label]] = {name: [] for name in ("", *metrics)}
    for label in found:
        if (name := label.metric or "") in by_name:
            by_name[name].append(label)
    return [_labels(name, kept) for name, kept in by_name.items() if kept]


def _labels(name: str, kept: list[Label]) -> Labels:
    value = [float("nan") if p.value is None or p.outcome == "cancelled" else p.value for p in kept]
    time, wall = np.asarray([p.time for p in kept], np.float64), np.asarray([p.wall for p in kept], np.float64)
    return Labels(time, [p.request_id for p in kept], np.asarray(value, np.float64), name, wall)
