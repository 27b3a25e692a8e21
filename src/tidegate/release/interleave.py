"""Team-draft interleaving: two rankings of the same items mixed into one list, and what its clicks say.

Rounds: a coin says which model picks first; it takes its best item that is not taken yet, then the other one does.
Each item is credited to the model that took it. The coins come from the request id alone, so whoever has the log can
mix the list again. A session's credit is the sign of (clicks on the challenger's items - clicks on the champion's).

Why it is fair: with two equal rankings the list is the same whatever the coins say, and turning all of them swaps the
owners of every round's two places. So for any user whose clicks depend on the list and the places alone, however
biased towards the top, the credit's mean is exactly 0.
Radlinski, Kurup, Joachims 2008, How does clickthrough data reflect retrieval quality?
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CHAMPION, CHALLENGER = 0, 1


@dataclass(frozen=True)
class Mixed:
    """One list as it is shown: `order` holds item numbers from the top, `owner` 0 champion or 1 challenger for each."""

    order: tuple[int, ...]
    owner: tuple[int, ...]

    def ranks(self) -> list[int]:
        """The rank (1 is the top) of each item, in the order asked."""
        found = [0] * len(self.order)
        for place, item in enumerate(self.order, start=1):
            found[item] = place
        return found

    def owners(self) -> list[int]:
        """The model that each item is credited to, in the order asked."""
        found = [CHAMPION] * len(self.order)
        for item, owner in zip(self.order, self.owner, strict=True):
            found[item] = owner
        return found


def coins(seed: str, rounds: int) -> list[int]:
    """Who picks first in each round, from `seed` alone: the bits of SHAKE-128, the same on every machine."""
    stream = hashlib.shake_128(b"team-draft " + seed.encode()).digest((rounds + 7) // 8)
    return [stream[number // 8] >> number % 8 & 1 for number in range(rounds)]


def team_draft(champion: Sequence[int], challenger: Sequence[int], seed: str) -> Mixed:
    """Mix two rankings (item numbers 0 ... N-1, best first); `seed` is the request's id.

    Raises ValueError when they do not rank the same N items, each once.
    """
    size = len(champion)
    if sorted(champion) != list(range(size)) or sorted(challenger) != list(range(size)):
        raise ValueError("both rankings must hold each of the items 0 ... N-1 once")
    left = (iter(champion), iter(challenger))
    taken: dict[int, int] = {}
    for first in coins(seed, (size + 1) // 2):
        for owner in (first, 1 - first):
            # both lists hold every item, so while one is left it is found
            item = next((item for item in left[owner] if item not in taken), None)
            if item is not None:
                taken[item] = owner
    return Mixed(tuple(taken), tuple(taken.values()))


def by_rank(ranks: Sequence[int]) -> list[int]:
    """Ranks of the items in the order asked (1 is the top) -> item numbers, best first; ties in the order asked."""
    return sorted(range(len(ranks)), key=ranks.__getitem__)


def credit(owner: Mapping[str, int], clicks: Mapping[str, float]) -> int:
    """+1 the challenger's items were clicked more, -1 the champion's, 0 a tie; both maps are by shown item."""
    balance = math.fsum(clicks.get(item, 0.0) * (1 if side == CHALLENGER else -1) for item, side in owner.items())
    return (balance > 0) - (balance < 0)
