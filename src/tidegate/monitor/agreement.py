"""Whether the model gate still predicts production: its verdicts held against those of the releases that followed.

Every released candidate was passed by the gate: "not worse". Its release answers `agreed` (promoted and not rolled
back), `disagreed` (the loss was proved worse, before or after its promotion) or `undecided` (neither: a deadline, a
person, errors or latency). A gate that predicts is contradicted in no more than `HOLDS` of the decided releases. The
evidence against that is the Shiryaev-Roberts sum R <- (R + 1) L with the likelihood ratio L of `FAILS` to `HOLDS`;
while the gate predicts, R - n is a supermartingale, so that R reaches `LIMIT` within n releases with a probability of
at most n / LIMIT (Doob), however often one looks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

HOLDS, FAILS = 0.05, 0.5
"""Share of decided releases that contradict a gate that predicts, and one that says nothing."""
LIMIT = 400.0
"""A false report within 20 decided releases has a probability of at most 5 %."""

MENDED = 2.0
"""After a report: evidence below it, some ten agreements, takes the report back."""


@dataclass(frozen=True)
class Agreement:
    """The releases so far. `since`: the release at which the gate was found to predict no more; empty: it predicts."""

    agreed: int = 0
    disagreed: int = 0
    undecided: int = 0
    evidence: float = 0.0
    since: str = ""

    @property
    def holds(self) -> bool:
        """Whether nothing speaks against the gate."""
        return not self.since

    @property
    def sentence(self) -> str:
        """In words."""
        decided = self.agreed + self.disagreed
        if not decided:
            return "no release has answered the model gate yet"
        counts = f"production agreed with the model gate in {self.agreed} of {decided} releases"
        if self.holds:
            return counts
        return f"{counts}: since {self.since} its predictions do not hold; look at its window, slices and margin"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**asdict(self), "evidence": round(self.evidence, 3), "holds": self.holds, "sentence": self.sentence}


def agreement(verdicts: Iterable[Mapping[str, str]]) -> Agreement:
    """The count and the evidence over ``{"release", "answer"}``, oldest first.

    >>> agreement({"release": f"r{n}", "answer": "disagreed"} for n in range(1, 4)).since
    'r3'
    """
    counts = {"agreed": 0, "disagreed": 0, "undecided": 0}
    evidence, since = 0.0, ""
    for verdict in verdicts:
        answer = verdict["answer"]
        counts[answer] += 1
        if answer == "undecided":
            continue
        ratio = FAILS / HOLDS if answer == "disagreed" else (1 - FAILS) / (1 - HOLDS)
        evidence = (evidence + 1) * ratio
        if evidence >= LIMIT:
            since = since or verdict["release"]
        elif since and evidence < MENDED:
            since = ""
    return Agreement(**counts, evidence=evidence, since=since)
