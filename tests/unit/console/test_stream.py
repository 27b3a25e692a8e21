"""The stream says which models grew, soon after they did."""

from __future__ import annotations

import asyncio
import json

import pytest

from tidegate.console import reader, routes
from tidegate.console.reader import Reader
from tidegate.console.routes import Console
from tidegate.journal.events import Draft


class Asking:
    """A request whose client stays until it has had enough."""

    def __init__(self) -> None:
        self.gone = False

    async def is_disconnected(self) -> bool:
        return self.gone


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(reader, "FRESH", 0.0)
    monkeypatch.setattr(routes, "EVERY", 0.01)


def heads_of(message: str) -> dict[str, int]:
    kind, data = message.strip().split("\n")
    assert kind == "event: heads"
    return dict(json.loads(data.removeprefix("data: ")))


def test_it_begins_with_where_the_journal_is_and_goes_on_with_what_grew(fork):
    console, asking = Console(Reader(fork.folder), ""), Asking()

    async def listen() -> list[str]:
        found, stream = [], console._changes(asking, "quick")
        found += [await anext(stream), await anext(stream)]
        fork.journal.append("other", [Draft("serve.traffic", 1.0, {})], 0)
        fork.journal.append("quick", [Draft("x", fork.now, {})], fork.state.seq)
        found.append(await anext(stream))
        asking.gone = True
        return found + [one async for one in stream]

    before = fork.state.seq
    retry, first, second = asyncio.run(listen())
    assert retry.startswith("retry:")
    assert (heads_of(first), heads_of(second)) == ({"quick": before}, {"quick": before + 1})


def test_it_ends_before_the_gateway_would_end_it(fork, monkeypatch):
    monkeypatch.setattr(routes, "STREAM", 0.05)
    console = Console(Reader(fork.folder), "")

    async def listen() -> int:
        return len([one async for one in console._changes(Asking(), "")])

    assert asyncio.run(listen()) == 2
    from tidegate.targets.envoy import _to_control

    assert float(_to_control()["timeout"].removesuffix("s")) > 50.0


def test_a_server_that_ends_lets_go_of_who_watches(fork):
    console = Console(Reader(fork.folder), "")

    async def listen() -> int:
        stream = console._changes(Asking(), "")
        seen = [await anext(stream), await anext(stream)]
        console.stop()
        return len(seen + [one async for one in stream])

    assert asyncio.run(asyncio.wait_for(listen(), 10)) == 2
