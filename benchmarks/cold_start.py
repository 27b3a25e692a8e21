"""Cold start under a live stream: from the first event of an aircraft that nobody has seen to its own value in use.

Departures of real flights go through the embedded NATS server at a steady rate, and with them, one after the other,
those of new aircraft. A client asks /predict by key for the new ones and for some that are known, all the time; the
time counts from the moment at which the event was due to be published to the first answer without a fallback. At the
end `tidegate features parity` compares the newest 10,000 predictions.
"""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.online import MODEL, UNTIL, WORKLOAD, Entities, compared, prepare, quantile
from benchmarks.replica import NAME, _cores, _plan, _service, pinned
from benchmarks.results import Budget, Result, say

NEW, GAP, BACKGROUND, POLL, ASKED = 150, 0.25, 40.0, 0.02, 8
"""New aircraft and the seconds between two; events a second beside them; seconds between two questions; known keys."""


@dataclass
class Watch:
    """What became of each new aircraft: when its event was due, the levels answered before, when its own value came."""

    due: dict[str, float] = field(default_factory=dict)
    levels: dict[str, set[str | None]] = field(default_factory=dict)
    own: dict[str, float] = field(default_factory=dict)
    answers: int = 0

    def take(self, asked: Entities, rows: Sequence[Mapping[str, Any]], now: float) -> None:
        """The answer to one request."""
        self.answers += len(rows)
        for entity, row in zip(asked, rows, strict=True):
            plane = entity["tailnum"]
            if plane in self.levels and plane not in self.own:
                if "fallback" in row:
                    self.levels[plane].add(row["fallback"])
                elif plane in self.due:
                    self.own[plane] = now


def run() -> Result:
    """Train v1, start the stream and the service, and watch `NEW` aircraft come."""
    from tidegate.state import prepare as prepare_state
    from tidegate.targets.local import LocalTarget
    from tidegate.targets.processes import free_port
    from tidegate.targets.streams import Streams
    from tidegate.up import _service_arguments

    with tempfile.TemporaryDirectory(prefix="tidegate-cold-") as made:
        state = prepare_state(Path(made))
        digest, entities = prepare(state)
        first, others = _cores()
        with pinned(others):
            streams = Streams(state, model=NAME, workload=WORKLOAD, clock="wall", url=None)
            target = LocalTarget(
                state,
                model=NAME,
                port=0,
                clock="wall",
                control_port=free_port(),
                services=_service_arguments(_model(), state),
            )
            try:
                streams.start()
                target.start()
                with pinned(first):
                    target.apply(_plan(digest))
                watch = asyncio.run(_watch(state, _service(state, "v1").port, entities))
            finally:
                streams.stop()
                target.stop()
        return told(watch, compared(state))


def _model() -> Any:
    from tidegate.spec import load_model

    return load_model(MODEL)


async def _watch(state: Path, port: int, entities: Entities) -> Watch:
    """Publish and ask at once; ends when every new aircraft has its own value, or 10 s after the last one came."""
    from tidegate.ingest.stream import connect

    while not (state / "stream/status.json").exists():
        await asyncio.sleep(0.1)
    client = await connect(json.loads((state / "stream/nats.json").read_text())["url"])
    watch, stop = Watch(), asyncio.Event()
    stream = client.jetstream()
    background = asyncio.create_task(_flow(stream, entities, stop))
    await asyncio.sleep(4)
    say(f"cold_start: {NEW} new aircraft, one every {GAP:g} s")
    asking = asyncio.create_task(_ask(port, entities, watch, stop))
    await asyncio.sleep(1)
    start = time.time()
    for number in range(NEW):
        due, entity = start + number * GAP, entities[number * 7 % len(entities)]
        plane = f"X{number:04d}"
        watch.levels[plane] = set()
        await asyncio.sleep(max(0.0, due - time.time()))
        watch.due[plane] = due
        await _publish(stream, {**entity, "tailnum": plane}, 90_000 + number)
    deadline = time.time() + 10
    while len(watch.own) < NEW and time.time() < deadline:
        await asyncio.sleep(0.05)
    stop.set()
    await asyncio.gather(background, asking)
    await client.close()
    return watch


async def _flow(stream: Any, entities: Entities, stop: asyncio.Event) -> None:
    """Departures of known aircraft, `BACKGROUND` a second."""
    number, start = 0, time.time()
    while not stop.is_set():
        await _publish(stream, entities[number % len(entities)], number)
        number += 1
        await asyncio.sleep(max(0.0, start + number / BACKGROUND - time.time()))


async def _publish(stream: Any, entity: Mapping[str, Any], number: int) -> None:
    now = datetime.now(UTC)
    row = {
        "flight_id": f"{entity['carrier']}-{number}-{entity['origin']}-{now:%Y%m%dT%H%M}",
        "event_time": now.isoformat(),
        **{name: entity[name] for name in ("carrier", "tailnum", "origin")},
        "dep_delay": number % 60,
    }
    await stream.publish(f"tidegate.{NAME}.departures", json.dumps(row).encode())


async def _ask(port: int, entities: Entities, watch: Watch, stop: asyncio.Event) -> None:
    """Ask about the new aircraft that still have no value of their own, and about some known ones."""
    import httpx

    chance = random.Random(7)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        while not stop.is_set():
            new = [plane for plane in watch.levels if plane not in watch.own]
            asked = [{**entities[int(plane[1:]) * 7 % len(entities)], "tailnum": plane} for plane in new]
            asked += chance.sample(entities, ASKED)
            answer = await client.post("/predict", json={"keys": asked})
            answer.raise_for_status()
            watch.take(asked, answer.json()["rows"], time.time())
            await asyncio.sleep(POLL)


def told(watch: Watch, parity: Mapping[str, Any]) -> Result:
    """The result as a table."""
    waited = [1000 * (at - watch.due[plane]) for plane, at in watch.own.items()]
    late = quantile(waited, 0.99) if waited else float("inf")
    fell = sum(bool(levels) for levels in watch.levels.values())
    differ = f"{parity['differing']} of {parity['predictions']:,} differ"
    rows = [
        (
            "first event to own value",
            str(len(waited)),
            *(f"{quantile(waited, share):.0f}" if waited else "" for share in (0.5, 0.99, 1.0)),
        )
    ]
    budgets = [
        Budget("own value, p99", "within 1 s", f"{late:.0f} ms", late < 1000 and len(waited) == NEW),
        Budget("answered at a coarser level before", f"all {NEW}", str(fell), fell == NEW),
        Budget("parity", "0 of 10,000 differ", differ, parity["predictions"] >= 10_000 and not parity["differing"]),
    ]
    notes = [
        f"{watch.answers:,} predictions, one request every {1000 * POLL:g} ms; {BACKGROUND:g} other events a second.",
        f"parity took {parity['s']:.1f} s, process start included.",
    ]
    figures = {"ms": sorted(waited), "parity": parity, "until": UNTIL.isoformat()}
    title = f"{NEW} aircraft that nobody has seen, live stream, embedded NATS, SQLite"
    return Result(
        "cold_start", title, ("what", "aircraft", "p50, ms", "p99, ms", "worst, ms"), rows, budgets, notes, figures
    )
