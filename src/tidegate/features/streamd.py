"""The process that keeps a model's streaming features fresh: takes events from NATS in small batches and feeds them.

The log, not the server, says what was taken: at every start, and whenever a message was lost on the way, the durable
consumer is made anew from the first number that may not be in the log. Does I/O.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.errors import TidegateError
from tidegate.ingest.stream import Event, connect, ensure_stream, stream_name, subject
from tidegate.targets.processes import write_atomically

if TYPE_CHECKING:
    from feast import FeatureStore
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext

    from tidegate.features.feeder import Feeder

PERIOD = 0.2
"""Seconds from one batch to the next; a tick of the clock as well."""

MOST = 5000
"""Events of a batch."""

DURABLE = "features"


class Gap(Exception):
    """A message did not reach us: go back to the log."""


class Consumer:
    """The durable consumer, from one number on, in order and without gaps."""

    def __init__(self, jetstream: JetStreamContext, model: str, tables: Sequence[str]) -> None:
        self._jetstream, self._model, self._tables = jetstream, model, tables
        self._subscription: Any = None
        self._expected = 1

    async def begin(self, first: int) -> None:
        """Make it anew, from the number `first` on."""
        from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
        from nats.js.errors import NotFoundError

        if self._subscription is not None:
            await self._subscription.unsubscribe()
        stream = stream_name(self._model)
        with contextlib.suppress(NotFoundError):
            await self._jetstream.delete_consumer(stream, DURABLE)
        config = ConsumerConfig(
            durable_name=DURABLE,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=first,
            ack_policy=AckPolicy.ALL,
            max_ack_pending=20 * MOST,
            filter_subjects=[subject(self._model, table) for table in self._tables],
        )
        await self._jetstream.add_consumer(stream, config)
        self._subscription = await self._jetstream.pull_subscribe_bind(DURABLE, stream)
        self._expected = 1

    async def fetch(self) -> list[Msg]:
        """What there is, at most `MOST`; waits for `PERIOD` seconds. Raises `Gap`."""
        try:
            messages: list[Msg] = await self._subscription.fetch(MOST, timeout=PERIOD)
        except TimeoutError:
            return []
        for message in messages:
            if message.metadata.sequence.consumer != self._expected:
                raise Gap
            self._expected += 1
        return messages


async def run(feeder: Feeder, url: str, model: str, tables: Sequence[str], status: Path) -> None:
    """Feed until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    client = await connect(url, max_reconnect_attempts=-1)
    jetstream = client.jetstream()
    feeder.start(await ensure_stream(jetstream, model, tables), _wall())
    gc.freeze()  # what was imported is no garbage: looking at it again takes longer than a batch
    consumer = Consumer(jetstream, model, tables)
    await consumer.begin(feeder.next_sequence)
    said = 0.0
    while not stop.is_set():
        began = time.monotonic()
        try:
            messages = await consumer.fetch()
        except Gap:
            logging.warning("a message was lost on the way: on from %d", feeder.next_sequence)
            await consumer.begin(feeder.next_sequence)
            continue
        feeder.feed(by_table(messages, tables), _wall())
        if messages:
            await messages[-1].ack()
        if began - said > 1 or messages:
            said = began
            behind = (_wall() - messages[0].metadata.timestamp).total_seconds() if messages else 0.0
            _say(status, {**feeder.status(), "behind_seconds": behind})
        await asyncio.sleep(max(0.0, PERIOD - (time.monotonic() - began)))
    feeder.flush()
    await client.close()


def by_table(messages: Sequence[Msg], tables: Sequence[str]) -> dict[str, list[Event]]:
    """The messages as events of their tables, in order."""
    found: dict[str, list[Event]] = {table: [] for table in tables}
    for message in messages:
        event = Event(message.metadata.sequence.stream, message.data)
        found[message.subject.rpartition(".")[2]].append(event)
    return found


def main() -> None:
    """``python -m tidegate.features.streamd``: what ``tidegate up`` starts."""
    parser = argparse.ArgumentParser(prog="tidegate.features.streamd")
    for name in ("--model", "--workload", "--state", "--nats-file"):
        parser.add_argument(name, required=True)
    parser.add_argument("--clock", choices=("wall", "events"), default="wall")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    from tidegate.features.live import feeding, live_repo, open_store
    from tidegate.workload import load_workload

    state, known = Path(asked.state), load_workload(asked.workload)
    live = live_repo(state, known, asked.workload)
    url = str(json.loads(Path(asked.nats_file).read_text())["url"])
    with feeding(live):
        from tidegate.features.feeder import Feeder

        folder, store = state / "stream", open_store(live)
        _commit_quickly(store)
        feeder = Feeder(live, store, known, folder, asked.clock)
        asyncio.run(run(feeder, url, asked.model, known.streams, folder / "status.json"))


def _commit_quickly(store: FeatureStore) -> None:
    """Do not wait for the disk: what is online is worked out again from the log at every start."""
    online: Any = store._get_provider().online_store
    online._get_conn(store.config).execute("PRAGMA synchronous=NORMAL")


def _say(path: Path, status: dict[str, Any]) -> None:
    write_atomically(path, json.dumps({**status, "pid": os.getpid(), "wall": time.time()}).encode())


def _wall() -> datetime:
    return datetime.fromtimestamp(time.time_ns() // 1000 / 1e6, UTC)


if __name__ == "__main__":
    try:
        main()
    except TidegateError as error:
        raise SystemExit(f"tidegate: {error}") from None
