"""Events on NATS JetStream: their names, how they are published, and how they become rows of the contract.

An event is a row of a table as a JSON object in the contract's columns, times in ISO 8601 with a zone. It is published
on ``tidegate.<model>.<table>`` with table and key of the row as message id, so that the server drops a repeated one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from tidegate.errors import PlatformError, UserError
from tidegate.ingest.conform import REASONS, conform
from tidegate.validate.check import good_rows, reasons_of, row_failures
from tidegate.validate.contract import Column, TableContract
from tidegate.validate.repair import CHANGED, repaired

if TYPE_CHECKING:
    import polars as pl
    from nats.aio.client import Client
    from nats.js import JetStreamContext

IN_FLIGHT = 2000
"""Published events that wait for the server's word at a time."""

_AT = "__at"
_DTYPES = {"text": "String", "integer": "Int64", "number": "Float64", "time": "String"}
_WIDEST = 2**63


@dataclass(frozen=True)
class Event:
    """A message as it came: the stream's number of it, and its bytes."""

    sequence: int
    body: bytes


@dataclass(frozen=True)
class Taken:
    """Events of one table: `rows` that keep the contract; `aside`: sequence, raw bytes and reasons of the others."""

    rows: pl.DataFrame
    aside: pl.DataFrame


def stream_name(model: str) -> str:
    """The stream that holds a model's events."""
    return f"tidegate-{model}"


def subject(model: str, table: str) -> str:
    """Where a table's events are published."""
    return f"tidegate.{model}.{table}"


def message_id(table: str, row: Mapping[str, Any], key: Sequence[str]) -> str:
    """The table and the row's key: rows of two tables may have one key, and the server drops a repeated id."""
    return "|".join((table, *(str(row.get(column)) for column in key)))


async def connect(url: str, **options: Any) -> Client:
    """A connection; UserError when nothing answers there."""
    import nats
    from nats.errors import Error

    try:
        return await nats.connect(url, **{"connect_timeout": 2, "max_reconnect_attempts": 2, **options})
    except (TimeoutError, OSError, Error) as error:
        raise UserError(
            f"--nats {_public(url)}", type(error).__name__, "the URL of a NATS server that answers"
        ) from None


async def ensure_stream(jetstream: JetStreamContext, model: str, tables: Sequence[str]) -> str:
    """Make the model's stream where it is not there, kept in files; returns what tells it from any other stream."""
    from nats.js.api import StorageType, StreamConfig

    config = StreamConfig(
        name=stream_name(model),
        subjects=[subject(model, table) for table in tables],
        storage=StorageType.FILE,
        max_age=7 * 86400,
        duplicate_window=120,
    )
    await jetstream.add_stream(config)
    raw = await jetstream._api_request(f"$JS.API.STREAM.INFO.{stream_name(model)}", timeout=5)
    return str(raw["created"])


async def publish_rows(
    jetstream: JetStreamContext, model: str, table: str, rows: Iterable[Mapping[str, Any]], key: Sequence[str]
) -> int:
    """Publish rows and wait until the server has all of them on disk; returns how many."""
    count, waiting = 0, []
    for row in rows:
        body, known = msgspec.json.encode(row), message_id(table, row, key)
        sent = await jetstream.publish_async(subject(model, table), body, headers={"Nats-Msg-Id": known})
        waiting.append(sent)
        count += 1
        if len(waiting) >= IN_FLIGHT:
            await asyncio.wait_for(asyncio.gather(*waiting), 30)
            waiting.clear()
    await asyncio.wait_for(asyncio.gather(*waiting), 30)
    return count


def publish(url: str, model: str, table: str, rows: Iterable[Mapping[str, Any]], key: Sequence[str]) -> int:
    """Publish rows of a table from a program of its own; returns how many the server has. For tools and tests."""

    async def run() -> int:
        client = await connect(url)
        try:
            return await publish_rows(
                client.jetstream(publish_async_max_pending=2 * IN_FLIGHT), model, table, rows, key
            )
        finally:
            await client.close()

    return asyncio.run(run())


def take(events: Sequence[Event], table: TableContract, limit: datetime) -> Taken:
    """Decode, repair and check events; `limit`: no event can be later, however wrong its sender's clock.

    What is no JSON object, has a value of the wrong kind or breaks a check of the contract is put aside. A column that
    the contract does not have is dropped, one that is missing is null.
    """
    decoded = [_decoded(event.body) for event in events]
    wrong: dict[int, str] = {at: "undecodable" for at, row in enumerate(decoded) if row is None}
    rows = _frame([row or {} for row in decoded], table, wrong)
    fitting = conform(rows, table, limit)
    wrong.update(zip(fitting.aside[_AT], fitting.aside[REASONS], strict=True))
    places = rows[_AT].filter(~rows[_AT].is_in(fitting.aside[_AT].implode()))
    made = repaired(fitting.rows, table)[0].drop(CHANGED)
    failures = row_failures(made, table, limit)
    wrong.update((at, why) for at, why in zip(places, reasons_of(made.height, failures), strict=True) if why)
    return Taken(made.filter(good_rows(made.height, failures)), _aside(events, wrong))


def _decoded(body: bytes) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _frame(decoded: Sequence[Mapping[str, Any]], table: TableContract, wrong: dict[int, str]) -> pl.DataFrame:
    """The rows whose values are of the contract's kinds, with their places; those of the others go to `wrong`."""
    import polars as pl

    values = {column.name: [row.get(column.name) for row in decoded] for column in table.columns}
    for column in table.columns:
        fits = _fits(column)
        for at, value in enumerate(values[column.name]):
            if value is not None and not fits(value):
                values[column.name][at] = None
                wrong[at] = f"{wrong[at]}, type({column.name})" if at in wrong else f"type({column.name})"
    types = {column.name: getattr(pl, _DTYPES[column.kind]) for column in table.columns}
    rows = pl.DataFrame(values, schema=types).with_row_index(_AT)
    return rows.filter(~pl.col(_AT).is_in(list(wrong))) if wrong else rows


def _fits(column: Column) -> Callable[[Any], bool]:
    """Whether a JSON value is of the column's kind; a whole number must fit 64 bits, true is none."""
    if column.kind == "integer":
        return lambda value: type(value) is int and -_WIDEST <= value < _WIDEST
    if column.kind == "number":
        return lambda value: type(value) is float or (type(value) is int and -_WIDEST <= value < _WIDEST)
    return lambda value: type(value) is str


def _aside(events: Sequence[Event], wrong: Mapping[int, str]) -> pl.DataFrame:
    import polars as pl

    rows = [(events[at].sequence, events[at].body, why) for at, why in sorted(wrong.items())]
    return pl.DataFrame(rows, schema={"sequence": pl.Int64, "raw": pl.Binary, REASONS: pl.String}, orient="row")


def contract_tables(tables: Mapping[str, TableContract], streams: Sequence[str]) -> dict[str, TableContract]:
    """The contracts of the streamed tables; PlatformError names one that has none."""
    missing = [name for name in streams if name not in tables]
    if missing:
        raise PlatformError(f"streams: no contract for the table {missing[0]}")
    return {name: tables[name] for name in streams}


def _public(url: str) -> str:
    """The URL without its token."""
    scheme, _, rest = url.rpartition("//")
    return f"{scheme}//{rest.rpartition('@')[2]}"
