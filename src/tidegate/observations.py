"""The observation store: predictions and labels, appended by many writers, read by the join.

One segment a writer: a file of JSON lines. A line without its newline is torn and is not read; a writer that starts
again cuts it off. Times are seconds since the epoch.
"""

from __future__ import annotations

import msgspec


class Prediction(msgspec.Struct, frozen=True, tag="p", tag_field="t"):
    """One answered row. `request_id` is ``ID/0`` for the first row of request ID."""

    request_id: str
    time: float
    """Event time of the request: its `at` under the event clock, else wall time."""
    wall: float
    version: str
    """The replica's own version, known from its start-up; never from a header."""
    digest: str
    arm: str | None
    """``x-tidegate-arm`` as received: the version behind the route entry. Another than `version`: a mirrored row.
    None: the request went round the gateway and is no evidence."""
    propensity: float | None
    """``x-tidegate-propensity`` as received."""
    release: str | None
    """``x-tidegate-release`` as received."""
    score: float | None
    """Probability of the positive class; None when the request failed."""
    error: bool
    """The service answered 5xx."""
    latency_ms: float
    features: list[float | str | None]
    """As served, in the feature schema's order."""


class Label(msgspec.Struct, frozen=True, tag="l", tag_field="t"):
    """What became of a request, told later. `value` None with outcome ``cancelled``: leaves the loss, stays counted."""

    request_id: str
    time: float
    wall: float
    value: float | None
    outcome: str
    metric: str | None = None


class Mark(msgspec.Struct, frozen=True, tag="m", tag_field="t"):
    """A writer's promise: every row it had accepted with a time up to `time` stands before this line."""

    time: float
