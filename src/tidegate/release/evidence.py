"""What a decision may look at, as values: the statistics of each place, by check and by block, and counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from tidegate.release.confidence import State

Block = tuple[int, float, float]
"""n, S, W of one block."""
RATIO, RATIO_OF_LABELS = "sample_ratio", "sample_ratio_labels"
"""Checks of the split itself: over all requests, and over those with a label; of a metric's labels with its name."""


@dataclass(frozen=True)
class Counts:
    """What was seen at one place.

    requests: all that were folded (in shadow: pairs and missing answers). matured: older than the label deadline.
    champion, challenger: requests by arm. missing: mirrored requests that the copied version never answered; each
    counts as its error. orphans: copies whose own request is not in the log. late: rows that appeared behind the
    watermark. unlabelled_*: matured requests without a label.
    cancelled: matured requests whose outcome never comes. out_of_bound: values of a business metric that were cut to
    its range. by_weight: requests by the challenger's share.
    """

    requests: int = 0
    matured: int = 0
    champion: int = 0
    challenger: int = 0
    missing: int = 0
    orphans: int = 0
    late: int = 0
    unlabelled_champion: int = 0
    unlabelled_challenger: int = 0
    cancelled: int = 0
    out_of_bound: int = 0
    by_weight: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Stats:
    """The statistics of one place: a `State` a check, sums a block for the quality checks, counts."""

    states: Mapping[str, State] = field(default_factory=dict)
    blocks: Mapping[str, Mapping[int, Block]] = field(default_factory=dict)
    counts: Counts = Counts()

    def state(self, check: str) -> State:
        """The state of a check, empty when nothing was folded."""
        return self.states.get(check, State())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; floats are kept exactly.

        The k-th value of a slice has a level of its own, and a journal sorts names: so their order is told.
        """
        order = [name for name in self.states if name.startswith("loss[")]
        return {
            "states": {name: state.to_json() for name, state in self.states.items()},
            "blocks": {name: {str(b): list(sums) for b, sums in of.items()} for name, of in self.blocks.items()},
            "counts": asdict(self.counts),
            **({"order": order} if order else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Stats:
        """The inverse of `to_json`."""
        blocks = {
            name: {int(b): (int(n), float(s), float(w)) for b, (n, s, w) in of.items()}
            for name, of in data["blocks"].items()
        }
        rank = {name: number for number, name in enumerate(data.get("order", ()))}
        names = sorted(data["states"], key=lambda name: rank.get(name, -1))
        states = {name: State.from_json(data["states"][name]) for name in names}
        return cls(states, blocks, Counts(**data["counts"]))


@dataclass(frozen=True)
class Evidence:
    """All that a decision may look at: statistics by place (`shadow`, `split`, `watch`) up to the watermark.

    watermark: the newest event time that every live writer has passed. late_labels: labels that came after the
    deadline or after their loss was folded; counted, never unfolded.
    """

    watermark: float = float("-inf")
    places: Mapping[str, Stats] = field(default_factory=dict)
    late_labels: int = 0

    def at(self, place: str) -> Stats:
        """The statistics of a place, empty when nothing was seen there."""
        return self.places.get(place, Stats())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; the journal stores it with each decision and replay decides from it again."""
        watermark = self.watermark if np.isfinite(self.watermark) else None
        places = {name: stats.to_json() for name, stats in self.places.items()}
        return {"watermark": watermark, "places": places, "late_labels": self.late_labels}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evidence:
        """The inverse of `to_json`."""
        watermark = float("-inf") if data["watermark"] is None else float(data["watermark"])
        places = {name: Stats.from_json(stats) for name, stats in data["places"].items()}
        return cls(watermark, places, int(data["late_labels"]))


def weight_key(weight: float) -> str:
    """A share as a key of `Counts.by_weight`."""
    return f"{weight:.6g}"


def in_slice(check: str, slice_: str) -> bool:
    """Whether a check is the loss in one value of this slice."""
    return check.startswith((f"loss[{slice_}=", f"loss[{slice_}: "))
