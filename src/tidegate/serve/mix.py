"""Two models' replies -> the one list that goes out, and how each of its items was shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from tidegate.observations import Shown
from tidegate.release.interleave import by_rank, team_draft
from tidegate.serve.lists import Reply
from tidegate.serve.openapi import RankedRow

Took = tuple[float | None, float | None]
Rows = Sequence[RankedRow]


@dataclass(frozen=True)
class Mix:
    """One answer: rows in the order asked, how each was shown, whose name stands on it (0 champion, 1 challenger)."""

    rows: Rows
    shown: Sequence[Shown]
    named: int = 0


def mix(replies: tuple[Reply, Reply], versions: tuple[str, str], request_id: str) -> Mix | None:
    """Both lists as one, or the only one there is; None without any.

    A row's score (and fallback) is that of the model which the row is credited to.
    """
    champion, challenger = (reply.rows for reply in replies)
    if champion is not None and challenger is not None and len(champion) != len(challenger):
        challenger = None  # the champion says how many rows were asked for
    took = (
        None if champion is None else replies[0].took,
        None if challenger is None else replies[1].took,
    )
    if champion is not None and challenger is not None:
        return _drafted(champion, challenger, versions, request_id, took)
    if champion is not None:
        return _alone(champion, 0, took)
    return None if challenger is None else _alone(challenger, 1, took)


def _drafted(champion: Rows, challenger: Rows, versions: tuple[str, str], request_id: str, took: Took) -> Mix:
    drafted = team_draft(by_rank([r.rank for r in champion]), by_rank([r.rank for r in challenger]), request_id)
    owners, ranks = drafted.owners(), drafted.ranks()
    rows = [
        msgspec.structs.replace((champion, challenger)[owner][item], rank=ranks[item])
        for item, owner in enumerate(owners)
    ]
    return Mix(rows, [Shown(item, ranks[item], versions[owner], took) for item, owner in enumerate(owners)])


def _alone(rows: Rows, named: int, took: Took) -> Mix:
    return Mix(rows, [Shown(item, row.rank, None, took) for item, row in enumerate(rows)], named)
