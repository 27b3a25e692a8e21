"""What a release asks to be done. The controller carries actions out and journals them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class EnterStage:
    """Traffic changes to a stage, or to its next weight."""

    kind: str
    stage: int
    weight: float


@dataclass(frozen=True)
class Promote:
    """The challenger is champion from now on; `carried` is the quality margin that is spent then."""

    version: str
    digest: str
    reason: str
    carried: float = 0.0


@dataclass(frozen=True)
class Abort:
    """The champion answers alone; the digest is quarantined."""

    version: str
    digest: str
    reason: str


@dataclass(frozen=True)
class Drop:
    """One of several challengers leaves the split, its digest is quarantined; the others go on."""

    version: str
    digest: str
    reason: str


@dataclass(frozen=True)
class Supersede:
    """One of several challengers is out because `by` was the better one; nothing is held against it."""

    version: str
    digest: str
    by: str


@dataclass(frozen=True)
class Rollback:
    """The old champion is champion again, with what it carried; the digest is quarantined."""

    version: str
    digest: str
    reason: str


@dataclass(frozen=True)
class End:
    """The release is over without a change of champion: `expired`, or `promoted` when its watch is over."""

    state: str
    reason: str


@dataclass(frozen=True)
class Latch:
    """Nothing can be compared any more: the champion answers alone until the deadline or a person."""

    reason: str


@dataclass(frozen=True)
class Refuse:
    """A command that the state does not take; nothing changed."""

    event: str
    why: str


Action = EnterStage | Promote | Abort | Drop | Supersede | Rollback | End | Latch | Refuse
_KINDS: Mapping[str, type[Any]] = {
    kind.__name__: kind for kind in (EnterStage, Promote, Abort, Drop, Supersede, Rollback, End, Latch, Refuse)
}


def action_to_json(action: Action) -> dict[str, Any]:
    """Plain JSON; `action` is the name of the kind."""
    return {"action": type(action).__name__, **asdict(action)}


def action_from_json(data: Mapping[str, Any]) -> Action:
    """The inverse of `action_to_json`."""
    fields = {name: value for name, value in data.items() if name != "action"}
    found: Action = _KINDS[data["action"]](**fields)
    return found
