"""The publisher of `benchmarks.stream`, a process of its own: flights of 2013 as events, each at its scheduled time."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from datetime import UTC, datetime

import msgspec
import polars as pl

from benchmarks.results import ROOT

sys.path.insert(0, str(ROOT / "tests"))

from live_stream import as_events, stamped

from flights.source import FlightSource
from tidegate.ingest.stream import connect, message_id, subject

AHEAD = 4.0
"""Seconds in which the events are made ready before the first is due."""

PROBE = 50
"""One of so many departures is of an aircraft that was never seen."""

Planned = list[tuple[float, str, bytes, str]]


def plan(model: str, began: float, seconds: float, rate: float) -> Planned:
    """(scheduled time, subject, event, message id), in order: a departure and a landing by turns."""
    count = int(seconds * rate / 2)
    tables = FlightSource().arrivals(datetime(2014, 1, 1, tzinfo=UTC))
    planned: Planned = []
    for turn, table in enumerate(("departures", "flights")):
        rows = tables[table].slice(0, count)
        due = [began + (2 * number + turn) / rate for number in range(rows.height)]
        times = pl.Series([int(time * 1e6) for time in due]).cast(pl.Datetime("us", "UTC"))
        made = stamped(rows, times)
        if table == "departures":
            new = pl.concat_str(pl.lit("P"), pl.int_range(pl.len()).cast(pl.String).str.zfill(5))
            made = made.with_columns(
                tailnum=pl.when(pl.int_range(pl.len()) % PROBE == 0).then(new).otherwise("tailnum")
            )
        events = as_events(made)
        bodies = [(msgspec.json.encode(event), message_id(table, event, ("flight_id",))) for event in events]
        planned += [(time, subject(model, table), *body) for time, body in zip(due, bodies, strict=True)]
    return sorted(planned)


async def publish(url: str, planned: Planned) -> dict[str, float]:
    """Send each event at its time, whatever became of those before; how late the latest was sent."""
    client = await connect(url)
    jetstream = client.jetstream(publish_async_max_pending=100_000)
    sent, behind = [], 0.0
    for due, where, body, known in planned:
        if (wait := due - time.time()) > 0.002:
            await asyncio.sleep(wait)
        behind = max(behind, time.time() - due)
        sent.append(await jetstream.publish_async(where, body, headers={"Nats-Msg-Id": known}))
    await asyncio.wait_for(asyncio.gather(*sent), 60)
    await client.close()
    return {"events": len(planned), "worst_behind_seconds": behind, "first": planned[0][0], "last": planned[-1][0]}


def main() -> None:
    """``python -m benchmarks.stream_side --url U --model M --seconds S --rate R``: one JSON document."""
    parser = argparse.ArgumentParser()
    for name, kind in (("--url", str), ("--model", str), ("--seconds", float), ("--rate", float)):
        parser.add_argument(name, type=kind, required=True)
    asked = parser.parse_args()
    planned = plan(asked.model, time.time() + AHEAD, asked.seconds, asked.rate)
    assert time.time() < planned[0][0], "the events were not ready in time"
    json.dump(asyncio.run(publish(asked.url, planned)), sys.stdout)


if __name__ == "__main__":
    main()
