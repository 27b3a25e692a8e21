"""What the trigger policy is told: one event a line, with its time; told apart by `kind`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import msgspec

from tidegate.errors import UserError
from tidegate.monitor.times import seconds


class _Event(msgspec.Struct, frozen=True, tag_field="kind"):
    time: float
    """Event time, seconds since the epoch."""


class Tick(_Event, frozen=True, tag="tick"):
    """The clock moved on; cron is looked at now."""


class Rows(_Event, frozen=True, tag="rows"):
    """`count` more rows matured."""

    count: int


class Metric(_Event, frozen=True, tag="metric"):
    """A look at the champion's performance; limits None where they are not known."""

    name: str
    value: float | None
    lower: float | None = None
    upper: float | None = None
    labels: int = 0


class Drift(_Event, frozen=True, tag="drift"):
    """A diagnosis; `finding` is its primary finding.

    labels: of a domain shift, the labelled rows of the new region that matured since the look before.
    """

    finding: Literal[
        "none", "data_drift", "concept_drift", "domain_shift", "skew", "selective_labels", "not_assessable"
    ]
    labels: int = 0


class RunFinished(_Event, frozen=True, tag="run_finished"):
    """A training run ended; `rows` is what it was trained on, None where it failed."""

    ok: bool
    rows: int | None = None
    run: str | int = ""


class Release(_Event, frozen=True, tag="release"):
    """A release was opened or has ended; `promoted` says that it ended in a promotion."""

    open: bool
    promoted: bool = False


class Request(_Event, frozen=True, tag="request"):
    """A person or a change of the code asks for a run."""

    cause: Literal["manual", "code"]


TriggerEvent = Tick | Rows | Metric | Drift | RunFinished | Release | Request
KINDS = ("tick", "rows", "metric", "drift", "run_finished", "release", "request")


def event_of(document: object, where: str = "event") -> TriggerEvent:
    """A JSON object as an event; `time` is ISO 8601 with a zone or seconds. UserError names the field."""
    if not isinstance(document, Mapping):
        raise UserError(where, _short(document), "a JSON object with time and kind")
    if document.get("kind") not in KINDS:
        raise UserError(f"{where}: kind", document.get("kind"), f"one of {', '.join(KINDS)}")
    try:
        timed = {**document, "time": seconds(document.get("time"), f"{where}: time")}
        event: TriggerEvent = msgspec.convert(timed, type=TriggerEvent)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        field = path.strip("`.")
        raise UserError(f"{where}: {field}" if field else where, document.get(field), text) from None
    _check_counts(event, where)
    return event


def read_events(lines: Iterable[str | bytes], where: str) -> Iterator[dict[str, Any]]:
    """JSON lines as objects; empty lines may stand at the end only. UserError names the line that is no JSON."""
    empty = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            empty = empty or number
            continue
        try:
            document = json.loads(line)
        except ValueError:
            document = None
        if empty or not isinstance(document, dict):
            got = "" if empty else _short(line)
            raise UserError(f"{where} line {empty or number}", got, "one JSON object a line, with time and kind")
        yield document


def _check_counts(event: TriggerEvent, where: str) -> None:
    for field in ("count", "rows", "labels"):
        number = getattr(event, field, None)
        if number is not None and number < 0:
            raise UserError(f"{where}: {field}", number, "a number not below 0")
    if isinstance(event, RunFinished) and event.ok and event.rows is None:
        raise UserError(f"{where}: rows", None, "the number of rows that the run used")


def _short(value: object) -> object:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return text.strip()[:60] if isinstance(text, str) else text
